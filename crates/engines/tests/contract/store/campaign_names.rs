//! A tenant's campaigns by name, by id, and page by page.

use engines::Store;
use engines::store::setup::Setup;

use super::scene::{Scene, acme, apply_setup};
use crate::engine::{Engine, with_store};
use crate::on_every_engine;

fn one_is_found_by_name_or_id(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::draft(store, |_| {}).await;
        // Named as the other's id: the id says more.
        let namesake = Setup { campaign: f.campaign_id.to_string(), ..acme() };
        let namesake = apply_setup(&f.store, &namesake).await.unwrap().campaign_id;
        let foreign = f.stranger().await;
        let own = f.tenant();
        let found = async |name: &str| own.find_campaign(name).await.unwrap().map(|campaign| campaign.id);
        assert_eq!(found("Welcome").await, Some(f.campaign_id));
        assert_eq!(found(&f.campaign_id.to_string()).await, Some(f.campaign_id));
        assert_eq!(found(&namesake.to_string()).await, Some(namesake));
        assert_eq!(found("welcome").await, None);
        let theirs = foreign.find_campaign("Welcome").await.unwrap().unwrap();
        assert_ne!(theirs.id, f.campaign_id);
        assert_eq!(theirs.tenant_name, "Other");
        assert_eq!(found(&theirs.id.to_string()).await, None);
    });
}

fn all_are_listed_page_by_page(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::draft(store, |_| {}).await;
        f.stranger().await;
        let mut made = vec![f.campaign_id];
        for n in 0..4 {
            let next = Setup { campaign: format!("Another {n}"), ..acme() };
            made.push(apply_setup(&f.store, &next).await.unwrap().campaign_id);
        }
        made.sort_unstable();
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = f.tenant().list_campaigns(after, 2).await.unwrap();
            assert!(page.len() <= 2);
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            seen.extend(page.iter().map(|campaign| campaign.id));
        }
        assert_eq!(seen, made, "each once, and none of the other tenant");
    });
}

on_every_engine! {
    one_is_found_by_name_or_id
    all_are_listed_page_by_page
}
