//! What the queue reads of an element: an id and a priority, no more. Whether it is a job the worker decides.
//!
//! Elements of other programs may be anything. To read one more field: `Peek`.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde::Deserialize;
use uuid::Uuid;

use super::super::{Job, Lane};

/// Bytes that are left of an element that is too long: enough for a person to know it again.
pub(super) const PAYLOAD_CUT: usize = 4 * 1024;

/// The fields that matter to the queue; an element without them is none the worse.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Peek {
    send_id: Option<Uuid>,
    event_id: Option<Uuid>,
    priority: Option<u16>,
}

impl Peek {
    pub(super) fn at(payload: &str) -> Self {
        serde_json::from_str(payload).unwrap_or_default()
    }

    /// The id of a send or an event.
    pub(super) fn id(&self) -> Option<Uuid> {
        self.send_id.or(self.event_id)
    }

    /// The priority, as far as it agrees with the lane: the lane decides.
    pub(super) fn priority(&self, lane: Lane, has_lanes: bool) -> u16 {
        let fits = |priority: &u16| !has_lanes || Lane::of(*priority) == lane;
        self.priority.filter(|priority| (1..=1000).contains(priority)).filter(fits).unwrap_or(match lane {
            Lane::High => 50,
            Lane::Base => 100,
            Lane::Low => 151,
        })
    }
}

/// A job as a member of the delayed ones; its form stands in `record.lua`.
pub(super) fn record(job: &Job) -> String {
    format!("{} {} 0\n{}", job.id, job.priority, job.payload)
}

/// A record, or the bare bytes where it is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// The job's id or, where nobody knows one, owner and claim by which it was first taken.
    pub(super) key: Option<String>,
    pub(super) priority: Option<u16>,
    pub(super) deliveries: u32,
    pub(super) payload: Vec<u8>,
}

/// The parts of a record.
pub(super) fn read_record(mut bytes: Vec<u8>) -> Record {
    let Some(cut) = bytes.iter().position(|byte| *byte == b'\n') else {
        return Record { key: None, priority: None, deliveries: 0, payload: bytes };
    };
    let payload = bytes.split_off(cut + 1);
    let header = String::from_utf8_lossy(&bytes[..cut]);
    let mut fields = header.split(' ');
    let key = fields.next().map(str::to_owned);
    let priority = fields.next().and_then(|priority| priority.parse().ok());
    let deliveries = fields.next().and_then(|deliveries| deliveries.parse().ok()).unwrap_or(0);
    Record { key, priority, deliveries, payload }
}

/// Bytes as text that every database can keep: what is not UTF-8, and NUL, becomes U+FFFD. No valid JSON holds either.
pub(super) fn text(bytes: Vec<u8>) -> String {
    let text = String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
    if text.contains('\0') { text.replace('\0', "\u{FFFD}") } else { text }
}

/// An id for an element that has none, from the key of its first claim: the same in every delivery, and another one for
/// an element that is equal.
pub(super) fn claim_id(key: &str) -> Uuid {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, key).hash(&mut hasher);
        hasher.finish()
    };
    uuid::Builder::from_custom_bytes(Uuid::from_u64_pair(half(0), half(1)).into_bytes()).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "018f3a5e-0000-7000-8000-000000000001";

    #[test]
    fn ids_and_priorities_are_read_and_anything_else_is_borne() {
        let id = Uuid::try_parse(ID).unwrap();
        assert_eq!(Peek::at(&format!(r#"{{"sendId":"{ID}","x":[1]}}"#)).id(), Some(id));
        assert_eq!(Peek::at(&format!(r#"{{"eventId" : "{ID}"}}"#)).id(), Some(id));
        for garbage in ["", "null", "7", "[]", "{\"sendId\":7}", "\u{FFFD}", "{\"tenantId\":\"x\"}"] {
            assert_eq!(Peek::at(garbage).id(), None, "{garbage}");
        }
        assert_eq!(Peek::at(r#"{"priority":500}"#).priority(Lane::Low, true), 500);
        assert_eq!(Peek::at(r#"{"priority":500}"#).priority(Lane::High, true), 50, "the lane decides");
        assert_eq!(Peek::at(r#"{"priority":500}"#).priority(Lane::Base, false), 500);
        assert_eq!(Peek::at("{}").priority(Lane::Base, true), 100);
    }

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let id = Uuid::try_parse(ID).unwrap();
        let job = Job { id, payload: "a\nb".into(), priority: 7, not_before: domain::time::Timestamp::EPOCH };
        let read = |bytes: &[u8]| read_record(bytes.to_vec());
        let parts = |key: Option<&str>, priority, deliveries, payload: &[u8]| Record {
            key: key.map(str::to_owned),
            priority,
            deliveries,
            payload: payload.to_vec(),
        };
        assert_eq!(read(record(&job).as_bytes()), parts(Some(ID), Some(7), 0, b"a\nb"));
        assert_eq!(read(b"w:12:3 - 2\n{}"), parts(Some("w:12:3"), None, 2, b"{}"));
        assert_eq!(read(b"no header"), parts(None, None, 0, b"no header"));
    }

    #[test]
    fn bytes_become_text_that_can_be_kept() {
        assert_eq!(text(b"{\"a\":\xff\0}".to_vec()), "{\"a\":\u{FFFD}\u{FFFD}}");
        assert_eq!(text("schön".into()), "schön");
    }

    #[test]
    fn claims_have_ids_of_their_own() {
        let ids = [claim_id("a:1:2"), claim_id("a:1:3"), claim_id("b:1:2")];
        assert!(ids[0] != ids[1] && ids[0] != ids[2] && ids[1] != ids[2]);
        assert_eq!(claim_id("a:1:2"), ids[0]);
    }
}
