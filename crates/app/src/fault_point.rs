//! Named points at which a test holds a process still, to kill, stop or overtake it exactly there (FAULTS.md).
//!
//! Only builds with debug assertions have them; a release build compiles `reach` to nothing. `FAULT_POINT` names the
//! point; the first to reach it says so in the log and waits while the file `FAULT_POINT_HOLD` is there, for ever
//! without one. Not responsible for what happens then. To add a point: a word in `ALL`, and a call of `reach`.

/// Every point, in the order in which one email passes them.
#[cfg(debug_assertions)]
const ALL: [&str; 8] = ["recorded", "leased", "fetched", "asking", "granted", "answered", "journaled", "applied"];

/// Waits here if a test wants it.
#[cfg(debug_assertions)]
pub(crate) async fn reach(point: &'static str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicBool, Ordering};

    static WANTED: LazyLock<Option<String>> = LazyLock::new(|| {
        let wanted = std::env::var("FAULT_POINT").ok()?;
        assert!(ALL.contains(&wanted.as_str()), "FAULT_POINT={wanted} is no point (hint: one of {ALL:?})");
        Some(wanted)
    });
    static REACHED: AtomicBool = AtomicBool::new(false);
    debug_assert!(ALL.contains(&point));
    if WANTED.as_deref() != Some(point) || REACHED.swap(true, Ordering::AcqRel) {
        return;
    }
    tracing::warn!("fault point reached: {point}");
    let hold = std::env::var_os("FAULT_POINT_HOLD");
    while hold.as_ref().is_none_or(|file| std::path::Path::new(file).exists()) {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    tracing::warn!("fault point left: {point}");
}

/// Nothing, in a release build.
#[cfg(not(debug_assertions))]
#[expect(clippy::unused_async, reason = "the same call in both builds")]
pub(crate) async fn reach(_point: &'static str) {}
