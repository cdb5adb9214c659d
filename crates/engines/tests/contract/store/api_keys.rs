//! Keys of the API: one name in use a tenant, found over all tenants until revoked, their use noted once an hour.

use domain::time::Timestamp;
use engines::store::api_keys::{NewKey, WhichKey};
use engines::{Error, Store};

use super::scene::{HOUR, MINUTE, Scene};
use crate::engine::{Engine, NOW, new_id, with_store};
use crate::on_every_engine;

fn key(name: &str, prefix: &str) -> NewKey {
    NewKey { id: new_id(), name: name.into(), prefix: prefix.into(), hash: format!("hash of {prefix}") }
}

fn a_key_is_found_with_its_tenant_until_it_is_revoked(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::draft(store, |_| {}).await;
        let (own, stranger) = (f.tenant(), f.stranger().await);
        let (one, foreign) = (key("grafana", "pm_1"), key("grafana", "pm_2"));
        assert!(own.create_api_key(&one, NOW).await.unwrap());
        assert!(stranger.create_api_key(&foreign, NOW).await.unwrap(), "a name is each tenant's own");
        let system = f.store.system();
        let found = system.find_api_key("pm_1").await.unwrap().unwrap();
        assert_eq!((found.id, found.tenant_id, found.hash.as_str()), (one.id, f.tenant_id, "hash of pm_1"));
        assert_ne!(system.find_api_key("pm_2").await.unwrap().unwrap().tenant_id, f.tenant_id);
        assert!(system.find_api_key("pm_3").await.unwrap().is_none());

        let revoked = own.revoke_api_key(WhichKey::Name("grafana"), NOW + MINUTE).await.unwrap().unwrap();
        assert_eq!((revoked.id, revoked.revoked_at), (one.id, Some(NOW + MINUTE)));
        assert!(system.find_api_key("pm_1").await.unwrap().is_none());
        assert!(system.find_api_key("pm_2").await.unwrap().is_some(), "the other's is in use");
        for which in [WhichKey::Name("grafana"), WhichKey::Prefix("pm_1"), WhichKey::Prefix("pm_2")] {
            assert!(own.revoke_api_key(which, NOW).await.unwrap().is_none(), "{which:?}");
        }
    });
}

fn a_name_is_taken_while_its_key_is_in_use(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::draft(store, |_| {}).await;
        let own = f.tenant();
        assert!(own.create_api_key(&key("grafana", "pm_1"), NOW).await.unwrap());
        assert!(!own.create_api_key(&key("grafana", "pm_2"), NOW).await.unwrap());
        assert!(f.store.system().find_api_key("pm_2").await.unwrap().is_none(), "nothing was kept");
        own.revoke_api_key(WhichKey::Prefix("pm_1"), NOW).await.unwrap().unwrap();
        assert!(own.create_api_key(&key("grafana", "pm_2"), NOW + MINUTE).await.unwrap());
        let listed = own.list_api_keys(10).await.unwrap();
        let seen: Vec<_> = listed.iter().map(|key| (key.prefix.as_str(), key.revoked_at)).collect();
        assert_eq!(seen, [("pm_2", None), ("pm_1", Some(NOW))], "newest first, revoked ones too");
        assert_eq!(own.list_api_keys(1).await.unwrap().len(), 1);
        let twice = own.create_api_key(&key("another", "pm_1"), NOW).await;
        assert!(matches!(twice, Err(Error::Unique { .. })), "a revoked key's prefix is never given again: {twice:?}");
    });
}

fn many_who_make_a_key_of_one_name_at_once_make_one(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::draft(store, |_| {}).await;
        let makers = (0..8).map(|n| {
            let own = f.tenant();
            tokio::spawn(async move { own.create_api_key(&key("grafana", &format!("pm_{n}")), NOW).await.unwrap() })
        });
        let mut made = 0;
        for maker in makers.collect::<Vec<_>>() {
            made += u32::from(maker.await.unwrap());
        }
        assert_eq!((made, f.tenant().list_api_keys(10).await.unwrap().len()), (1, 1));
    });
}

fn its_use_is_noted_once_an_hour(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::draft(store, |_| {}).await;
        let own = f.tenant();
        let new = key("grafana", "pm_1");
        own.create_api_key(&new, NOW).await.unwrap();
        let used = |at: Timestamp| own.note_api_key_used(new.id, at, at - HOUR);
        let last = async || f.store.system().find_api_key("pm_1").await.unwrap().unwrap().last_used_at;
        assert_eq!(last().await, None);
        assert!(used(NOW).await.unwrap());
        assert!(!used(NOW + 59 * MINUTE).await.unwrap());
        assert_eq!(last().await, Some(NOW));
        assert!(used(NOW + HOUR).await.unwrap());
        assert_eq!(own.list_api_keys(1).await.unwrap()[0].last_used_at, Some(NOW + HOUR));
        own.revoke_api_key(WhichKey::Name("grafana"), NOW).await.unwrap().unwrap();
        assert!(!used(NOW + 5 * HOUR).await.unwrap(), "a revoked key is not used");
    });
}

on_every_engine! {
    a_key_is_found_with_its_tenant_until_it_is_revoked
    a_name_is_taken_while_its_key_is_in_use
    many_who_make_a_key_of_one_name_at_once_make_one
    its_use_is_noted_once_an_hour
}
