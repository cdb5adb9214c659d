//! Dead letters: kept, and replayed once.

use domain::settle::{Outcome, ReplyAction};
use engines::Store;
use engines::store::dead_letters::{DeadLetter, Selection};

use super::scene::Scene;
use crate::engine::{Engine, NOW, new_id, with_store};
use crate::on_every_engine;

async fn failed(store: Store) -> (Scene, engines::store::fetch::SendJob) {
    let (f, job, fence) = Scene::one_dot(store, |_| {}).await;
    f.settled(&job, fence, Outcome::Refused(ReplyAction::FailContent), NOW).await;
    (f, job)
}

fn a_replay_brings_a_failed_send_back_with_a_fresh_budget(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = failed(store).await;
        let system = f.store.system();
        assert_eq!(system.complete_campaigns(NOW).await.unwrap(), [f.campaign_id]);
        let (replayed, payloads) = system.replay_sends(Selection::default(), NOW).await.unwrap();
        assert_eq!((replayed, payloads.len()), (1, 0));
        assert_eq!(f.one::<String>("SELECT status AS x FROM campaigns").await, "sending");
        let again = f.refetch(&job, NOW).await.unwrap();
        assert_eq!((again.attempts, again.first_attempt_at), (0, None));
        let fence = f.granted(&again, NOW).await;
        f.settled(&again, fence, Outcome::Accepted, NOW).await;
        assert_eq!(f.sends().await, ["sent"]);
        assert_eq!(f.one::<i64>("SELECT next_step_order AS x FROM campaign_leads").await, 2, "the sequence goes on");
    });
}

fn a_letter_is_replayed_once_and_leaves_the_list(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, _) = failed(store).await;
        let system = f.store.system();
        assert_eq!(system.count_dead_letters().await.unwrap(), 1);
        assert_eq!(system.replay_sends(Selection::default(), NOW).await.unwrap().0, 1);
        assert_eq!(system.replay_sends(Selection::default(), NOW).await.unwrap().0, 0);
        assert_eq!(system.count_dead_letters().await.unwrap(), 0);
        assert!(system.list_dead_letters(Selection::default(), 10).await.unwrap().is_empty());
    });
}

fn only_the_selected_letters_are_replayed(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, _) = failed(store).await;
        let system = f.store.system();
        let elsewhere = domain::ids::CampaignId::from_uuid(new_id());
        let other = Selection { campaign_id: Some(elsewhere), ..Selection::default() };
        assert_eq!(system.replay_sends(other, NOW).await.unwrap().0, 0);
        let id = system.list_dead_letters(Selection::default(), 10).await.unwrap()[0].id;
        let own = Selection { id: Some(id), campaign_id: Some(f.campaign_id) };
        assert_eq!(system.replay_sends(own, NOW).await.unwrap().0, 1);
    });
}

fn a_buried_payload_is_handed_back_as_it_was(engine: Engine) {
    with_store(engine, async |store: Store| {
        let system = store.system();
        let letter = DeadLetter {
            id: new_id(),
            tenant_id: None,
            send_id: None,
            queue_name: "queue:email-sending".into(),
            payload: "{broken".into(),
            error: "not JSON".into(),
            failed_at: NOW,
            attempt_count: 1,
            original_priority: 7,
        };
        system.bury(&letter).await.unwrap();
        let (replayed, payloads) = system.replay_sends(Selection::default(), NOW).await.unwrap();
        assert_eq!((replayed, payloads.len()), (0, 1), "the caller pushes it, and marks it then");
        assert_eq!(system.mark_replayed(letter.id, NOW).await.unwrap(), 1);
        assert_eq!(system.mark_replayed(letter.id, NOW).await.unwrap(), 0);
        assert_eq!(system.count_dead_letters().await.unwrap(), 0);
        system.bury(&letter).await.unwrap();
        assert_eq!(system.count_dead_letters().await.unwrap(), 1, "it came back");
        assert_eq!((payloads[0].payload.as_str(), payloads[0].original_priority), ("{broken", 7));
    });
}

on_every_engine! {
    a_replay_brings_a_failed_send_back_with_a_fresh_budget
    a_letter_is_replayed_once_and_leaves_the_list
    only_the_selected_letters_are_replayed
    a_buried_payload_is_handed_back_as_it_was
}
