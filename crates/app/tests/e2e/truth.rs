//! What the receiver holds of each send, judged by the ledger's row of that send.
//!
//! Sums hide: one send's unknown must not stand for another one's copy. So every message that arrived is joined with its row
//! by its Message-ID. Not responsible for waiting until nothing is under way. To add a rule: `Row::is_wrong`.

use std::collections::HashMap;
use std::process::Command;

use serde::Deserialize;

use crate::app::App;

/// What was promised of every send, by the faults that came and by the policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Promise {
    /// Something was killed or cut under `on_unknown = "resend"`: one more copy, of a send that was unknown.
    Resend,
    /// The same under `hold`: no copy, and what is unknown waits for a person.
    Hold,
    /// Nobody who speaks SMTP died, and no connection was cut: no copy, and nothing unknown.
    Calm,
}

/// A send as the ledger has it, and the copies that arrived.
#[derive(Debug, Deserialize)]
struct Row {
    id: String,
    status: String,
    reason: Option<String>,
    unknowns: usize,
    /// None where it never had a dot.
    message_id: Option<String>,
    #[serde(skip)]
    copies: usize,
}

impl Row {
    fn is_held(&self) -> bool {
        self.status == "held"
    }

    /// Three workers were killed over it: a person is asked whether it is to blame.
    fn is_poison(&self) -> bool {
        self.is_held() && self.reason.as_deref() == Some("poison")
    }

    fn is_lost(&self) -> bool {
        self.copies == 0 && !["failed", "bounced", "held", "cancelled", "skipped"].contains(&self.status.as_str())
    }

    fn is_wrong(&self, promise: Promise) -> bool {
        let keeps = match promise {
            // A second unknown is held, so there is no third copy.
            Promise::Resend => self.copies <= 1 + self.unknowns.min(1),
            Promise::Hold => self.copies <= 1 && (self.unknowns > 0) == (self.is_held() && !self.is_poison()),
            Promise::Calm => self.copies <= 1 && self.unknowns == 0,
        };
        self.is_lost() || !keeps
    }
}

/// Every send with its copies.
#[derive(Debug)]
pub struct Truth {
    rows: Vec<Row>,
    /// Messages of which the ledger knows nothing.
    strange: Vec<String>,
}

impl Truth {
    /// Of an installation with so many sends, and the Message-ID of each message that arrived.
    pub fn of(app: &App, sends: usize, arrived: impl IntoIterator<Item = String>) -> Self {
        let rows = rows(app);
        assert_eq!(rows.len(), sends, "a row each");
        Self::join(rows, arrived)
    }

    fn join(mut rows: Vec<Row>, arrived: impl IntoIterator<Item = String>) -> Self {
        let mut copies: HashMap<String, usize> = HashMap::new();
        for id in arrived {
            *copies.entry(id).or_default() += 1;
        }
        for row in &mut rows {
            row.copies = row.message_id.as_ref().and_then(|id| copies.remove(id)).unwrap_or(0);
        }
        Self { rows, strange: copies.into_keys().collect() }
    }

    fn count(&self, is_counted: impl Fn(&Row) -> bool) -> usize {
        self.rows.iter().filter(|row| is_counted(row)).count()
    }

    /// Sends of which no copy arrived, and that did not end otherwise.
    pub fn lost(&self) -> usize {
        self.count(Row::is_lost)
    }

    /// Copies beyond each send's first.
    pub fn extra(&self) -> usize {
        self.rows.iter().map(|row| row.copies.saturating_sub(1)).sum()
    }

    /// How often the ledger says that nobody knows.
    pub fn unknown(&self) -> usize {
        self.rows.iter().map(|row| row.unknowns).sum()
    }

    /// Sends that wait for a person.
    pub fn held(&self) -> usize {
        self.count(Row::is_held)
    }

    /// Those of them over which three workers died.
    pub fn poison(&self) -> usize {
        self.count(Row::is_poison)
    }

    /// Holds every send against the promise; says which ones break it, by their ids.
    pub fn keeps(&self, promise: Promise) {
        let wrong = self.rows.iter().filter(|row| row.is_wrong(promise));
        let lines = wrong.map(|Row { id, status, reason, unknowns, copies, .. }| {
            let reason = reason.as_deref().unwrap_or("no reason");
            format!("send {id}: {copies} copies, {unknowns} unknowns, {status}, {reason}")
        });
        // Of a Message-ID only what stands before the domain: no line here may be taken for an address.
        let names = self.strange.iter().map(|id| id.split('@').next().unwrap());
        let strange = names.map(|name| format!("message {name}>: no send of the ledger"));
        let lines: Vec<String> = lines.chain(strange).collect();
        assert!(lines.is_empty(), "{promise:?} is not kept:\n{}", lines.join("\n"));
    }
}

/// Every send of the ledger.
fn rows(app: &App) -> Vec<Row> {
    const COLUMNS: &str = "id, status, reason, unknowns, message_id";
    let lines = app.sql(&format!("SELECT row_to_json(s) FROM (SELECT {COLUMNS} FROM sends) s")).unwrap_or_else(|| {
        let script = "import json, sqlite3, sys, uuid\n\
            rows = sqlite3.connect(sys.argv[1]).execute(f'SELECT {sys.argv[2]} FROM sends')\n\
            names = [column[0] for column in rows.description]\n\
            for row in rows: print(json.dumps(dict(zip(names, row)), default=lambda id: str(uuid.UUID(bytes=id))))";
        let file = app.path("data/penguinmails.db");
        let output = Command::new("python3").args(["-c", script]).arg(file).arg(COLUMNS).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    });
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A ledger of two sends, the first of which has so many unknowns, and the copies of the second.
fn of_two(unknowns: usize, status: &str, copies: usize) -> Truth {
    let row = |id: &str, status: &str, unknowns| Row {
        id: id.to_owned(),
        status: status.to_owned(),
        reason: None,
        unknowns,
        message_id: Some(format!("<{id}@acme.test>")),
        copies: 0,
    };
    let second = vec!["<second@acme.test>".to_owned(); copies];
    let arrived = std::iter::once("<first@acme.test>".to_owned()).chain(second);
    Truth::join(vec![row("first", status, unknowns), row("second", "sent", 0)], arrived)
}

#[test]
#[should_panic(expected = "send second: 2 copies, 0 unknowns, sent")]
fn one_sends_unknown_does_not_stand_for_another_ones_copy() {
    let truth = of_two(1, "sent", 2);
    assert_eq!((truth.extra(), truth.unknown()), (1, 1), "the sums say that all is well");
    truth.keeps(Promise::Resend);
}

#[test]
#[should_panic(expected = "send second: 0 copies, 0 unknowns, sent")]
fn one_sends_copies_do_not_stand_for_another_ones_loss() {
    of_two(0, "sent", 0).keeps(Promise::Resend);
}

#[test]
#[should_panic(expected = "send first: 1 copies, 1 unknowns, sent")]
fn under_hold_what_is_unknown_waits() {
    of_two(1, "held", 1).keeps(Promise::Hold);
    of_two(1, "sent", 1).keeps(Promise::Hold);
}

#[test]
#[should_panic(expected = "send first: 1 copies, 1 unknowns, sent")]
fn in_the_calm_nothing_is_unknown() {
    of_two(0, "sent", 1).keeps(Promise::Calm);
    of_two(1, "sent", 1).keeps(Promise::Calm);
}

#[test]
#[should_panic(expected = "message <third>: no send of the ledger")]
fn a_message_that_the_ledger_does_not_know_is_told() {
    Truth::join(Vec::new(), ["<third@acme.test>".to_owned()]).keeps(Promise::Resend);
}
