//! The process's own secrets: from the environment, else from `DIR/secrets.env`, which is made on the first start.
//!
//! Generated only embedded: with `DATABASE_URL` many hosts must agree, so there the environment (or a file that is
//! there already) has to give them; `config` refuses to start otherwise. Not responsible for passwords of accounts:
//! those are sealed (`sealing`). To add a secret: a name in `NAMES`, its check in `config::environment`.

mod sealing;

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};

use crate::clock::random_bytes;
use crate::config::GivenSecrets;
pub(crate) use sealing::{Cell, SealingKey};

/// The secrets that are generated where nobody gave them.
pub(crate) const NAMES: [&str; 3] = ["JWT_SECRET", "ENCRYPTION_KEY", "CRON_SECRET"];

/// All that a process needs to sign, to seal and to let the cron route in.
#[derive(Debug)]
pub(crate) struct Secrets {
    /// Signs tokens.
    pub(crate) jwt: SecretString,
    /// Still verify tokens.
    pub(crate) jwt_old: Vec<SecretString>,
    /// Seals passwords.
    pub(crate) sealing: SealingKey,
    /// Opens the cron route; none = the route refuses.
    pub(crate) cron: Option<SecretString>,
}

/// Where generated secrets lie.
pub(crate) fn file(data: &Path) -> PathBuf {
    data.join("secrets.env")
}

/// Completes what was given; embedded, what is missing is generated and kept in the data directory.
///
/// # Errors
/// The data directory cannot be written, or the file in it is damaged.
pub(crate) fn complete(given: &GivenSecrets, data: &Path, generate: bool) -> anyhow::Result<Secrets> {
    let mut all = given.clone();
    if generate && !all.is_complete() {
        create(data)?;
        let path = file(data);
        let text = fs::read_to_string(&path).with_context(|| format!("failed to read `{}`", path.display()))?;
        all.fill_from(&text).map_err(|why| anyhow::anyhow!("failed to read `{}`: {why}", path.display()))?;
    }
    let missing =
        |name: &str| format!("`{name}` is missing in `{}` (hint: give it in the environment)", file(data).display());
    let key = all.encryption.as_ref().with_context(|| missing("ENCRYPTION_KEY"))?;
    Ok(Secrets {
        jwt: all.jwt.clone().with_context(|| missing("JWT_SECRET"))?,
        jwt_old: all.jwt_old.clone(),
        sealing: SealingKey::new(&decode_key(key.expose_secret()).with_context(|| missing("ENCRYPTION_KEY"))?),
        cron: all.cron,
    })
}

/// The 32 bytes of an `ENCRYPTION_KEY`.
pub(crate) fn decode_key(text: &str) -> Option<[u8; 32]> {
    STANDARD.decode(text.trim()).ok()?.try_into().ok()
}

/// Makes the file unless it is there. Of two processes that start at once one wins, and both then read its file.
fn create(data: &Path) -> anyhow::Result<()> {
    let path = file(data);
    if path.exists() {
        return Ok(());
    }
    crate::data_dir::create(data).with_context(|| format!("failed to make the data directory `{}`", data.display()))?;
    let mut text =
        String::from("# Made on the first start. Whoever has this file can sign links and open sealed passwords.\n");
    for name in NAMES {
        let value = STANDARD.encode(random_bytes::<32>());
        text += &format!("{name}={value}\n");
    }
    let draft = data.join(format!(".secrets.env.{:016x}", u64::from_be_bytes(random_bytes())));
    let written = write_private(&draft, text.as_bytes()).and_then(|()| {
        // A link, unlike a rename, fails where the name is taken: what another process reads is never replaced.
        match fs::hard_link(&draft, &path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            linked => linked.and_then(|()| fs::File::open(data)?.sync_all()),
        }
    });
    let removed = fs::remove_file(&draft);
    written.with_context(|| format!("failed to write `{}`", path.display()))?;
    removed.with_context(|| format!("failed to remove `{}`", draft.display()))
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn racing_first_starts_agree_on_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let keys: Vec<String> = std::thread::scope(|scope| {
            let starts: Vec<_> =
                (0..8).map(|_| scope.spawn(|| complete(&GivenSecrets::default(), &data, true).unwrap().jwt)).collect();
            starts.into_iter().map(|start| start.join().unwrap().expose_secret().to_owned()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0] && key.len() >= 32));
        let left: Vec<_> = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["secrets.env"], "no draft is left behind");
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_can_read_them() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        complete(&GivenSecrets::default(), &data, true).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&data), mode(&file(&data))), (0o700, 0o600));
    }

    #[test]
    fn the_environment_wins_and_a_complete_one_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let mut given = GivenSecrets { jwt: Some("e".repeat(32).into()), ..GivenSecrets::default() };
        assert_eq!(complete(&given, &data, true).unwrap().jwt.expose_secret(), "e".repeat(32));
        given.encryption = Some(STANDARD.encode([1; 32]).into());
        given.cron = Some("c".into());
        let other = dir.path().join("other");
        complete(&given, &other, true).unwrap();
        assert!(!other.exists());
        let without = GivenSecrets { encryption: None, ..given };
        assert!(complete(&without, &other, false).unwrap_err().to_string().contains("ENCRYPTION_KEY"));
    }
}
