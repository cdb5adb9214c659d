//! A campaign's daily limit at the dot: the day of the dot is charged, on whatever day the send was to leave.

use std::collections::BTreeMap;

use domain::settle::{Outcome, ReplyAction};
use domain::time::Timestamp;
use engines::Store;
use engines::store::dot::{DotAnswer, DotRequest};
use engines::store::fetch::SendJob;

use super::scene::{DAY, HOUR, MINUTE, OWNER, Scene, account, result};
use crate::engine::{Engine, NOW, with_store};
use crate::on_every_engine;

const TODAY: &str = "2026-03-02";
const TOMORROW: &str = "2026-03-03";
const THE_DAY_AFTER: &str = "2026-03-04";

/// A campaign with a limit, two accounts without any, and so many leads.
async fn limited(store: Store, limit: u32, leads: usize) -> Scene {
    Scene::started(store, leads, |s| {
        s.settings.daily_limit = Some(limit);
        s.accounts.push(account("bob@acme.test"));
    })
    .await
}

/// Reserved and used slots of the campaign's days.
async fn days(f: &Scene) -> BTreeMap<String, (i64, i64)> {
    let rows: Vec<String> = f
        .column("SELECT day || ' ' || reserved || ' ' || used AS x FROM pace_days WHERE scope = 'campaign' AND (reserved > 0 OR used > 0)")
        .await;
    let parsed = rows.iter().map(|row| {
        let mut parts = row.split(' ');
        let day = parts.next().unwrap().to_owned();
        let mut number = || parts.next().unwrap().parse().unwrap();
        (day, (number(), number()))
    });
    parsed.collect()
}

fn of<const N: usize>(days: [(&str, (i64, i64)); N]) -> BTreeMap<String, (i64, i64)> {
    days.map(|(day, slots)| (day.to_owned(), slots)).into()
}

async fn granted(f: &Scene, jobs: &[SendJob], now: Timestamp) -> usize {
    let requests: Vec<DotRequest> = jobs.iter().map(|job| f.request(job, now)).collect();
    f.intend(&requests, now).await.into_iter().filter(|answer| *answer != DotAnswer::Refused).count()
}

fn a_dot_on_the_next_day_is_charged_to_that_day(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = limited(store, 2, 2).await;
        let late = f.jobs(NOW).await;
        assert_eq!(granted(&f, &late, NOW + DAY).await, 2);
        assert_eq!(days(&f).await, of([(TOMORROW, (0, 2))]));
        assert_eq!(f.column::<String>("SELECT campaign_day AS x FROM sends").await, [TOMORROW; 2]);
    });
}

fn a_dot_on_a_full_day_gets_a_slot_of_its_own_on_the_next(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = limited(store, 2, 6).await;
        let late = f.jobs(NOW).await;
        let now = NOW + DAY;
        let due = f.jobs(now).await;
        assert_eq!((late.len(), due.len()), (2, 2));
        assert_eq!(granted(&f, &late, now).await, 0, "tomorrow's slots are all reserved");
        assert_eq!(days(&f).await, of([(TOMORROW, (2, 0)), (THE_DAY_AFTER, (2, 0))]));
        let waiting = "SELECT reason AS x FROM sends WHERE status = 'queued'";
        assert_eq!(f.column::<String>(waiting).await, ["campaign_cap"; 2]);
        let why = f.store.system().why_refused(&[f.request(&late[0], now)], now).await.unwrap();
        assert_eq!(why, [Some(domain::reason::Reason::CampaignCap)]);
        let until: Vec<Timestamp> = f.column("SELECT not_before AS x FROM sends WHERE status = 'queued'").await;
        assert_eq!(until, [now + 12 * HOUR; 2], "midnight");
        assert_eq!(granted(&f, &due, now).await, 2, "who has a slot of that day goes");
        // Nobody who is planned later takes their slots.
        assert!(f.plan(until[0]).await.planned.is_empty());
        let again = [f.refetch(&late[0], until[0]).await.unwrap(), f.refetch(&late[1], until[0]).await.unwrap()];
        assert_eq!(granted(&f, &again, until[0]).await, 2);
        assert_eq!(days(&f).await, of([(TOMORROW, (0, 2)), (THE_DAY_AFTER, (0, 2))]));
    });
}

/// Whoever is carried over, whoever is planned, by whatever account, at once: the day's limit holds.
fn two_gates_and_a_planner_at_once_never_exceed_the_limit(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = limited(store, 3, 12).await;
        let now = NOW + DAY;
        let late = f.jobs(NOW).await;
        f.write("UPDATE pace_days SET reserved = 0", vec![]).await;
        let later = f.jobs(NOW + MINUTE).await;
        assert_eq!((late.len(), later.len()), (3, 3));
        let (a, b, page) = tokio::join!(granted(&f, &late, now), granted(&f, &later, now), f.plan(now));
        let found = days(&f).await;
        let (reserved, used) = found[TOMORROW];
        assert_eq!((a + b, page.planned.len()), (used.try_into().unwrap(), reserved.try_into().unwrap()));
        assert_eq!(reserved + used, 3, "{found:?}");
        let all: i64 = found.iter().filter(|(day, _)| day.as_str() > TOMORROW).map(|(_, (reserved, _))| reserved).sum();
        assert_eq!(all, 6 - used, "each that was refused has a slot on a later day: {found:?}");
    });
}

/// One that was read before an edit and one that was read behind it meet in a batch, in either order.
fn an_outdated_request_lends_its_limit_to_nobody(engine: Engine) {
    for stale_is_last in [false, true] {
        with_store(engine, async |store: Store| {
            let mut f = limited(store, 3, 3).await;
            let jobs = f.jobs(NOW).await;
            f.granted(&jobs[0], NOW).await;
            let stale = f.request(&jobs[2], NOW + MINUTE);
            f.edit(NOW + MINUTE, |s| s.settings.daily_limit = Some(1)).await;
            let fresh = f.request(&f.refetch(&jobs[1], NOW + MINUTE).await.unwrap(), NOW + MINUTE);
            let mut both = [stale, fresh];
            let mut expected = [DotAnswer::Outdated, DotAnswer::Refused];
            if stale_is_last {
                both.reverse();
                expected.reverse();
            }
            assert_eq!(f.intend(&both, NOW + MINUTE).await, expected);
        });
    }
}

fn a_use_is_given_back_where_the_server_did_not_take_the_message(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = limited(store, 1, 1).await;
        let job = f.jobs(NOW).await.remove(0);
        let fence = f.granted(&job, NOW).await;
        f.settled(&job, fence, Outcome::Refused(ReplyAction::Retry), NOW).await;
        assert_eq!(days(&f).await, of([]));
        let again = f.refetch(&job, NOW + DAY).await.unwrap();
        let fence = f.granted(&again, NOW + DAY).await;
        let requests = [f.request(&again, NOW + DAY)];
        assert_eq!(days(&f).await, of([(TOMORROW, (0, 1))]), "the day on which it went");
        assert_eq!(f.store.system().withdraw(&requests, OWNER, NOW + DAY).await.unwrap(), 1);
        assert_eq!(days(&f).await, of([]));
        let third = f.refetch(&again, NOW + DAY).await.unwrap();
        assert_eq!(third.fence, fence);
        let fence = f.granted(&third, NOW + DAY).await;
        f.settled(&third, fence, Outcome::Accepted, NOW + DAY).await;
        assert_eq!(days(&f).await, of([(TOMORROW, (0, 1))]));
    });
}

fn a_reservation_is_given_back_where_no_dot_can_come(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = limited(store, 1, 2).await;
        let job = f.jobs(NOW).await.remove(0);
        assert_eq!(days(&f).await, of([(TODAY, (1, 0))]));
        let mut failed = result(&job, job.fence, Outcome::NotComposed, NOW);
        failed.was_dot = false;
        f.apply(&[failed], NOW).await;
        assert_eq!(days(&f).await, of([]), "another may go today");
    });
}

on_every_engine! {
    a_dot_on_the_next_day_is_charged_to_that_day
    a_dot_on_a_full_day_gets_a_slot_of_its_own_on_the_next
    two_gates_and_a_planner_at_once_never_exceed_the_limit
    an_outdated_request_lends_its_limit_to_nobody
    a_use_is_given_back_where_the_server_did_not_take_the_message
    a_reservation_is_given_back_where_no_dot_can_come
}
