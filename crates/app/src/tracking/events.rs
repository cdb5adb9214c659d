//! Hands events to the queue in groups; where the queue does not answer in time, to the spool.
//!
//! A request waits for either, so an answered event is durable. Where neither takes it (the queue away and the disk full)
//! it stays in memory, with an alarm, and is tried again. Not responsible for counting (`analytics`).
//! To add a way to keep an event: `keep`.

use std::sync::Arc;
use std::time::Duration;

use domain::event::Event;
use engines::queue::{Job, List};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::spool;
use crate::context::Context;
use crate::liveness::Loop;

/// Most events in one push.
const BATCH: usize = 256;
/// How long the queue may take before the spool has to do.
const LIMIT: Duration = Duration::from_millis(500);

/// Real time between two tries with events that nothing takes, and most of them in memory.
const AGAIN: Duration = Duration::from_secs(1);
const MOST: usize = 100_000;

type Waiting = (Event, oneshot::Sender<()>);

/// The requests' end.
pub(super) struct Recorder(mpsc::Sender<Waiting>);

pub(super) fn start(ctx: &Arc<Context>) -> (Recorder, JoinHandle<()>) {
    let (sender, queue) = mpsc::channel(BATCH * 4);
    let task = tokio::spawn(run(Arc::clone(ctx), queue));
    (Recorder(sender), task)
}

impl Recorder {
    /// Keeps an event; it returns when the event is durable.
    pub(super) async fn record(&self, event: Event) {
        let (done, kept) = oneshot::channel();
        if self.0.send((event, done)).await.is_ok() {
            let _recorder_gone = kept.await;
        }
    }
}

async fn run(ctx: Arc<Context>, mut queue: mpsc::Receiver<Waiting>) {
    let mut batch: Vec<Waiting> = Vec::with_capacity(BATCH);
    let mut owed: Vec<Event> = Vec::new();
    let pulse = ctx.liveness.pulse(Loop::Events);
    loop {
        let come = queue.recv_many(&mut batch, BATCH);
        let is_over = if owed.is_empty() { come.await == 0 } else { tokio::time::timeout(AGAIN, come).await == Ok(0) };
        pulse.works();
        let (events, waiting): (Vec<Event>, Vec<_>) = batch.drain(..).unzip();
        owed.extend(events);
        keep(&ctx, &mut owed).await;
        let most = if is_over { 0 } else { MOST };
        if owed.len() > most {
            let lost = owed.drain(most..).count();
            ctx.metrics.tracking.lost.inc_by(lost as u64);
            tracing::error!(count = lost, "events are lost: neither queue nor spool takes them");
        }
        for done in waiting {
            let _client_gone = done.send(());
        }
        pulse.waits();
        if is_over {
            return;
        }
    }
}

/// Hands over what can be; the rest stays.
async fn keep(ctx: &Context, owed: &mut Vec<Event>) {
    while !owed.is_empty() {
        let events = &owed[..owed.len().min(BATCH)];
        match tokio::time::timeout(LIMIT, push(ctx, events)).await {
            Ok(Ok(())) => {}
            other => {
                match other {
                    Ok(Err(e)) => tracing::warn!(error = %e, count = events.len(), "events go to the spool"),
                    _ => tracing::warn!(count = events.len(), "events go to the spool: the queue takes too long"),
                }
                if let Err(e) = spool::append(ctx, events).await {
                    tracing::error!(
                        error = %e, count = owed.len(),
                        "events wait in memory: neither queue nor spool takes them (hint: is the disk full?)"
                    );
                    return;
                }
            }
        }
        let kept = events.len();
        owed.drain(..kept);
    }
}

/// Pushes events under their own ids, so that a second push of one is a no-op.
pub(crate) async fn push(ctx: &Context, events: &[Event]) -> engines::error::Result<()> {
    let now = ctx.clock.now();
    let jobs = events
        .iter()
        .map(|event| Job {
            id: event.event_id.map_or_else(|| ctx.clock.uuid_v7(), |id| id.uuid()),
            payload: serde_json::to_string(event).expect("an event is plain strings and numbers"),
            priority: 100,
            not_before: now,
        })
        .collect();
    ctx.queue.push(List::Analytics, jobs, now).await.map(drop)
}
