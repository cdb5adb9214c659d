//! `bench scheduler`: how fast due leads are planned, recorded and pushed, beside a raw insert of the same rows, and beside all raw writes
//! that each of them needs; what an idle turn costs; how much memory a turn holds. Each on both databases, for a small and a large campaign.
//!
//! The turn that plans is `penguinmails scheduler --once`, which says itself how long it took; starting the process is not in it.
//! Idle turns are a running scheduler's, by its metrics: once while nothing is due, once while every lead's send is open, both on a
//! vacuumed PostgreSQL. Not comparable: loopback, and no worker beside it.

use anyhow::ensure;
use serde::Serialize;
use serde_json::json;

use crate::Options;
use crate::figures::Spread;
use crate::product::{Product, write_list};
use crate::raw::{self, Limits};

/// Figures of TARGETS: planning as a part of the raw insert, an idle turn in ms, memory in MiB.
const GOALS: (f64, f64, f64) = (0.3, 5.0, 64.0);
/// In hours: nobody of this campaign is due.
const LATER: u32 = 1_000;

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Database {
    Sqlite,
    Postgres,
}

/// One run of one size.
struct Run {
    planned: f64,
    inserted: f64,
    written: f64,
    idle: f64,
    open: f64,
    memory: f64,
}

/// One size on one database.
#[derive(Serialize)]
struct Line {
    database: Database,
    enrollments: u64,
    planned_per_second: Spread,
    inserted_per_second: Spread,
    ratio: Spread,
    written_per_second: Spread,
    ratio_of_writes: Spread,
    idle_turn_ms: Spread,
    open_turn_ms: Spread,
    memory_mib: Spread,
}

/// Measures and prints.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    for leads in [options.leads / 100, options.leads] {
        for database in [Database::Sqlite, Database::Postgres] {
            let runs = (0..options.runs).map(|n| measure(options, database, leads, n));
            lines.extend(line(database, leads, &runs.collect::<anyhow::Result<Vec<_>>>()?));
        }
    }
    if options.json {
        println!("{}", json!({ "scheduler": lines }));
    } else {
        print(&lines);
    }
    Ok(())
}

/// One run on a database of its own; which of the two goes first changes from run to run.
fn measure(options: &Options, database: Database, leads: u64, run: usize) -> anyhow::Result<Run> {
    eprintln!("bench: {database:?}, {leads} enrollments, run {} of {}", run + 1, options.runs);
    let folder = tempfile::Builder::new().prefix("penguinmails-bench-").tempdir()?;
    let name = format!("bench_{leads}_{run}");
    let url = match database {
        Database::Sqlite => None,
        Database::Postgres => Some(raw::make_database(&options.postgres, &name)?),
    };
    let product = Product::new(&options.program, folder.path(), url.clone());
    let list = folder.path().join("list.csv");
    write_list(&list, leads)?;
    product.start_campaign("Later", LATER, &list)?;
    // A start moves every enrollment's due time: what that leaves behind is read by each turn until autovacuum has passed. So does planning.
    let vacuum = || url.as_deref().map_or(Ok(()), raw::vacuum);
    vacuum()?;
    let idle = product.turns(options.idle_turns)?;
    product.start_campaign("Now", 0, &list)?;
    let insert = || match &url {
        None => raw::sqlite(&product.sqlite_file(), leads as usize),
        Some(url) => raw::postgres(url, leads as usize),
    };
    let (Limits { inserted, written }, (planned, memory)) = if run.is_multiple_of(2) {
        (insert()?, plan(&product, leads)?)
    } else {
        let planned = plan(&product, leads)?;
        (insert()?, planned)
    };
    vacuum()?;
    let open = product.turns(options.idle_turns)?;
    if url.is_some() {
        raw::drop_database(&options.postgres, &name)?;
    }
    // At once: a run of millions takes minutes, and what comes behind it may fail.
    eprintln!(
        "bench: planned {planned:.0}, inserted {inserted:.0}, written {written:.0} a second; idle {idle:.1} ms, open {open:.1} ms, \
         {memory:.0} MiB"
    );
    Ok(Run { planned, inserted, written, idle, open, memory })
}

/// The turn that plans them all: sends a second, and MiB.
fn plan(product: &Product<'_>, leads: u64) -> anyhow::Result<(f64, f64)> {
    let said = product.turn()?;
    let all = json!(leads);
    ensure!(said.object["planned"] == all && said.object["enqueued"] == all, "not all were planned: {}", said.object);
    Ok((leads as f64 / said.object["seconds"].as_f64().unwrap_or(f64::NAN), said.memory))
}

fn line(database: Database, enrollments: u64, runs: &[Run]) -> Option<Line> {
    Some(Line {
        database,
        enrollments,
        planned_per_second: Spread::of(runs.iter().map(|run| run.planned))?,
        inserted_per_second: Spread::of(runs.iter().map(|run| run.inserted))?,
        ratio: Spread::of(runs.iter().map(|run| run.planned / run.inserted))?,
        written_per_second: Spread::of(runs.iter().map(|run| run.written))?,
        ratio_of_writes: Spread::of(runs.iter().map(|run| run.planned / run.written))?,
        idle_turn_ms: Spread::of(runs.iter().map(|run| run.idle))?,
        open_turn_ms: Spread::of(runs.iter().map(|run| run.open))?,
        memory_mib: Spread::of(runs.iter().map(|run| run.memory))?,
    })
}

fn print(lines: &[Line]) {
    let (ratio, idle, memory) = GOALS;
    println!(
        "| database | enrollments | planned, recorded, pushed a second | raw insert, rows a second | ratio (goal: {ratio}) | all raw writes, leads a second | ratio | idle turn, ms (goal: {idle}) | idle turn, all sends open, ms | memory, MiB (goal: {memory}) |\n|---|---|---|---|---|---|---|---|---|---|"
    );
    for line in lines {
        let missed = |is_missed| if is_missed { ", MISSED" } else { "" };
        println!(
            "| {:?} | {} | {} | {} | {}{} | {} | {} | {}{} | {} | {}{} |",
            line.database,
            line.enrollments,
            line.planned_per_second.text(0),
            line.inserted_per_second.text(0),
            line.ratio.text(2),
            missed(line.ratio.median < ratio),
            line.written_per_second.text(0),
            line.ratio_of_writes.text(2),
            line.idle_turn_ms.text(1),
            missed(line.idle_turn_ms.median > idle),
            line.open_turn_ms.text(1),
            line.memory_mib.text(0),
            missed(line.memory_mib.median > memory),
        );
    }
}
