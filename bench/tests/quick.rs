//! Every figure can be taken: a small run of each, of what the suite built. How good the figures are is not judged here.
//!
//! To add a figure: a test that reads its object.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

const BENCH: &str = env!("CARGO_BIN_EXE_bench");

#[test]
fn the_schedulers_figures_can_be_taken() {
    let Ok(postgres) = std::env::var("TEST_POSTGRES_URL") else {
        let required = std::env::var("REQUIRE_ENGINES").unwrap_or_default();
        assert!(required.is_empty(), "TEST_POSTGRES_URL is not set (hint: run `cargo xtask test`)");
        eprintln!("SKIPPED: TEST_POSTGRES_URL is not set");
        return;
    };
    let program = Path::new(BENCH).with_file_name("penguinmails");
    let mut command = Command::new(BENCH);
    command.args([
        "scheduler",
        "--leads",
        "2000",
        "--runs",
        "1",
        "--idle-turns",
        "1",
        "--json",
        "--postgres",
        &postgres,
    ]);
    let output = command.arg("--program").arg(&program).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    let lines = figures["scheduler"].as_array().unwrap();
    let sizes = |line: &Value| (line["database"].clone(), line["enrollments"].clone());
    let expected = [("sqlite", 20), ("postgres", 20), ("sqlite", 2_000), ("postgres", 2_000)];
    assert_eq!(lines.iter().map(sizes).collect::<Vec<_>>(), expected.map(|(name, many)| (name.into(), many.into())));
    let figures = [
        "planned_per_second",
        "inserted_per_second",
        "ratio",
        "written_per_second",
        "ratio_of_writes",
        "idle_turn_ms",
        "open_turn_ms",
        "memory_mib",
    ];
    for (line, figure) in lines.iter().flat_map(|line| figures.map(|figure| (line, figure))) {
        assert!(line[figure]["median"].as_f64().is_some_and(|median| median > 0.0), "{figure} of {line}");
    }
}
