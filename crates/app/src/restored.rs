//! Whether the ledger was restored from a backup: then nothing is sent until a person has said of which time it knows nothing.
//!
//! Two signs at a start. The server: its identity, its time line or the table's number is another one than when the ledger was last
//! accepted. The directory: it has seen a later mark than the ledger has; workers mark the ledger every few seconds, and
//! note in their directory what is durable there, so a directory is never ahead of a ledger that lost nothing. A
//! process that runs has a third, which is exact: what it has committed itself (`Witness`). The server may change under
//! it, as long as that is still there. Not responsible for what is held then (`cli/restored.rs`). To add a sign: `doubt`,
//! or a field of `Known`.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::time::Timestamp;
use engines::store::restored::{Committed, Signs};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::config::Config;
use crate::context::Context;
use crate::data_dir;
use crate::exit::Failure;
use crate::problem::{InputErrors, Problem};

/// Real time between two marks: what is sent within it before a backup's time ends may go unseen.
const EVERY: Duration = Duration::from_secs(3);
/// How often it is tried to tell other processes.
const TRIES: u32 = 5;

/// What this process can see of the ledger and its directory.
pub(crate) struct Evidence {
    /// What the ledger says of itself.
    pub(crate) ledger: Signs,
    /// The server that holds it now; none where that cannot be told.
    pub(crate) server: Option<String>,
    /// The latest mark that this directory has seen.
    pub(crate) noted: Option<Timestamp>,
}

impl Evidence {
    /// Gathers it.
    ///
    /// # Errors
    /// The database, or the directory cannot be read.
    pub(crate) async fn gather(ctx: &Context) -> Result<Self, Failure> {
        let system = ctx.store.system();
        let deployment = system.deployment(ctx.clock.uuid_v7(), ctx.clock.now()).await?;
        let noted = read(&note(&ctx.config, deployment)).map_err(anyhow::Error::from)?;
        Ok(Self { ledger: system.signs().await?, server: ctx.store.db().identity().await?, noted })
    }

    /// Why the ledger may have been restored, if so.
    fn doubt(&self) -> Option<String> {
        let seen = self.ledger.seen_at.map_or("nothing".to_owned(), |at| format!("nothing after {at}"));
        if let Some(noted) = self.noted.filter(|noted| self.ledger.seen_at.is_none_or(|seen| seen < *noted)) {
            return Some(format!("the ledger knows {seen}, and this data directory has seen it at {noted}"));
        }
        let other = self.ledger.server.is_some() && self.server.is_some() && self.ledger.server != self.server;
        other.then(|| format!("the ledger is on another database server than before, or its server's history has branched; it knows {seen}"))
    }
}

/// What a person is told to do about a ledger that knows nothing after `seen`.
fn hint(seen: Option<Timestamp>) -> String {
    let since = seen.map_or("TIME".to_owned(), |at| at.to_string());
    format!(
        "`penguinmails restored --since {since}` holds what may have been sent since; where nothing can have been lost \
         (the server moved or failed over with all it had): `penguinmails restored --nothing-lost`"
    )
}

/// What this process has committed to the ledger: where that is not there any more, the ledger went back under it.
#[derive(Default)]
pub(crate) struct Witness {
    known: Mutex<Known>,
    /// Rung by whoever saw that something is missing.
    pub(crate) doubts: Notify,
}

/// The latest of each kind; all of them were durable.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    mark: Option<Timestamp>,
    dot: Option<Committed>,
    result: Option<Committed>,
}

impl Witness {
    /// The ledger has this dot, or this dot's result.
    pub(crate) fn has_committed(&self, one: Committed) {
        let mut known = self.known();
        *(if one.is_settled { &mut known.result } else { &mut known.dot }) = Some(one);
    }

    /// What the ledger must still have of sends.
    pub(crate) fn of_sends(&self) -> Vec<Committed> {
        let known = *self.known();
        known.dot.into_iter().chain(known.result).collect()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets the process send, unless the ledger was restored.
///
/// # Errors
/// `Input` where a person has to say of which time the ledger knows nothing.
pub(crate) async fn admit(ctx: &Context) -> Result<(), Failure> {
    let evidence = Evidence::gather(ctx).await?;
    if let Some(why) = evidence.doubt() {
        let problem = Problem::new(format!("nothing is sent, since the ledger may be an older backup: {why}"));
        return Err(InputErrors::from(problem.hint(hint(evidence.ledger.seen_at))).into());
    }
    if let (None, Some(server)) = (&evidence.ledger.server, &evidence.server) {
        ctx.store.system().name_server(server, ctx.clock.now()).await?;
    }
    Ok(())
}

/// Marks the ledger and notes the mark in the directory, until the ledger is seen to have gone back: then all others are
/// told by the ledger itself, and a person by the log. `stop` is called first.
pub(crate) async fn keep_marking(ctx: &Context, stop: impl FnOnce()) {
    while mark_or_tell(ctx).await {
        let _either = tokio::time::timeout(EVERY, ctx.witness.doubts.notified()).await;
    }
    stop();
    let seen = tell_others(ctx).await;
    let hint = hint(seen);
    tracing::error!(
        "nothing more is sent, and the process ends: the ledger has lost what was committed to it (hint: {hint})"
    );
}

/// Takes the ledger's mark back behind what it has lost, so that whoever lost nothing himself stops as well, and nobody
/// starts; where the mark stands then.
async fn tell_others(ctx: &Context) -> Option<Timestamp> {
    // Another process may have marked it again before this one looked: then the loss began up to two marks before ours.
    let last = ctx.witness.known().mark?;
    let seen = last - ctx.clock.span(2 * EVERY);
    for _ in 0..TRIES {
        match ctx.store.system().doubt(seen, ctx.clock.now()).await {
            Ok(()) => {
                let signs = ctx.store.system().signs().await;
                return Some(signs.ok().and_then(|signs| signs.seen_at).unwrap_or(seen));
            }
            Err(e) => {
                tracing::warn!(error = %e, "the other processes cannot be told yet that the ledger has lost something")
            }
        }
        tokio::time::sleep(EVERY).await;
    }
    Some(seen)
}

/// Marks the ledger once; false where it went back. That it does not succeed otherwise stops nobody.
pub(crate) async fn mark_or_tell(ctx: &Context) -> bool {
    match mark(ctx).await {
        Ok(()) => true,
        Err(Unmarked::WentBack) => false,
        Err(Unmarked::Failed(e)) => {
            tracing::warn!(error = %e, "the ledger cannot be marked now, or the directory takes no note of it");
            true
        }
    }
}

/// Why there is no mark.
pub(crate) enum Unmarked {
    /// What this process has committed is not there any more.
    WentBack,
    /// The database, or the directory takes no note.
    Failed(Failure),
}

impl From<engines::Error> for Unmarked {
    fn from(error: engines::Error) -> Self {
        if error.is_went_back() { Self::WentBack } else { Self::Failed(error.into()) }
    }
}

impl From<Unmarked> for Failure {
    fn from(why: Unmarked) -> Self {
        match why {
            Unmarked::WentBack => engines::Error::WentBack.into(),
            Unmarked::Failed(failure) => failure,
        }
    }
}

/// Marks the ledger, and once that is durable notes it in the directory.
///
/// # Errors
/// The ledger went back, the database, or the directory takes no note.
pub(crate) async fn mark(ctx: &Context) -> Result<(), Unmarked> {
    let system = ctx.store.system();
    let last = ctx.witness.known().mark;
    let Some(at) = system.mark(ctx.clock.now(), last, &ctx.witness.of_sends()).await? else { return Ok(()) };
    ctx.witness.known().mark = Some(at);
    let Some(deployment) = system.find_deployment().await? else { return Ok(()) };
    let path = note(&ctx.config, deployment);
    let written = tokio::task::spawn_blocking(move || write(&path, at)).await;
    let written = written.map_err(anyhow::Error::from).and_then(|done| done.map_err(anyhow::Error::from));
    written.map_err(|e| Unmarked::Failed(e.into()))
}

/// One file for each ledger that the directory ever served; its own is one, whatever it says of itself: a database file
/// without its log may begin anew.
fn note(config: &Config, deployment: Uuid) -> PathBuf {
    let name = if config.is_embedded() { "embedded".to_owned() } else { deployment.to_string() };
    config.data.join("seen").join(name)
}

/// The mark; none where there is no note, or it cannot be understood: a lost host may leave half of one.
fn read(path: &Path) -> io::Result<Option<Timestamp>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().parse().ok()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// In one step, so that nobody reads half of it.
fn write(path: &Path, at: Timestamp) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        data_dir::create(folder)?;
    }
    let part = path.with_extension(format!("part-{}", std::process::id()));
    let mut file = std::fs::File::create(&part)?;
    writeln!(file, "{at}")?;
    file.sync_data()?;
    std::fs::rename(part, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_123_456);

    fn evidence(seen: Option<Timestamp>, noted: Option<Timestamp>, servers: [Option<&str>; 2]) -> Option<String> {
        let [before, server] = servers.map(|server| server.map(str::to_owned));
        Evidence { ledger: Signs { seen_at: seen, server: before }, server, noted }.doubt()
    }

    #[test]
    fn fd10_a_note_that_is_ahead_of_the_ledger_tells_and_nothing_else_of_it_does() {
        let earlier = Timestamp::from_micros(NOW.micros() - 1);
        let none = [None, None];
        assert!(evidence(Some(earlier), Some(NOW), none).is_some());
        assert!(evidence(None, Some(NOW), none).is_some());
        for (seen, noted) in [(Some(NOW), Some(NOW)), (Some(NOW), Some(earlier)), (Some(NOW), None), (None, None)] {
            assert_eq!(evidence(seen, noted, none), None);
        }
    }

    #[test]
    fn fd10_another_server_tells_where_both_are_known() {
        assert!(evidence(Some(NOW), None, [Some("a/1/2"), Some("a/2/2")]).is_some());
        for servers in [[Some("a"), Some("a")], [None, Some("a")], [Some("a"), None]] {
            assert_eq!(evidence(Some(NOW), None, servers), None);
        }
    }

    #[test]
    fn a_note_is_exact_and_half_of_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seen/embedded");
        assert_eq!(read(&path).unwrap(), None);
        write(&path, NOW).unwrap();
        assert_eq!(read(&path).unwrap(), Some(NOW));
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        std::fs::write(&path, "2026-11").unwrap();
        assert_eq!(read(&path).unwrap(), None);
    }
}
