//! Setting up: found again by name, nothing doubled, changes of the sequence only when meant.

use std::collections::BTreeSet;

use domain::time::Timestamp;
use engines::Store;
use engines::store::setup::{Kept, SetupError};

use super::scene::{Scene, account, acme, apply_setup, email_step};
use crate::engine::{Engine, NOW, with_store};
use crate::on_every_engine;

fn setting_up_twice_doubles_nothing(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::draft(store, |_| {}).await;
        let again = apply_setup(&f.store, &f.setup).await.unwrap();
        assert_eq!((again.tenant_id, again.campaign_id), (f.tenant_id, f.campaign_id));
        for (table, rows) in [
            ("SELECT COUNT(*) AS x FROM tenants", 1),
            ("SELECT COUNT(*) AS x FROM companies", 1),
            ("SELECT COUNT(*) AS x FROM email_accounts", 1),
            ("SELECT COUNT(*) AS x FROM campaigns", 1),
            ("SELECT COUNT(*) AS x FROM templates", 2),
            ("SELECT COUNT(*) AS x FROM campaign_sequence_steps", 2),
            ("SELECT COUNT(*) AS x FROM campaign_email_accounts", 1),
        ] {
            assert_eq!(f.one::<i64>(table).await, rows, "{table}");
        }
    });
}

fn a_templates_version_grows_only_when_its_text_changes(engine: Engine) {
    with_store(engine, async |store: Store| {
        let mut f = Scene::draft(store, |_| {}).await;
        apply_setup(&f.store, &f.setup).await.unwrap();
        const VERSIONS: &str = "SELECT version AS x FROM templates ORDER BY id";
        assert_eq!(f.column::<i64>(VERSIONS).await, [1, 1]);
        f.setup.steps[1].template.as_mut().unwrap().html = "<p>New</p>".into();
        apply_setup(&f.store, &f.setup).await.unwrap();
        assert_eq!(f.column::<i64>(VERSIONS).await, [1, 2]);
    });
}

fn an_address_in_another_case_is_the_same_account(engine: Engine) {
    with_store(engine, async |store: Store| {
        let mut f = Scene::draft(store, |_| {}).await;
        f.setup.accounts = vec![account("ANA@acme.test")];
        apply_setup(&f.store, &f.setup).await.unwrap();
        assert_eq!(f.one::<String>("SELECT email AS x FROM email_accounts").await, "ana@acme.test");
    });
}

fn an_account_keeps_what_another_campaigns_file_says_nothing_of(engine: Engine) {
    with_store(engine, async |store: Store| {
        let mut f = Scene::draft(store, |s| {
            let account = &mut s.accounts[0];
            (account.daily_limit, account.min_gap_seconds) = (Some(50), 120);
            (account.warmup_started_at, account.timezone) = (Some(NOW), "Europe/Madrid".parse().unwrap());
        })
        .await;
        let stored = async |f: &Scene| {
            (
                f.one::<Option<i64>>("SELECT daily_limit AS x FROM email_accounts").await,
                f.one::<i64>("SELECT min_gap_seconds AS x FROM email_accounts").await,
                f.one::<Option<Timestamp>>("SELECT warmup_started_at AS x FROM email_accounts").await,
                f.one::<String>("SELECT timezone AS x FROM email_accounts").await,
            )
        };
        let first = stored(&f).await;
        assert_eq!(first, (Some(50), 120, Some(NOW), "Europe/Madrid".to_owned()));
        f.setup.campaign = "Another".into();
        f.setup.accounts = vec![account("ana@acme.test")];
        f.setup.accounts[0].keeps =
            BTreeSet::from([Kept::Server, Kept::DailyLimit, Kept::MinGap, Kept::Warmup, Kept::Zone]);
        apply_setup(&f.store, &f.setup).await.unwrap();
        assert_eq!(stored(&f).await, first);
        f.setup.accounts[0].keeps = BTreeSet::from([Kept::MinGap]);
        apply_setup(&f.store, &f.setup).await.unwrap();
        assert_eq!(stored(&f).await, (None, 120, None, "UTC".to_owned()));
    });
}

fn a_changed_sequence_is_refused_and_nothing_is_written(engine: Engine) {
    with_store(engine, async |store: Store| {
        let mut f = Scene::draft(store, |_| {}).await;
        f.setup.company_address = "2 Side Street".into();
        f.setup.steps.push(email_step("Last call", 24.0));
        let refused = apply_setup(&f.store, &f.setup).await.unwrap_err();
        assert!(matches!(refused, SetupError::StepsChanged { .. }), "{refused}");
        assert!(refused.to_string().contains("1 added, 0 left out"), "{refused}");
        assert_eq!(f.one::<String>("SELECT address AS x FROM companies").await, "1 Main Street");
        assert_eq!(f.one::<i64>("SELECT COUNT(*) AS x FROM campaign_sequence_steps").await, 2);
    });
}

fn a_changed_sequence_is_taken_where_it_is_meant(engine: Engine) {
    with_store(engine, async |store: Store| {
        let mut f = Scene::draft(store, |_| {}).await;
        f.setup.update = true;
        f.setup.steps.push(email_step("Last call", 24.0));
        apply_setup(&f.store, &f.setup).await.unwrap();
        assert_eq!(f.tenant().get_campaign(f.campaign_id).await.unwrap().plan.steps.len(), 3);
        f.setup.steps.truncate(1);
        apply_setup(&f.store, &f.setup).await.unwrap();
        let active: Vec<bool> =
            f.column("SELECT is_active AS x FROM campaign_sequence_steps ORDER BY step_order").await;
        assert_eq!(active, [true, false, false]);
    });
}

fn an_account_that_left_the_file_leaves_the_pool(engine: Engine) {
    with_store(engine, async |store: Store| {
        let mut f = Scene::draft(store, |s| s.accounts.push(account("bob@acme.test"))).await;
        f.setup.accounts.remove(0);
        apply_setup(&f.store, &f.setup).await.unwrap();
        let pool: Vec<String> = f
            .column(
                "SELECT a.email AS x FROM campaign_email_accounts p JOIN email_accounts a ON a.id = p.email_account_id",
            )
            .await;
        assert_eq!(pool, ["bob@acme.test"]);
    });
}

fn a_cancelled_campaign_is_not_set_up_again(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::draft(store, |_| {}).await;
        assert_eq!(f.tenant().cancel_campaign(f.campaign_id, NOW).await.unwrap(), Some(0));
        let refused = apply_setup(&f.store, &acme()).await.unwrap_err();
        assert!(matches!(refused, SetupError::Ended(..)), "{refused}");
    });
}

fn a_name_that_two_tenants_use_is_found_by_tenant(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::draft(store, |_| {}).await;
        let other = engines::store::setup::Setup { tenant: "Other".into(), ..acme() };
        apply_setup(&f.store, &other).await.unwrap();
        let find = async |tenant| f.store.system().find_campaigns(&other.campaign, tenant).await.unwrap();
        assert_eq!(find(None).await.len(), 2);
        assert_eq!(find(Some("Other")).await.len(), 1);
        assert_eq!(f.store.system().find_campaigns(&f.campaign_id.to_string(), None).await.unwrap().len(), 1);
    });
}

on_every_engine! {
    a_name_that_two_tenants_use_is_found_by_tenant
    setting_up_twice_doubles_nothing
    a_templates_version_grows_only_when_its_text_changes
    an_address_in_another_case_is_the_same_account
    an_account_keeps_what_another_campaigns_file_says_nothing_of
    a_changed_sequence_is_refused_and_nothing_is_written
    a_changed_sequence_is_taken_where_it_is_meant
    an_account_that_left_the_file_leaves_the_pool
    a_cancelled_campaign_is_not_set_up_again
}
