//! One lane's calls: what goes into a script and what comes out, in chunks.
//!
//! Not responsible for sharing work among lanes (`super`) or for the steps themselves (the scripts).
//! To add a call: a function here, beside its script.

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, Ordering};

use domain::payload::LIMIT;
use domain::time::Timestamp;
use redis::Value;
use uuid::Uuid;

use super::super::{Depth, Job, Lane, Leased, List, Token, Verdict};
use super::element::{PAYLOAD_CUT, Peek, Record, claim_id, read_record, record, text};
use super::{RedisQueue, read, script};
use crate::error::Result;

/// Most jobs in one script call: a script holds up all others, and Lua unpacks no more than 8,000 values.
const CHUNK: usize = 1000;

/// Names of a lane's keys: all of them hash to the slot of the list.
pub(super) struct LaneKeys {
    list: String,
    delayed: String,
    /// What an owner's name is put behind to make the key of its leases.
    leases: String,
    /// The same for their ends.
    ends: String,
    owners: String,
    known: String,
}

impl LaneKeys {
    fn of(list: List, lane: Lane) -> Self {
        let list = format!("{}{}", list.name(), lane.suffix());
        let tagged = |name: &str| format!("{{{list}}}:{name}");
        Self {
            delayed: tagged("delayed"),
            leases: tagged("leases:"),
            ends: tagged("ends:"),
            owners: tagged("owners"),
            known: tagged("known"),
            list,
        }
    }

    /// The key of an owner's leases.
    fn leases_of(&self, owner: &str) -> String {
        format!("{}{}", self.leases, label(owner))
    }

    /// The key of their ends.
    fn ends_of(&self, owner: &str) -> String {
        format!("{}{}", self.ends, label(owner))
    }

    /// The key of a list's generation.
    pub(super) fn epoch(list: List) -> String {
        format!("{{{}}}:epoch", list.name())
    }

    /// The type that a key has to have.
    pub(super) fn type_of(key: &str) -> &'static str {
        match key.split_once("}:").map(|(_, name)| name.split(':').next().unwrap_or(name)) {
            Some("delayed" | "owners") => "zset",
            Some("leases" | "ends") => "hash",
            Some("known") => "set",
            Some("epoch") => "string",
            _ => "list",
        }
    }
}

/// Whose lease, of what, and until when.
pub(super) struct LeaseRequest<'a> {
    pub(super) list: List,
    pub(super) owner: &'a str,
    pub(super) until: Timestamp,
    pub(super) now: Timestamp,
}

/// A lease call of this process, and with the owner, who is unique, of all processes that ever ran: what Redis itself
/// counts would begin anew after it was emptied, and an old token would pass for a new one.
fn next_call() -> i64 {
    static CALLS: AtomicI64 = AtomicI64::new(1);
    CALLS.fetch_add(1, Ordering::Relaxed)
}

/// Positions of elements of the list begin behind this one; those of delayed jobs at one.
const FIRST_ELEMENT: i64 = 1024;
/// Bits of a token's number below the call: those of the lane and those of the position in the call.
const LANE_BITS: i64 = 2;
const POSITION_BITS: i64 = 11;

fn token_number(call: i64, position: i64, lane: Lane) -> i64 {
    ((call << POSITION_BITS | position) << LANE_BITS) | lane as i64
}

fn is_of(token: Token, lane: Lane) -> bool {
    token.number & ((1 << LANE_BITS) - 1) == lane as i64
}

/// The name of a lease among those of its owner: call and position.
fn claim(token: Token) -> String {
    let number = token.number >> LANE_BITS;
    let (call, position) = (number >> POSITION_BITS, number & ((1 << POSITION_BITS) - 1));
    format!("{call}:{position}")
}

/// An owner's name without blanks, which part the fields of a record.
fn label(owner: &str) -> String {
    owner.replace(|c: char| c.is_whitespace() || c.is_control(), "_")
}

impl RedisQueue {
    pub(super) async fn push_lane(&self, list: List, lane: Lane, jobs: &[Job], now: Timestamp) -> Result<u64> {
        let keys = LaneKeys::of(list, lane);
        // The order in which they are pushed is the order in which they are taken.
        let mut jobs: Vec<&Job> = jobs.iter().collect();
        jobs.sort_by_key(|job| (job.not_before, job.id));
        let mut seen = HashSet::with_capacity(jobs.len());
        jobs.retain(|job| seen.insert(job.id));
        let has_lanes = list.lanes().len() > 1;
        let is_plain = |job: &Job| {
            let peek = Peek::at(&job.payload);
            job.not_before <= now && peek.id() == Some(job.id) && peek.priority(lane, has_lanes) == job.priority
        };
        let mut pushed = 0;
        for chunk in jobs.chunks(CHUNK) {
            let (plain, others): (Vec<&Job>, Vec<&Job>) = chunk.iter().copied().partition(|job| is_plain(job));
            let value = self
                .run(&script::PUSH, &[&keys.list, &keys.delayed, &keys.known], |command| {
                    command.arg(plain.len());
                    for job in &plain {
                        command.arg(job.id.as_bytes().as_slice()).arg(&job.payload);
                    }
                    for job in &others {
                        command.arg(job.id.as_bytes().as_slice()).arg(job.not_before.micros()).arg(record(job));
                    }
                })
                .await?;
            pushed += read::<u64>(script::PUSH.name, value)?;
        }
        Ok(pushed)
    }

    pub(super) async fn lease_lane(
        &self,
        request: &LeaseRequest<'_>,
        lane: Lane,
        wanted: usize,
    ) -> Result<Vec<Leased>> {
        let keys = LaneKeys::of(request.list, lane);
        let (call, owner) = (next_call(), label(request.owner));
        let wanted = wanted.min(CHUNK);
        let value = self
            .run(
                &script::LEASE,
                &[&keys.list, &keys.delayed, &keys.leases_of(&owner), &keys.ends_of(&owner), &keys.owners, &keys.known],
                |command| {
                    command.arg(wanted).arg(call).arg(&owner).arg(request.until.micros());
                    command.arg(request.now.micros()).arg(call.count_ones() % 2).arg(LIMIT).arg(PAYLOAD_CUT);
                    command.arg(&keys.leases);
                },
            )
            .await?;
        let mut values = read::<Vec<Value>>(script::LEASE.name, value)?.into_iter();
        let delayed: i64 = read(script::LEASE.name, values.next().unwrap_or(Value::Int(0)))?;
        let mut jobs = Vec::with_capacity(values.len());
        let positions = (1..=delayed).chain(FIRST_ELEMENT + 1..);
        for (position, value) in positions.zip(values) {
            let (bytes, cut_from) = match value {
                Value::BulkString(bytes) => (bytes, None),
                cut @ Value::Array(_) => read::<(Vec<u8>, Option<usize>)>(script::LEASE.name, cut)?,
                _ => continue,
            };
            let number = token_number(call, position, lane);
            let found = if position <= FIRST_ELEMENT {
                read_record(bytes)
            } else {
                Record { key: None, priority: None, deliveries: 0, payload: bytes }
            };
            let payload = text(found.payload);
            let peek = if cut_from.is_none() { Peek::at(&payload) } else { Peek::default() };
            // As `record.lua` names it when it goes back.
            let key = found.key.unwrap_or_else(|| format!("{owner}:{call}:{position}"));
            let id = Uuid::try_parse(&key).ok().or_else(|| peek.id()).unwrap_or_else(|| claim_id(&key));
            jobs.push(Leased {
                token: Token { id, number },
                priority: found.priority.unwrap_or_else(|| peek.priority(lane, request.list.lanes().len() > 1)),
                payload,
                expirations: found.deliveries,
                cut_from,
            });
        }
        Ok(jobs)
    }

    pub(super) async fn extend_lane(
        &self,
        list: List,
        lane: Lane,
        owner: &str,
        tokens: &[Token],
        until: Timestamp,
    ) -> Result<Vec<Token>> {
        let keys = LaneKeys::of(list, lane);
        let tokens: Vec<Token> = tokens.iter().copied().filter(|token| is_of(*token, lane)).collect();
        let mut stale = Vec::new();
        for chunk in tokens.chunks(CHUNK) {
            let value = self
                .run(&script::EXTEND, &[&keys.leases_of(owner), &keys.ends_of(owner)], |command| {
                    command.arg(until.micros());
                    for token in chunk {
                        command.arg(claim(*token));
                    }
                })
                .await?;
            let positions: Vec<usize> = read(script::EXTEND.name, value)?;
            stale.extend(positions.iter().filter_map(|position| chunk.get(position - 1)));
        }
        Ok(stale)
    }

    pub(super) async fn settle_lane(
        &self,
        list: List,
        lane: Lane,
        owner: &str,
        verdicts: &[(Token, Verdict)],
    ) -> Result<Vec<Token>> {
        let keys = LaneKeys::of(list, lane);
        let verdicts: Vec<_> = verdicts.iter().copied().filter(|(token, _)| is_of(*token, lane)).collect();
        let mut stale = Vec::new();
        for chunk in verdicts.chunks(CHUNK) {
            let mut acked = Vec::with_capacity(chunk.len());
            let mut again = Vec::new();
            for (token, verdict) in chunk {
                match verdict {
                    Verdict::Ack => acked.push(*token),
                    Verdict::RetryAt(at) => again.push((*token, *at)),
                }
            }
            let value = self
                .run(
                    &script::SETTLE,
                    &[&keys.delayed, &keys.leases_of(owner), &keys.ends_of(owner), &keys.known],
                    |command| {
                        command.arg(label(owner)).arg(acked.len());
                        for token in &acked {
                            command.arg(claim(*token));
                        }
                        for token in &acked {
                            command.arg(token.id.as_bytes().as_slice());
                        }
                        for (token, at) in &again {
                            command.arg(claim(*token)).arg(at.micros());
                        }
                    },
                )
                .await?;
            let positions: Vec<usize> = read(script::SETTLE.name, value)?;
            let in_order: Vec<Token> = acked.into_iter().chain(again.into_iter().map(|(token, _)| token)).collect();
            stale.extend(positions.iter().filter_map(|position| in_order.get(position - 1)));
        }
        Ok(stale)
    }

    pub(super) async fn reap_lane(&self, list: List, lane: Lane, dead: &[String], now: Timestamp) -> Result<u64> {
        let keys = LaneKeys::of(list, lane);
        let dead: Vec<String> = dead.iter().map(|owner| label(owner)).collect();
        let mut ended = 0;
        loop {
            let value = self
                .run(&script::REAP, &[&keys.delayed, &keys.owners], |command| {
                    command.arg(now.micros()).arg(CHUNK).arg(&keys.leases).arg(&keys.ends).arg(&dead);
                })
                .await?;
            let count: u64 = read(script::REAP.name, value)?;
            ended += count;
            if count < CHUNK as u64 {
                return Ok(ended);
            }
        }
    }

    pub(super) async fn depth_lane(&self, list: List, lane: Lane, now: Timestamp) -> Result<Depth> {
        let keys = LaneKeys::of(list, lane);
        let value = self
            .run(&script::DEPTH, &[&keys.list, &keys.delayed, &keys.owners], |command| {
                command.arg(now.micros()).arg(&keys.leases);
            })
            .await?;
        let (ready, delayed, leased) = read(script::DEPTH.name, value)?;
        Ok(Depth { ready, delayed, leased })
    }
}
