//! The configuration: every refusal in one message, and documents that cannot drift from the code.

use secrecy::ExposeSecret as _;

use super::*;

fn options(dir: &Path, file: Option<PathBuf>) -> Options {
    Options { data: dir.join("data"), file, log_addresses: false, log_format: None }
}

fn said<const N: usize>(env: [(&str, &str); N]) -> String {
    let dir = tempfile::tempdir().unwrap();
    load(&options(dir.path(), None), &Environment::from(env)).map(|_| String::new()).unwrap_or_else(|e| e.to_string())
}

fn settings(text: &str) -> Result<Settings, String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml");
    std::fs::write(&file, text).unwrap();
    load(&options(dir.path(), Some(file.clone())), &Environment::default())
        .map(|config| config.settings)
        .map_err(|errors| errors.to_string().replace(&file.display().to_string(), "c.toml"))
}

#[test]
fn nothing_set_runs_embedded() {
    let dir = tempfile::tempdir().unwrap();
    let config = load(&options(dir.path(), None), &Environment::default()).unwrap();
    assert!(config.is_embedded());
    assert_eq!((config.public_url.as_str(), config.track_listen.port()), ("http://127.0.0.1:8081", 8081));
    assert!(matches!(config.host_policy, HostPolicy::AllowAll) && config.health_listen.is_none());
    assert!(!config.data.exists(), "reading the configuration writes nothing");
}

#[test]
fn all_problems_come_in_one_message() {
    let text = said([
        ("DATABASE_URL", "mysql://u:hunter2@h/d"),
        ("REDIS_URL", "http://h"),
        ("JWT_SECRET", "short"),
        ("PUBLIC_URL", "ftp://x"),
        ("API_LISTEN", "8080"),
        ("EMAIL_TIMEOUT", "0"),
        ("LOG_LEVEL", "verbose"),
        ("WORKER_ID", "a b"),
        ("ALLOW_PRIVATE_HOSTS", "10.0.0.0/8,home"),
    ]);
    for name in [
        "DATABASE_URL",
        "REDIS_URL",
        "JWT_SECRET",
        "ENCRYPTION_KEY",
        "PUBLIC_URL",
        "API_LISTEN",
        "EMAIL_TIMEOUT",
        "LOG_LEVEL",
        "WORKER_ID",
        "ALLOW_PRIVATE_HOSTS",
    ] {
        assert!(text.contains(&format!("`{name}`")), "{name} in {text}");
    }
    assert!(!text.contains("hunter2") && !text.contains("short\n"), "{text}");
}

#[test]
fn scale_out_needs_its_secrets_and_refuses_private_hosts() {
    let text = said([("DATABASE_URL", "postgres://u@h/d")]);
    assert!(text.contains("`JWT_SECRET`: not set") && text.contains("`ENCRYPTION_KEY`: not set"), "{text}");
    let dir = tempfile::tempdir().unwrap();
    let key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    std::fs::create_dir(dir.path().join("data")).unwrap();
    std::fs::write(
        dir.path().join("data/secrets.env"),
        format!("JWT_SECRET={}\nENCRYPTION_KEY={key}\n", "f".repeat(32)),
    )
    .unwrap();
    let env =
        Environment::from([("DATABASE_URL", "postgres://u@h/d"), ("ALLOW_PRIVATE_HOSTS", "10.0.0.0/8, 192.168.1.7")]);
    let config = load(&options(dir.path(), None), &env).unwrap();
    assert_eq!(config.secrets.jwt.unwrap().expose_secret(), "f".repeat(32));
    assert!(matches!(config.host_policy, HostPolicy::Public(networks) if networks.len() == 2));
}

#[test]
fn redis_alone_is_refused() {
    assert!(said([("REDIS_URL", "redis://h")]).contains("`REDIS_URL`: given without DATABASE_URL"));
}

#[test]
fn a_public_url_is_absolute_and_loses_its_last_slash() {
    for (text, what) in [
        ("ftp://x", "neither http nor https"),
        ("t.acme.test", "not a whole URL"),
        ("http://x/?a=b", "query"),
        ("http://x/#a", "fragment"),
        ("http://u:p@x/", "user or password"),
        ("http://", "is not a URL"),
    ] {
        let said = said([("PUBLIC_URL", text)]);
        assert!(said.contains(what), "{text}: {said}");
    }
    let dir = tempfile::tempdir().unwrap();
    let env = Environment::from([("PUBLIC_URL", "https://acme.test/mail/")]);
    assert_eq!(load(&options(dir.path(), None), &env).unwrap().public_url, "https://acme.test/mail");
}

#[test]
fn a_damaged_secrets_file_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("data")).unwrap();
    std::fs::write(dir.path().join("data/secrets.env"), "JWT_SECRET\n").unwrap();
    let text = load(&options(dir.path(), None), &Environment::default()).unwrap_err().to_string();
    assert!(text.contains("secrets.env: line 1 is not NAME=value"), "{text}");
}

#[test]
fn the_example_is_the_default_and_names_every_key() {
    assert_eq!(settings(EXAMPLE).unwrap(), Settings::default());
    let mut section = String::new();
    let mut documented = Vec::new();
    for line in EXAMPLE.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = format!("{name}.");
        } else if let Some((key, _)) = line.strip_prefix('#').unwrap_or(line).split_once(" = ")
            && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        {
            documented.push(format!("{section}{key}"));
        }
    }
    let mut keys = settings::keys();
    keys.sort();
    documented.sort();
    assert_eq!(documented, keys);
}

#[test]
fn the_suggestions_in_the_example_can_be_uncommented() {
    let text = EXAMPLE.replace("\n#daily", "\ndaily").replace("\n#min_gap", "\nmin_gap");
    let account = settings(&text).unwrap().email_account;
    assert_eq!((account.daily_limit, account.min_gap_seconds), (Some(50), 120));
}

#[test]
fn bad_settings_are_named_with_their_place() {
    let text = settings(
        "token_ttl_days = 0\nshutdown_grace = \"1h\"\n[log]\nformat = \"xml\"\njob = true\n[retry]\ndelays = []\n\
         expire = 5\n[email_account]\nwarmup = [[7, 10], [3, 20]]\n[worker]\nconnections = -1\n[nope]\n",
    )
    .unwrap_err();
    for part in [
        "c.toml:1:18: `token_ttl_days`: must be 1 to 3650 days",
        "c.toml:2:18: `shutdown_grace`: must be at most 10m",
        "c.toml:4:10: `log.format`: unknown variant `xml`",
        "c.toml:5:1: `log.job`: unknown key\n  hint: did you mean `jobs`?",
        "c.toml:7:10: `retry.delays`: must hold 1 to 100 waits",
        "c.toml:8:10: `retry.expire`: wrong type",
        "c.toml:10:10: `email_account.warmup`: ",
        "c.toml:12:15: `worker.connections`: ",
        "c.toml:13:2: `nope`: unknown key",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(settings("a = ").unwrap_err().contains("c.toml:1:"));
}

#[test]
fn the_env_example_is_what_the_table_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.env.example");
    assert_eq!(
        std::fs::read_to_string(path).unwrap(),
        environment::example(),
        "print it anew: penguinmails config example --env"
    );
}
