//! `lead import` from outside: killed in the middle and run again, flat in memory, strict about what it is given.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::app::{App, Engine, number};
use crate::http::wait_long;

/// An installation with the draft `Welcome` of the tenant `Acme import.example`, which has one lead.
fn installed(engine: Engine) -> Option<App> {
    let app = App::new(engine)?;
    let file = app.campaign("import.example", ["first".to_owned()], 1, "");
    let (exit, _) = app.json(&["campaign", "import", file.to_str().unwrap()]);
    assert_eq!(exit, 0);
    Some(app)
}

const TENANT: &str = "Acme import.example";

fn list(app: &App, rows: usize) -> PathBuf {
    let mut text = String::from("email,first_name,city,plan\n");
    for n in 0..rows {
        writeln!(text, "lead{n}@d{}.example,Ana {n},\"Málaga, ES\",pro", n % 500).unwrap();
    }
    write(app, &text)
}

fn write(app: &App, text: impl AsRef<[u8]>) -> PathBuf {
    let path = app.path("list.csv");
    std::fs::write(&path, text).unwrap();
    path
}

fn import(app: &App, list: &std::path::Path, more: &[&str]) -> (i32, Value) {
    let arguments = [&["lead", "import", list.to_str().unwrap(), "--tenant", TENANT], more].concat();
    app.json(&arguments)
}

/// Enrollments that wait, as another process sees them.
fn enrolled(app: &App) -> u64 {
    let (exit, report) = app.json(&["campaign", "status", "Welcome"]);
    assert_eq!(exit, 0);
    number(&report, "pending")
}

const ROWS: usize = 100_000;

fn fp15_killed_in_the_middle_and_run_again_no_lead_is_missing_or_double(engine: Engine) {
    let Some(app) = installed(engine) else { return };
    let list = list(&app, ROWS);
    let arguments = ["lead", "import", list.to_str().unwrap(), "--tenant", TENANT, "--campaign", "Welcome"];
    let cut = app.spawn(&arguments);
    wait_long(|| (enrolled(&app) >= 20_000).then_some(()));
    cut.kill();
    let before = enrolled(&app) - 1;
    assert!((20_000..ROWS as u64).contains(&before), "the kill must come in the middle: {before} leads were in");
    println!("{engine:?}: killed after {before} leads");

    let (exit, second) = import(&app, &list, &["--campaign", "Welcome"]);
    let count = |report: &Value, fields: [&str; 5]| fields.map(|field| number(report, field));
    let fields = ["rows", "new", "updated", "unchanged", "enrolled"];
    let rest = ROWS as u64 - before;
    assert_eq!((exit, count(&second, fields)), (0, [ROWS as u64, rest, 0, before, rest]), "{second}");
    assert_eq!(enrolled(&app), ROWS as u64 + 1);

    let (exit, third) = import(&app, &list, &["--campaign", "Welcome"]);
    assert_eq!((exit, count(&third, fields)), (0, [ROWS as u64, 0, 0, ROWS as u64, 0]), "{third}");
    assert_eq!([app.count_rows("leads"), app.count_rows("campaign_leads")], [ROWS as u64 + 1; 2]);
}

fn ten_times_the_rows_need_no_more_memory(engine: Engine) {
    let Some(app) = installed(engine) else { return };
    let peak = |rows| {
        let (exit, report) = import(&app, &list(&app, rows), &[]);
        assert_eq!((exit, number(&report, "rows")), (0, rows as u64));
        number(&report, "peakMemoryBytes") >> 20
    };
    let (few, many) = (peak(20_000), peak(200_000));
    println!("{engine:?}: {few} MiB for 20,000 rows, {many} MiB for 200,000");
    // SQLite's own page cache may fill up to 64 MiB; the hashes alone of the rows would need more than 8 MiB.
    let cache = if engine == Engine::Sqlite { 64 } else { 0 };
    assert!(few > 4 && many < few + cache + 8, "{few} MiB, then {many} MiB");
}

fn a_list_with_bad_rows_is_refused_whole_or_they_are_skipped_and_named(engine: Engine) {
    let Some(app) = installed(engine) else { return };
    let list = write(&app, "email;first_name\nana@a.example;Ana\nnobody;x\nbo@b.example;Bo\nANA@a.example;x\n");
    let (exit, refused) = import(&app, &list, &["--campaign", "Welcome"]);
    let problems = refused["error"]["problems"].as_array().unwrap();
    let lines: Vec<&Value> = problems.iter().map(|problem| &problem["line"]).collect();
    assert_eq!((exit, lines), (2, vec![&Value::Null, &Value::from(3), &Value::from(5)]), "{refused}");
    assert_eq!(enrolled(&app), 1, "nothing was written");

    let (exit, skipped) = import(&app, &list, &["--campaign", "Welcome", "--skip-bad-rows"]);
    let counts = ["rows", "new", "enrolled", "skipped"].map(|field| number(&skipped, field));
    assert_eq!((exit, counts), (0, [4, 2, 2, 2]), "{skipped}");
    assert_eq!(skipped["skippedRows"][1]["message"], "same address as on line 2");
    assert_eq!(enrolled(&app), 3);
}

#[test]
fn standard_input_is_read_like_a_file() {
    let Some(app) = installed(Engine::Sqlite) else { return };
    let latin = write(&app, b"email,first_name\nana@a.example,Luc\xeda\n");
    let from = |path: &PathBuf| {
        let mut command = app.command(&["lead", "import", "-", "--tenant", TENANT, "--json"]);
        command.stdin(std::fs::File::open(path).unwrap()).output().unwrap()
    };
    let refused = from(&latin);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("standard input:2: text is not UTF-8"));
    let good = write(&app, "\u{feff}E-Mail\tFirst Name\r\nana@a.example\tLucía\r\n".as_bytes());
    let taken = from(&good);
    let report: Value = serde_json::from_slice(&taken.stdout).unwrap();
    assert_eq!((taken.status.code(), number(&report, "new")), (Some(0), 1), "{report}");
}

#[test]
fn what_does_not_exist_or_has_ended_is_refused_by_name() {
    let Some(app) = installed(Engine::Sqlite) else { return };
    let list = list(&app, 1);
    let path = list.to_str().unwrap();
    let said = |arguments: &[&str]| {
        let output = app.output(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let text = said(&["lead", "import", path, "--tenant", "Acne"]);
    assert!(text.contains("there is no tenant `Acne`") && text.contains("there is: Acme import.example"), "{text}");
    let text = said(&["lead", "import", path, "--tenant", TENANT, "--campaign", "Welcom"]);
    assert!(text.contains("there is no campaign `Welcom`"), "{text}");
    assert_eq!(app.output(&["campaign", "cancel", "Welcome"]).status.code(), Some(0));
    let text = said(&["lead", "import", path, "--tenant", TENANT, "--campaign", "Welcome"]);
    assert!(text.contains("the campaign `Welcome` is cancelled"), "{text}");
    let text = said(&["lead", "import", "missing.csv", "--tenant", TENANT]);
    assert!(text.contains("missing.csv: failed to open"), "{text}");
}

crate::on_every_database! {
    fp15_killed_in_the_middle_and_run_again_no_lead_is_missing_or_double
    ten_times_the_rows_need_no_more_memory
    a_list_with_bad_rows_is_refused_whole_or_they_are_skipped_and_named
}
