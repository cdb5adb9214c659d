//! One job from its compiled templates to its result: compose, deliver with the gate, settle.
//!
//! Not responsible for batching (`gate`, `results`) or for what an outcome does (`domain::settle`).
//! To add a step: a function here, called from `run` in its place.

use std::future::{Future as _, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use domain::address::EmailAddress;
use domain::plan::last_look;
use domain::settle::{AccountEffect, Attempted, Outcome, ReplyAction, own_error_delay, settle};
use domain::step::next_due;
use domain::time::Timestamp;
use engines::queue::Verdict;
use engines::store::apply::{AttemptRecord, OutboundMessage, Settled};
use engines::store::campaigns::CampaignBundle;
use engines::store::dot::DotRequest;
use engines::store::fetch::SendJob;
use mail::assemble::{Message, MessageTemplate, Order, Sender as Letterhead, assemble};
use mail::replies::classify;
use mail::smtp::{Connection, Delivery, Envelope, Reply, Report, Stage, Trouble};
use mail::template::{Kind, Template};
use mail::token::TokenIds;

use super::cache::{CacheError, Sender};
use super::gate::Answer;
use super::lane::Lane;
use super::log_in::Turn;
use super::pooled::Pooled;
use super::{Item, Worker};
use crate::fault_point;

/// How long a job of a campaign that cannot be used waits before it is looked at again.
const UNUSABLE: Duration = Duration::from_secs(300);

/// The parts that a job shares with others.
struct Parts {
    campaign: Arc<CampaignBundle>,
    sender: Arc<Sender>,
    template: Arc<MessageTemplate>,
}

/// Local days of a send's account and campaign.
#[derive(Clone)]
struct Days {
    account: Option<String>,
    campaign: Option<String>,
}

/// How an attempt ended, for the ledger.
struct Ended {
    outcome: Outcome,
    report: Option<Report>,
    /// The fence that the result belongs to.
    fence: i64,
    was_dot: bool,
    /// The days that are charged or reserved.
    days: Days,
    message: Option<OutboundMessage>,
}

/// Why an attempt has no result: no dot was written, and nothing was learnt of the message.
enum NoResult {
    /// The gate stayed closed: the ledger holds why, and brings the send again where it may go.
    Refused,
    /// Text or settings were changed since it was read: it is read and made anew at once.
    Outdated,
    /// Nobody could be asked, or we are stopping: the job is to come again.
    Later,
    /// The database takes no intent of this send.
    NotTaken,
}

/// The way to an account's server.
struct Way<'a> {
    lane: &'a Lane,
    /// Open since an earlier message, where there is one.
    connection: &'a mut Option<Pooled>,
    /// Held from before a log-in until its failure is known to all.
    turn: Option<Turn<'a>>,
}

/// Takes one job to its end. A panic is this job's failure and no other's.
pub(super) async fn run(worker: &Arc<Worker>, lane: &Lane, item: Item, connection: &mut Option<Pooled>) {
    let asked = Asked::default();
    let started_at = worker.ctx.clock.now();
    let has_panicked = {
        let mut job = pin!(work_on(worker, lane, &item, &asked, connection, started_at));
        poll_fn(|cx| {
            catch_unwind(AssertUnwindSafe(|| job.as_mut().poll(cx)))
                .map_or(Poll::Ready(true), |poll| poll.map(|()| false))
        })
        .await
    };
    if has_panicked {
        tracing::error!(send_id = %item.job.send_id, "a job panicked");
        *connection = None;
        after_panic(worker, &item, &asked, started_at).await;
    }
}

/// Where the gate had opened, nobody knows whether the dot was written. Else the lease runs out and is counted: the third
/// time the send is held.
async fn after_panic(worker: &Worker, item: &Item, asked: &Asked, started_at: Timestamp) {
    if asked.granted().is_none() {
        return;
    }
    match load(worker, &item.job).await {
        Ok(parts) => {
            let ended = asked.ended(&item.job, Outcome::Unknown, None, None);
            let settled = conclude(worker, &parts, &item.job, ended, started_at).await;
            worker.results.write(item.token, Some(settled), Verdict::Ack).await;
        }
        Err(e) => tracing::error!(send_id = %item.job.send_id, error = %e, "its dot is settled when this worker ends"),
    }
}

async fn work_on(
    worker: &Arc<Worker>,
    lane: &Lane,
    item: &Item,
    asked: &Asked,
    connection: &mut Option<Pooled>,
    started_at: Timestamp,
) {
    let job = &item.job;
    let parts = match load(worker, job).await {
        Ok(parts) => parts,
        Err(e) => return cannot_load(worker, item, &e).await,
    };
    let settings = &parts.campaign.plan.settings;
    let mut way = Way { lane, connection, turn: None };
    let against = last_look(settings, job.lead.status, job.lead.timezone.as_ref(), job.not_before, started_at);
    let ended = if item.poison {
        before_any_attempt(job, Outcome::Poison)
    } else if let Some(against) = against {
        before_any_attempt(job, against)
    } else {
        match compose(worker, &parts, job, started_at) {
            Ok((envelope, message)) => {
                match attempt(worker, &parts, item, (&envelope, &message), asked, &mut way).await {
                    Ok(ended) => ended,
                    Err(NoResult::NotTaken) => before_any_attempt(job, Outcome::IntentRefused),
                    Err(why) => {
                        way.turn = None;
                        return worker.results.write(item.token, None, without_result(worker, &why)).await;
                    }
                }
            }
            Err(why) => {
                tracing::warn!(send_id = %job.send_id, error = %why, "a message cannot be assembled");
                before_any_attempt(job, Outcome::NotComposed)
            }
        }
    };
    lane.learn(worker, ended.outcome, started_at);
    if ended.outcome == Outcome::Refused(ReplyAction::FailOurFault) {
        tracing::error!(
            send_id = %job.send_id, email_account_id = %job.account.0,
            "the server says that we broke the protocol (hint: `penguinmails send show` has the dialogue; report it)"
        );
    }
    let gave_back = ended.outcome == Outcome::GivenBack;
    let settled = conclude(worker, &parts, job, ended, started_at).await;
    let stops = settled.transition.account.is_some_and(|effect| effect != AccountEffect::Recovered);
    let being_written = stops.then(|| lane.stop());
    // Whoever waits to log in sees the stop.
    drop(way.turn);
    if stops {
        let why = settled.attempt.as_ref();
        tracing::warn!(
            email_account_id = %job.account.0,
            // Not the reply's text: servers write addresses into it. It stands in the ledger.
            stage = why.map(|a| &*a.stage), code = why.and_then(|a| a.code), enhanced = why.and_then(|a| a.enhanced.as_deref()),
            "an email account stops for now: {}",
            settled.transition.reason.map_or("", domain::reason::Reason::for_people)
        );
    }
    // What was given back goes again at once.
    let verdict = settled.transition.not_before.filter(|_| gave_back).map_or(Verdict::Ack, Verdict::RetryAt);
    worker.results.write(item.token, Some(settled), verdict).await;
    drop(being_written);
}

fn without_result(worker: &Worker, why: &NoResult) -> Verdict {
    let now = worker.ctx.clock.now();
    match why {
        NoResult::Refused | NoResult::NotTaken => Verdict::Ack,
        NoResult::Outdated => Verdict::RetryAt(now),
        NoResult::Later if worker.shutdown.is_stopping() => Verdict::RetryAt(now),
        NoResult::Later => Verdict::RetryAt(now + own_error_delay(0, worker.ctx.clock.chance())),
    }
}

async fn load(worker: &Worker, job: &SendJob) -> Result<Parts, CacheError> {
    let (ctx, cache) = (&worker.ctx, &worker.cache);
    Ok(Parts {
        campaign: cache.campaign(ctx, job.tenant_id, job.campaign).await?,
        sender: cache.sender(ctx, job.tenant_id, job.account).await?,
        template: cache.template(ctx, job.tenant_id, job.template).await?,
    })
}

/// A shared part is missing: later where the database is to blame, else the send fails or its account stops.
async fn cannot_load(worker: &Worker, item: &Item, why: &CacheError) {
    let (ctx, job) = (&worker.ctx, &item.job);
    tracing::warn!(send_id = %job.send_id, email_account_id = %job.account.0, error = %why, "a job cannot be worked on");
    let outcome = match why {
        CacheError::Database(e) if e.is_transient() => {
            let again = ctx.clock.now() + own_error_delay(0, ctx.clock.chance());
            return worker.results.write(item.token, None, Verdict::RetryAt(again)).await;
        }
        // Its mail waits until the settings are mended, and is lost by nothing.
        CacheError::Campaign(_) => {
            let again = ctx.clock.now() + UNUSABLE;
            return worker.results.write(item.token, None, Verdict::RetryAt(again)).await;
        }
        CacheError::Account(_) => Outcome::Refused(ReplyAction::PauseAccount),
        CacheError::Database(_) | CacheError::Template(..) => Outcome::NotComposed,
    };
    let now = ctx.clock.now();
    let attempted = attempted(job, None, now, 0);
    let transition = settle(outcome, &attempted, &ctx.config.settings.retry.policy(), now, ctx.clock.chance());
    let ended = before_any_attempt(job, outcome);
    worker.results.write(item.token, Some(record(job, ended, transition, now, now)), Verdict::Ack).await;
}

fn before_any_attempt(job: &SendJob, outcome: Outcome) -> Ended {
    let days = Days { account: job.account_day.clone(), campaign: job.campaign_day.clone() };
    Ended { outcome, report: None, fence: job.fence, was_dot: false, days, message: None }
}

/// Renders and writes the message; a panic of ours is this job's failure and no other's.
fn compose(
    worker: &Worker,
    parts: &Parts,
    job: &SendJob,
    now: Timestamp,
) -> Result<(Envelope, Message), anyhow::Error> {
    let (ctx, sender, settings) = (&worker.ctx, &parts.sender, &parts.campaign.plan.settings);
    let to = EmailAddress::parse(&job.lead.email)?;
    let subject = job.subject_override.as_deref().map(|s| Template::parse(s, Kind::Header)).transpose()?;
    let references: Vec<&str> = job.thread_message_ids.as_deref().unwrap_or("").split_whitespace().collect();
    let ttl = Duration::from_secs(u64::from(ctx.config.settings.process.token_ttl_days) * 86_400);
    let letterhead = Letterhead {
        from_name: job.from_name_override.as_deref().or(sender.account.from_name.as_deref()),
        from: &sender.from,
        reply_to: sender.reply_to.as_ref(),
        company_name: &parts.campaign.company_name,
        company_address: &parts.campaign.company_address,
        public_url: &ctx.config.public_url,
        track_opens: settings.track_opens,
        track_clicks: settings.track_clicks,
        tokens_expire_at: now + ttl,
        zone: &sender.account.pace.zone,
    };
    let order = Order {
        send_id: job.send_id,
        message_id: job.message_id.as_deref(),
        ids: TokenIds {
            tenant_id: job.tenant_id,
            lead_id: job.lead.id,
            campaign_id: job.campaign.0,
            step_id: job.step_id,
        },
        lead: &job.lead,
        to: &to,
        date: job.first_attempt_at.unwrap_or(now),
        subject: subject.as_ref(),
        references: &references,
        thread_subject: job.thread_subject.as_deref(),
    };
    let assembled = catch_unwind(AssertUnwindSafe(|| assemble(&parts.template, &letterhead, &order, &ctx.keys)));
    let message = assembled.map_err(|_| anyhow::anyhow!("assembling it panicked"))??;
    let ascii = mail::compose::ascii_address;
    let envelope = Envelope {
        needs_smtputf8: !to.is_ascii_local() || !sender.from.is_ascii_local(),
        from: ascii(&sender.from),
        to: ascii(&to),
    };
    Ok((envelope, message))
}

/// Opens a connection, or says what the server made of it. Until the account's log-in works one connection logs in alone,
/// and keeps its `turn` where it fails.
async fn connect<'a>(
    worker: &Worker,
    parts: &Parts,
    item: &Item,
    lane: &'a Lane,
    turn: &mut Option<Turn<'a>>,
) -> Result<Result<Pooled, Report>, NoResult> {
    let server = parts.sender.server(&worker.ctx.config, &worker.ctx.trust);
    let logs_in = server.credentials.is_some();
    if logs_in && turn.is_none() {
        *turn = worker.shutdown.unless_stopping(lane.log_in.turn()).await.ok_or(NoResult::Later)?;
        // Whoever had the turn before may have stopped the account.
        if !lane.allows(item.fetched_at) {
            return Err(NoResult::Refused);
        }
    }
    match worker.shutdown.unless_stopping(Connection::open(&server)).await {
        Some(Ok(open)) => {
            if logs_in {
                lane.log_in.came_to(true);
            }
            *turn = None;
            Ok(Ok(Pooled::new(&worker.ctx, open)))
        }
        // Neither the account nor the message is to blame, and others of ours end meanwhile.
        Some(Err(Report { delivery: Delivery::Failed(stage, trouble @ Trouble::NoRoom(_)), .. })) => {
            tracing::error!(send_id = %item.job.send_id, ?stage, error = %trouble, "a job waits");
            Err(NoResult::Later)
        }
        Some(Err(failed)) => {
            lane.log_in.came_to(false);
            worker.ctx.metrics.worker.dialogue(&failed);
            Ok(Err(failed))
        }
        // Stopping.
        None => Err(NoResult::Later),
    }
}

/// Connects where needed and hands the message over.
async fn attempt(
    worker: &Arc<Worker>,
    parts: &Parts,
    item: &Item,
    (envelope, message): (&Envelope, &Message),
    asked: &Asked,
    way: &mut Way<'_>,
) -> Result<Ended, NoResult> {
    let job = &item.job;
    let outbound = OutboundMessage {
        message_id: message.message_id.clone(),
        from: parts.sender.from.as_str().to_owned(),
        to: job.lead.email.clone(),
        subject: message.subject.clone(),
    };
    let mut report = None;
    // A pooled connection that was closed while idle is replaced once; that costs no attempt.
    for _ in 0..2 {
        let open = match way.connection {
            Some(open) => open,
            None => match connect(worker, parts, item, way.lane, &mut way.turn).await? {
                Ok(open) => way.connection.insert(open),
                Err(failed) => {
                    report = Some(failed);
                    break;
                }
            },
        };
        let gate = ask_gate(worker, parts, job, message, asked);
        let delivered = tokio::select! {
            biased;
            delivered = open.deliver(envelope, &message.bytes, gate) => delivered,
            // Before the gate was asked a dialogue is broken off at once; after it its reply is awaited.
            () = stop_before_the_gate(worker, asked) => {
                *way.connection = None;
                return Err(NoResult::Later);
            }
        };
        fault_point::reach("answered").await;
        worker.ctx.metrics.worker.dialogue(&delivered);
        let stale = delivered.stale;
        report = Some(delivered);
        if !stale {
            break;
        }
        *way.connection = None;
        if asked.answer.get().is_some() {
            // A dot would come only after connecting anew, which may take minutes: a stop that is answered meanwhile wins.
            let given_back = asked.granted().map(|_| asked.ended(job, Outcome::GivenBack, None, None));
            return given_back.ok_or_else(|| asked.why_no_dot());
        }
    }
    let report = report.ok_or(NoResult::Later)?;
    let outcome = outcome(&report.delivery).ok_or_else(|| asked.why_no_dot())?;
    Ok(asked.ended(job, outcome, Some(report), Some(outbound)))
}

/// What the gate was asked for one message, and what it said.
#[derive(Default)]
struct Asked {
    is_asked: AtomicBool,
    /// The answer, and the days that were charged.
    answer: OnceLock<(Answer, Days)>,
}

impl Asked {
    /// The fence that is ours and the days that are charged.
    fn granted(&self) -> Option<(i64, &Days)> {
        match self.answer.get() {
            Some((Answer::Granted { fence, .. }, days)) => Some((*fence, days)),
            _ => None,
        }
    }

    fn why_no_dot(&self) -> NoResult {
        match self.answer.get() {
            Some((Answer::Refused, _)) => NoResult::Refused,
            Some((Answer::Outdated, _)) => NoResult::Outdated,
            Some((Answer::NotTaken, _)) => NoResult::NotTaken,
            _ => NoResult::Later,
        }
    }

    fn ended(
        &self,
        job: &SendJob,
        outcome: Outcome,
        report: Option<Report>,
        message: Option<OutboundMessage>,
    ) -> Ended {
        match self.granted() {
            Some((fence, days)) => Ended { outcome, report, fence, was_dot: true, days: days.clone(), message },
            None => Ended { report, message, ..before_any_attempt(job, outcome) },
        }
    }
}

/// Asks once; no second connection is opened for a message that has an answer.
async fn ask_gate(worker: &Worker, parts: &Parts, job: &SendJob, message: &Message, asked: &Asked) -> bool {
    if worker.shutdown.is_stopping() {
        return false;
    }
    asked.is_asked.store(true, Ordering::Release);
    let (account_zone, campaign) = (&parts.sender.account.pace.zone, &parts.campaign.plan.settings);
    let request = DotRequest {
        send_id: job.send_id,
        tenant_id: job.tenant_id,
        campaign_id: job.campaign.0,
        email_account_id: job.account.0,
        fence: job.fence,
        account_failures: job.account_failures,
        reserved_day: job.account_day.clone(),
        campaign_day: job.campaign_day.clone(),
        account_zone: account_zone.clone(),
        campaign_zone: campaign.timezone.clone(),
        campaign_limit: campaign.daily_limit,
        stop_on_reply: campaign.stop_on_reply,
        message_id: message.message_id.clone(),
        dated_at: message.date,
        seen: job.seen(),
    };
    fault_point::reach("asking").await;
    let given = worker.gate.ask(request).await;
    let at = match given {
        Answer::Granted { at, .. } => Some(at),
        _ => None,
    };
    let days = Days { account: at.map(|at| account_zone.day(at)), campaign: at.map(|at| campaign.timezone.day(at)) };
    asked.answer.get_or_init(|| (given, days));
    fault_point::reach("granted").await;
    asked.granted().is_some()
}

async fn stop_before_the_gate(worker: &Worker, asked: &Asked) {
    worker.shutdown.stopping().await;
    if asked.is_asked.load(Ordering::Acquire) {
        pending().await
    }
}

/// What a delivery means to `settle`; none where no dot was written and nothing was learnt.
fn outcome(delivery: &Delivery) -> Option<Outcome> {
    Some(match delivery {
        Delivery::Accepted(_) => Outcome::Accepted,
        Delivery::Refused(stage, reply) => {
            Outcome::Refused(classify(*stage, reply).map_or(ReplyAction::Retry, |rule| rule.action))
        }
        // Somebody has to change the account's settings: trying again gains nothing.
        Delivery::Failed(_, Trouble::PlainAuth | Trouble::NoMechanism | Trouble::NoStartTls) => {
            Outcome::Refused(ReplyAction::PauseAccount)
        }
        Delivery::Failed(_, Trouble::NoSuchName) => Outcome::Refused(ReplyAction::NoSuchHost),
        // In the middle of this message: it may be to blame, so its budget pays.
        Delivery::Failed(Stage::Data | Stage::Body, _) => Outcome::Refused(ReplyAction::Retry),
        Delivery::Failed(..) => Outcome::Refused(ReplyAction::BackOffAccount),
        Delivery::Unknown(_) => Outcome::Unknown,
        Delivery::NotGranted => return None,
    })
}

async fn conclude(worker: &Worker, parts: &Parts, job: &SendJob, ended: Ended, started_at: Timestamp) -> Settled {
    let ctx = &worker.ctx;
    let now = ctx.clock.now();
    let may_bounce_softly = [ReplyAction::BounceSoft, ReplyAction::RetrySoft].map(Outcome::Refused);
    let soft_bounces = if may_bounce_softly.contains(&ended.outcome) {
        let since = now - Duration::from_secs(30 * 86_400);
        // Not knowing is no reason to suppress anybody.
        ctx.store.tenant(job.tenant_id).count_soft_bounces(job.lead.id, since).await.unwrap_or(0)
    } else {
        0
    };
    let attempted = attempted(job, Some(parts), now, soft_bounces);
    let policy = ctx.config.settings.retry.policy();
    let transition = settle(ended.outcome, &attempted, &policy, now, ctx.clock.chance());
    record(job, ended, transition, started_at, now)
}

fn attempted(job: &SendJob, parts: Option<&Parts>, now: Timestamp, soft_bounces: u32) -> Attempted {
    Attempted {
        attempts: job.attempts,
        unknowns: job.unknowns,
        budget_began_at: job.budget_began_at,
        max_attempts: job.max_attempts,
        on_unknown: parts.map_or(domain::campaign::OnUnknown::Hold, |p| p.campaign.plan.settings.on_unknown),
        account_failures: job.account_failures,
        account_zone: parts.map_or(domain::time::Zone::UTC, |p| p.sender.account.pace.zone.clone()),
        soft_bounces,
        next: parts.and_then(|p| next_due(&p.campaign.plan.steps, job.step_order, now)),
    }
}

fn record(
    job: &SendJob,
    ended: Ended,
    transition: domain::settle::Transition,
    started_at: Timestamp,
    finished_at: Timestamp,
) -> Settled {
    let attempt = ended.report.map(|report| attempt_record(report, started_at, finished_at));
    Settled {
        send_id: job.send_id,
        tenant_id: job.tenant_id,
        campaign_id: job.campaign.0,
        lead_id: job.lead.id,
        step_id: job.step_id,
        step_order: job.step_order,
        enrollment_id: job.enrollment_id,
        email_account_id: Some(job.account.0),
        fence: ended.fence,
        account_day: ended.days.account,
        campaign_day: ended.days.campaign,
        was_dot: ended.was_dot,
        sequence_seen: job.sequence_seen,
        transition,
        attempt,
        message: ended.message,
    }
}

fn attempt_record(report: Report, started_at: Timestamp, finished_at: Timestamp) -> AttemptRecord {
    let (stage, outcome, reply, trouble): (Stage, &'static str, Option<Reply>, Option<Trouble>) = match report.delivery
    {
        Delivery::Accepted(reply) => (Stage::Dot, "accepted", Some(reply), None),
        Delivery::Refused(stage, reply) => (stage, "refused", Some(reply), None),
        Delivery::Failed(stage, trouble) => (stage, "failed", None, Some(trouble)),
        Delivery::Unknown(trouble) => (Stage::Dot, "unknown", None, Some(trouble)),
        Delivery::NotGranted => (Stage::Data, "not_granted", None, None),
    };
    AttemptRecord {
        started_at,
        finished_at,
        stage: stage.as_str().into(),
        outcome: outcome.into(),
        code: reply.as_ref().map(|r| r.code),
        enhanced: reply.as_ref().and_then(Reply::enhanced_text),
        reply: reply.map(|r| r.text).or_else(|| trouble.map(|t| t.to_string())),
        transcript: Some(report.transcript),
    }
}

#[cfg(test)]
mod tests;
