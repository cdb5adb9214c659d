//! `penguinmails demo`: a whole campaign in a minute, with nothing installed and nothing leaving the machine.
//!
//! The example campaign over the built-in sink, a tracker, and an audience that reacts over real HTTP, in hurried time.
//! Ignores the environment: it must not touch anybody's database. To add a row to the live view: `View`.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;
use domain::email_account::{LogInMethod, TlsMode};
use engines::queue::{Lane, List};
use engines::store::status::CampaignReport;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::sync::mpsc;

use super::{Global, Outcome, block_on, output};
use crate::audience::Audience;
use crate::campaign_file::smtp_url::SmtpUrl;
use crate::campaign_file::{self, LoadOptions};
use crate::campaign_run::{self, Parts};
use crate::config::{self, Environment, Options};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::lifecycle::Shutdown;
use crate::report::{self, ReportJson};
use crate::sink::{Faults, Listening, SinkOptions};
use crate::{setup, tracking};

/// Three hours a second: the example's five days pass in forty seconds.
const TIME_SCALE: f64 = 10_800.0;
/// The example, so that the program needs no file beside it.
const WELCOME: &[(&str, &str)] = &[
    ("campaign.toml", include_str!("../../../../examples/welcome/campaign.toml")),
    ("leads.csv", include_str!("../../../../examples/welcome/leads.csv")),
    ("templates/hello.html", include_str!("../../../../examples/welcome/templates/hello.html")),
    ("templates/hello.txt", include_str!("../../../../examples/welcome/templates/hello.txt")),
    ("templates/glazes.html", include_str!("../../../../examples/welcome/templates/glazes.html")),
    ("templates/kiln.html", include_str!("../../../../examples/welcome/templates/kiln.html")),
];

/// Watch a campaign go out, be opened, clicked and counted: a minute, nothing installed, nothing leaves this machine
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penguinmails demo
  penguinmails demo --data /tmp/demo --json

Sends the example campaign (300 leads, three steps, two accounts) to a built-in SMTP server, lets a simulated audience
open, click and unsubscribe over HTTP, and says where mails and data lie. Five days pass in forty seconds.")]
pub(crate) struct DemoArgs {}

impl DemoArgs {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let folder = folder(global)?;
        let env = Environment::default();
        let options =
            Options { data: folder.join("data"), file: None, log_addresses: false, log_format: global.log_format };
        let mut config = config::load(&options, &env)?;
        super::run::quieten(&mut config, &Environment::of_process());
        block_on(send(config, &env, &folder, global.json))?
    }
}

/// A folder of its own for each demo, so that a second one begins anew, even within the same second.
fn folder(global: &Global) -> Result<PathBuf, Failure> {
    let is_default = global.data == Path::new("./penguinmails-data");
    let base = if is_default { Path::new("penguinmails-demo") } else { &global.data };
    crate::data_dir::create(base).map_err(anyhow::Error::from)?;
    let now = crate::clock::Clock::system().now();
    let stamp: String = now.to_string().chars().take(19).filter(|c| c.is_ascii_digit() || *c == 'T').collect();
    let mut folder = base.join(&stamp);
    let mut number = 1;
    loop {
        match std::fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && number < 100 => number += 1,
            Err(e) => return Err(anyhow::Error::from(e).context("failed to make the demo's folder").into()),
        }
        folder = base.join(format!("{stamp}-{number}"));
    }
}

async fn send(mut config: config::Config, env: &Environment, folder: &Path, json: bool) -> Outcome {
    let started = tokio::time::Instant::now();
    let file = write_example(folder)?;
    let (told, mail) = mpsc::unbounded_channel();
    let mails = folder.join("mails");
    let options =
        SinkOptions { folder: Some(mails.clone()), journal: None, faults: Faults::default(), told: Some(told) };
    let local = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let sink = Listening::open(local, options).await?;
    let port = sink.address().map_err(anyhow::Error::from)?.port();
    let smtp = SmtpUrl { host: "127.0.0.1".into(), port, tls: TlsMode::None, user: None, auth: LogInMethod::DEFAULT };
    config.track_listen = local;
    let listener = tokio::net::TcpListener::bind(local).await.map_err(anyhow::Error::from)?;
    config.public_url = format!("http://{}", listener.local_addr().map_err(anyhow::Error::from)?);
    let load = LoadOptions {
        env,
        settings: &config.settings.clone(),
        smtp: Some(&smtp),
        keeps_servers: false,
        skip_bad_rows: false,
        update: false,
        reopen: false,
    };
    let campaign = campaign_file::load(&file, &load)?;
    let ctx = Context::open(config, TIME_SCALE).await?;
    let shutdown = Shutdown::on_signals()?;
    // The servers end after the senders: their last words must be heard.
    let servers = Shutdown::new();
    let sinking = tokio::spawn(sink.run(servers.clone()));
    let tracking = tokio::spawn(tracking::run(Arc::clone(&ctx), listener, servers.clone()));
    let audience = Audience::start(mail);
    let view = View::new(json);
    let set_up = setup::set_up(&ctx, &campaign, &|_| {}).await?;
    let tenant = ctx.store.tenant(set_up.tenant_id);
    tenant.start_campaign(set_up.campaign_id, ctx.clock.now()).await?;
    let parts = Parts::start(&ctx, &shutdown);
    let limit = Some(Duration::from_secs(80));
    let watched =
        campaign_run::watch(&ctx, &set_up, limit, &shutdown, &mut |seen| view.show(seen, ctx.clock.now())).await;
    let interrupted = shutdown.is_stopping();
    watched?;
    // The sink lets go of the channel, the audience reads to its end, and its events are counted.
    servers_done_reading(&ctx, &servers, sinking, audience, &view, interrupted).await?;
    let stopped = parts.stop().await?;
    tracking.await.map_err(anyhow::Error::from)?;
    let last = tenant.campaign_report(set_up.campaign_id).await?;
    view.finish();
    let seconds = started.elapsed().as_secs_f64();
    if json {
        output::print_json(&ReportJson::new(&last, seconds));
    } else {
        output::print(report::table(&last));
        output::print(format_args!(
            "\nmails:  {}\ndata:   {}\n\nLook around:\n  penguinmails campaign status Welcome --data {data}\n  \
             penguinmails queue status --data {data}\n  penguinmails run --help",
            mails.display(),
            folder.join("data").display(),
            data = folder.join("data").display(),
        ));
    }
    Ok(match stopped {
        Exit::Forced => Exit::Forced,
        _ if interrupted || report::is_all_accepted(&last) => Exit::Done,
        _ => Exit::NotAllAccepted,
    })
}

async fn servers_done_reading(
    ctx: &Context,
    servers: &Shutdown,
    sinking: tokio::task::JoinHandle<(u64, Vec<(String, u64)>)>,
    audience: Audience,
    view: &View,
    interrupted: bool,
) -> Result<(), Failure> {
    sinking.abort();
    // Aborting drops the sink and with it the audience's source of mail.
    let _aborted = sinking.await;
    if !interrupted {
        let deeds = Arc::clone(&audience.deeds);
        audience.finish().await;
        for _ in 0..100 {
            let depth = ctx.queue.depth(List::Analytics, Lane::Base, ctx.clock.now()).await?;
            if depth.ready + depth.delayed + depth.leased == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let count = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed);
        view.note(&format!(
            "the audience: {} opens, {} clicks, {} unsubscribes by people, {} requests by robots, {} refused",
            count(&deeds.opens),
            count(&deeds.clicks),
            count(&deeds.unsubscribes),
            count(&deeds.robots),
            count(&deeds.refused)
        ));
    }
    servers.stop();
    Ok(())
}

fn write_example(folder: &Path) -> Result<PathBuf, Failure> {
    let home = folder.join("welcome");
    crate::data_dir::create(&home.join("templates")).map_err(anyhow::Error::from)?;
    for (name, text) in WELCOME {
        std::fs::write(home.join(name), text).map_err(anyhow::Error::from)?;
    }
    Ok(home.join("campaign.toml"))
}

/// The live view: four bars on a terminal, a line every few seconds otherwise, nothing with `--json`.
struct View {
    bars: Option<(MultiProgress, [ProgressBar; 4])>,
    plain: Option<super::run::Progress>,
}

impl View {
    fn new(json: bool) -> Self {
        if json || !std::io::stderr().is_terminal() {
            return Self { bars: None, plain: (!json).then(|| super::run::Progress::new(false, 0)) };
        }
        let all = MultiProgress::new();
        let style = ProgressStyle::with_template("{prefix:13} [{bar:30}] {pos:>4}/{len} {wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ");
        let bars = ["sent", "opens", "clicks", "unsubscribes"].map(|name| {
            let bar = all.add(ProgressBar::new(900));
            bar.set_style(style.clone());
            bar.set_prefix(name);
            bar
        });
        Self { bars: Some((all, bars)), plain: None }
    }

    fn show(&self, seen: &CampaignReport, now: domain::time::Timestamp) {
        if let Some((_, [sent, opens, clicks, unsubscribes])) = &self.bars {
            for (bar, count) in
                [(sent, seen.sent), (opens, seen.opens), (clicks, seen.clicks), (unsubscribes, seen.unsubscribes)]
            {
                bar.set_position(count);
            }
            let clock: String = now.to_string().chars().take(16).collect();
            sent.set_message(format!("it is {clock}", clock = clock.replace('T', " ")));
        } else if let Some(plain) = &self.plain {
            plain.sends(seen);
        }
    }

    fn note(&self, text: &str) {
        if let Some((all, _)) = &self.bars {
            // A terminal that went away has nobody to tell.
            let _ = all.println(text);
        } else if self.plain.is_some() {
            output::note(text);
        }
    }

    fn finish(&self) {
        if let Some((all, _)) = &self.bars {
            // As above.
            let _ = all.clear();
        }
    }
}
