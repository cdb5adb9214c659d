//! FP05, and FP06 and FP07 within the body: the worker killed between two steps of the dialogue, judged by what the receiver
//! holds. The way to the receiver stands still there, and what has not come through by then never does.
//!
//! The receiver offers neither PIPELINING nor CHUNKING, so that the steps come one by one and the gate stands between RCPT
//! and DATA. To add a step: its place in `Step::passes`.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use crate::app::{Engine, Process};
use crate::scene::{End, NEVER, ONCE, Scene, side_by_side};

/// Behind what of the dialogue the way stands still.
#[derive(Clone, Copy, Debug)]
enum Step {
    Connect,
    Line(&'static str),
    /// The message without its final dot.
    BeforeDot,
    Dot,
}

impl Step {
    /// How much of what the client has said comes through; none while all does.
    fn passes(self, said: &[u8]) -> Option<usize> {
        let text = String::from_utf8_lossy(said);
        match self {
            Self::Connect => Some(0),
            Self::Line(begin) => {
                let at = text.find(begin)?;
                Some(at + text[at..].find("\r\n")? + 2)
            }
            Self::BeforeDot => Some(text.find("\r\n.\r\n")? + 2),
            Self::Dot => Some(text.find("\r\n.\r\n")? + 5),
        }
    }
}

/// A way to a server whose first traveller comes as far as `Step`; the others pass.
struct Standstill {
    url: String,
    reached: mpsc::Receiver<Arc<Mutex<Way>>>,
}

impl Standstill {
    fn before(server: String, step: Step) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("smtp://{}?tls=none", listener.local_addr().unwrap());
        let (arrived, reached) = mpsc::channel();
        std::thread::spawn(move || {
            let mut step = Some(step);
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(&server)) else { continue };
                let (step, arrived) = (step.take(), arrived.clone());
                std::thread::spawn(move || {
                    let _either_side_left = travel(&client, &server, step, &arrived);
                    let _gone_already = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
                });
            }
        });
        Self { url, reached }
    }

    /// Waits until the first traveller stands still.
    fn reached(&self) -> Arc<Mutex<Way>> {
        self.reached.recv_timeout(Duration::from_secs(120)).expect("the fault did not fire")
    }
}

/// Both directions of one traveller: what is said while it stands still waits until it is let go.
struct Way {
    stands: bool,
    to_server: TcpStream,
    to_client: TcpStream,
    said: Vec<u8>,
    answered: Vec<u8>,
}

impl Way {
    fn say(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if self.stands {
            self.said.extend_from_slice(bytes);
            return Ok(());
        }
        self.to_server.write_all(bytes)
    }

    fn answer(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if self.stands {
            self.answered.extend_from_slice(bytes);
            return Ok(());
        }
        self.to_client.write_all(bytes)
    }

    /// It goes on; either side may have left meanwhile.
    fn release(&mut self) {
        self.stands = false;
        let (said, answered) = (std::mem::take(&mut self.said), std::mem::take(&mut self.answered));
        let _either_side_left = (self.say(&said), self.answer(&answered));
    }
}

/// Passes what both sides say, until the step is reached; from then on only when it is let go.
fn travel(
    mut client: &TcpStream,
    server: &TcpStream,
    mut step: Option<Step>,
    arrived: &mpsc::Sender<Arc<Mutex<Way>>>,
) -> std::io::Result<()> {
    let (to_server, to_client) = (server.try_clone()?, client.try_clone()?);
    let stands = matches!(step, Some(Step::Connect));
    let way = Arc::new(Mutex::new(Way { stands, to_server, to_client, said: Vec::new(), answered: Vec::new() }));
    let (mut answers, back) = (server.try_clone()?, Arc::clone(&way));
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count) = answers.read(&mut bytes)
            && count > 0
            && back.lock().unwrap().answer(&bytes[..count]).is_ok()
        {}
    });
    let (mut said, mut passed, mut bytes) = (Vec::new(), 0, [0; 4096]);
    loop {
        if let Some(end) = step.and_then(|step| step.passes(&said)) {
            let mut stopping = way.lock().unwrap();
            // Before its last bytes come through: their answer does not.
            stopping.stands = true;
            stopping.to_server.write_all(&said[passed..end])?;
            (step, passed) = (None, end);
            let _case_is_over = arrived.send(Arc::clone(&way));
        }
        let safe = if step.is_some() { said.len() - begun_dot(&said) } else { said.len() };
        way.lock().unwrap().say(&said[passed..safe])?;
        passed = safe;
        let count = client.read(&mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        said.extend_from_slice(&bytes[..count]);
    }
}

/// How many of the last bytes may be the begin of the final dot, which must not come through before that is known.
fn begun_dot(said: &[u8]) -> usize {
    [(&b"\r\n.\r"[..], 2), (b"\r\n.", 1)]
        .into_iter()
        .find_map(|(end, held)| said.ends_with(end).then_some(held))
        .unwrap_or(0)
}

const STEPS: [(&str, Step); 7] = [
    ("connect", Step::Connect),
    ("MAIL", Step::Line("MAIL FROM:")),
    ("RCPT", Step::Line("RCPT TO:")),
    ("354", Step::Line("DATA\r\n")),
    ("half of the body", Step::Line("Subject:")),
    ("the body without its dot", Step::BeforeDot),
    ("the dot", Step::Dot),
];

/// A mail whose dialogue stands still at this step, in the hands of this worker.
fn standing(scene: &Scene, policy: &str, step: Step) -> (Arc<Mutex<Way>>, Process) {
    let address = scene.sink.url.trim_start_matches("smtp://").split('?').next().unwrap().to_owned();
    let way = Standstill::before(address, step);
    scene.import_by(&way.url, "Welcome", "ana", &format!("on_unknown = \"{policy}\""));
    assert_eq!(scene.app.json(&["scheduler", "--once"]).1["planned"], 1);
    let worker = scene.app.spawn(&["worker"]);
    (way.reached(), worker)
}

const ONE_BY_ONE: [&str; 2] = ["--without", "pipelining,chunking"];

fn killed(engine: Engine, policy: &str, step: Step, end: &End) {
    let Some(scene) = Scene::with_sink(engine, &ONE_BY_ONE) else { return };
    let (_way, dead) = standing(&scene, policy, step);
    dead.kill();
    let worker = scene.next_worker();
    assert_eq!(&scene.settled(), end);
    assert!(worker.stop().0.success());
}

/// Up to RCPT nothing is known to the ledger; from the gate on nobody knows whether the dot was written.
fn fp05_to_fp07_a_worker_killed_between_two_steps_of_the_dialogue_loses_nothing(engine: Engine) {
    let unknown = || End { unknown: 1, ..ONCE };
    let ends = [ONCE, ONCE, ONCE, unknown(), unknown(), unknown(), End { copies: 2, ..unknown() }];
    let points: Vec<_> = STEPS.into_iter().zip(ends).map(|((name, step), end)| (name, (step, end))).collect();
    side_by_side(&points, |_, (step, end)| killed(engine, "resend", *step, end));
}

fn fp05_to_fp07_under_hold_a_kill_between_two_steps_makes_no_copy(engine: Engine) {
    let ends = [ONCE, NEVER, NEVER, NEVER, End { copies: 1, ..NEVER }];
    let points: Vec<_> = STEPS[2..].iter().zip(ends).map(|((name, step), end)| (*name, (*step, end))).collect();
    side_by_side(&points, |_, (step, end)| killed(engine, "hold", *step, end));
}

/// The way goes on when the worker has said that it awaits its open dialogues.
fn fp09_a_graceful_stop_between_two_steps_of_the_dialogue_leaves_nothing_unknown(engine: Engine) {
    side_by_side(&STEPS, |_, step| {
        let Some(scene) = Scene::with_sink(engine, &ONE_BY_ONE) else { return };
        let (way, mut stopping) = standing(&scene, "resend", *step);
        stopping.signal("-TERM");
        assert!(stopping.wait_for("stopping: open dialogues are awaited", 1), "{}", stopping.seen.join(""));
        way.lock().unwrap().release();
        let (exit, log) = stopping.ended();
        assert_eq!(exit.code(), Some(0), "{}", log.join(""));
        let worker = scene.next_worker();
        assert_eq!(scene.settled(), ONCE);
        assert!(worker.stop().0.success());
    });
}

crate::on_every_engine! {
    fp09_a_graceful_stop_between_two_steps_of_the_dialogue_leaves_nothing_unknown
    fp05_to_fp07_a_worker_killed_between_two_steps_of_the_dialogue_loses_nothing
    fp05_to_fp07_under_hold_a_kill_between_two_steps_makes_no_copy
}
