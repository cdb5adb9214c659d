//! `penguinmails serve`, `scheduler`, `worker`, `track`: the commands that run until they are stopped.
//!
//! Each opens the shared context and runs its parts side by side. To add a part: a variant of `Part`, an arm in `serve`.

use std::sync::Arc;

use clap::{Args, ValueEnum};
use tokio::task::JoinHandle;

use super::time_scale::TimeScale;
use super::{Global, Outcome, block_on, output};
use crate::api::{Api, Needs};
use crate::clock::Clock;
use crate::config::{self, Config, Environment};
use crate::context::{Context, Opening};
use crate::exit::{Exit, Failure};
use crate::lifecycle::Shutdown;
use crate::problem::InputErrors;
use crate::routes::Listener;
use crate::{analytics, api, restored, scheduler, telemetry, tracking, worker};

/// A part that can run alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Finds who is due and puts jobs on the queue
    Scheduler,
    /// Sends, and counts what was opened and clicked
    Worker,
    /// Answers pixels, links and unsubscribe pages
    Track,
    /// Answers cron route, tenants' API, health and metrics on API_LISTEN
    Api,
}

/// Run all parts in one process, until it is stopped
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penguinmails serve
  penguinmails serve --only scheduler,track
      Leave sending to `penguinmails worker` processes, on this host or others

API_LISTEN answers the cron route, /api/v1, /health, /ready and /metrics; HEALTH_LISTEN, where it is set, the last three.
Stop it with Ctrl-C or SIGTERM: open dialogues are awaited (shutdown_grace), nothing is lost.")]
pub(crate) struct ServeArgs {
    /// Run these parts alone, comma-separated
    #[arg(long, value_name = "PARTS", value_delimiter = ',')]
    pub(crate) only: Vec<Part>,
    #[command(flatten)]
    pub(crate) time: TimeScale,
}

/// Find who is due and put jobs on the queue, until it is stopped
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penguinmails scheduler
  penguinmails scheduler --once --json
      One turn, for cron: prints {\"enqueued\": N, …}")]
pub(crate) struct SchedulerArgs {
    /// Do one turn and end
    #[arg(long)]
    pub(crate) once: bool,
    #[command(flatten)]
    pub(crate) time: TimeScale,
}

/// Take jobs from the queue and send them, until it is stopped
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penguinmails worker
  WORKER_ID=mail-3 EMAIL_TIMEOUT=10 penguinmails worker --config penguinmails.toml

Any number of workers may run, on any number of hosts that share one DATABASE_URL. Ends with 0, or with 4 where a
dialogue was still open when the time to stop was over.")]
pub(crate) struct WorkerArgs {
    #[command(flatten)]
    pub(crate) time: TimeScale,
}

/// Answer the pixels, links and unsubscribe pages of sent mails, until it is stopped
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penguinmails track
  TRACK_LISTEN=0.0.0.0:8081 PUBLIC_URL=https://t.acme.test penguinmails track")]
pub(crate) struct TrackArgs {}

impl ServeArgs {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let all = [Part::Scheduler, Part::Worker, Part::Track, Part::Api];
        let parts = if self.only.is_empty() { all.to_vec() } else { self.only };
        serve(global, self.time, &parts)
    }
}

impl SchedulerArgs {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        if !self.once {
            return serve(global, self.time, &[Part::Scheduler]);
        }
        let json = global.json;
        block_on(async {
            let ctx = open(global, self.time).await?;
            restored::admit(&ctx).await?;
            let turn = scheduler::enqueue_due_campaigns(&ctx, &|| true).await?;
            tracing::info!("Enqueued {} email jobs", turn.enqueued);
            if json {
                output::print_json(&turn);
            } else {
                output::print(format_args!("Enqueued {} email jobs", turn.enqueued));
            }
            Ok(Exit::Done)
        })?
    }
}

impl WorkerArgs {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        serve(global, self.time, &[Part::Worker])
    }
}

impl TrackArgs {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        serve(global, TimeScale { time_scale: 1.0 }, &[Part::Track])
    }
}

async fn open(global: &Global, time: TimeScale) -> Result<Arc<Context>, Failure> {
    Context::open(configure(global)?, time.time_scale).await
}

fn configure(global: &Global) -> Result<Config, Failure> {
    let config = config::load(&global.options(), &Environment::of_process())?;
    telemetry::init(&config, &Clock::system());
    Ok(config)
}

/// Runs these parts until they are stopped; a worker takes events from their queue as well.
fn serve(global: &Global, time: TimeScale, parts: &[Part]) -> Outcome {
    block_on(async {
        let (ctx, opening) = match parts {
            [Part::Track] => Context::open_for_tracking(configure(global)?).await?,
            _ => {
                let ctx = open(global, time).await?;
                restored::admit(&ctx).await?;
                (ctx, None)
            }
        };
        let shutdown = Shutdown::on_signals()?;
        let has = |part| parts.contains(&part);
        let listener = if has(Part::Track) { Some(tracking::bind(&ctx).await?) } else { None };
        let watched = watch(&ctx, parts, &shutdown).await?;
        let schedule = async {
            if has(Part::Scheduler) {
                scheduler::run(Arc::clone(&ctx), shutdown.clone()).await;
            }
        };
        let send = async {
            if has(Part::Worker) { worker::run(Arc::clone(&ctx), shutdown.clone()).await } else { Exit::Done }
        };
        let count = async {
            if has(Part::Worker) {
                analytics::run(Arc::clone(&ctx), shutdown.clone()).await;
            }
        };
        let track = async {
            if let Some(listener) = listener {
                tracking::run(Arc::clone(&ctx), listener, shutdown.clone()).await;
            }
        };
        let opened = finish_opening(opening, &shutdown);
        let ((), exit, (), (), opened, ()) = tokio::join!(schedule, send, count, track, opened, shutdown.stopping());
        watched.end().await;
        opened.map(|()| exit)
    })?
}

/// Stops the process where a person has to mend something before the rest can be opened.
async fn finish_opening(opening: Option<Opening>, shutdown: &Shutdown) -> Result<(), Failure> {
    let Some(opening) = opening else { return Ok(()) };
    match shutdown.unless_stopping(opening).await {
        Some(Ok(Err(failure))) => {
            shutdown.stop();
            Err(failure)
        }
        Some(Err(panicked)) => {
            shutdown.stop();
            Err(anyhow::Error::from(panicked).into())
        }
        Some(Ok(Ok(()))) | None => Ok(()),
    }
}

/// The listeners that answer for the others, from before these begin until after they have ended.
struct Watched {
    over: Shutdown,
    tasks: Vec<JoinHandle<()>>,
}

async fn watch(ctx: &Arc<Context>, parts: &[Part], shutdown: &Shutdown) -> Result<Watched, InputErrors> {
    let needs = if parts == [Part::Track] { Needs::QueueOrSpool } else { Needs::Everything };
    let api = Api::new(ctx, needs, shutdown);
    let whole = parts.contains(&Part::Api).then_some((ctx.config.api_listen, Listener::Api));
    let health = ctx.config.health_listen.map(|address| (address, Listener::Health));
    let mut watched = Watched { over: Shutdown::new(), tasks: Vec::new() };
    for (address, of) in whole.into_iter().chain(health) {
        let listener = api::bind(address, of).await?;
        let served = api::run(Arc::clone(&api), listener, of, watched.over.clone());
        watched.tasks.push(tokio::spawn(served));
    }
    Ok(watched)
}

impl Watched {
    async fn end(self) {
        self.over.stop();
        for task in self.tasks {
            let _fault_was_logged = task.await;
        }
    }
}
