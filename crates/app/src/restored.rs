//! Whether the ledger was restored from a backup: then nothing is sent until a person has said of which time it knows nothing.
//!
//! Two signs. The server: its identity, its time line or the table's number is another one than when the ledger was last
//! accepted. The directory: it has seen a later mark than the ledger has; workers mark the ledger every few seconds, and
//! note in their directory what is durable there, so a directory is never ahead of a ledger that lost nothing. Not
//! responsible for what is held then (`cli/restored.rs`). To add a sign: `doubt`.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::time::Timestamp;
use engines::store::restored::Signs;
use uuid::Uuid;

use crate::config::Config;
use crate::context::Context;
use crate::data_dir;
use crate::exit::Failure;
use crate::problem::{InputErrors, Problem};

/// Real time between two marks: what is sent within it before a backup's time ends may go unseen.
const EVERY: Duration = Duration::from_secs(3);

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

/// Lets the process send, unless the ledger was restored.
///
/// # Errors
/// `Input` where a person has to say of which time the ledger knows nothing.
pub(crate) async fn admit(ctx: &Context) -> Result<(), Failure> {
    let evidence = Evidence::gather(ctx).await?;
    if let Some(why) = evidence.doubt() {
        let since = evidence.ledger.seen_at.map_or("TIME".to_owned(), |at| at.to_string());
        let problem = Problem::new(format!("nothing is sent, since the ledger may be an older backup: {why}"));
        let hint = format!(
            "`penguinmails restored --since {since}` holds what may have been sent since; where nothing can have been lost \
             (the server moved or failed over with all it had): `penguinmails restored --nothing-lost`"
        );
        return Err(InputErrors::from(problem.hint(hint)).into());
    }
    if let (None, Some(server)) = (&evidence.ledger.server, &evidence.server) {
        ctx.store.system().name_server(server, ctx.clock.now()).await?;
    }
    Ok(())
}

/// Marks the ledger and notes the mark in the directory, for ever.
pub(crate) async fn keep_marking(ctx: &Context) {
    loop {
        tokio::time::sleep(EVERY).await;
        mark_or_tell(ctx).await;
    }
}

/// The same once; that it does not succeed stops nobody.
pub(crate) async fn mark_or_tell(ctx: &Context) {
    if let Err(e) = mark(ctx).await {
        tracing::warn!(error = %e, "the ledger cannot be marked now, or the directory takes no note of it");
    }
}

/// Marks the ledger, and once that is durable notes it in the directory.
///
/// # Errors
/// The database, or the directory takes no note.
pub(crate) async fn mark(ctx: &Context) -> Result<(), Failure> {
    let system = ctx.store.system();
    let Some(at) = system.mark(ctx.clock.now()).await? else { return Ok(()) };
    let Some(deployment) = system.find_deployment().await? else { return Ok(()) };
    let path = note(&ctx.config, deployment);
    let written = tokio::task::spawn_blocking(move || write(&path, at)).await;
    written.map_err(anyhow::Error::from)?.map_err(anyhow::Error::from)?;
    Ok(())
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
