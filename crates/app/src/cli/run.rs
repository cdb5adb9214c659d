//! `penguinmails run FILE`: the main job, from a file to inboxes.
//!
//! Not responsible for sending (`campaign_run`). To add an option: `RunArgs`.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use engines::store::status::CampaignReport;
use indicatif::{ProgressBar, ProgressStyle};
use mail::smtp::target::HostPolicy;

use super::campaign::{EditArgs, FileArgs};
use super::time_scale::TimeScale;
use super::{Global, Outcome, block_on, output};
use crate::campaign_file::{self, CampaignSetup, LoadOptions};
use crate::campaign_run::{self, Parts};
use crate::config::{self, Config, Environment};
use crate::context::Context;
use crate::duration::Period;
use crate::exit::Exit;
use crate::lifecycle::Shutdown;
use crate::{report, restored, setup};

/// Send a campaign: set it up, run until it is done, say what became of every send
///
/// Takes the campaign file, does all the set-up in the data directory and runs scheduler and worker in this process.
/// Run again, it goes on where it was and sends nothing twice: tenant and campaign are found by name, leads by address;
/// new leads and changed texts are taken up.
///
/// Ends with 0 when every send was accepted, with 3 when some were not or only a person can move the rest.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penguinmails run welcome/campaign.toml
      Send it, over each account's own server
  penguinmails run welcome/campaign.toml --smtp smtp://127.0.0.1:2525?tls=none --time-scale 3600
      Try it against a local server (`penguinmails sink`), an hour a second
  penguinmails run welcome/campaign.toml --for 2h --json
      Run for two hours at most, and print the numbers as JSON")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
    /// Stop after this time even if sends are left, e.g. 90s, 10m, 2h; the next run goes on
    #[arg(long = "for", value_name = "DURATION")]
    pub(crate) length: Option<Period>,
    #[command(flatten)]
    pub(crate) edit: EditArgs,
    #[command(flatten)]
    pub(crate) time: TimeScale,
}

impl RunArgs {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let env = Environment::of_process();
        let mut config = config::load(&global.options(), &env)?;
        let smtp = self.file.smtp()?;
        let options = LoadOptions {
            env: &env,
            settings: &config.settings,
            smtp: smtp.as_ref(),
            keeps_servers: smtp.is_some(),
            skip_bad_rows: self.file.skip_bad_rows,
            update: self.edit.update,
            reopen: self.edit.reopen,
        };
        let campaign = campaign_file::load(&self.file.file, &options)?;
        if smtp.is_some() {
            // The operator's own word: it may lead anywhere.
            config.host_policy = HostPolicy::AllowAll;
            config.smtp = smtp;
        }
        quieten(&mut config, &env);
        block_on(self.send(config, campaign, global.json))?
    }

    async fn send(self, config: Config, campaign: CampaignSetup, json: bool) -> Outcome {
        let started = tokio::time::Instant::now();
        let ctx = Context::open(config, self.time.time_scale).await?;
        restored::admit(&ctx).await?;
        let shutdown = Shutdown::on_signals()?;
        let progress = Progress::new(json, campaign.leads.rows);
        let set_up = setup::set_up(&ctx, &campaign, &|leads| progress.leads(leads)).await?;
        self.edit.tell(&set_up);
        let tenant = ctx.store.tenant(set_up.tenant_id);
        setup::start(&tenant, set_up.campaign_id, set_up.scheduled_at, ctx.clock.now()).await?;
        let parts = Parts::start(&ctx, &shutdown);
        let limit = self.length.map(|period| period.0);
        let watched = campaign_run::watch(&ctx, &set_up, limit, &shutdown, &mut |seen| progress.sends(seen)).await;
        let stopped_by_signal = shutdown.is_stopping();
        let stopped = parts.stop().await?;
        watched?;
        let last = tenant.campaign_report(set_up.campaign_id).await?;
        progress.finish();
        if json {
            output::print_json(&report::ReportJson::new(&last, started.elapsed().as_secs_f64()));
        } else {
            output::print(report::table(&last));
        }
        Ok(match stopped {
            // The worker ended by itself, and has said why.
            Exit::Forced | Exit::Internal | Exit::BadInput => stopped,
            // A stop that was asked for and kept is no failure.
            _ if stopped_by_signal => Exit::Done,
            _ if report::is_all_accepted(&last) => Exit::Done,
            _ => Exit::NotAllAccepted,
        })
    }
}

/// A line for every mail belongs into a service's log, not beside a progress bar; LOG_LEVEL brings it back.
pub(super) fn quieten(config: &mut Config, env: &Environment) {
    if env.get("LOG_LEVEL").is_none() {
        "warn".clone_into(&mut config.log_level);
    }
    crate::telemetry::init(config, &crate::clock::Clock::system());
}

/// A bar on a terminal, a line now and then otherwise, nothing with `--json`.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    told: Option<std::sync::Mutex<tokio::time::Instant>>,
    leads: u64,
}

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

impl Progress {
    pub(super) fn new(json: bool, leads: u64) -> Self {
        if json {
            return Self { bar: None, told: None, leads };
        }
        if !std::io::stderr().is_terminal() {
            return Self { bar: None, told: Some(std::sync::Mutex::new(tokio::time::Instant::now())), leads };
        }
        let bar = ProgressBar::new(leads);
        let style = ProgressStyle::with_template("[{bar:24}] {pos}/{len} {wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("=> "));
        Self { bar: Some(bar), told: None, leads }
    }

    pub(super) fn leads(&self, written: u64) {
        if let Some(bar) = &self.bar {
            bar.set_message("leads");
            bar.set_position(written);
        } else {
            self.tell_now_and_then(|| format!("{written} of {} leads", self.leads));
        }
    }

    pub(super) fn sends(&self, seen: &CampaignReport) {
        let done = seen.planned() - seen.pending - seen.deferred;
        let text = format!(
            "sent {} of {}, deferred {}, failed {}, opens {}, clicks {}",
            seen.sent,
            seen.planned(),
            seen.deferred,
            seen.failed + seen.bounced,
            seen.opens,
            seen.clicks
        );
        if let Some(bar) = &self.bar {
            bar.set_length(seen.planned());
            bar.set_position(done);
            bar.set_message(text);
        } else {
            self.tell_now_and_then(|| text);
        }
    }

    fn tell_now_and_then(&self, text: impl FnOnce() -> String) {
        if let Some(told) = &self.told
            && let Ok(mut last) = told.lock()
            && last.elapsed() >= LINE_EVERY
        {
            *last = tokio::time::Instant::now();
            output::note(text());
        }
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
