//! P8 and P9: what a dead owner leaves, which hints are brought again, and that every state has an exit.

use std::collections::HashSet;
use std::time::Duration;

use domain::campaign::OnUnknown;
use domain::event::{EventType, Verdict};
use domain::settle::{Outcome, ReplyAction};
use domain::time::Timestamp;
use engines::Store;
use engines::dialect::Dialect;
use engines::migrate::all_statements;
use engines::queue::Lane;
use engines::store::events::StoredEvent;
use engines::store::fetch::SendJob;
use engines::values;

use super::scene::{DAY, HOUR, MINUTE, OWNER, Scene, email_step, last_result, request, result};
use crate::engine::{Engine, NOW, new_id, with_store};
use crate::on_every_engine;

fn a_heartbeat_counts_up(engine: Engine) {
    with_store(engine, async |store: Store| {
        let system = store.system();
        for _ in 0..3 {
            system.heartbeat("a", "host", 1, NOW).await.unwrap();
        }
        system.heartbeat("b", "host", 2, NOW).await.unwrap();
        let mut owners = system.list_owners().await.unwrap();
        owners.sort();
        assert_eq!(owners, [("a".to_owned(), 3), ("b".to_owned(), 1)]);
    });
}

fn dots_of_gives_an_owners_open_dots_and_nobody_elses(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 3, |s| s.settings.on_unknown = OnUnknown::Hold).await;
        let jobs = f.jobs(NOW).await;
        let fence = f.granted(&jobs[0], NOW).await;
        let settled = f.granted(&jobs[1], NOW).await;
        f.settled(&jobs[1], settled, Outcome::Accepted, NOW).await;
        let dots = f.store.system().dots_of(OWNER, 1).await.unwrap();
        assert_eq!(dots.len(), 1);
        assert_eq!((dots[0].send_id, dots[0].fence, dots[0].on_unknown), (jobs[0].send_id, fence, OnUnknown::Hold));
        assert_eq!((dots[0].account_day.as_deref(), dots[0].budget_began_at), (Some("2026-03-02"), Some(NOW)));
        assert!(f.store.system().dots_of("another", 1).await.unwrap().is_empty());
    });
}

fn settings_that_make_no_sense_leave_a_dead_owners_dot_to_a_person(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, _) = Scene::one_dot(store, |_| {}).await;
        f.write("UPDATE campaigns SET settings = '{\"send_days\": 7}'", vec![]).await;
        let dots = f.store.system().dots_of(OWNER, 1).await.unwrap();
        assert_eq!((dots[0].send_id, dots[0].on_unknown), (job.send_id, OnUnknown::Hold));
    });
}

fn what_only_the_message_could_tell_proves_that_it_has_arrived(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 5, |s| s.settings.on_unknown = OnUnknown::Hold).await;
        let jobs = f.jobs(NOW).await;
        let fences = [f.granted(&jobs[0], NOW).await, f.granted(&jobs[1], NOW).await, f.granted(&jobs[2], NOW).await];
        f.granted(&jobs[3], NOW).await;
        f.granted(&jobs[4], NOW).await;
        let open = |job, seconds: i64, verdict| StoredEvent {
            occurred_at: Timestamp::from_unix_seconds(NOW.unix_seconds() + seconds),
            verdict,
            ..f.event(job, EventType::Open)
        };
        let events = [
            open(&jobs[0], 1, Verdict::Human),
            open(&jobs[1], 1, Verdict::Scanner),
            open(&jobs[2], -1, Verdict::Human),
            open(&jobs[3], 0, Verdict::Prefetch),
        ];
        let system = f.store.system();
        assert_eq!(system.store_events(&events, NOW).await.unwrap().stored, 4);
        let with_proof: Vec<_> =
            system.dots_of(OWNER, 1).await.unwrap().iter().filter(|dot| dot.has_proof).map(|dot| dot.send_id).collect();
        assert_eq!(HashSet::from_iter(with_proof), HashSet::from([jobs[0].send_id, jobs[3].send_id]));

        for (job, fence) in jobs.iter().zip(fences) {
            // A second one: held.
            f.settled(&SendJob { unknowns: 1, ..job.clone() }, fence, Outcome::Unknown, NOW).await;
        }
        let proven = [(jobs[0].tenant_id, jobs[0].send_id)];
        assert_eq!(system.list_proven(None, 10).await.unwrap(), proven, "one is held with proof");
        f.write("UPDATE sends SET reason = 'result_refused' WHERE status = 'held'", vec![]).await;
        assert_eq!(system.list_proven(None, 10).await.unwrap(), proven, "also where its result was not taken");
        f.write("UPDATE sends SET reason = 'poison' WHERE status = 'held'", vec![]).await;
        assert!(system.list_proven(None, 10).await.unwrap().is_empty(), "what is held for another reason had no dot");
    });
}

fn an_owner_with_an_open_dot_is_not_forgotten(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, fence) = Scene::one_dot(store, |_| {}).await;
        let system = f.store.system();
        system.heartbeat(OWNER, "host", 1, NOW).await.unwrap();
        system.remove_owner(OWNER, None).await.unwrap();
        assert_eq!(system.list_owners().await.unwrap().len(), 1);
        f.settled(&job, fence, Outcome::Unknown, NOW).await;
        system.remove_owner(OWNER, None).await.unwrap();
        assert!(system.list_owners().await.unwrap().is_empty());
    });
}

/// It was stopped, was seen to stand still, and goes on: its dots may be new.
fn an_owner_whose_heartbeat_moved_since_is_left_alone(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, fence) = Scene::one_dot(store, |_| {}).await;
        let system = f.store.system();
        system.heartbeat(OWNER, "host", 1, NOW).await.unwrap();
        assert_eq!(system.dots_of(OWNER, 1).await.unwrap().len(), 1);
        system.heartbeat(OWNER, "host", 1, NOW).await.unwrap();
        assert!(system.dots_of(OWNER, 1).await.unwrap().is_empty());
        f.settled(&job, fence, Outcome::Accepted, NOW).await;
        system.remove_owner(OWNER, Some(1)).await.unwrap();
        assert_eq!(system.list_owners().await.unwrap().len(), 1);
        system.remove_owner(OWNER, Some(2)).await.unwrap();
        assert!(system.list_owners().await.unwrap().is_empty());
    });
}

/// Declared dead while it was slow, an owner goes on to one more dot and is killed before its next heartbeat.
fn the_sweep_names_an_owner_whose_dot_no_heartbeat_shows(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        let system = f.store.system();
        system.heartbeat(OWNER, "host", 1, NOW).await.unwrap();
        system.remove_owner(OWNER, None).await.unwrap();
        let fence = f.granted(&job, NOW).await;
        assert!(system.list_owners().await.unwrap().is_empty(), "no reaper would ever ask for its dots");
        assert_eq!(system.sweep(NOW).await.unwrap(), 0);
        assert_eq!(system.sweep(NOW).await.unwrap(), 0);
        assert_eq!(system.list_owners().await.unwrap(), [(OWNER.to_owned(), 0)]);
        // It lives: its heartbeat goes on from there.
        system.heartbeat(OWNER, "host", 1, NOW).await.unwrap();
        assert_eq!(system.list_owners().await.unwrap(), [(OWNER.to_owned(), 1)]);
        f.settled(&job, fence, Outcome::Accepted, NOW).await;
        system.remove_owner(OWNER, None).await.unwrap();
        assert!(system.list_owners().await.unwrap().is_empty());
    });
}

fn a_wrong_reapers_verdict_leaves_the_fence_for_the_slow_owners_250(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, fence) = Scene::one_dot(store, |_| {}).await;
        let dot = f.store.system().dots_of(OWNER, 1).await.unwrap().remove(0);
        f.settled(&job, dot.fence, Outcome::Unknown, NOW).await;
        assert_eq!(f.sends().await, ["queued"]);
        f.settled(&job, fence, Outcome::Accepted, NOW).await;
        assert_eq!(f.sends().await, ["sent"]);
        assert_eq!(f.store.system().withdraw(&[request(&job, NOW)], OWNER, NOW).await.unwrap(), 0);
    });
}

fn reconcile_brings_what_has_no_hint_and_marks_it(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 3, |_| {}).await;
        let planned = f.plan(NOW).await.planned;
        let system = f.store.system();
        assert!(
            system.reconcile(Lane::Base, 1, NOW - MINUTE, 10, NOW).await.unwrap().is_empty(),
            "planning has hinted"
        );
        let later = NOW + MINUTE;
        let mut again: Vec<_> =
            system.reconcile(Lane::Base, 1, NOW, 2, later).await.unwrap().iter().map(|h| h.send_id).collect();
        assert_eq!(again.len(), 2, "at most the limit");
        again.extend(system.reconcile(Lane::Base, 1, NOW, 10, later).await.unwrap().iter().map(|h| h.send_id));
        again.sort_unstable();
        assert_eq!(again, planned.iter().map(|h| h.send_id).collect::<Vec<_>>(), "none twice within the stale time");
        assert!(system.reconcile(Lane::Base, 1, NOW, 10, later).await.unwrap().is_empty());
        assert_eq!(
            system.reconcile(Lane::Base, 2, NOW, 10, later).await.unwrap().len(),
            3,
            "a new epoch has lost them all"
        );
        assert!(system.reconcile(Lane::Base, 2, NOW, 10, later).await.unwrap().is_empty());
    });
}

fn reconcile_looks_at_each_lane_by_itself_the_most_urgent_first(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 4, |s| s.settings.priority = 500).await;
        let planned = f.plan(NOW).await.planned;
        for (hint, (priority, waits)) in planned.iter().zip([(100_i64, 0), (60, 1), (60, 2), (7, 0)]) {
            let at = NOW - MINUTE * 3 + MINUTE * waits;
            let sql = "UPDATE sends SET priority = $2, not_before = $3 WHERE id = $1";
            f.write(sql, values![hint.send_id, priority, at]).await;
        }
        let system = f.store.system();
        let asked = async |lane, limit| {
            let hints = system.reconcile(lane, 2, NOW - MINUTE, limit, NOW).await.unwrap();
            hints.iter().map(|hint| planned.iter().position(|p| p.send_id == hint.send_id).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(asked(Lane::Low, 10).await, [] as [usize; 0], "none of them is its");
        assert_eq!(asked(Lane::Base, 2).await, [1, 2], "by priority, then by due time");
        assert_eq!(asked(Lane::Base, 10).await, [0]);
        assert_eq!(asked(Lane::High, 10).await, [3]);
    });
}

fn two_reconcilers_at_once_bring_each_send_once(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 30, |_| {}).await;
        f.plan(NOW).await;
        let system = f.store.system();
        let later = NOW + MINUTE;
        let (a, b) = tokio::join!(
            system.reconcile(Lane::Base, 1, NOW, 100, later),
            system.reconcile(Lane::Base, 1, NOW, 100, later)
        );
        assert_eq!(a.unwrap().len() + b.unwrap().len(), 30);
    });
}

fn reconcile_leaves_what_may_not_go(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        let system = f.store.system();
        let asked = async |now: Timestamp| system.reconcile(Lane::Base, 9, now, 10, now).await.unwrap().len();
        assert!(f.tenant().pause_campaign(f.campaign_id, NOW).await.unwrap());
        assert_eq!(asked(NOW).await, 0, "paused");
        assert!(f.tenant().resume_campaign(f.campaign_id, NOW).await.unwrap());
        f.write("UPDATE email_accounts SET backoff_until = $1", values![NOW + MINUTE]).await;
        assert_eq!(asked(NOW).await, 0, "backing off");
        f.write("UPDATE email_accounts SET backoff_until = NULL, status = 'paused'", vec![]).await;
        assert_eq!(asked(NOW).await, 0, "account stopped");
        f.write("UPDATE email_accounts SET status = 'active'", vec![]).await;
        f.write("UPDATE sends SET not_before = $1", values![NOW + MINUTE]).await;
        assert_eq!(asked(NOW).await, 0, "not due");
        assert_eq!(asked(NOW + MINUTE).await, 1);
        f.granted(&f.refetch(&job, NOW + MINUTE).await.unwrap(), NOW + MINUTE).await;
        assert_eq!(asked(NOW + HOUR).await, 0, "its dot may be written");
    });
}

fn the_sweep_skips_a_switched_off_step_and_its_lead_goes_on(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job) = Scene::one_job(store, |_| {}).await;
        f.write("UPDATE campaign_sequence_steps SET is_active = false WHERE step_order = 1", vec![]).await;
        assert!(f.refetch(&job, NOW).await.is_none());
        let system = f.store.system();
        assert_eq!(system.sweep(NOW).await.unwrap(), 1);
        assert_eq!(system.sweep(NOW).await.unwrap(), 0);
        assert_eq!(f.one::<String>("SELECT reason AS x FROM sends WHERE status = 'skipped'").await, "step_inactive");
        f.plan(NOW).await;
        assert_eq!(f.one::<i64>("SELECT next_step_order AS x FROM campaign_leads").await, 2);
        assert_eq!(f.jobs(NOW + 48 * HOUR).await.len(), 1);
    });
}

fn the_sweep_cancels_what_a_suppressed_lead_left_and_ends_its_enrollment(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, _) = Scene::one_job(store, |_| {}).await;
        let sql = "INSERT INTO suppression_list (id, email, reason, source, added_at, created_at, updated_at)
            VALUES ($1, 'lead0@example.test', 'complaint', 'platform', $2, $2, $2)";
        f.write(sql, values![new_id(), NOW]).await;
        assert_eq!(f.store.system().sweep(NOW).await.unwrap(), 1);
        assert_eq!(f.sends().await, ["cancelled"]);
        f.plan(NOW).await;
        assert_eq!(f.one::<String>("SELECT stop_reason AS x FROM campaign_leads").await, "suppressed");
        assert_eq!(f.store.system().complete_campaigns(NOW).await.unwrap(), [f.campaign_id]);
    });
}

/// However many sends are open, a turn looks at 2,000 of them: the next one goes on, and behind the last from the first.
fn the_sweep_looks_page_by_page_and_begins_again(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 4_500, |_| {}).await;
        while f.plan(NOW).await.next.is_some() {}
        let system = f.store.system();
        f.write("UPDATE leads SET status = 'unsubscribed'", vec![]).await;
        let mut ended = Vec::new();
        for _ in 0..4 {
            ended.push(system.sweep(NOW).await.unwrap());
        }
        assert_eq!(ended, [2_000, 2_000, 500, 0]);
        // Its page has been: the turn after the last page comes to it.
        f.write("UPDATE sends SET status = 'planned', open = true", vec![]).await;
        f.write("UPDATE leads SET status = 'active'", vec![]).await;
        assert_eq!(system.sweep(NOW).await.unwrap(), 0);
        f.write(
            "UPDATE leads SET status = 'unsubscribed' WHERE id IN (SELECT lead_id FROM sends ORDER BY lead_id LIMIT 1)",
            vec![],
        )
        .await;
        let mut ended = Vec::new();
        for _ in 0..3 {
            ended.push(system.sweep(NOW).await.unwrap());
        }
        assert_eq!(ended, [0, 0, 1]);
        let kept = async || f.one::<i64>("SELECT COUNT(*) AS x FROM sweep_progress WHERE lead_id IS NOT NULL").await;
        // A place that was kept is nothing to go by once no send is open.
        assert_eq!(kept().await, 1);
        f.write("UPDATE sends SET status = 'cancelled', open = false", vec![]).await;
        assert_eq!(system.sweep(NOW).await.unwrap(), 0);
        assert_eq!(kept().await, 0);
    });
}

fn the_sweep_ends_what_a_cancelled_campaign_left_in_its_dot(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, fence) = Scene::one_dot(store, |_| {}).await;
        assert_eq!(f.tenant().cancel_campaign(f.campaign_id, NOW).await.unwrap(), Some(0));
        f.settled(&job, fence, Outcome::Refused(ReplyAction::Retry), NOW).await;
        assert_eq!(f.sends().await, ["queued"]);
        assert_eq!(f.store.system().sweep(NOW).await.unwrap(), 1);
        assert_eq!(f.sends().await, ["cancelled"]);
        assert_eq!(f.one::<String>("SELECT reason AS x FROM sends").await, "campaign_cancelled");
    });
}

fn a_campaign_is_complete_only_when_nothing_is_open_or_held_or_to_come(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::draft(store, |s| s.steps = vec![email_step("Hello", 0.0)]).await;
        let done = async |now| f.store.system().complete_campaigns(now).await.unwrap().len();
        f.tenant().start_campaign(f.campaign_id, NOW).await.unwrap();
        assert_eq!(done(NOW).await, 0, "nobody is enrolled yet");
        f.enroll(0..2).await;
        assert_eq!(done(NOW).await, 0, "nothing is planned yet");
        let jobs = f.jobs(NOW).await;
        let mut poisoned = result(&jobs[0], jobs[0].fence, Outcome::Poison, NOW);
        poisoned.was_dot = false;
        f.apply(&[poisoned], NOW).await;
        assert_eq!(done(NOW).await, 0, "one is open");
        let fence = f.granted(&jobs[1], NOW).await;
        assert_eq!(done(NOW).await, 0, "one is in its dot");
        f.apply(&[last_result(&jobs[1], fence, NOW)], NOW).await;
        f.store.system().sweep(NOW + DAY).await.unwrap();
        assert_eq!(done(NOW).await, 0, "one is held");
        f.apply(&[last_result(&jobs[0], jobs[0].fence, NOW)], NOW).await;
        assert_eq!(done(NOW).await, 1);
        assert_eq!(done(NOW).await, 0);
        assert_eq!(f.one::<Timestamp>("SELECT completed_at AS x FROM campaigns").await, NOW);
    });
}

fn a_completed_campaign_with_new_leads_goes_on(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, fence) = Scene::one_dot(store, |s| s.steps.truncate(1)).await;
        f.apply(&[last_result(&job, fence, NOW)], NOW).await;
        assert_eq!(f.store.system().complete_campaigns(NOW).await.unwrap().len(), 1);
        assert!(!f.tenant().start_campaign(f.campaign_id, NOW).await.unwrap(), "there is nothing to do");
        const STATUS: &str = "SELECT status AS x FROM campaigns";
        assert_eq!(f.enroll(0..1).await, 0);
        assert_eq!(f.one::<String>(STATUS).await, "completed", "nobody new has come");
        assert_eq!(f.enroll(0..2).await, 1);
        assert_eq!(f.one::<String>(STATUS).await, "sending");
        assert_eq!(f.jobs(NOW + Duration::from_secs(1)).await.len(), 1);
    });
}

on_every_engine! {
    a_heartbeat_counts_up
    dots_of_gives_an_owners_open_dots_and_nobody_elses
    an_owner_whose_heartbeat_moved_since_is_left_alone
    settings_that_make_no_sense_leave_a_dead_owners_dot_to_a_person
    what_only_the_message_could_tell_proves_that_it_has_arrived
    an_owner_with_an_open_dot_is_not_forgotten
    the_sweep_names_an_owner_whose_dot_no_heartbeat_shows
    a_wrong_reapers_verdict_leaves_the_fence_for_the_slow_owners_250
    reconcile_brings_what_has_no_hint_and_marks_it
    reconcile_looks_at_each_lane_by_itself_the_most_urgent_first
    two_reconcilers_at_once_bring_each_send_once
    reconcile_leaves_what_may_not_go
    the_sweep_skips_a_switched_off_step_and_its_lead_goes_on
    the_sweep_cancels_what_a_suppressed_lead_left_and_ends_its_enrollment
    the_sweep_looks_page_by_page_and_begins_again
    the_sweep_ends_what_a_cancelled_campaign_left_in_its_dot
    a_campaign_is_complete_only_when_nothing_is_open_or_held_or_to_come
    a_completed_campaign_with_new_leads_goes_on
}

/// Due sends of other lanes are not read for it, however many they are.
#[test]
fn postgres_reads_a_lane_by_its_index() {
    crate::engine::on_postgres(async |url| {
        let statement = all_statements(Dialect::Postgres).into_iter().find(|s| s.name == "RECONCILE").unwrap();
        let client = crate::engine::connect(&url).await;
        let prepare = format!(
            "PREPARE lane (timestamptz, bigint, timestamptz, bigint, bigint, bigint) AS {}; SET enable_seqscan = off; \
             SET plan_cache_mode = force_generic_plan",
            statement.postgres()
        );
        client.batch_execute(&prepare).await.unwrap();
        let rows = client.simple_query("EXPLAIN EXECUTE lane (now(), 1, now(), 1000, 51, 150)").await.unwrap();
        let plan: Vec<&str> = rows
            .iter()
            .filter_map(|row| match row {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            })
            .collect();
        let at = plan.iter().position(|line| line.contains("sends_open_lane")).unwrap_or_else(|| panic!("{plan:#?}"));
        let condition = plan[at + 1];
        assert!(condition.contains("priority >= ") && condition.contains("not_before <= "), "{plan:#?}");
    });
}
