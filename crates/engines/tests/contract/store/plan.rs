//! P1: planning, alone and by two at once.

use domain::time::Timestamp;
use engines::Store;
use engines::values;

use super::scene::{DAY, HOUR, MINUTE, SECOND, Scene};
use crate::engine::{Engine, NOW, with_store};
use crate::on_every_engine;

fn planning_records_a_send_per_lead_and_reserves_its_slot(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 3, |_| {}).await;
        let page = f.plan(NOW).await;
        assert_eq!((page.planned.len(), page.skipped, page.next), (3, 0, None));
        assert_eq!(f.sends().await, ["planned"; 3]);
        assert_eq!(f.account_days().await, (3, 0));
        assert_eq!(f.campaign_days().await, (3, 0));
        assert!(f.plan(NOW).await.planned.is_empty(), "an enrollment waits for its open send");
    });
}

fn fp03_two_planners_at_once_plan_each_lead_once(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 40, |_| {}).await;
        let (a, b) = tokio::join!(f.plan(NOW), f.plan(NOW));
        let mut ids: Vec<_> = a.planned.iter().chain(&b.planned).map(|hint| hint.lead_id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!((ids.len(), a.planned.len() + b.planned.len()), (40, 40));
        assert_eq!(f.sends().await.len(), 40);
        assert_eq!(f.account_days().await, (40, 0));
    });
}

fn two_planners_at_once_never_exceed_an_accounts_cap(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 10, |s| s.accounts[0].daily_limit = Some(3)).await;
        let (a, b) = tokio::join!(f.plan(NOW), f.plan(NOW));
        assert_eq!(a.planned.len() + b.planned.len(), 3);
        assert_eq!(f.account_days().await, (3, 0));
        let full = f.plan(NOW).await;
        assert!(full.planned.is_empty() && full.deferred > 0, "who was looked at waits");
        assert_eq!(f.plan(NOW + DAY).await.planned.len(), 3, "the next day has its own");
    });
}

fn whoever_waited_for_a_cap_until_the_next_day_is_not_late(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 2, |s| {
            s.accounts[0].daily_limit = Some(1);
            s.settings.max_lateness = Some(2.0);
        })
        .await;
        assert_eq!(f.plan(NOW).await.planned.len(), 1);
        let midnight = NOW + 12 * HOUR;
        assert!(f.due_campaigns(midnight - HOUR).await.is_empty(), "nobody looks until then");
        let page = f.plan(midnight).await;
        assert_eq!((page.planned.len(), page.skipped), (1, 0));
        // A scheduler that was away then for longer than that has late ones.
        assert_eq!(f.enroll(2..3).await, 1);
        let page = f.plan(midnight + DAY + 3 * HOUR).await;
        assert_eq!((page.planned.len(), page.skipped), (0, 1));
    });
}

fn two_planners_at_once_never_exceed_a_campaigns_cap(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 10, |s| {
            s.settings.daily_limit = Some(4);
            s.accounts.push(super::scene::account("bob@acme.test"));
        })
        .await;
        let (a, b) = tokio::join!(f.plan(NOW), f.plan(NOW));
        assert_eq!(a.planned.len() + b.planned.len(), 4);
        assert_eq!(f.campaign_days().await, (4, 0));
    });
}

fn a_gap_gives_slots_one_after_the_other(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 20, |s| s.accounts[0].min_gap_seconds = 60).await;
        f.plan(NOW).await;
        let slots: Vec<Timestamp> = f.column("SELECT not_before AS x FROM sends ORDER BY not_before").await;
        assert_eq!(slots[0], NOW);
        assert!((7..=11).contains(&slots.len()), "the horizon of ten minutes bounds them: {}", slots.len());
        assert!(slots.windows(2).all(|pair| pair[1].since(pair[0]) >= MINUTE), "{slots:?}");
        let later = slots[slots.len() - 1];
        f.plan(later).await;
        let slots: Vec<Timestamp> = f.column("SELECT not_before AS x FROM sends ORDER BY not_before").await;
        assert!(slots.windows(2).all(|pair| pair[1].since(pair[0]) >= MINUTE), "across pages: {slots:?}");
    });
}

fn a_closed_window_holds_the_whole_campaign_until_it_opens(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 1, |s| s.settings.send_time_start = "15:00".parse().unwrap()).await;
        assert!(f.plan(NOW).await.planned.is_empty());
        assert_eq!(f.one::<Timestamp>("SELECT due_at AS x FROM campaign_leads").await, NOW, "no row was written");
        assert!(f.due_campaigns(NOW + 2 * HOUR).await.is_empty());
        assert_eq!(f.due_campaigns(NOW + 3 * HOUR).await.len(), 1);
        assert_eq!(f.plan(NOW + 3 * HOUR).await.planned[0].not_before, NOW + 3 * HOUR);
    });
}

fn a_window_of_the_leads_own_zone_moves_its_due_time(engine: Engine) {
    with_store(engine, async |store: Store| {
        let local = |s: &mut engines::store::setup::Setup| {
            s.settings.send_time_start = "15:00".parse().unwrap();
            s.settings.timezone_strategy = domain::campaign::TimezoneStrategy::RecipientLocal;
        };
        let f = Scene::started(store, 1, local).await;
        assert!(f.plan(NOW).await.planned.is_empty());
        assert_eq!(f.one::<Timestamp>("SELECT due_at AS x FROM campaign_leads").await, NOW + 3 * HOUR);
        assert_eq!(f.plan(NOW + 3 * HOUR).await.planned[0].not_before, NOW + 3 * HOUR);
    });
}

fn an_excluded_lead_gets_a_skipped_row_and_its_enrollment_ends(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 1, |_| {}).await;
        f.write("UPDATE leads SET status = 'complained'", vec![]).await;
        let page = f.plan(NOW).await;
        assert_eq!((page.planned.len(), page.skipped), (0, 1));
        assert_eq!(f.one::<String>("SELECT reason AS x FROM sends WHERE status = 'skipped'").await, "lead_complained");
        assert_eq!(f.one::<String>("SELECT stop_reason AS x FROM campaign_leads").await, "lead_complained");
        assert_eq!(f.account_days().await, (0, 0), "no slot is taken");
    });
}

fn a_suppressed_address_in_another_case_is_excluded(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 1, |_| {}).await;
        f.write("UPDATE leads SET email = 'Lead0@Example.test'", vec![]).await;
        let sql = "INSERT INTO suppression_list (id, email, reason, source, added_at, created_at, updated_at)
            VALUES ($1, 'lead0@example.test', 'complaint', 'platform', $2, $2, $2)";
        f.write(sql, values![crate::engine::new_id(), NOW]).await;
        assert_eq!(f.plan(NOW).await.skipped, 1);
        assert_eq!(f.one::<String>("SELECT reason AS x FROM sends").await, "suppressed");
    });
}

fn a_send_that_exists_already_is_waited_for_or_passed(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        let again = "UPDATE campaign_leads SET due_at = $1, next_step_order = 1";
        let place = async || {
            let due = f.column::<Option<Timestamp>>("SELECT due_at AS x FROM campaign_leads").await.remove(0);
            (f.one::<i64>("SELECT next_step_order AS x FROM campaign_leads").await, due)
        };
        f.write(again, values![NOW]).await;
        assert!(f.plan(NOW).await.planned.is_empty());
        assert_eq!((place().await, f.account_days().await), ((1, None), (1, 0)), "it is still to leave");
        f.send(&job, NOW).await;
        f.write(again, values![NOW]).await;
        assert!(f.plan(NOW).await.planned.is_empty());
        assert_eq!((place().await, f.account_days().await), ((2, Some(NOW + 48 * HOUR)), (0, 1)));
        assert_eq!(f.column::<domain::ids::SendId>("SELECT id AS x FROM sends").await, [job.send_id]);
    });
}

fn a_draft_and_a_paused_campaign_plan_nothing(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::draft(store, |_| {}).await;
        f.enroll(0..1).await;
        assert!(f.plan(NOW).await.planned.is_empty());
        assert!(f.due_campaigns(NOW).await.is_empty());
        f.tenant().start_campaign(f.campaign_id, NOW).await.unwrap();
        assert!(f.tenant().pause_campaign(f.campaign_id, NOW).await.unwrap());
        assert!(f.plan(NOW).await.planned.is_empty());
        assert!(f.tenant().resume_campaign(f.campaign_id, NOW).await.unwrap());
        assert_eq!(f.due_campaigns(NOW).await, [(f.tenant_id, f.campaign_id)]);
        assert_eq!(f.plan(NOW).await.planned.len(), 1);
    });
}

/// An edit has put its start off since the turn began that plans it.
fn a_campaign_does_not_begin_before_its_start(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::draft(store, |s| s.scheduled_at = Some(NOW + HOUR)).await;
        f.enroll(0..1).await;
        f.tenant().start_campaign(f.campaign_id, NOW).await.unwrap();
        let status = async || f.one::<String>("SELECT status AS x FROM campaigns").await;
        assert!(f.plan(NOW).await.planned.is_empty());
        assert_eq!(status().await, "scheduled");
        f.plan(NOW + HOUR).await;
        assert_eq!(status().await, "sending");
    });
}

fn an_account_that_left_the_pool_serves_its_leads_to_the_end(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, fence) = Scene::one_dot(store, |s| s.accounts.push(super::scene::account("bob@acme.test"))).await;
        f.settled(&job, fence, domain::settle::Outcome::Accepted, NOW).await;
        let own = f.account_of(&job);
        f.write("DELETE FROM campaign_email_accounts WHERE email_account_id = $1", engines::values![own]).await;
        let follow_up = f.plan(NOW + 48 * HOUR).await.planned.remove(0);
        assert_eq!(follow_up.email_account_id, own, "a lead keeps its account");
    });
}

fn a_campaign_in_which_nobody_is_due_is_only_seen_from_time_to_time(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 1, |_| {}).await;
        let is_planned = async |now: Timestamp| !f.due_campaigns(now).await.is_empty();
        assert!(is_planned(NOW).await, "its lead is due");
        assert_eq!(f.plan(NOW).await.planned.len(), 1);
        assert!(!is_planned(NOW).await, "its lead waits for an open send");
        let seen = async || f.one::<Timestamp>("SELECT seen_until AS x FROM campaigns").await;
        assert_eq!(seen().await, NOW);
        let later = NOW + 10 * SECOND;
        assert!(!is_planned(later - SECOND).await && is_planned(later).await);
        f.plan(later).await;
        assert_eq!(seen().await, later);
        f.write("UPDATE campaign_leads SET due_at = $1", values![later + 11 * MINUTE]).await;
        assert!(!is_planned(later).await, "due behind the horizon");
        let before = later + MINUTE - SECOND;
        f.plan(before).await;
        assert!(!is_planned(before).await, "just seen");
        assert!(is_planned(later + MINUTE).await, "due at its end");
        f.write("UPDATE campaigns SET status = 'scheduled'", vec![]).await;
        assert!(is_planned(before).await, "it is to start");
        f.write("UPDATE campaigns SET status = 'sending', seen_until = $1", values![before + HOUR]).await;
        assert!(is_planned(before).await, "its rest was ended early");
        f.write("UPDATE campaigns SET seen_until = NULL", vec![]).await;
        assert!(is_planned(before).await, "no turn has seen it");
    });
}

/// Another program enrolled leads of another tenant: the first parts of the page hold nobody else.
fn enrollments_of_foreign_leads_hold_up_nobody(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 60, |_| {}).await;
        let stranger = f.stranger_id().await;
        f.write("UPDATE leads SET tenant_id = $1 WHERE id IN (SELECT lead_id FROM campaign_leads ORDER BY due_at, id LIMIT 40)", values![stranger]).await;
        let page = f.plan(NOW).await;
        assert_eq!((page.planned.len(), page.deferred, page.next), (20, 0, None));
    });
}

on_every_engine! {
    enrollments_of_foreign_leads_hold_up_nobody
    a_campaign_does_not_begin_before_its_start
    an_account_that_left_the_pool_serves_its_leads_to_the_end
    planning_records_a_send_per_lead_and_reserves_its_slot
    a_campaign_in_which_nobody_is_due_is_only_seen_from_time_to_time
    fp03_two_planners_at_once_plan_each_lead_once
    two_planners_at_once_never_exceed_an_accounts_cap
    two_planners_at_once_never_exceed_a_campaigns_cap
    whoever_waited_for_a_cap_until_the_next_day_is_not_late
    a_gap_gives_slots_one_after_the_other
    a_closed_window_holds_the_whole_campaign_until_it_opens
    a_window_of_the_leads_own_zone_moves_its_due_time
    an_excluded_lead_gets_a_skipped_row_and_its_enrollment_ends
    a_suppressed_address_in_another_case_is_excluded
    a_send_that_exists_already_is_waited_for_or_passed
    a_draft_and_a_paused_campaign_plan_nothing
}
