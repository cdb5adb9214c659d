//! The product as its users run it: an installation of its own, commands with `--json`, the most memory that one held, and what
//! a running scheduler says of its turns.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

/// Keys that a deployment must be given; they protect nothing here.
const SECRETS: [(&str, &str); 2] = [
    ("JWT_SECRET", "only for figures, protects nothing"),
    ("ENCRYPTION_KEY", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="),
];
/// How often a process's memory is read. The kernel keeps the most there was, so that only the last moment can be missed.
const LOOK: Duration = Duration::from_millis(5);

/// How often a running scheduler is asked for its turns, and for how long.
const ASK: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(120);
/// Seconds that turns took, and how many there were.
const TURNS: [&str; 2] =
    ["penguinmails_scheduler_turn_duration_seconds_sum ", "penguinmails_scheduler_turn_duration_seconds_count "];

/// An installation in a folder.
pub(crate) struct Product<'a> {
    program: &'a Path,
    folder: PathBuf,
    database_url: Option<String>,
}

/// What a command said.
pub(crate) struct Said {
    /// The object of `--json`.
    pub(crate) object: Value,
    /// The most resident memory it held, in MiB.
    pub(crate) memory: f64,
}

impl<'a> Product<'a> {
    /// A new one; on SQLite where no database is named.
    pub(crate) fn new(program: &'a Path, folder: &Path, database_url: Option<String>) -> Self {
        Self { program, folder: folder.to_owned(), database_url }
    }

    /// Where its SQLite file lies.
    pub(crate) fn sqlite_file(&self) -> PathBuf {
        self.folder.join("data").join("penguinmails.db")
    }

    /// Imports a campaign of one mail, due `wait_hours` after its start, gives it this list, and starts it.
    pub(crate) fn start_campaign(&self, name: &str, wait_hours: u32, list: &Path) -> anyhow::Result<()> {
        let page = "<html><body><p>Hi {{ firstName }}</p></body></html>";
        std::fs::write(self.folder.join("mail.html"), page)?;
        std::fs::write(self.folder.join("first.csv"), "email,first_name\nfirst@figures.example,Ana\n")?;
        let file = self.folder.join(format!("{name}.toml"));
        let text = format!(
            "[tenant]\nname = \"Acme\"\n[company]\nname = \"Acme Ltd\"\naddress = \"1 Main Street\"\n\
             [[email_account]]\nemail = \"ana@acme.example\"\nsmtp = \"smtp://127.0.0.1:25?tls=none\"\n\
             [campaign]\nname = \"{name}\"\nleads = \"first.csv\"\n\
             [[step]]\nwait_hours = {wait_hours}\nsubject = \"Hello {{{{ firstName }}}}\"\nhtml = \"mail.html\"\n"
        );
        std::fs::write(&file, text)?;
        let [file, list] = [&file, list].map(|path| path.display().to_string());
        self.run(&["campaign", "import", &file])?;
        self.run(&["lead", "import", &list, "--tenant", "Acme", "--campaign", name])?;
        self.run(&["campaign", "resume", name])?;
        Ok(())
    }

    /// One turn of the scheduler over all that is due.
    pub(crate) fn turn(&self) -> anyhow::Result<Said> {
        self.run(&["scheduler", "--once"])
    }

    /// The mean of so many turns of a running scheduler, in ms, without its first, which connects and prepares.
    pub(crate) fn turns(&self, turns: u32) -> anyhow::Result<f64> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = self.command(&["scheduler"]);
        command.env("HEALTH_LISTEN", address.to_string()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().with_context(|| format!("`{}` does not start", self.program.display()))?;
        let mean = mean_of(address, turns);
        child.kill()?;
        child.wait()?;
        mean
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        command.args(arguments).arg("--data").arg(self.folder.join("data"));
        command.env_clear().envs(SECRETS).stdin(Stdio::null());
        if let Some(url) = &self.database_url {
            command.env("DATABASE_URL", url).env("ALLOW_PRIVATE_HOSTS", "*");
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> anyhow::Result<Said> {
        let mut command = self.command(arguments);
        command.arg("--json");
        let (output, log) = (self.folder.join("output"), self.folder.join("log"));
        command.stdout(std::fs::File::create(&output)?).stderr(std::fs::File::create(&log)?);
        let mut child = command.spawn().with_context(|| format!("`{}` does not start", self.program.display()))?;
        let memory = watch(&mut child)?;
        let success = child.wait()?.success();
        let text = |file| std::fs::read_to_string(file).unwrap_or_default();
        ensure!(success, "`{}` failed:\n{}", arguments.join(" "), text(&log));
        let object = serde_json::from_str(&text(&output)).with_context(|| format!("`{}`", arguments.join(" ")))?;
        Ok(Said { object, memory })
    }
}

/// The mean of so many turns, in ms, behind the first.
fn mean_of(address: SocketAddr, turns: u32) -> anyhow::Result<f64> {
    let (began, mut first) = (Instant::now(), None);
    while began.elapsed() < PATIENCE {
        std::thread::sleep(ASK);
        let Some([seconds, count]) = turns_so_far(address) else { continue };
        if count < 1.0 {
            continue;
        }
        let [seconds_before, count_before] = *first.get_or_insert([seconds, count]);
        if count - count_before >= f64::from(turns) {
            return Ok((seconds - seconds_before) / (count - count_before) * 1000.0);
        }
    }
    bail!("the scheduler took no {turns} turns within {PATIENCE:?}")
}

/// `TURNS` of a process; none while it does not answer.
fn turns_so_far(address: SocketAddr) -> Option<[f64; 2]> {
    let mut connection = TcpStream::connect_timeout(&address, ASK).ok()?;
    connection.set_read_timeout(Some(PATIENCE)).ok()?;
    connection.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    connection.read_to_string(&mut text).ok()?;
    let value = |name| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    Some([value(TURNS[0])?, value(TURNS[1])?])
}

/// Waits for a process's end; the most resident memory it held, in MiB.
fn watch(child: &mut Child) -> anyhow::Result<f64> {
    let status = format!("/proc/{}/status", child.id());
    let mut memory = 0.0;
    while child.try_wait()?.is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        memory = line.and_then(|kib| kib.trim().parse::<f64>().ok()).map_or(memory, |kib| kib / 1024.0);
        std::thread::sleep(LOOK);
    }
    Ok(memory)
}

/// Writes a list of so many leads.
pub(crate) fn write_list(path: &Path, leads: u64) -> anyhow::Result<()> {
    let mut text = String::from("email,first_name\n");
    // One is in the campaign's own list.
    for n in 1..leads {
        writeln!(text, "lead{n}@d{}.example,Ana", n % 500)?;
    }
    Ok(std::fs::write(path, text)?)
}
