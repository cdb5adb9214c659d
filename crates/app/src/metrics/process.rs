//! What the operating system says about this process: memory, processor time, open files.
//!
//! Read from `/proc`, so on Linux alone; elsewhere the values stay NaN. To add one: a field, and its line in `read`.

use std::path::Path;

/// Clock ticks in a second: fixed for what Linux shows to programs, whatever the kernel's own rate.
const TICKS: f64 = 100.0;

/// One look at the process. NaN where the system does not say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Usage {
    pub(super) resident_bytes: f64,
    pub(super) virtual_bytes: f64,
    pub(super) cpu_seconds: f64,
    pub(super) open_fds: f64,
    pub(super) max_fds: f64,
}

/// Reads the files of this process.
pub(super) fn read() -> Usage {
    let text = |name: &str| std::fs::read_to_string(Path::new("/proc").join(name)).unwrap_or_default();
    let open = std::fs::read_dir("/proc/self/fd").map_or(f64::NAN, |files| files.count() as f64);
    parse(&text("self/status"), &text("self/stat"), &text("self/limits"), open)
}

fn parse(status: &str, stat: &str, limits: &str, open_fds: f64) -> Usage {
    let kilobytes = |name: &str| number(line(status, name)) * 1024.0;
    // The program's name stands in brackets and may hold anything; fields are counted behind it (proc(5)).
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).map_or(f64::NAN, |field| number(Some(field))) / TICKS;
    Usage {
        resident_bytes: kilobytes("VmRSS:"),
        virtual_bytes: kilobytes("VmSize:"),
        cpu_seconds: ticks(11) + ticks(12),
        open_fds,
        max_fds: number(line(limits, "Max open files")),
    }
}

/// What stands behind `name` in the line that begins with it.
fn line<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name))
}

/// The first number of a text.
fn number(text: Option<&str>) -> f64 {
    text.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_programs_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 9 0 0 0 250 50 0 0 20 0 4 0 12345 1000 10 18446744073709551615";
        let usage = parse(
            "Name:\tx\nVmSize:\t    2048 kB\nVmRSS:\t     512 kB\n",
            stat,
            "Limit            Soft Limit  Hard Limit\nMax open files   1024        4096        files\n",
            9.0,
        );
        let expected = Usage {
            resident_bytes: 512.0 * 1024.0,
            virtual_bytes: 2048.0 * 1024.0,
            cpu_seconds: 3.0,
            open_fds: 9.0,
            max_fds: 1024.0,
        };
        assert_eq!(usage, expected);
    }

    #[test]
    fn what_is_not_said_is_not_a_number() {
        let usage = parse("", "", "", f64::NAN);
        assert!(usage.resident_bytes.is_nan() && usage.cpu_seconds.is_nan());
    }
}
