//! First steps over some hours: from the enrollment on, anew from the start of a draft, and by an edited wait or spread.

use domain::first_step::FirstStep;
use domain::ids::LeadId;
use domain::time::Timestamp;
use engines::Store;
use engines::store::leads::NewLead;

use super::scene::{DAY, HOUR, Scene};
use crate::engine::{Engine, NOW, new_id, with_store};
use crate::on_every_engine;

/// The due times of all enrollments, and those that `first` says, each in order of leads.
async fn due_times(f: &Scene, first: &FirstStep) -> (Vec<Timestamp>, Vec<Timestamp>) {
    let found = f.column("SELECT due_at AS x FROM campaign_leads ORDER BY lead_id").await;
    let leads: Vec<LeadId> = f.column("SELECT lead_id AS x FROM campaign_leads ORDER BY lead_id").await;
    (found, leads.into_iter().map(|lead| first.due_of(lead).at).collect())
}

fn leads_are_due_over_the_spread_from_their_enrollment_on(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 0, |s| s.settings.first_step_spread_hours = 24.0).await;
        // Some are known before: their ids are found, those of the others are made.
        let known = (0..20).map(|n| NewLead { email: format!("lead{n}@example.test"), ..NewLead::default() });
        f.tenant().import_leads(None, known.collect(), &new_id, NOW).await.unwrap();
        assert_eq!(f.enroll(0..60).await, 60);
        let (found, expected) = due_times(&f, &f.first_step(NOW).await).await;
        assert_eq!(found, expected);
        let by_noon = found.iter().filter(|due| **due <= NOW + 12 * HOUR).count();
        assert!((10..50).contains(&by_noon), "half of them: {by_noon}");
        assert_eq!(f.plan_within(HOUR, NOW + 11 * HOUR).await.planned.len(), by_noon);
        assert_eq!(f.plan_within(HOUR, NOW + 23 * HOUR).await.planned.len(), 60 - by_noon);
    });
}

fn the_leads_of_a_draft_are_due_from_its_start_on(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::draft(store, |s| s.settings.first_step_spread_hours = 24.0).await;
        f.enroll(0..2100).await;
        let start = NOW + 3 * DAY;
        let first = f.first_step(start).await;
        assert_eq!(f.tenant().spread_first_steps(&first, start).await.unwrap(), 2100, "more than a page");
        let (found, expected) = due_times(&f, &first).await;
        assert_eq!(found, expected);
        assert_eq!(f.tenant().spread_first_steps(&first, start).await.unwrap(), 0, "all were moved already");
        assert!(f.tenant().start_campaign(f.campaign_id, start).await.unwrap());
        let again = f.first_step(start + DAY).await;
        assert_eq!(f.tenant().spread_first_steps(&again, start + DAY).await.unwrap(), 0, "it is no draft any more");
    });
}

fn waiting_for_the_start_is_no_lateness(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::draft(store, |s| s.settings.max_lateness = Some(1.0)).await;
        f.enroll(0..1).await;
        let start = NOW + 3 * DAY;
        assert!(f.tenant().start_campaign(f.campaign_id, start).await.unwrap());
        let page = f.plan(start).await;
        assert_eq!((page.planned.len(), page.skipped), (1, 0));
    });
}

fn an_edited_wait_or_spread_counts_for_each_lead_who_waits(engine: Engine) {
    with_store(engine, async |store: Store| {
        let mut f = Scene::started(store, 0, |s| s.settings.first_step_spread_hours = 24.0).await;
        f.enroll(0..2100).await;
        f.edit(NOW, |s| s.steps[0].wait_hours = 5.0).await;
        let (found, expected) = due_times(&f, &f.first_step(NOW).await).await;
        assert_eq!(found, expected);
        f.edit(NOW, |s| s.settings.first_step_spread_hours = 6.0).await;
        let (found, expected) = due_times(&f, &f.first_step(NOW).await).await;
        assert_eq!((found, expected.iter().max() < Some(&(NOW + 11 * HOUR))), (expected.clone(), true));
        f.edit(NOW, |s| s.settings.first_step_spread_hours = 0.0).await;
        let (found, _) = due_times(&f, &f.first_step(NOW).await).await;
        assert_eq!(found, vec![NOW + 5 * HOUR; 2100]);
    });
}

/// Each lead has its own slot, so a longer wait puts those off that would go too early.
fn planned_first_mails_are_put_off_by_the_spread_of_each(engine: Engine) {
    with_store(engine, async |store: Store| {
        let mut f = Scene::started(store, 0, |s| s.settings.first_step_spread_hours = 24.0).await;
        f.enroll(0..60).await;
        assert_eq!(f.plan_within(24 * HOUR, NOW).await.planned.len(), 60);
        f.edit(NOW, |s| s.steps[0].wait_hours = 1.0).await;
        let (found, expected) = due_times(&f, &f.first_step(NOW).await).await;
        assert_eq!((found, f.account_days().await), (expected, (0, 0)));
        assert_eq!(f.plan_within(25 * HOUR, NOW).await.planned.len(), 60);
        assert_eq!(f.sends().await, vec!["planned"; 60]);
    });
}

on_every_engine! {
    leads_are_due_over_the_spread_from_their_enrollment_on
    the_leads_of_a_draft_are_due_from_its_start_on
    waiting_for_the_start_is_no_lateness
    an_edited_wait_or_spread_counts_for_each_lead_who_waits
    planned_first_mails_are_put_off_by_the_spread_of_each
}
