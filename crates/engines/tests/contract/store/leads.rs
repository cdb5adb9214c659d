//! Importing leads: found again by address, nothing erased or revived, enrolled where a campaign is named.

use engines::Store;
use engines::store::leads::{Imported, NewLead};

use super::scene::{HOUR, Scene};
use crate::engine::{Engine, NOW, new_id, with_store};
use crate::on_every_engine;

fn lead(email: &str, first_name: Option<&str>) -> NewLead {
    NewLead { email: email.into(), first_name: first_name.map(str::to_owned), ..NewLead::default() }
}

fn importing_leads_again_enrolls_only_the_new_ones(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 2, |_| {}).await;
        assert_eq!(f.enroll(0..3).await, 1);
        assert_eq!(f.one::<i64>("SELECT COUNT(*) AS x FROM leads").await, 3);
        assert_eq!(f.one::<i64>("SELECT COUNT(*) AS x FROM campaign_leads").await, 3);
    });
}

fn importing_a_lead_again_does_not_revive_one_who_unsubscribed(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        f.unsubscribe(&job, NOW).await;
        assert_eq!(f.enroll(0..1).await, 0);
        assert_eq!(f.one::<String>("SELECT status AS x FROM leads").await, "unsubscribed");
    });
}

fn what_became_of_each_row_is_counted(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 0, |_| {}).await;
        let counts = |new, updated, unchanged, enrolled| Imported { new, updated, unchanged, enrolled, began_again: 0 };
        let both = || vec![lead("ana@example.test", Some("Ana")), lead("bo@example.test", None)];
        assert_eq!(f.import(both(), NOW).await, counts(2, 0, 0, 2));
        assert_eq!(f.import(both(), NOW + HOUR).await, counts(0, 0, 2, 0));
        let changed =
            vec![lead("ANA@example.test", Some("Anna")), lead("bo@example.test", None), lead("cy@b.test", None)];
        assert_eq!(f.import(changed, NOW + HOUR).await, counts(1, 1, 1, 1));
        assert_eq!(f.one::<i64>("SELECT COUNT(*) AS x FROM leads WHERE created_at <> updated_at").await, 1);
        assert_eq!(f.one::<String>("SELECT first_name AS x FROM leads WHERE first_name IS NOT NULL").await, "Anna");
    });
}

fn an_empty_cell_erases_nothing(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 0, |_| {}).await;
        let custom = |json: serde_json::Value| json.as_object().unwrap().clone();
        let full = NewLead {
            city: Some("Málaga".into()),
            custom_fields: custom(serde_json::json!({ "size": "M", "colour": "grün" })),
            tracking_consent: Some(false),
            ..lead("ana@example.test", Some("Ana"))
        };
        f.import(vec![full], NOW).await;
        assert_eq!(f.import(vec![lead("ana@example.test", None)], NOW).await.unchanged, 1);
        let more =
            NewLead { custom_fields: custom(serde_json::json!({ "size": "L" })), ..lead("ana@example.test", None) };
        assert_eq!(f.import(vec![more], NOW).await.updated, 1);
        assert_eq!(f.one::<String>("SELECT city AS x FROM leads").await, "Málaga");
        let fields: serde_json::Value = f.one("SELECT custom_fields AS x FROM leads").await;
        assert_eq!(fields, serde_json::json!({ "size": "L", "colour": "grün" }));
        assert!(!f.one::<bool>("SELECT tracking_consent AS x FROM leads").await, "nobody consented");
        let yes = NewLead { tracking_consent: Some(true), ..lead("ana@example.test", None) };
        assert_eq!(f.import(vec![yes], NOW).await.updated, 1);
        assert!(f.one::<bool>("SELECT tracking_consent AS x FROM leads").await);
    });
}

fn without_a_campaign_nobody_is_enrolled_and_later_everybody_is(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 0, |_| {}).await;
        let leads = || vec![lead("Ana@example.test", None), lead("bo@example.test", None)];
        let alone = f.tenant().import_leads(None, leads(), &new_id, NOW).await.unwrap();
        assert_eq!((alone.new, alone.enrolled), (2, 0));
        // Known by their addresses alone, also in another case.
        let enrolled = f.import(vec![lead("ana@example.test", None), lead("BO@example.test", None)], NOW).await;
        assert_eq!((enrolled.unchanged, enrolled.enrolled), (2, 2));
    });
}

fn a_cancelled_campaign_takes_nobody(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 1, |_| {}).await;
        f.tenant().cancel_campaign(f.campaign_id, NOW).await.unwrap();
        let first = f.first_step(NOW).await;
        let leads = vec![lead("late@example.test", None)];
        assert!(f.tenant().import_leads(Some(&first), leads, &new_id, NOW).await.is_err());
        assert_eq!(f.one::<i64>("SELECT COUNT(*) AS x FROM leads").await, 1, "nothing of the batch is written");
    });
}

on_every_engine! {
    importing_leads_again_enrolls_only_the_new_ones
    importing_a_lead_again_does_not_revive_one_who_unsubscribed
    what_became_of_each_row_is_counted
    an_empty_cell_erases_nothing
    without_a_campaign_nobody_is_enrolled_and_later_everybody_is
    a_cancelled_campaign_takes_nobody
}
