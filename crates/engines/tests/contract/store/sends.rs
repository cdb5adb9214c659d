//! One send with all that was tried, and a campaign's sends that did not go.

use domain::send::SendStatus;
use domain::settle::{Outcome, ReplyAction};
use engines::Store;
use engines::store::fetch::SendJob;

use super::scene::{HOUR, MINUTE, OWNER, Scene, result};
use crate::engine::{Engine, NOW, with_store};
use crate::on_every_engine;

fn a_send_is_found_by_its_id_and_by_its_lead(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, fence) = Scene::one_dot(store, |_| {}).await;
        f.settled(&job, fence, Outcome::Accepted, NOW).await;
        let second = f.jobs(NOW + 48 * HOUR).await.remove(0);
        let system = f.store.system();
        assert_eq!(system.find_tenant_of_send(job.send_id).await.unwrap(), Some(f.tenant_id));
        let nobody = domain::ids::SendId::from_uuid(uuid::Uuid::nil());
        assert_eq!(system.find_tenant_of_send(nobody).await.unwrap(), None);
        let of_lead = async |step| f.tenant().find_send_of_lead(f.campaign_id, job.lead.id, step).await.unwrap();
        assert_eq!(of_lead(None).await, Some(second.send_id), "the last one");
        assert_eq!((of_lead(Some(1)).await, of_lead(Some(7)).await), (Some(job.send_id), None));
    });
}

fn a_send_is_shown_with_its_tries_oldest_first(engine: Engine) {
    with_store(engine, async |store: Store| {
        let (f, job, fence) = Scene::one_dot(store, |_| {}).await;
        f.settled(&job, fence, Outcome::Refused(ReplyAction::Retry), NOW).await;
        let again = f.refetch(&job, NOW + HOUR).await.unwrap();
        let fence = f.granted(&again, NOW + HOUR).await;
        let mut refused = result(&again, fence, Outcome::Refused(ReplyAction::FailPolicy), NOW + HOUR);
        let tried = refused.attempt.as_mut().unwrap();
        (tried.code, tried.enhanced, tried.transcript) =
            (Some(554), Some("5.7.1".into()), Some("rcpt: 554 5.7.1".into()));
        f.apply(&[refused], NOW + HOUR).await;
        let send = f.tenant().get_send(job.send_id, NOW + HOUR).await.unwrap();
        assert_eq!((send.status, send.reason.as_deref()), (SendStatus::Failed, Some("policy_refusal")));
        assert_eq!((send.campaign_name.as_str(), send.step_order, send.attempts), ("Welcome", 1, 2));
        assert_eq!((send.settled_at, send.subject.as_deref()), (Some(NOW + HOUR), Some("Hello")));
        assert_eq!((send.lead.id, send.suppressed), (job.lead.id, false));
        assert_eq!(send.account_email.as_deref(), Some("ana@acme.test"));
        let tries = f.tenant().list_attempts(job.send_id, 10).await.unwrap();
        assert_eq!(tries.iter().map(|t| t.code).collect::<Vec<_>>(), [Some(250), Some(554)]);
        assert_eq!((tries[1].fence, tries[1].owner.as_str(), tries[1].counted), (fence, OWNER, true));
        assert_eq!(tries[1].transcript.as_deref(), Some("rcpt: 554 5.7.1"));
        let newest = f.tenant().list_attempts(job.send_id, 1).await.unwrap();
        assert_eq!(newest.iter().map(|t| t.code).collect::<Vec<_>>(), [Some(554)]);
    });
}

fn failures_come_in_pages_with_the_last_reply(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 4, |_| {}).await;
        let jobs = f.jobs(NOW).await;
        let outcomes = [ReplyAction::FailPolicy, ReplyAction::BounceHard, ReplyAction::Retry, ReplyAction::FailContent];
        for (job, action) in jobs.iter().zip(outcomes) {
            let fence = f.granted(job, NOW).await;
            match action {
                ReplyAction::Retry => {
                    f.settled(&SendJob { unknowns: 1, ..job.clone() }, fence, Outcome::Unknown, NOW).await;
                }
                action => {
                    let mut refused = result(job, fence, Outcome::Refused(action), NOW);
                    refused.attempt.as_mut().unwrap().code = Some(550);
                    f.apply(&[refused], NOW).await;
                }
            }
        }
        let all = f.tenant().list_failures(f.campaign_id, None, 10).await.unwrap();
        let seen: Vec<_> = all.iter().map(|x| (x.send_id, x.status.as_str(), x.reason.as_str())).collect();
        let expected = [
            (jobs[0].send_id, "failed", "policy_refusal"),
            (jobs[1].send_id, "bounced", "unknown_recipient"),
            (jobs[2].send_id, "held", "unknown"),
            (jobs[3].send_id, "failed", "content_refused"),
        ];
        assert_eq!(seen, expected);
        assert_eq!((all[0].code, all[0].lead_id, all[0].attempts), (Some(550), jobs[0].lead.id, 1));
        assert_eq!((all[2].unknowns, all[2].settled_at), (1, Some(NOW)));
        let mut after = None;
        for one in &all {
            let page = f.tenant().list_failures(f.campaign_id, after, 1).await.unwrap();
            assert_eq!(page.iter().map(|x| x.send_id).collect::<Vec<_>>(), [one.send_id]);
            after = Some(one.send_id);
        }
        assert!(f.tenant().list_failures(f.campaign_id, after, 1).await.unwrap().is_empty());
        f.store.system().sweep(NOW + MINUTE).await.unwrap();
        assert_eq!(f.store.system().complete_campaigns(NOW + MINUTE).await.unwrap(), [], "one is held");
    });
}

on_every_engine! {
    a_send_is_found_by_its_id_and_by_its_lead
    a_send_is_shown_with_its_tries_oldest_first
    failures_come_in_pages_with_the_last_reply
}
