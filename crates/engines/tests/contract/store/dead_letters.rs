//! Dead letters: kept, and replayed once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use domain::settle::{Outcome, ReplyAction};
use domain::time::Timestamp;
use engines::store::dead_letters::{DeadLetter, Selection};
use engines::store::resolve::SentAgain;
use engines::{Access, Db, Store};

use super::scene::{MINUTE, Scene};
use crate::engine::{Engine, NOW, new_id, run, with_store};
use crate::on_every_engine;

async fn failed(store: Store) -> (Scene, engines::store::fetch::SendJob) {
    let (f, job, fence) = Scene::one_dot(store, |_| {}).await;
    f.settled(&job, fence, Outcome::Refused(ReplyAction::FailContent), NOW).await;
    (f, job)
}

async fn replay(store: &Store, which: Selection) -> SentAgain {
    let letters = store.system().list_dead_letters(which, 10).await.unwrap();
    store.system().replay_sends(&letters, NOW).await.unwrap()
}

fn a_replay_brings_a_failed_send_back_with_a_fresh_budget(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = failed(store).await;
        let system = f.store.system();
        assert_eq!(system.complete_campaigns(NOW).await.unwrap(), [f.campaign_id]);
        assert_eq!(replay(&f.store, Selection::default()).await, SentAgain { queued: 1, excluded: 0 });
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
        let letters = system.list_dead_letters(Selection::default(), 10).await.unwrap();
        assert_eq!(system.replay_sends(&letters, NOW).await.unwrap().queued, 1);
        assert_eq!(system.replay_sends(&letters, NOW).await.unwrap().queued, 0, "its send is on its way");
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
        assert_eq!(replay(&f.store, other).await, SentAgain::default());
        let id = system.list_dead_letters(Selection::default(), 10).await.unwrap()[0].id;
        let own = Selection { id: Some(id), campaign_id: Some(f.campaign_id), after: None };
        assert_eq!(replay(&f.store, own).await, SentAgain { queued: 1, excluded: 0 });
    });
}

fn a_letter_of_a_lead_who_is_excluded_stays(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, _) = failed(store).await;
        f.write("UPDATE leads SET status = 'unsubscribed'", vec![]).await;
        assert_eq!(replay(&f.store, Selection::default()).await, SentAgain { queued: 0, excluded: 1 });
        assert_eq!((f.sends().await, f.store.system().count_dead_letters().await.unwrap()), (vec!["failed".into()], 1));
    });
}

fn broken(at: Timestamp) -> DeadLetter {
    DeadLetter {
        id: new_id(),
        tenant_id: None,
        send_id: None,
        queue_name: "queue:email-sending".into(),
        payload: "{broken".into(),
        error: "not JSON".into(),
        failed_at: at,
        attempt_count: 1,
        original_priority: 7,
    }
}

fn a_buried_payload_is_handed_back_as_it_was(engine: Engine) {
    with_store(engine, async |store: Store| {
        let system = store.system();
        system.bury(&[broken(NOW)]).await.unwrap();
        let letters = system.list_dead_letters(Selection::default(), 10).await.unwrap();
        assert_eq!(system.replay_sends(&letters, NOW).await.unwrap(), SentAgain::default(), "the caller pushes it");
        assert_eq!((letters[0].payload.as_str(), letters[0].original_priority), ("{broken", 7));
        assert_eq!(system.mark_replayed(&letters, NOW).await.unwrap(), 1);
        assert_eq!(system.mark_replayed(&letters, NOW).await.unwrap(), 0);
        assert_eq!(system.count_dead_letters().await.unwrap(), 0);
    });
}

fn a_letter_buried_again_before_it_was_marked_is_not_hidden(engine: Engine) {
    with_store(engine, async |store: Store| {
        let system = store.system();
        let letter = broken(NOW);
        system.bury(std::slice::from_ref(&letter)).await.unwrap();
        let read = system.list_dead_letters(Selection::default(), 10).await.unwrap();
        // Pushed; the worker is quicker than the mark.
        system.bury(&[DeadLetter { failed_at: NOW + MINUTE, ..letter.clone() }]).await.unwrap();
        assert_eq!(system.mark_replayed(&read, NOW + MINUTE).await.unwrap(), 0);
        assert_eq!(system.count_dead_letters().await.unwrap(), 1, "it waits for a person again");
        let read = system.list_dead_letters(Selection::default(), 10).await.unwrap();
        assert_eq!(system.mark_replayed(&read, NOW + MINUTE).await.unwrap(), 1);
        system.bury(&[DeadLetter { failed_at: NOW + 2 * MINUTE, ..letter }]).await.unwrap();
        assert_eq!(system.count_dead_letters().await.unwrap(), 1, "it came back");
    });
}

fn letters_are_buried_together_and_one_that_comes_twice_is_one(engine: Engine) {
    run(engine, async |db: Db| {
        let written = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&written);
        let db = db.observed(Arc::new(move |seen| {
            count.fetch_add(u32::from(seen.access == Access::Write), Ordering::Relaxed);
        }));
        let store = Store::new(db);
        let mut letters: Vec<DeadLetter> = (0..500).map(|_| broken(NOW)).collect();
        letters.push(letters[0].clone());
        store.system().bury(&letters).await.unwrap();
        assert_eq!(written.load(Ordering::Relaxed), 1, "transactions");
        assert_eq!(store.system().count_dead_letters().await.unwrap(), 500);
    });
}

fn letters_come_in_pages(engine: Engine) {
    with_store(engine, async |store: Store| {
        let system = store.system();
        // Two at one moment: the id decides then.
        for at in [NOW, NOW, NOW + MINUTE] {
            system.bury(&[broken(at)]).await.unwrap();
        }
        let all = system.list_dead_letters(Selection::default(), 10).await.unwrap();
        let mut which = Selection::default();
        for expected in &all {
            let page = system.list_dead_letters(which, 1).await.unwrap();
            assert_eq!(page.iter().map(|letter| letter.id).collect::<Vec<_>>(), [expected.id]);
            which.after = Some((expected.failed_at, expected.id));
        }
        assert!(system.list_dead_letters(which, 1).await.unwrap().is_empty());
    });
}

on_every_engine! {
    a_replay_brings_a_failed_send_back_with_a_fresh_budget
    a_letter_is_replayed_once_and_leaves_the_list
    only_the_selected_letters_are_replayed
    a_letter_of_a_lead_who_is_excluded_stays
    a_buried_payload_is_handed_back_as_it_was
    a_letter_buried_again_before_it_was_marked_is_not_hidden
    letters_are_buried_together_and_one_that_comes_twice_is_one
    letters_come_in_pages
}
