//! FP12: everything is killed, cut and emptied at random while 1,500 mails of ten accounts are under way (`STORM_SENDS` says
//! how many), and the receiver's own journal judges.
//!
//! Faults follow each other by progress, not by the clock: each after some more messages have arrived. Every kind comes
//! in every storm, in an order that the seed gives. To add a fault: a variant of `Fault`, its arm in `Storm::strike`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Instant;

use serde_json::{Value, json};

use crate::app::{App, Engine, Reading, Sink, number};
use crate::gateway::Gateway;
use crate::postgres_faults::Arrivals;

const ACCOUNTS: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    KillWorker,
    KillScheduler,
    KillTracker,
    CutConnections,
    FlushRedis,
    KillRedis,
    EmptyRedis,
    StopPostgres,
    KillPostgres,
}

/// A number of this run, where it is given.
fn given(name: &str) -> Option<usize> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// How often each kind comes in one storm; `STORM_KILLS` says how many workers are killed.
fn faults(engine: Engine) -> Vec<Fault> {
    let kills = given("STORM_KILLS").unwrap_or(5);
    let mut kinds = vec![Fault::KillScheduler, Fault::KillTracker, Fault::CutConnections, Fault::CutConnections];
    kinds.extend(vec![Fault::KillWorker; kills]);
    if engine != Engine::Sqlite {
        kinds.extend([Fault::StopPostgres, Fault::KillPostgres]);
    }
    if engine == Engine::Redis {
        kinds.extend([Fault::FlushRedis, Fault::FlushRedis, Fault::KillRedis, Fault::EmptyRedis]);
    }
    kinds
}

/// Numbers that a seed gives (SplitMix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((x ^ (x >> 31)) % bound as u64) as usize
    }

    fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.below(last + 1));
        }
    }
}

/// The seed of this run: given, or new; it is printed, so that a storm can be told again.
fn seed() -> u64 {
    let given = std::env::var("STORM_SEED").ok().map(|seed| seed.parse().expect("STORM_SEED is a number"));
    given.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().map_or(1, |t| u64::from(t.subsec_nanos())))
}

struct Storm {
    sends: usize,
    app: App,
    sink: Sink,
    gateway: Gateway,
    chance: Chance,
    workers: Vec<Reading>,
    scheduler: Reading,
    tracker: Reading,
}

fn start(app: &App, part: &str) -> Reading {
    let config = app.path("storm.toml");
    let mut process = app.spawn(&[part, "--config", config.to_str().unwrap()]);
    let ready = match part {
        "worker" => "Waiting for jobs...",
        "track" => "tracking API listens",
        _ => return process.read_on(),
    };
    assert!(process.wait_for(ready, 1), "{}", process.seen.join(""));
    process.read_on()
}

impl Storm {
    fn brew(engine: Engine, policy: &str, seed: u64) -> Option<Self> {
        let sends = given("STORM_SENDS").unwrap_or(1_500);
        let mut app = if engine == Engine::Sqlite { App::new(engine)? } else { App::on_own_postgres()? };
        if engine == Engine::Postgres {
            app.set("REDIS_URL", "");
        }
        app.set("LOG_LEVEL", "info");
        let sink = Sink::start(&app, &["--delay", "200ms"]);
        let server = sink.url.trim_start_matches("smtp://").split('?').next().unwrap();
        let gateway = Gateway::to(server);
        let mut extra = format!("on_unknown = \"{policy}\"\n");
        for n in 1..ACCOUNTS {
            extra.push_str(&format!(
                "[[email_account]]\nemail = \"a{n}@acme.test\"\nsmtp = \"smtp://127.0.0.1:25?tls=none\"\n"
            ));
        }
        let file = app.campaign("storm.example", (0..sends).map(|n| format!("l{n}")), 1, &extra);
        let url = format!("smtp://{}?tls=none", gateway.address);
        assert_eq!(app.json(&["campaign", "import", file.to_str().unwrap(), "--start", "--smtp", &url]).0, 0);
        // Slow enough that every fault meets mail under way; and what was cut is tried again soon, which would cost an account
        // a minute and a message five.
        let config = "[worker]\nconnections = 10\nconnections_per_account = 1\n\
                      [retry]\ndelays = [\"1s\"]\naccount_delays = [\"1s\"]\n";
        std::fs::write(app.path("storm.toml"), config).unwrap();
        let workers = vec![start(&app, "worker"), start(&app, "worker")];
        let (scheduler, tracker) = (start(&app, "scheduler"), start(&app, "track"));
        Some(Self { sends, app, sink, gateway, chance: Chance(seed), workers, scheduler, tracker })
    }

    fn strike(&mut self, fault: Fault) {
        match fault {
            Fault::KillWorker => {
                let which = self.chance.below(self.workers.len());
                self.workers.swap_remove(which).kill();
                self.workers.push(start(&self.app, "worker"));
            }
            Fault::KillScheduler => {
                std::mem::replace(&mut self.scheduler, start(&self.app, "scheduler")).kill();
            }
            Fault::KillTracker => {
                std::mem::replace(&mut self.tracker, start(&self.app, "track")).kill();
            }
            Fault::CutConnections => {
                self.gateway.close();
                self.gateway.reopen();
            }
            Fault::FlushRedis => assert_eq!(self.app.redis().ask(&["FLUSHALL"]), "OK"),
            Fault::KillRedis => {
                self.app.redis_mut().kill();
                self.app.redis_mut().start_again();
            }
            Fault::EmptyRedis => {
                self.app.redis_mut().kill();
                self.app.redis_mut().start_empty();
            }
            Fault::StopPostgres => {
                self.app.postgres().stop_at_once();
                self.app.postgres().start_again();
            }
            Fault::KillPostgres => {
                self.app.postgres().kill();
                self.app.postgres().start_again();
            }
        }
    }

    /// The sends that wait for a person: why, and the Message-ID of those that ever had a dot.
    fn held(&self) -> Vec<(String, Option<String>)> {
        let (_, listed) = self.app.json(&["campaign", "failures", "Welcome"]);
        let held = |send: &Value| {
            let (_, shown) = self.app.json(&["send", "show", send["sendId"].as_str().unwrap()]);
            let text = |value: &Value| value.as_str().map(str::to_owned);
            (text(&send["reason"]).unwrap(), text(&shown["messageId"]))
        };
        listed["failures"].as_array().unwrap().iter().map(held).collect()
    }

    /// Reads until nothing waits any more.
    fn settled(&self) -> Value {
        crate::http::wait_long(|| {
            let (_, status) = self.app.json(&["campaign", "status", "Welcome"]);
            let waits = number(&status, "pending") + number(&status, "deferred");
            (waits == 0 && number(&status, "planned") as usize == self.sends).then_some(status)
        })
    }
}

fn storm(engine: Engine, policy: &str) {
    let seed = seed();
    let Some(mut storm) = Storm::brew(engine, policy, seed) else { return };
    let sends = storm.sends;
    let mut faults = faults(engine);
    storm.chance.shuffle(&mut faults);
    let mut arrivals = Arrivals::at(&storm.sink);
    // Faults begin and end while mail is under way; one in each stretch of it, at a random place.
    let calm = sends / 10;
    let stretch = (sends - 2 * calm) / faults.len();
    let mut fired: BTreeMap<String, usize> = BTreeMap::new();
    let mut slowest: BTreeMap<String, f64> = BTreeMap::new();
    for (n, fault) in faults.iter().enumerate() {
        let at = calm + n * stretch + storm.chance.below(stretch / 2);
        arrivals.wait_for(at.max(storm.sink.accepted().len()));
        storm.strike(*fault);
        assert!(storm.sink.accepted().len() < sends, "the mail was over before the storm");
        let seconds = arrivals.first_since(Instant::now(), &storm.sink);
        let name = format!("{fault:?}");
        *fired.entry(name.clone()).or_default() += 1;
        let worst = slowest.entry(name).or_default();
        *worst = worst.max((seconds * 10.0).round() / 10.0);
    }
    let struck_until = storm.sink.accepted().len();
    assert!(struck_until < sends, "the last fault came after the last message");
    let status = storm.settled();
    let mut copies: HashMap<String, usize> = HashMap::new();
    for line in storm.sink.accepted() {
        // Behind the Message-ID stands the recipient.
        *copies.entry(line.split('\t').next().unwrap().to_owned()).or_default() += 1;
    }
    let waiting = storm.held();
    let (held, unknown) = (number(&status, "held") as usize, number(&status, "unknown") as usize);
    assert_eq!(waiting.len(), held, "{status}");
    // A held send may have arrived: its copy must not stand for another one's.
    let held_ids: HashSet<&String> = waiting.iter().filter_map(|(_, id)| id.as_ref()).collect();
    let arrived = copies.keys().filter(|id| !held_ids.contains(id)).count();
    // Three workers were killed over one job: a person is asked whether it is to blame.
    let poison = waiting.iter().filter(|(reason, _)| reason == "poison").count();
    let lost = sends - held - arrived;
    let extra: usize = copies.values().map(|n| n - 1).sum();
    let line = json!({
        "engine": format!("{engine:?}"), "policy": policy, "seed": seed, "sends": sends, "fired": fired, "lost": lost,
        "extra": extra, "unknown": unknown, "held": held, "poison": poison, "next_message_seconds": slowest,
    });
    println!("STORM {line}");
    assert_eq!(lost, 0, "{status}");
    assert!(extra <= unknown, "extra {extra} > unknown {unknown}");
    assert!(copies.values().all(|n| *n <= 2), "a third copy");
    assert_eq!(number(&status, "sent") as usize, sends - held, "{status}");
    if policy == "hold" {
        assert_eq!((extra, held - poison), (0, unknown), "a copy under hold");
    }
    for process in storm.workers.into_iter().chain([storm.scheduler, storm.tracker]) {
        assert_eq!(process.stop().0.code(), Some(0), "nobody had died by himself");
    }
}

/// With PostgreSQL a cut is sent once more, embedded it is held; `STORM_POLICY` says otherwise.
fn fp12_a_storm_loses_nothing_and_copies_only_what_is_unknown(engine: Engine) {
    let usual = if engine == Engine::Sqlite { "hold" } else { "resend" };
    storm(engine, &std::env::var("STORM_POLICY").unwrap_or_else(|_| usual.to_owned()));
}

crate::on_every_engine! { fp12_a_storm_loses_nothing_and_copies_only_what_is_unknown }
