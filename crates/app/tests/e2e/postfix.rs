//! Ten thousand leads and two steps into a real Postfix: every message once, whole, every link right; alone and as
//! separate processes.

use std::collections::{HashMap, HashSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::app::{App, Engine, number, service};
use crate::maildir::{self, Mail};
use crate::tracker::Tracker;

const LEADS: usize = 10_000;

fn leads(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("lead{n}"))
}

pub struct Postfix {
    pub url: String,
    pub maildir: PathBuf,
}

pub fn postfix() -> Option<Postfix> {
    let address = service("TEST_POSTFIX_ADDR")?;
    let maildir = PathBuf::from(service("TEST_POSTFIX_MAILDIR")?).join("new");
    Some(Postfix { url: format!("smtp://{address}?tls=none"), maildir })
}

/// The part of a maildir that was delivered to one domain, as far as it was looked at.
pub struct Inbox<'a> {
    maildir: &'a Path,
    domain: &'a str,
    known: HashSet<PathBuf>,
    ours: Vec<PathBuf>,
}

impl<'a> Inbox<'a> {
    pub fn new(maildir: &'a Path, domain: &'a str) -> Self {
        Self { maildir, domain, known: HashSet::new(), ours: Vec::new() }
    }

    /// Looks at what is new in the folder; how many messages have arrived in all.
    fn look(&mut self) -> usize {
        for entry in std::fs::read_dir(self.maildir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if self.known.insert(path.clone()) && is_for(&path, self.domain) {
                self.ours.push(path);
            }
        }
        self.ours.len()
    }

    /// Postfix delivers from its queue after it has accepted: waits until all have arrived.
    pub fn wait_for(&mut self, count: usize) -> Vec<Mail> {
        for _ in 0..600 {
            if self.look() >= count {
                break;
            }
            // Another program's queue has no signal that could be waited for.
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
        maildir::read(&self.ours)
    }
}

/// Whether a message was delivered to the domain: Postfix says so in its first lines.
fn is_for(path: &Path, domain: &str) -> bool {
    let mut head = [0; 512];
    let read = std::fs::File::open(path).and_then(|mut file| file.read(&mut head)).unwrap_or(0);
    String::from_utf8_lossy(&head[..read]).lines().any(|line| line.ends_with(&format!("@{domain}")))
}

fn check_mails(mails: &[Mail], leads: usize, steps: usize) {
    assert_eq!(mails.len(), leads * steps, "every message arrived, and once");
    let ids: HashSet<&str> = mails.iter().map(|m| m.message_id.as_str()).collect();
    assert_eq!(ids.len(), mails.len(), "every Message-ID once");
    let mut per_lead: HashMap<&str, usize> = HashMap::new();
    for mail in mails {
        assert!(mail.defects.is_empty(), "{:?}", mail.defects);
        assert!(mail.subject.starts_with("Mail ") && mail.subject.ends_with(" ¡hola!"), "{}", mail.subject);
        assert!(mail.text.contains("in Málaga, ES"), "{}", mail.text);
        assert_eq!(mail.links.len(), 4, "two links, the way out, the pixel");
        *per_lead.entry(&mail.to).or_default() += 1;
    }
    assert!(per_lead.len() == leads && per_lead.values().all(|n| *n == steps));
    let threads = mails.iter().filter(|m| ids.contains(m.references.as_str())).count();
    assert_eq!(threads, leads * (steps - 1), "each follow-up answers the mail before it");
}

fn run_sends_every_message_once(engine: Engine) {
    let (Some(app), Some(postfix)) = (App::new(engine), postfix()) else { return };
    let domain = format!("run-{engine:?}.example").to_lowercase();
    // `run` alone is what one does without servers; the other database is tried with fewer.
    let count = if engine == Engine::Sqlite { LEADS } else { LEADS / 10 };
    let sends = count * 2;
    let file = app.campaign(&domain, leads(count), 2, "");
    let arguments = ["run", file.to_str().unwrap(), "--smtp", &postfix.url];
    let (exit, first) = app.json(&arguments);
    assert_eq!(exit, 0, "{first}");
    assert_eq!((number(&first, "sent"), number(&first, "planned")), (sends as u64, sends as u64));
    let mut inbox = Inbox::new(&postfix.maildir, &domain);
    let mails = inbox.wait_for(sends);
    check_mails(&mails, count, 2);
    assert_eq!(number(&first, "sent") as usize, mails.len(), "the numbers equal the maildir's");
    assert_eq!(app.count_rows("inbox_message_refs WHERE direction = 'outbound' AND status = 'sent'"), sends as u64);
    let (exit, again) = app.json(&arguments);
    assert_eq!((exit, number(&again, "sent")), (0, sends as u64), "the second run goes on where it was");
    assert_eq!(inbox.look(), mails.len(), "and sends nothing");
    let mut tracker = Tracker::start(&app);
    tracker.check_links(&mails);
}

/// Scheduler, two workers and tracker as processes of their own, after `campaign import --start`.
fn separate_processes_share_the_work(engine: Engine) {
    let (Some(mut app), Some(postfix)) = (App::new(engine), postfix()) else { return };
    app.set("LOG_LEVEL", "info");
    let domain = format!("apart-{engine:?}.example").to_lowercase();
    // The shape of scale-out is PostgreSQL's; one file shared by processes is tried with fewer.
    let count = if engine == Engine::Postgres { LEADS } else { LEADS / 10 };
    let sends = count as u64 * 2;
    let file = app.campaign(&domain, leads(count), 2, "");
    let (exit, imported) = app.json(&["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &postfix.url]);
    assert_eq!((exit, number(&imported, "leads")), (0, count as u64));
    let workers = [app.spawn(&["worker"]), app.spawn(&["worker"])].map(|mut worker| {
        assert!(worker.wait_for("Waiting for jobs...", 1));
        worker.read_on()
    });
    let mut scheduler = app.spawn(&["scheduler"]);
    assert!(scheduler.wait_for("campaign completed", 1), "{}", scheduler.seen.join(""));
    let enqueued: u64 = scheduler
        .seen
        .iter()
        .filter_map(|line| line.split("Enqueued ").nth(1)?.split(' ').next()?.parse::<u64>().ok())
        .sum();
    assert_eq!(enqueued, sends);
    assert!(scheduler.stop().0.success());
    let (_, status) = app.json(&["campaign", "status", "Welcome"]);
    assert_eq!((number(&status, "sent"), number(&status, "unknown")), (sends, 0));
    let mut shares = Vec::new();
    for worker in workers {
        let (exit, log) = worker.stop();
        assert_eq!(exit.code(), Some(0));
        shares.push(log.iter().filter(|line| line.contains("Sent") && line.contains("status=sent")).count());
        assert!(log.iter().any(|line| line.contains("Received job") && line.contains("lead_id=")));
        assert!(!log.iter().any(|line| line.contains('@') && line.contains(&domain)), "no address in a log");
    }
    assert!(shares.iter().sum::<usize>() as u64 == sends && shares.iter().all(|n| *n > 0), "{shares:?}");
    let mails = Inbox::new(&postfix.maildir, &domain).wait_for(count * 2);
    check_mails(&mails, count, 2);
    let mut tracker = Tracker::start(&app);
    tracker.check_links(&mails);
}

crate::on_every_database! { run_sends_every_message_once separate_processes_share_the_work }
