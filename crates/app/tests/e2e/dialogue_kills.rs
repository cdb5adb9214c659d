//! FP05, and FP06 and FP07 within the body: the worker killed between two steps of the dialogue, judged by what the receiver
//! holds. The way to the receiver stands still there, and what has not come through by then never does.
//!
//! The receiver offers neither PIPELINING nor CHUNKING, so that the steps come one by one and the gate stands between RCPT
//! and DATA. To add a step: its place in `Step::passes`.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use crate::app::Engine;
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
    reached: mpsc::Receiver<()>,
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
}

/// Passes what both sides say, until the step is reached; then waits for the client's end.
fn travel(
    client: &TcpStream,
    server: &TcpStream,
    step: Option<Step>,
    arrived: &mpsc::Sender<()>,
) -> std::io::Result<()> {
    let stands = Arc::new(AtomicBool::new(matches!(step, Some(Step::Connect))));
    let (mut answers, mut hears, stops) = (server.try_clone()?, client.try_clone()?, Arc::clone(&stands));
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count) = answers.read(&mut bytes)
            && count > 0
            && !stops.load(Ordering::SeqCst)
            && hears.write_all(&bytes[..count]).is_ok()
        {}
    });
    let (mut said, mut passed, mut bytes) = (Vec::new(), 0, [0; 4096]);
    let (mut from, mut to) = (client, server);
    loop {
        if let Some(end) = step.and_then(|step| step.passes(&said)) {
            // Before its last bytes come through: their answer does not.
            stands.store(true, Ordering::SeqCst);
            to.write_all(&said[passed..end])?;
            let _case_is_over = arrived.send(());
            while from.read(&mut bytes)? > 0 {}
            return Ok(());
        }
        let safe = said.len() - begun_dot(&said);
        to.write_all(&said[passed..safe])?;
        passed = safe;
        let count = from.read(&mut bytes)?;
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

fn killed(engine: Engine, policy: &str, step: Step, end: &End) {
    let options = ["--without", "pipelining,chunking"];
    let Some(scene) = Scene::with_sink(engine, &options) else { return };
    let address = scene.sink.url.trim_start_matches("smtp://").split('?').next().unwrap().to_owned();
    let way = Standstill::before(address, step);
    scene.import_by(&way.url, "Welcome", "ana", &format!("on_unknown = \"{policy}\""));
    assert_eq!(scene.app.json(&["scheduler", "--once"]).1["planned"], 1);
    let dead = scene.next_worker();
    assert!(way.reached.recv_timeout(Duration::from_secs(120)).is_ok(), "the fault did not fire");
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

crate::on_every_engine! {
    fp05_to_fp07_a_worker_killed_between_two_steps_of_the_dialogue_loses_nothing
    fp05_to_fp07_under_hold_a_kill_between_two_steps_makes_no_copy
}
