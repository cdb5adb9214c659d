//! The database: whether it answers, whose schema it has, and whether its clock and ours agree.
//!
//! To add a check of the ledger as a whole: here; of rows in it: a file of its own.

use std::time::Duration;

use domain::time::Timestamp;
use engines::migrate::{self, Versions};
use engines::{Db, Store};
use secrecy::ExposeSecret as _;

use super::{Finding, Level, Scope};
use crate::clock::Clock;
use crate::config::Database;

const CHECK: &str = "database";
const CLOCK: &str = "clock";
/// Two clocks differ from here on: logs cannot be compared.
const SKEWED: Duration = Duration::from_secs(2);
/// And from here on tokens, certificates and dates in mails are wrong.
const WRONG: Duration = Duration::from_secs(60);

/// Opens the database without changing it; none where nothing in it can be looked at.
pub(super) async fn open(scope: &Scope, findings: &mut Vec<Finding>) -> Option<Store> {
    let db = match connect(scope) {
        Ok(Some(db)) => db,
        Ok(None) => {
            let text = format!("none in `{}` yet: it is made on the first start", scope.config.data.display());
            findings.push(Finding::ok(CHECK, text));
            return None;
        }
        Err(finding) => {
            findings.push(finding);
            return None;
        }
    };
    let asked = tokio::time::timeout(scope.request.patience, versions_and_clock(&db));
    match asked.await {
        Ok(Ok((versions, clock))) => {
            findings.push(schema(versions));
            findings.push(clock);
            // Other schemas have other columns.
            versions.fits().then(|| Store::new(db))
        }
        Ok(Err(error)) => {
            findings.push(unreachable(error.to_string()));
            None
        }
        Err(_) => {
            findings.push(unreachable(format!("no answer within {} s", scope.request.patience.as_secs())));
            None
        }
    }
}

fn connect(scope: &Scope) -> Result<Option<Db>, Finding> {
    let wrong = |error: engines::Error, mend: &str| Finding::of_error(CHECK, Level::Problem, error, mend);
    match &scope.config.database {
        // Opening would make it.
        Database::Embedded(path) if !path.exists() => Ok(None),
        Database::Embedded(path) => Db::open_sqlite(path, 1).map(Some).map_err(|error| {
            let text = format!("`{}` cannot be opened: {error}", path.display());
            Finding::of_error(CHECK, Level::Problem, text, "restore it from a backup")
        }),
        Database::Postgres(url) => {
            Db::open_postgres(url.expose_secret(), 2).map(Some).map_err(|error| wrong(error, "mend DATABASE_URL"))
        }
    }
}

fn unreachable(why: String) -> Finding {
    let (message, _) = crate::problem::Problem::new(why).into_parts();
    let mend = "check DATABASE_URL (host, port, user, database), that the server runs, and that it lets this host in";
    Finding::new(CHECK, Level::Unreachable, message, mend)
}

async fn versions_and_clock(db: &Db) -> engines::error::Result<(Versions, Finding)> {
    let versions = migrate::versions(db).await?;
    let clock = Clock::system();
    let before = clock.now();
    let finding = match db.server_time().await? {
        Some(theirs) => {
            let ours = before + clock.now().since(before) / 2;
            skew(ours, theirs)
        }
        // Embedded there is one clock; what it said before stands in the ledger.
        None if versions.fits() => ledger_time(before, Store::new(db.clone()).system().latest_time().await?),
        None => Finding::ok(CLOCK, "there is only this host's"),
    };
    Ok((versions, finding))
}

fn schema(versions: Versions) -> Finding {
    let Versions { found, known, .. } = versions;
    let text = format!("schema is at version {found}, this program has {known}");
    match found {
        0 => Finding::new(
            CHECK,
            Level::Warning,
            "there is no schema in it yet",
            "penguinmails migrate makes it, as every other command does",
        ),
        _ if found < known => {
            Finding::new(CHECK, Level::Warning, text, "penguinmails migrate (every other command does it too)")
        }
        _ if found > known => {
            let mend = "a newer penguinmails ran here: use that version on this host as well";
            // Meant to be so while one version replaces the other.
            let level = if versions.fits() { Level::Warning } else { Level::Problem };
            Finding::new(CHECK, level, text, mend)
        }
        _ => Finding::ok(CHECK, format!("answers, schema is at version {found}")),
    }
}

fn skew(ours: Timestamp, theirs: Timestamp) -> Finding {
    let (by, direction) =
        if ours >= theirs { (ours.since(theirs), "ahead of") } else { (theirs.since(ours), "behind") };
    let level = match by {
        by if by >= WRONG => Level::Problem,
        by if by >= SKEWED => Level::Warning,
        by => return Finding::ok(CLOCK, format!("agrees with the database's to {} ms", by.as_millis())),
    };
    let text = format!("this host's clock is {} s {direction} the database's", by.as_secs());
    Finding::new(CLOCK, level, text, "let both hosts keep time: timedatectl set-ntp true")
}

fn ledger_time(now: Timestamp, latest: Option<Timestamp>) -> Finding {
    match latest {
        Some(latest) if latest >= now + WRONG => {
            let text = format!(
                "the ledger's last entry is of {latest}, {} s after this host's time {now}",
                latest.since(now).as_secs()
            );
            let mend = "set the host's clock (timedatectl set-ntp true); after a trial with --time-scale use another --data directory";
            Finding::new(CLOCK, Level::Problem, text, mend)
        }
        _ => Finding::ok(CLOCK, "is not behind the ledger"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_differ_are_named_with_direction_and_length() {
        let now = Timestamp::from_unix_seconds(1_772_452_800);
        let seconds = Duration::from_secs;
        assert_eq!(skew(now, now + seconds(1)).level, Level::Ok);
        let warning = skew(now, now + seconds(5));
        assert_eq!((warning.level, warning.message.contains("5 s behind")), (Level::Warning, true), "{warning:?}");
        let problem = skew(now + seconds(90), now);
        assert_eq!((problem.level, problem.message.contains("90 s ahead of")), (Level::Problem, true), "{problem:?}");
    }

    #[test]
    fn a_schema_is_old_new_or_right() {
        let level = |(found, known, needed)| schema(Versions { found, known, needed }).level;
        let levels = [(0, 5, 0), (3, 5, 0), (5, 5, 0), (6, 5, 5), (6, 5, 6)].map(level);
        assert_eq!(levels, [Level::Warning, Level::Warning, Level::Ok, Level::Warning, Level::Problem]);
    }
}
