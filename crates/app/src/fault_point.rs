//! Named points at which a test holds a process still, to kill, stop or overtake it exactly there (FAULTS.md).
//!
//! Only builds with debug assertions have them; a release build compiles `reach` to nothing. `FAULT_POINT` names the
//! point; the first to reach it says so in the log and waits while the file `FAULT_POINT_HOLD` is there, for ever
//! without one; where `FAULT_POINT_PANIC` is set it panics instead. Not responsible for what happens then. To add a
//! point: a word in `ALL`, and a call of `reach`.

#[cfg(debug_assertions)]
use std::time::Duration;

/// Every point: those of planning and of one email in the order in which they are passed, then those of events
/// and of what runs beside.
#[cfg(debug_assertions)]
const ALL: [&str; 14] = [
    "planning",
    "recorded",
    "leased",
    "fetched",
    "asking",
    "intending",
    "granted",
    "answered",
    "journaling",
    "journaled",
    "applied",
    "stored",
    "beating",
    "foreseeing",
];
/// Real time between two looks whether it is over.
#[cfg(debug_assertions)]
const LOOK: Duration = Duration::from_millis(10);

/// Waits here if a test wants it.
#[cfg(debug_assertions)]
pub(crate) async fn reach(point: &'static str) {
    if is_wanted(point) {
        while is_held() {
            tokio::time::sleep(LOOK).await;
        }
        tracing::warn!("fault point left: {point}");
    }
}

/// The same where nothing can be awaited: in a call that the store makes within its transaction.
#[cfg(debug_assertions)]
pub(crate) fn reach_inside(point: &'static str) {
    if is_wanted(point) {
        while is_held() {
            std::thread::sleep(LOOK);
        }
        tracing::warn!("fault point left: {point}");
    }
}

/// Whether this is the point, for the first who asks; says so in the log.
#[cfg(debug_assertions)]
fn is_wanted(point: &'static str) -> bool {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicBool, Ordering};

    static WANTED: LazyLock<Option<String>> = LazyLock::new(|| {
        let wanted = std::env::var("FAULT_POINT").ok()?;
        assert!(ALL.contains(&wanted.as_str()), "FAULT_POINT={wanted} is no point (hint: one of {ALL:?})");
        Some(wanted)
    });
    static REACHED: AtomicBool = AtomicBool::new(false);
    debug_assert!(ALL.contains(&point));
    let is_first = WANTED.as_deref() == Some(point) && !REACHED.swap(true, Ordering::AcqRel);
    if is_first {
        tracing::warn!("fault point reached: {point}");
        assert!(std::env::var_os("FAULT_POINT_PANIC").is_none(), "a panic was asked for");
    }
    is_first
}

#[cfg(debug_assertions)]
fn is_held() -> bool {
    std::env::var_os("FAULT_POINT_HOLD").is_none_or(|file| std::path::Path::new(&file).exists())
}

/// Nothing, in a release build.
#[cfg(not(debug_assertions))]
#[expect(clippy::unused_async, reason = "the same call in both builds")]
pub(crate) async fn reach(_point: &'static str) {}

/// Nothing, in a release build.
#[cfg(not(debug_assertions))]
pub(crate) fn reach_inside(_point: &'static str) {}
