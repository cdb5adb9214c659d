//! Refusals for policy: five of the last hundred results of a campaign or an account pause it, until a person resumes it.

use std::time::Duration;

use domain::campaign::CampaignStatus;
use domain::email_account::AccountStatus;
use domain::settle::{Outcome, ReplyAction};
use domain::time::Timestamp;
use engines::store::fetch::SendJob;
use engines::store::refusals::Paused;
use engines::{Store, values};

use super::scene::{OWNER, Scene, apply_setup, result};
use crate::engine::{Engine, NOW, new_id, with_store};
use crate::on_every_engine;

const SECOND: Duration = Duration::from_secs(1);

/// Writes that the server refused this mail for policy; what that paused.
async fn refuse(f: &Scene, job: &SendJob, now: Timestamp) -> Vec<Paused> {
    let mut refused = result(job, job.fence, Outcome::Refused(ReplyAction::FailPolicy), now);
    refused.was_dot = false;
    let written = f.store.system().apply(&[refused], OWNER, &new_id, now).await.unwrap();
    assert_eq!(written.applied, [engines::store::apply::Applied::Done]);
    written.paused
}

async fn accept(f: &Scene, job: &SendJob, now: Timestamp) {
    f.settled(job, job.fence, Outcome::Accepted, now).await;
}

/// Status and reason of the campaign and of its account.
async fn stands(f: &Scene, job: &SendJob) -> [(String, Option<String>); 2] {
    let report = f.tenant().campaign_report(f.campaign_id).await.unwrap();
    let account = f.tenant().get_account(f.account_of(job)).await.unwrap();
    [(report.status.to_string(), report.status_reason), (account.status.to_string(), account.status_reason)]
}

fn paused() -> (String, Option<String>) {
    ("paused".into(), Some("refusal_rate".into()))
}

/// Their ids, as they are told.
fn both(f: &Scene, job: &SendJob) -> [Paused; 2] {
    [Paused::Campaign(f.campaign_id), Paused::EmailAccount(f.account_of(job))]
}

fn the_fifth_refusal_pauses_the_campaign_and_its_account(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 10, |_| {}).await;
        let jobs = f.jobs(NOW).await;
        for job in &jobs[..3] {
            accept(&f, job, NOW).await;
        }
        for job in &jobs[3..7] {
            assert_eq!(refuse(&f, job, NOW).await, [], "four are not too many");
        }
        let unknown = result(&jobs[9], jobs[9].fence, Outcome::Refused(ReplyAction::BounceHard), NOW);
        f.apply(&[unknown], NOW).await;
        assert_eq!(stands(&f, &jobs[0]).await, [("sending".into(), None), ("active".into(), None)]);
        assert_eq!(refuse(&f, &jobs[7], NOW).await, both(&f, &jobs[0]));
        assert_eq!(stands(&f, &jobs[0]).await, [paused(), paused()]);
        assert!(f.refetch(&jobs[8], NOW).await.is_none(), "what is left waits");
        assert_eq!(f.dot(&jobs[8], NOW).await, engines::store::dot::DotAnswer::Refused);
        assert_eq!(refuse(&f, &jobs[8], NOW).await, [], "it is paused already");
        let live = f.store.system().list_live_campaigns(10).await.unwrap();
        assert_eq!(live, [(f.tenant_id, f.campaign_id, Some("refusal_rate".into()))]);
    });
}

fn a_refusal_before_the_last_hundred_results_counts_no_more(engine: Engine) {
    for (between, pauses) in [(95, true), (96, false)] {
        with_store(engine, async |store: Store| {
            let f = Scene::started(store, 5 + between, |_| {}).await;
            let mut jobs = f.jobs(NOW).await;
            jobs.extend(f.jobs(NOW).await);
            assert_eq!(jobs.len(), 5 + between);
            for job in &jobs[..4] {
                refuse(&f, job, NOW).await;
            }
            let sent = "UPDATE sends SET status = 'sent', open = false, settled_at = $1 WHERE open AND id <> $2";
            f.write(sent, values![NOW + SECOND, jobs[4].send_id]).await;
            let told = refuse(&f, &jobs[4], NOW + 2 * SECOND).await;
            assert_eq!(told.len(), if pauses { 2 } else { 0 }, "{between} between the fourth and the fifth");
        });
    }
}

fn whoever_resumes_begins_a_new_window(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 12, |_| {}).await;
        let jobs = f.jobs(NOW).await;
        for job in &jobs[..5] {
            refuse(&f, job, NOW).await;
        }
        let later = NOW + SECOND;
        assert!(f.tenant().resume_campaign(f.campaign_id, later).await.unwrap());
        assert_eq!(stands(&f, &jobs[0]).await, [("sending".into(), None), ("active".into(), None)]);
        let after = NOW + 2 * SECOND;
        for job in &jobs[5..9] {
            assert_eq!(refuse(&f, &f.refetch(job, after).await.unwrap(), after).await, [], "the old ones are forgiven");
        }
        assert_eq!(refuse(&f, &f.refetch(&jobs[9], after).await.unwrap(), after).await, both(&f, &jobs[0]));
        // An account that another program sets to active again begins anew as well.
        f.write("UPDATE email_accounts SET status = 'active'", vec![]).await;
        f.write("UPDATE campaigns SET status = 'sending'", vec![]).await;
        let last = NOW + 3 * SECOND;
        assert_eq!(refuse(&f, &f.refetch(&jobs[10], last).await.unwrap(), last).await, []);
    });
}

fn what_a_person_paused_is_not_resumed_with_the_campaign(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 6, |_| {}).await;
        let jobs = f.jobs(NOW).await;
        for job in &jobs[..5] {
            refuse(&f, job, NOW).await;
        }
        let (tenant, account) = (f.tenant(), f.account_of(&jobs[0]));
        tenant.set_account_status(account, AccountStatus::Paused, Some("by hand"), NOW).await.unwrap();
        assert!(tenant.resume_campaign(f.campaign_id, NOW).await.unwrap());
        let [campaign, account_now] = stands(&f, &jobs[0]).await;
        assert_eq!(campaign, ("sending".into(), None));
        assert_eq!(account_now, ("paused".into(), Some("by hand".into())));
        // Where the account alone was paused by the rule, resuming its campaign is how it goes on.
        tenant.set_account_status(account, AccountStatus::Paused, Some("refusal_rate"), NOW).await.unwrap();
        assert!(tenant.resume_campaign(f.campaign_id, NOW).await.unwrap());
        assert_eq!(stands(&f, &jobs[0]).await[1], ("active".into(), None));
        assert!(!tenant.resume_campaign(f.campaign_id, NOW).await.unwrap(), "nothing of it is paused");
    });
}

fn an_account_is_judged_over_its_campaigns_and_a_campaign_over_its_accounts(engine: Engine) {
    with_store(engine, async |store: Store| {
        let first = Scene::started(store.clone(), 4, |_| {}).await;
        let mut setup = super::scene::acme();
        setup.campaign = "Second".into();
        let report = apply_setup(&store, &setup).await.unwrap();
        let second = Scene { store, setup, tenant_id: report.tenant_id, campaign_id: report.campaign_id };
        second.enroll(0..4).await;
        assert!(second.tenant().start_campaign(second.campaign_id, NOW).await.unwrap());
        let (one, two) = (first.jobs(NOW).await, second.jobs(NOW).await);
        for job in &one[..3] {
            assert_eq!(refuse(&first, job, NOW).await, []);
        }
        assert_eq!(refuse(&second, &two[0], NOW).await, []);
        let account = first.account_of(&one[0]);
        assert_eq!(refuse(&second, &two[1], NOW).await, [Paused::EmailAccount(account)]);
        for f in [&first, &second] {
            let [campaign, account] = stands(f, &one[0]).await;
            assert_eq!((campaign.0.as_str(), account), (CampaignStatus::Sending.as_str(), paused()));
        }
    });
}

fn of_two_workers_the_second_sees_the_firsts_refusal(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 5, |_| {}).await;
        let jobs = f.jobs(NOW).await;
        for job in &jobs[..3] {
            refuse(&f, job, NOW).await;
        }
        let (one, other) = tokio::join!(refuse(&f, &jobs[3], NOW), refuse(&f, &jobs[4], NOW));
        assert_eq!([one, other].concat(), both(&f, &jobs[0]), "one of them is the fifth");
    });
}

on_every_engine! {
    the_fifth_refusal_pauses_the_campaign_and_its_account
    a_refusal_before_the_last_hundred_results_counts_no_more
    whoever_resumes_begins_a_new_window
    what_a_person_paused_is_not_resumed_with_the_campaign
    an_account_is_judged_over_its_campaigns_and_a_campaign_over_its_accounts
    of_two_workers_the_second_sees_the_firsts_refusal
}
