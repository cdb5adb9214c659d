//! Lines: who waits for an account that has no slot left holds up nobody who waits for another, and is not asked meanwhile.
//!
//! Not responsible for how many slots an account has (`slots`). To add a case of who stands where: a case here.

use std::collections::HashSet;
use std::time::Duration;

use domain::email_account::AccountStatus;
use domain::ids::{EmailAccountId, EnrollmentId};
use domain::time::Timestamp;
use engines::store::plan::{Hint, PlanRequest};
use engines::value::Value;
use engines::{Store, values};

use super::scene::{DAY, HOUR, MINUTE, Scene, account};
use crate::engine::{Engine, NOW, with_store};
use crate::on_every_engine;

/// In ana's line, and in bob's behind it.
const OF_ANA: usize = 60;
const OF_BOB: usize = 30;

/// Ana has one mail a day; leads of both wait for their second mail, ana's in the order of their ids, bob's last.
async fn two_lines(store: Store) -> (Scene, [EmailAccountId; 2], Vec<EnrollmentId>) {
    let f = Scene::started(store, OF_ANA + OF_BOB, |s| {
        s.accounts[0].daily_limit = Some(1);
        s.accounts.push(account("bob@acme.test"));
    })
    .await;
    let accounts: Vec<EmailAccountId> = f.column("SELECT id AS x FROM email_accounts ORDER BY email").await;
    let ids: Vec<EnrollmentId> = f.column("SELECT id AS x FROM campaign_leads ORDER BY id").await;
    for (n, id) in ids.iter().enumerate() {
        let due = NOW - HOUR + Duration::from_secs(n as u64);
        let account = accounts[usize::from(n >= OF_ANA)];
        put(&f, *id, values![account, due, 1]).await;
    }
    (f, [accounts[0], accounts[1]], ids)
}

/// Gives an enrollment its account, due time and the last step that it was sent.
async fn put(f: &Scene, id: EnrollmentId, place: Vec<Value>) {
    let update = "UPDATE campaign_leads SET email_account_id = $2, due_at = $3, highest_sent_step = $4::bigint, next_step_order = $4::bigint + 1 WHERE id = $1";
    f.write(update, values![id].into_iter().chain(place).collect()).await;
}

fn a_line_without_slots_is_not_read_to_its_end(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, [ana, bob], ids) = two_lines(store).await;
        let leads = async |at: Timestamp| f.plan_within(MINUTE, at).await;
        let page = leads(NOW).await;
        let of = |account| page.planned.iter().filter(|hint| hint.email_account_id == account).count();
        assert_eq!((of(ana), of(bob), page.next), (1, OF_BOB, None));
        assert_eq!(page.deferred, 1, "the first of those who wait is asked, and nobody behind him");
        // The first in the line has the next slot, however late it came to be asked.
        let next = leads(NOW + DAY).await;
        assert_eq!(next.planned.len(), 1);
        let open = "SELECT enrollment_id AS x FROM sends WHERE open ORDER BY account_day DESC LIMIT 1";
        assert_eq!(f.column::<EnrollmentId>(open).await, [ids[1]]);
    });
}

/// A turn in pages of twenty: whom it plans, how many it asked in vain, and in how many pages.
async fn turn(f: &Scene) -> (Vec<Hint>, u64, usize) {
    let (mut planned, mut deferred, mut pages, mut behind) = (Vec::new(), 0, 0, None);
    loop {
        let page = f.plan_page(PlanRequest { limit: 20, behind, ..f.plan_request(MINUTE, NOW) }).await;
        (deferred, pages) = (deferred + page.deferred, pages + 1);
        planned.extend(page.planned);
        behind = page.next;
        if behind.is_none() {
            return (planned, deferred, pages);
        }
    }
}

/// Who was refused in one page of a turn stands before those of the next.
fn a_line_stays_closed_in_the_next_page_of_its_turn(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, [_, bob], _) = two_lines(store).await;
        let (planned, deferred, pages) = turn(&f).await;
        let of_bob = planned.iter().filter(|hint| hint.email_account_id == bob).count();
        assert_eq!((planned.len(), of_bob, deferred, pages), (1 + OF_BOB, OF_BOB, 1, 3));
    });
}

/// What the first page was refused may have been given back before the second one: nobody rests for that unasked.
fn a_campaign_rests_by_one_page_alone(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, [_, bob], _) = two_lines(store).await;
        f.write("UPDATE email_accounts SET daily_limit = 25 WHERE id = $1", values![bob]).await;
        let is_due = async || !f.due_campaigns(NOW).await.is_empty();
        let (planned, deferred, pages) = turn(&f).await;
        assert_eq!((planned.len(), deferred, pages), (1 + 25, 2, 3));
        assert!(is_due().await, "ana was asked in the first page alone");
        assert_eq!(f.plan_within(MINUTE, NOW).await.deferred, 2);
        assert!(!is_due().await);
    });
}

/// Whoever is new may leave an account that may not send: those who were written to and wait for it hold him not up.
fn who_is_new_stands_in_a_line_of_his_own(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, [ana, bob], ids) = two_lines(store).await;
        f.tenant().set_account_status(ana, AccountStatus::Paused, None, NOW).await.unwrap();
        put(&f, ids[OF_ANA - 1], values![ana, NOW, 0]).await;
        put(&f, ids[OF_ANA - 2], values![Value::Null, NOW, 0]).await;
        let page = f.plan_within(MINUTE, NOW).await;
        let of = |account| page.planned.iter().filter(|hint| hint.email_account_id == account).count();
        assert_eq!((of(ana), of(bob), page.deferred), (0, OF_BOB + 2, 1));
    });
}

/// They were taken from a stopped one, and wait for any other.
fn follow_ups_without_an_account_are_read_beside_a_closed_line(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, _, ids) = two_lines(store).await;
        put(&f, ids[OF_ANA + OF_BOB - 1], values![Value::Null, NOW, 1]).await;
        let page = f.plan_within(MINUTE, NOW).await;
        assert_eq!((page.planned.len(), page.deferred), (1 + OF_BOB, 1));
    });
}

/// A recurring campaign's leads keep their accounts and are new in each round: there is a line of these too.
fn a_line_of_new_leads_is_not_read_to_its_end_either(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, [ana, _], ids) = two_lines(store).await;
        for (n, id) in ids[..OF_ANA].iter().enumerate() {
            put(&f, *id, values![ana, NOW - HOUR + Duration::from_secs(n as u64), 0]).await;
        }
        let page = f.plan_within(MINUTE, NOW).await;
        assert_eq!((page.planned.len(), page.deferred), (1 + OF_BOB, 1));
    });
}

/// Parts that several lines give together leave nobody out, and bring nobody twice.
fn open_lines_are_read_as_one(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, [_, bob], ids) = two_lines(store).await;
        for (n, id) in ids[OF_ANA..].iter().enumerate() {
            let account = if n % 3 == 0 { Value::Null } else { bob.into() };
            put(&f, *id, values![account, NOW - Duration::from_secs(n as u64 % 7), i64::from(n % 3 > 1)]).await;
        }
        let page = f.plan_within(MINUTE, NOW).await;
        let leads: HashSet<_> = page.planned.iter().map(|hint| hint.lead_id).collect();
        assert_eq!((page.planned.len(), leads.len(), page.next), (1 + OF_BOB, 1 + OF_BOB, None));
    });
}

/// A step that names its account is served from that one, whichever its lead keeps.
fn where_steps_name_accounts_all_are_asked(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, [ana, bob], _) = two_lines(store).await;
        f.write("UPDATE campaign_sequence_steps SET email_account_id = $1 WHERE step_order = 2", values![ana]).await;
        let page = f.plan_within(MINUTE, NOW).await;
        assert!(page.planned.len() == 1 && page.planned.iter().all(|hint| hint.email_account_id != bob));
        assert_eq!(page.deferred as usize, OF_ANA + OF_BOB - 1);
    });
}

on_every_engine! {
    follow_ups_without_an_account_are_read_beside_a_closed_line
    a_line_without_slots_is_not_read_to_its_end
    a_line_stays_closed_in_the_next_page_of_its_turn
    a_campaign_rests_by_one_page_alone
    who_is_new_stands_in_a_line_of_his_own
    a_line_of_new_leads_is_not_read_to_its_end_either
    open_lines_are_read_as_one
    where_steps_name_accounts_all_are_asked
}
