//! What ends a lead's sequence, in one campaign and in several at once, and that importing the lead again does not begin it anew.
//!
//! At planning and at the gate. What unsubscribing does to a planned mail stands in `tracking` and `dot`, a bounce's other effects
//! in `apply`, suppressions in `plan`, `dot` and `races`. To add a rule: a line in `RULES`, or a case.

use domain::settle::{Outcome, ReplyAction};
use domain::step::{ConditionType, StepType};
use domain::time::Timestamp;
use engines::Store;
use engines::store::dot::DotAnswer;
use engines::store::setup::{Setup, StepSetup};
use engines::value::Value;
use engines::values;

use super::scene::{DAY, HOUR, Scene, acme, apply_setup, email_step};
use crate::engine::{Engine, NOW, new_id, with_store};
use crate::on_every_engine;

/// How another program or the inbox excludes a lead, the reason that is shown, and whether the gate sees it too. A reply is looked
/// for before the dialogue (`domain::plan::last_look`).
const RULES: [(&str, &str, bool); 5] = [
    ("UPDATE leads SET status = 'unsubscribed' WHERE email = 'lead0@example.test'", "lead_unsubscribed", true),
    ("UPDATE leads SET status = 'bounced' WHERE email = 'lead0@example.test'", "lead_bounced", true),
    ("UPDATE leads SET status = 'complained' WHERE email = 'lead0@example.test'", "lead_complained", true),
    ("UPDATE leads SET status = 'replied' WHERE email = 'lead0@example.test'", "lead_replied", false),
    (
        "INSERT INTO suppression_list (id, tenant_id, email, reason, source, added_at, created_at, updated_at)
            VALUES ($1, $2, 'lead0@example.test', 'by hand', 'api', $3, $3, $3)",
        "suppressed",
        true,
    ),
];

/// Does what the rule is about.
async fn exclude(f: &Scene, sql: &'static str) {
    let params: Vec<Value> = if sql.starts_with("INSERT") { values![new_id(), f.tenant_id, NOW] } else { vec![] };
    f.write(sql, params).await;
}

/// Undoes it: the lead may be mailed again.
async fn forgive(f: &Scene, sql: &'static str) {
    let undo = if sql.starts_with("INSERT") {
        "DELETE FROM suppression_list"
    } else {
        "UPDATE leads SET status = 'active' WHERE status <> 'active'"
    };
    f.write(undo, vec![]).await;
}

/// The campaign with a lead whose first mail is sent.
async fn first_sent(store: Store, change: impl FnOnce(&mut Setup)) -> Scene {
    let f = Scene::started(store, 1, change).await;
    assert_eq!(f.send_all(NOW).await.len(), 1);
    f
}

fn a_lead_that_waits_gets_no_mail_any_more(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = first_sent(store, |_| {}).await;
        let begin_over =
            "UPDATE campaign_leads SET status = 'active', stop_reason = NULL, next_step_order = 2, due_at = $1";
        for (sql, reason, _) in RULES {
            exclude(&f, sql).await;
            let page = f.plan(NOW + 48 * HOUR).await;
            assert_eq!((page.planned.len(), page.skipped), (0, 1), "{reason}");
            let skipped: String = f.one("SELECT reason AS x FROM sends WHERE status = 'skipped'").await;
            let stopped: String = f.one("SELECT stop_reason AS x FROM campaign_leads WHERE status = 'stopped'").await;
            assert_eq!((skipped.as_str(), stopped.as_str()), (reason, reason));
            assert!(f.plan(NOW + 30 * DAY).await.planned.is_empty(), "{reason}");
            forgive(&f, sql).await;
            f.write("DELETE FROM sends WHERE status = 'skipped'", vec![]).await;
            f.write(begin_over, values![NOW + 48 * HOUR]).await;
        }
        assert_eq!(f.plan(NOW + 48 * HOUR).await.planned.len(), 1, "without any of them it would have got it");
    });
}

fn a_lead_whose_mail_is_in_hand_gets_no_dot(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        for (sql, reason, _) in RULES.into_iter().filter(|(_, _, at_the_gate)| *at_the_gate) {
            exclude(&f, sql).await;
            assert_eq!(f.dot(&job, NOW).await, DotAnswer::Refused, "{reason}");
            assert!(f.refetch(&job, NOW).await.is_none(), "{reason}");
            forgive(&f, sql).await;
        }
        f.granted(&job, NOW).await;
    });
}

fn a_reply_ends_nothing_where_the_campaign_goes_on_all_the_same(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = first_sent(store, |s| s.settings.stop_on_reply = false).await;
        f.write("UPDATE leads SET status = 'replied'", vec![]).await;
        assert_eq!(f.send_all(NOW + 48 * HOUR).await, ["Following up"]);
    });
}

/// A mail, a condition that ends the sequence where nobody opened it, another mail.
fn with_stop(setup: &mut Setup) {
    let condition = StepSetup {
        step_type: StepType::Condition,
        condition: ConditionType::Opened.into(),
        stop_if_false: true,
        template: None,
        ..email_step("", 24.0)
    };
    setup.steps.insert(1, condition);
}

fn a_false_condition_with_stop_ends_the_sequence(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = first_sent(store, with_stop).await;
        let page = f.plan(NOW + 24 * HOUR).await;
        assert_eq!((page.planned.len(), page.skipped), (0, 0), "no mail was left out: the sequence is over");
        assert_eq!(f.enrollment_status().await, "stopped");
        assert_eq!(f.one::<String>("SELECT stop_reason AS x FROM campaign_leads").await, "condition_false");
        assert!(f.plan(NOW + 30 * DAY).await.planned.is_empty());
        assert_eq!(f.store.system().complete_campaigns(NOW + 30 * DAY).await.unwrap(), [f.campaign_id]);
    });
}

/// Another campaign of the same tenant, with the same lead.
async fn beside(f: &Scene) -> Scene {
    let setup = Setup { campaign: "Spring".into(), ..acme() };
    let report = apply_setup(&f.store, &setup).await.unwrap();
    let (store, tenant_id, campaign_id) = (f.store.clone(), report.tenant_id, report.campaign_id);
    let other = Scene { store, setup, tenant_id, campaign_id };
    assert_eq!(other.enroll(0..1).await, 1);
    assert!(other.tenant().start_campaign(campaign_id, NOW).await.unwrap());
    other
}

async fn statuses(f: &Scene) -> Vec<String> {
    f.column("SELECT status AS x FROM campaign_leads ORDER BY id").await
}

fn a_lead_in_two_campaigns_goes_through_each_on_its_own(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = first_sent(store, |_| {}).await;
        let other = beside(&f).await;
        assert_eq!(f.one::<i64>("SELECT COUNT(*) AS x FROM leads").await, 1);
        assert_eq!(other.send_all(NOW + DAY).await, ["Hello"]);
        let due: Vec<Timestamp> = f.column("SELECT due_at AS x FROM campaign_leads ORDER BY due_at").await;
        assert_eq!(due, [NOW + 48 * HOUR, NOW + 72 * HOUR]);
        assert_eq!(f.send_all(NOW + 48 * HOUR).await, ["Following up"]);
        assert_eq!(statuses(&f).await, ["completed", "active"]);
        assert!(other.plan(NOW + 48 * HOUR).await.planned.is_empty());
        assert_eq!(other.send_all(NOW + 72 * HOUR).await, ["Following up"]);
        assert_eq!((f.sends().await, statuses(&f).await), (vec!["sent".into(); 4], vec!["completed".into(); 2]));
    });
}

fn what_ends_one_campaign_for_a_lead_ends_the_other_too(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = first_sent(store, |_| {}).await;
        let other = beside(&f).await;
        let job = other.jobs(NOW).await.remove(0);
        let fence = other.granted(&job, NOW).await;
        other.settled(&job, fence, Outcome::Refused(ReplyAction::BounceHard), NOW).await;
        assert_eq!(statuses(&f).await, ["stopped"; 2]);
        assert!(f.plan(NOW + 48 * HOUR).await.planned.is_empty());
    });
}

fn an_unsubscribe_from_one_campaign_holds_in_the_other(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = first_sent(store, |_| {}).await;
        let other = beside(&f).await;
        let job = other.jobs(NOW).await.remove(0);
        other.unsubscribe(&job, NOW).await;
        assert_eq!(statuses(&f).await, ["stopped"; 2]);
        assert_eq!(other.dot(&job, NOW).await, DotAnswer::Refused);
        assert!(f.plan(NOW + 48 * HOUR).await.planned.is_empty());
    });
}

fn importing_a_lead_again_begins_nothing_anew(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = first_sent(store, with_stop).await;
        let other = beside(&f).await;
        other.send_all(NOW).await;
        other.send_all(NOW + 48 * HOUR).await;
        f.plan(NOW + 48 * HOUR).await;
        assert_eq!(statuses(&f).await, ["stopped", "completed"]);
        assert_eq!(f.store.system().complete_campaigns(NOW + 48 * HOUR).await.unwrap().len(), 2);
        for campaign in [&f, &other] {
            assert_eq!(campaign.enroll(0..1).await, 0);
            assert!(campaign.plan(NOW + 60 * DAY).await.planned.is_empty());
        }
        assert_eq!(statuses(&f).await, ["stopped", "completed"]);
        assert_eq!(f.column::<String>("SELECT status AS x FROM campaigns").await, ["completed"; 2]);
    });
}

on_every_engine! {
    a_lead_that_waits_gets_no_mail_any_more
    a_lead_whose_mail_is_in_hand_gets_no_dot
    a_reply_ends_nothing_where_the_campaign_goes_on_all_the_same
    a_false_condition_with_stop_ends_the_sequence
    a_lead_in_two_campaigns_goes_through_each_on_its_own
    what_ends_one_campaign_for_a_lead_ends_the_other_too
    an_unsubscribe_from_one_campaign_holds_in_the_other
    importing_a_lead_again_begins_nothing_anew
}
