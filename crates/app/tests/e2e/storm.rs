//! FP12: everything is killed, cut and emptied at random while 1,500 mails of ten accounts are under way (`STORM_SENDS` says
//! how many), and the receiver's own journal judges each of them. A calm storm strikes engines alone: there is no copy then.
//!
//! Faults follow each other by progress, not by the clock: each after some more messages have arrived. Every fault of its
//! kind comes in every storm, in an order that the seed gives. To add one: a variant of `Fault`, its arm in
//! `Storm::strike`, its place in `Kind::faults`.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Value, json};

use crate::app::{App, Engine, Reading, Sink, number};
use crate::gateway::Gateway;
use crate::postgres_faults::Arrivals;
use crate::truth::{Promise, Truth};

const ACCOUNTS: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    KillWorker,
    KillScheduler,
    KillTracker,
    CutConnections,
    FlushRedis,
    KillRedis,
    EmptyRedis,
    StopPostgres,
    KillPostgres,
}

/// A number of this run, where it is given.
fn given(name: &str) -> Option<usize> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// What is struck.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Everything, workers and connections as well.
    Kills,
    /// Redis and PostgreSQL alone.
    Calm,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Kills => "kills",
            Self::Calm => "calm",
        }
    }

    /// How many mails where nobody says it: enough for every fault to meet some under way.
    fn sends(self) -> usize {
        match self {
            Self::Kills => 1_500,
            Self::Calm => 600,
        }
    }

    /// How often each fault comes in one storm; `STORM_KILLS` says how many workers are killed.
    fn faults(self, engine: Engine) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self == Self::Kills {
            faults.extend([Fault::KillScheduler, Fault::KillTracker, Fault::CutConnections, Fault::CutConnections]);
            faults.extend(vec![Fault::KillWorker; given("STORM_KILLS").unwrap_or(5)]);
        }
        // In the calm there is little else.
        for _ in 0..if self == Self::Calm { 2 } else { 1 } {
            if engine != Engine::Sqlite {
                faults.extend([Fault::StopPostgres, Fault::KillPostgres]);
            }
            if engine == Engine::Redis {
                faults.extend([Fault::FlushRedis, Fault::FlushRedis, Fault::KillRedis, Fault::EmptyRedis]);
            }
        }
        faults
    }

    fn promise(self, policy: &str) -> Promise {
        match (self, policy) {
            (Self::Calm, _) => Promise::Calm,
            (Self::Kills, "hold") => Promise::Hold,
            (Self::Kills, _) => Promise::Resend,
        }
    }
}

/// Numbers that a seed gives (SplitMix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((x ^ (x >> 31)) % bound as u64) as usize
    }

    fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.below(last + 1));
        }
    }
}

/// The seed of this run: given, or new; it is printed, so that a storm can be told again.
fn seed() -> u64 {
    let given = std::env::var("STORM_SEED").ok().map(|seed| seed.parse().expect("STORM_SEED is a number"));
    given.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().map_or(1, |t| u64::from(t.subsec_nanos())))
}

struct Storm {
    sends: usize,
    app: App,
    sink: Sink,
    gateway: Gateway,
    chance: Chance,
    workers: Vec<Reading>,
    scheduler: Reading,
    tracker: Reading,
}

fn start(app: &App, part: &str) -> Reading {
    let config = app.path("storm.toml");
    let mut process = app.spawn(&[part, "--config", config.to_str().unwrap()]);
    let ready = match part {
        "worker" => "Waiting for jobs...",
        "track" => "tracking API listens",
        _ => return process.read_on(),
    };
    assert!(process.wait_for(ready, 1), "{}", process.seen.join(""));
    process.read_on()
}

impl Storm {
    fn brew(engine: Engine, kind: Kind, policy: &str, seed: u64) -> Option<Self> {
        let sends = given("STORM_SENDS").unwrap_or(kind.sends());
        let mut app = if engine == Engine::Sqlite { App::new(engine)? } else { App::on_own_postgres(engine)? };
        app.set("LOG_LEVEL", "info");
        let sink = Sink::start(&app, &["--delay", "200ms"]);
        let server = sink.url.trim_start_matches("smtp://").split('?').next().unwrap();
        let gateway = Gateway::to(server);
        let mut extra = format!("on_unknown = \"{policy}\"\n");
        for n in 1..ACCOUNTS {
            extra.push_str(&format!(
                "[[email_account]]\nemail = \"a{n}@acme.test\"\nsmtp = \"smtp://127.0.0.1:25?tls=none\"\n"
            ));
        }
        let file = app.campaign("storm.example", (0..sends).map(|n| format!("l{n}")), 1, &extra);
        let url = format!("smtp://{}?tls=none", gateway.address);
        assert_eq!(app.json(&["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &url]).0, 0);
        // Slow enough that every fault meets mail under way; and what was cut is tried again soon, which would cost an account
        // a minute and a message five.
        let config = "[worker]\nconnections = 10\nconnections_per_account = 1\n\
                      [retry]\ndelays = [\"1s\"]\naccount_delays = [\"1s\"]\n";
        std::fs::write(app.path("storm.toml"), config).unwrap();
        let workers = vec![start(&app, "worker"), start(&app, "worker")];
        let (scheduler, tracker) = (start(&app, "scheduler"), start(&app, "track"));
        Some(Self { sends, app, sink, gateway, chance: Chance(seed), workers, scheduler, tracker })
    }

    fn strike(&mut self, fault: Fault) {
        match fault {
            Fault::KillWorker => {
                let which = self.chance.below(self.workers.len());
                self.workers.swap_remove(which).kill();
                self.workers.push(start(&self.app, "worker"));
            }
            Fault::KillScheduler => {
                std::mem::replace(&mut self.scheduler, start(&self.app, "scheduler")).kill();
            }
            Fault::KillTracker => {
                std::mem::replace(&mut self.tracker, start(&self.app, "track")).kill();
            }
            Fault::CutConnections => {
                self.gateway.close();
                self.gateway.reopen();
            }
            Fault::FlushRedis => assert_eq!(self.app.redis().ask(&["FLUSHALL"]), "OK"),
            Fault::KillRedis => {
                self.app.redis_mut().kill();
                self.app.redis_mut().start_again();
            }
            Fault::EmptyRedis => {
                self.app.redis_mut().kill();
                self.app.redis_mut().start_empty();
            }
            Fault::StopPostgres => {
                self.app.postgres().stop_at_once();
                self.app.postgres().start_again();
            }
            Fault::KillPostgres => {
                self.app.postgres().kill();
                self.app.postgres().start_again();
            }
        }
    }

    /// Reads until nothing waits any more.
    fn settle(&self) {
        crate::http::wait_long(|| {
            let status = status(&self.app);
            let waits = number(&status, "pending") + number(&status, "deferred");
            (waits == 0 && number(&status, "planned") as usize == self.sends).then_some(())
        });
    }
}

fn status(app: &App) -> Value {
    app.json(&["campaign", "status", "Welcome"]).1
}

fn storm(engine: Engine, kind: Kind, policy: &str) {
    let seed = seed();
    let Some(mut storm) = Storm::brew(engine, kind, policy, seed) else { return };
    let sends = storm.sends;
    let mut faults = kind.faults(engine);
    storm.chance.shuffle(&mut faults);
    let mut arrivals = Arrivals::at(&storm.sink);
    // Faults begin and end while mail is under way; one in each stretch of it, at a random place.
    let calm = sends / 10;
    let stretch = (sends - 2 * calm) / faults.len();
    let mut fired: BTreeMap<String, usize> = BTreeMap::new();
    let mut slowest: BTreeMap<String, f64> = BTreeMap::new();
    for (n, fault) in faults.iter().enumerate() {
        let at = calm + n * stretch + storm.chance.below(stretch / 2);
        arrivals.wait_for(at.max(storm.sink.accepted().len()));
        storm.strike(*fault);
        assert!(storm.sink.accepted().len() < sends, "the mail was over before the storm");
        let seconds = arrivals.first_since(Instant::now(), &storm.sink);
        let name = format!("{fault:?}");
        *fired.entry(name.clone()).or_default() += 1;
        let worst = slowest.entry(name).or_default();
        *worst = worst.max((seconds * 10.0).round() / 10.0);
    }
    let struck_until = storm.sink.accepted().len();
    assert!(struck_until < sends, "the last fault came after the last message");
    storm.settle();
    // Judged when nobody is at work any more, who might still send a copy.
    let processes = storm.workers.into_iter().chain([storm.scheduler, storm.tracker]);
    let exits: Vec<Option<i32>> = processes.map(|process| process.stop().0.code()).collect();
    let truth = Truth::of(&storm.app, sends, storm.sink.message_ids());
    let (held, unknown) = (truth.held(), truth.unknown());
    let line = json!({
        "engine": format!("{engine:?}"), "policy": policy, "kind": kind.name(), "seed": seed, "sends": sends,
        "fired": fired, "lost": truth.lost(), "extra": truth.extra(), "unknown": unknown, "held": held,
        "poison": truth.poison(), "next_message_seconds": slowest,
    });
    println!("STORM {line}");
    truth.keeps(kind.promise(policy));
    let status = status(&storm.app);
    let told = ["sent", "held", "unknown"].map(|field| number(&status, field) as usize);
    assert_eq!(told, [sends - held, held, unknown], "{status}");
    assert!(exits.iter().all(|exit| *exit == Some(0)), "somebody had died by himself: {exits:?}");
}

/// With PostgreSQL a cut is sent once more, embedded it is held; `STORM_POLICY` says otherwise.
fn fp12_a_storm_loses_nothing_and_copies_only_what_is_unknown(engine: Engine) {
    let usual = if engine == Engine::Sqlite { "hold" } else { "resend" };
    storm(engine, Kind::Kills, &std::env::var("STORM_POLICY").unwrap_or_else(|_| usual.to_owned()));
}

/// Under `resend`, where a send that were taken for unknown without a reason would be copied.
fn a_calm_storm_loses_nothing_and_copies_nothing(engine: Engine) {
    storm(engine, Kind::Calm, "resend");
}

crate::on_every_engine! { fp12_a_storm_loses_nothing_and_copies_only_what_is_unknown }

/// SQLite has no server that could be struck.
mod calm {
    use super::a_calm_storm_loses_nothing_and_copies_nothing;

    crate::on_every_server! { a_calm_storm_loses_nothing_and_copies_nothing }
}
