//! One campaign with one mail, its receiver, and processes that stand still at a named point of the mail's path.
//!
//! Shared by the cases that kill, stop or overtake at exactly one point; what each expects stands there. To add what a case
//! may do to a process: a method of `Scene`.

use std::path::PathBuf;

use serde_json::Value;

use crate::app::{App, Engine, Process, Reading, Sink, number};
use crate::http::wait_long;

/// What the ledger and the receiver say in the end.
#[derive(Debug, PartialEq, Eq)]
pub struct End {
    pub copies: usize,
    pub sent: u64,
    pub held: u64,
    pub unknown: u64,
}

pub const ONCE: End = End { copies: 1, sent: 1, held: 0, unknown: 0 };
pub const NEVER: End = End { copies: 0, sent: 0, held: 1, unknown: 1 };

/// An installation whose processes are held at a point.
pub struct Scene {
    pub app: App,
    pub sink: Sink,
    hold: PathBuf,
}

impl Scene {
    pub fn empty(engine: Engine) -> Option<Self> {
        Self::with_sink(engine, &[])
    }

    /// The same with a receiver that was started with these options.
    pub fn with_sink(engine: Engine, options: &[&str]) -> Option<Self> {
        let mut app = App::new(engine)?;
        app.set("LOG_LEVEL", "info");
        let sink = Sink::start(&app, options);
        let hold = app.path("hold");
        std::fs::write(&hold, "").unwrap();
        Some(Self { app, sink, hold })
    }

    /// A campaign with one lead, started.
    pub fn new(engine: Engine, extra: &str) -> Option<Self> {
        let scene = Self::empty(engine)?;
        scene.import("Welcome", "ana", extra);
        Some(scene)
    }

    /// Starts a campaign of this name to one lead.
    pub fn import(&self, name: &str, lead: &str, extra: &str) {
        self.import_by(&self.sink.url, name, lead, extra);
    }

    /// The same by another way to the receiver.
    pub fn import_by(&self, server: &str, name: &str, lead: &str, extra: &str) {
        let file = self.app.campaign("one.example", [lead.to_owned()], 1, extra);
        let text = std::fs::read_to_string(&file).unwrap().replace("\"Welcome\"", &format!("\"{name}\""));
        std::fs::write(&file, text).unwrap();
        let arguments = ["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", server];
        assert_eq!(self.app.json(&arguments).0, 0);
    }

    /// A process that stands still at `point`, where it has arrived.
    pub fn held_at(&self, part: &str, point: &str) -> Process {
        let hold = self.hold.to_str().unwrap();
        let mut process = self.app.spawn_with(&[part], &[("FAULT_POINT", point), ("FAULT_POINT_HOLD", hold)]);
        let line = format!("fault point reached: {point}");
        assert!(process.wait_for(&line, 1), "the fault did not fire: {}", process.seen.join(""));
        process
    }

    /// A worker that stands still there, with the send planned before.
    pub fn worker_at(&self, point: &str) -> Process {
        assert_eq!(self.app.json(&["scheduler", "--once"]).1["planned"], 1);
        self.held_at("worker", point)
    }

    /// The job of the one lead, as another program pushes it before our scheduler plans.
    pub fn push_job(&self) {
        let fields = [
            ("tenantId", "tenants"),
            ("campaignId", "campaigns"),
            ("leadId", "leads"),
            ("stepId", "campaign_sequence_steps"),
            ("emailAccountId", "email_accounts"),
        ];
        let job: serde_json::Map<String, Value> = fields
            .into_iter()
            .map(|(field, table)| {
                (field.to_owned(), self.app.column(&format!("SELECT id FROM {table}"))[0].as_str().into())
            })
            .collect();
        self.app.redis().ask(&["LPUSH", "queue:email-sending", &Value::from(job).to_string()]);
    }

    /// A worker that runs on.
    pub fn next_worker(&self) -> Reading {
        let mut worker = self.app.spawn(&["worker"]);
        assert!(worker.wait_for("Waiting for jobs...", 1), "{}", worker.seen.join(""));
        worker.read_on()
    }

    pub fn release(&self) {
        std::fs::remove_file(&self.hold).unwrap();
    }

    pub fn status(&self) -> Value {
        self.app.json(&["campaign", "status", "Welcome"]).1
    }

    /// Looks until nothing waits, which only a running worker can bring about.
    pub fn settled(&self) -> End {
        wait_long(|| {
            let status = self.status();
            let waits = number(&status, "pending") + number(&status, "deferred");
            (waits == 0 && number(&status, "planned") == 1).then(|| End {
                copies: self.sink.accepted().len(),
                sent: number(&status, "sent"),
                held: number(&status, "held"),
                unknown: number(&status, "unknown"),
            })
        })
    }
}

/// Runs a case for each of these points at once.
pub fn side_by_side<T: Sync>(points: &[(&'static str, T)], case: impl Fn(&'static str, &T) + Sync) {
    std::thread::scope(|scope| {
        let running: Vec<_> = points.iter().map(|(point, end)| scope.spawn(|| case(point, end))).collect();
        for (case, (point, _)) in running.into_iter().zip(points) {
            assert!(case.join().is_ok(), "at `{point}`");
        }
    });
}
