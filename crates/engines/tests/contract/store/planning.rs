//! Setup and planning: nothing twice, limits exact.

use domain::ids::TenantId;
use engines::Store;
use engines::store::setup::SetupError;

use super::fixture::{DAY, Fixture, apply_setup, setup};
use crate::engine::{Engine, NOW, new_id, with_store};
use crate::on_every_engine;

fn setting_up_again_doubles_nothing(engine: Engine) {
    with_store(engine, async |store: Store| {
        let first = apply_setup(&store, &setup("Acme", 2, None)).await.unwrap();
        let again = apply_setup(&store, &setup("Acme", 2, None)).await.unwrap();
        assert_eq!((first.tenant_id, first.campaign_id), (again.tenant_id, again.campaign_id));
        let other = apply_setup(&store, &setup("Other", 2, None)).await.unwrap();
        assert_ne!(first.campaign_id, other.campaign_id);
        assert_eq!(store.system().find_campaigns("Welcome", None).await.unwrap().len(), 2);
        assert_eq!(store.system().find_campaigns("Welcome", Some("Other")).await.unwrap().len(), 1);
    });
}

fn a_changed_sequence_is_refused_unless_it_is_meant(engine: Engine) {
    with_store(engine, async |store: Store| {
        let report = apply_setup(&store, &setup("Acme", 2, None)).await.unwrap();
        let refused = apply_setup(&store, &setup("Acme", 3, None)).await.unwrap_err();
        assert!(matches!(refused, SetupError::StepsChanged { .. }));
        let steps =
            || async { store.tenant(report.tenant_id).get_campaign(report.campaign_id).await.unwrap().plan.steps };
        assert_eq!(steps().await.len(), 2, "nothing was written");
        let meant = engines::store::setup::Setup { update: true, ..setup("Acme", 3, None) };
        apply_setup(&store, &meant).await.unwrap();
        assert_eq!(steps().await.len(), 3);
    });
}

fn leads_are_found_by_address_without_regard_to_case(engine: Engine) {
    with_store(engine, async |store: Store| {
        let fixture = Fixture::new(store, 3, None).await;
        assert_eq!(fixture.import(5).await, 2, "two are new");
        assert_eq!(fixture.plan(NOW).await.planned.len(), 5);
    });
}

fn planning_again_plans_nothing(engine: Engine) {
    with_store(engine, async |store: Store| {
        let fixture = Fixture::new(store, 10, None).await;
        assert_eq!(fixture.plan(NOW).await.planned.len(), 10);
        assert_eq!(fixture.plan(NOW).await.planned.len(), 0);
        let report = fixture.report().await;
        assert_eq!((report.pending, report.planned()), (10, 10));
    });
}

fn two_planners_at_once_share_without_overlap(engine: Engine) {
    with_store(engine, async |store: Store| {
        let fixture = Fixture::new(store, 50, None).await;
        let (a, b) = tokio::join!(fixture.plan(NOW), fixture.plan(NOW));
        let c = fixture.plan(NOW).await;
        assert_eq!(a.planned.len() + b.planned.len() + c.planned.len(), 50);
        assert_eq!(fixture.report().await.planned(), 50);
    });
}

fn a_daily_limit_is_never_exceeded_by_one(engine: Engine) {
    with_store(engine, async |store: Store| {
        let fixture = Fixture::new(store, 10, Some(4)).await;
        let (a, b) = tokio::join!(fixture.plan(NOW), fixture.plan(NOW));
        assert_eq!(a.planned.len() + b.planned.len(), 4);
        assert_eq!(fixture.plan(NOW).await.planned.len(), 0);
        assert_eq!(fixture.plan(NOW + DAY).await.planned.len(), 4, "the next day has room again");
    });
}

fn a_foreign_tenant_sees_nothing(engine: Engine) {
    with_store(engine, async |store: Store| {
        let fixture = Fixture::new(store, 1, None).await;
        let hints = fixture.plan(NOW).await.planned;
        let foreign = TenantId::from_uuid(new_id());
        let tenant = fixture.store.tenant(foreign);
        assert!(tenant.get_campaign(fixture.campaign_id).await.is_err());
        assert!(tenant.campaign_report(fixture.campaign_id).await.is_err());
        assert!(tenant.get_account(hints[0].email_account_id).await.is_err());
        assert!(!tenant.pause_campaign(fixture.campaign_id, NOW).await.unwrap());
        assert!(tenant.cancel_campaign(fixture.campaign_id, NOW).await.unwrap().is_none());
        assert!(fixture.store.system().fetch(&[(foreign, hints[0].send_id)], NOW).await.unwrap().is_empty());
        assert_eq!(fixture.fetch(&hints, NOW).await.len(), 1);
    });
}

on_every_engine! {
    setting_up_again_doubles_nothing
    a_changed_sequence_is_refused_unless_it_is_meant
    leads_are_found_by_address_without_regard_to_case
    planning_again_plans_nothing
    two_planners_at_once_share_without_overlap
    a_daily_limit_is_never_exceeded_by_one
    a_foreign_tenant_sees_nothing
}
