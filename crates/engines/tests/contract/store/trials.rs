//! Trials of a step's variants in the ledger: who got which, who waits, who decides, and what edits and retries leave alone.
//!
//! Not responsible for the hashes or for which variant wins (`domain::trial`). To add an effect of an edit: a case here.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::campaign::Repeat;
use domain::event::EventType;
use domain::forecast::{Rhythm, World};
use domain::ids::LeadId;
use domain::schedule::WarmupTable;
use domain::settle::{Outcome, ReplyAction};
use domain::time::{Timestamp, Zone};
use domain::trial::{Measure, PARKED, Rule, Trial, Variant};
use engines::Store;
use engines::store::dot::DotAnswer;
use engines::store::fetch::SendJob;
use engines::store::setup::{Setup, SetupError, TemplateSetup, TrialSetup, VariantSetup};
use engines::store::trials::{Decided, Declared, OpenTrial, TrialReport};

use super::scene::{DAY, HOUR, MINUTE, Scene, account, apply_setup_at, last_result, result};
use crate::engine::{Engine, NOW, with_store, with_stores};
use crate::on_every_engine;

/// Variants of the first step; their subjects are their keys.
pub fn trial(keys: &[&str], sample_percent: Option<u32>) -> TrialSetup {
    let variant = |key: &&str| VariantSetup {
        variant: Variant { key: (*key).to_owned(), weight: 1 },
        template: TemplateSetup { subject: (*key).to_owned(), html: "<p>Hi</p>".into(), text: None },
    };
    let rule = sample_percent.map(|sample_percent| Rule { by: Measure::Opens, after: 4 * HOUR, sample_percent });
    TrialSetup { variants: keys.iter().map(variant).collect(), rule }
}

/// One mail with these variants.
fn only(setup: &mut Setup, trial: TrialSetup) {
    setup.steps.truncate(1);
    setup.steps[0].template = Some(trial.variants[0].template.clone());
    setup.steps[0].trial = Some(trial);
}

impl Scene {
    async fn the_trial(&self) -> Trial {
        let plan = self.tenant().get_campaign(self.campaign_id).await.unwrap().plan;
        plan.trials[&plan.steps[0].id].clone()
    }

    async fn open_trial(&self) -> OpenTrial {
        let plan = self.tenant().get_campaign(self.campaign_id).await.unwrap().plan;
        OpenTrial { tenant_id: self.tenant_id, campaign_id: self.campaign_id, step_id: plan.steps[0].id }
    }

    async fn report(&self) -> TrialReport {
        self.tenant().list_trials(self.campaign_id).await.unwrap().remove(0)
    }

    /// The variant of each lead's send.
    async fn variants(&self) -> BTreeMap<LeadId, Option<String>> {
        let leads = self.column::<LeadId>("SELECT lead_id AS x FROM sends ORDER BY id").await;
        let variants = self.column("SELECT variant AS x FROM sends ORDER BY id").await;
        leads.into_iter().zip(variants).collect()
    }

    async fn parked(&self) -> usize {
        let due = self.column::<Option<Timestamp>>("SELECT due_at AS x FROM campaign_leads").await;
        due.into_iter().filter(|at| *at == Some(PARKED)).count()
    }

    async fn subject(&self, job: &SendJob) -> String {
        self.tenant().get_template(job.template.0).await.unwrap().subject
    }

    /// Looks at the trial as a scheduler does.
    async fn judge(&self, now: Timestamp) -> Option<Decided> {
        let mut decided = None;
        for trial in self.store.system().open_trials(now).await.unwrap() {
            decided = decided.or(self.store.system().judge_trial(&trial, now).await.unwrap());
        }
        decided
    }
}

fn each_lead_gets_the_text_of_its_variant(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 24, |s| only(s, trial(&["a", "b", "c"], None))).await;
        let jobs = f.jobs(NOW).await;
        let (trial, step, variants) = (f.the_trial().await, jobs[0].step_id, f.variants().await);
        assert_eq!(jobs.len(), 24);
        for job in &jobs {
            let assigned = trial.assigned(step, job.lead.id).unwrap();
            assert_eq!((&*f.subject(job).await, variants[&job.lead.id].as_deref()), (assigned, Some(assigned)));
        }
        let got: std::collections::BTreeSet<_> = variants.into_values().collect();
        assert_eq!(got.len(), 3, "each variant has its leads");
    });
}

fn a_retry_and_a_new_account_keep_the_variant(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 12, |s| {
            s.accounts.push(account("bob@acme.test"));
            only(s, trial(&["a", "b"], None));
        })
        .await;
        let jobs = f.jobs(NOW).await;
        let before = f.variants().await;
        let retried = jobs.iter().find(|job| before[&job.lead.id].as_deref() == Some("b")).unwrap();
        let fence = f.granted(retried, NOW).await;
        f.settled(retried, fence, Outcome::Refused(ReplyAction::Retry), NOW).await;
        // Another account takes over what was planned at one that stopped, and everybody is to get `a` from now on.
        let declared = f.tenant().declare_winner(f.campaign_id, 1, "a", NOW).await.unwrap();
        assert_eq!(declared, Declared::Done(None, 0));
        let other = jobs.iter().find(|job| job.account.0 != retried.account.0).unwrap();
        let paused = domain::email_account::AccountStatus::Paused;
        f.tenant().set_account_status(other.account.0, paused, Some("by hand"), NOW).await.unwrap();
        f.store.system().sweep(NOW).await.unwrap();
        assert!(!f.plan(NOW).await.planned.is_empty(), "they are planned anew");
        assert_eq!(f.variants().await, before);
        let again = f.refetch(retried, NOW + HOUR).await.unwrap();
        assert_eq!(f.subject(&again).await, "b");
        assert_eq!(f.enroll(12..14).await, 2);
        f.plan(NOW + MINUTE).await;
        let new = f.variants().await.into_iter().filter(|(lead, _)| !before.contains_key(lead));
        assert!(new.into_iter().all(|(_, variant)| variant.as_deref() == Some("a")), "who comes later gets the winner");
    });
}

/// What a message was made of is compared by the text of its own variant.
fn the_gate_compares_the_variants_own_text(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 12, |s| only(s, trial(&["a", "b"], None))).await;
        let jobs = f.jobs(NOW).await;
        let variants = f.variants().await;
        let of = |key: &str| jobs.iter().find(|job| variants[&job.lead.id].as_deref() == Some(key)).unwrap();
        f.write("UPDATE templates SET version = version + 1 WHERE subject = 'b' AND name LIKE '%variant b'", vec![])
            .await;
        assert!(matches!(f.dot(of("a"), NOW).await, DotAnswer::Granted { .. }));
        assert_eq!(f.dot(of("b"), NOW).await, DotAnswer::Outdated);
        let again = f.refetch(of("b"), NOW).await.unwrap();
        assert_eq!((f.subject(&again).await.as_str(), again.template.0), ("b", of("b").template.0));
        assert!(matches!(f.dot(&again, NOW).await, DotAnswer::Granted { .. }));
    });
}

/// Opens all mails of one variant.
async fn open_all_of(f: &Scene, jobs: &[SendJob], key: &str) {
    let variants = f.variants().await;
    let of = jobs.iter().filter(|job| variants[&job.lead.id].as_deref() == Some(key));
    let events: Vec<_> = of.map(|job| f.event(job, EventType::Open)).collect();
    assert!(!events.is_empty());
    f.store.system().store_events(&events, NOW + HOUR).await.unwrap();
}

fn the_sample_decides_and_the_rest_gets_the_winner(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 30, |s| only(s, trial(&["a", "b"], Some(40)))).await;
        assert_eq!(f.judge(NOW).await, None);
        let jobs = f.jobs(NOW).await;
        let (trial, step) = (f.the_trial().await, jobs[0].step_id);
        assert!(jobs.iter().all(|job| !trial.waits(step, job.lead.id)), "the sample alone is planned");
        let parked = 30 - jobs.len();
        assert_eq!((f.parked().await, f.report().await.waiting), (parked, parked as u64));
        let reasons = f.tenant().campaign_report(f.campaign_id).await.unwrap().reasons;
        let told = reasons.iter().find(|reason| reason.reason == "ab_winner").unwrap();
        assert_eq!((told.state.as_str(), told.count), ("pending", parked as u64));
        for (n, job) in (0..).zip(&jobs) {
            assert_eq!(f.judge(NOW + n * MINUTE).await, None, "the sample is under way");
            f.send(job, NOW + n * MINUTE).await;
        }
        open_all_of(&f, &jobs, "b").await;
        let last = NOW + u32::try_from(jobs.len() - 1).unwrap() * MINUTE;
        assert_eq!(f.judge(last + MINUTE).await, None);
        assert_eq!(f.judge(last + 4 * HOUR - MINUTE).await, None);
        assert!(f.plan(last + 4 * HOUR - MINUTE).await.planned.is_empty());
        let decided = f.judge(last + 4 * HOUR + MINUTE).await.unwrap();
        assert_eq!(decided, Decided { step_order: 1, winner: "b".into(), waited: parked as u64 });
        let due = f.column::<Timestamp>("SELECT due_at AS x FROM campaign_leads WHERE due_at IS NOT NULL").await;
        assert!(due.len() == parked && due.iter().all(|at| *at == last + 4 * HOUR), "as of the moment of the rule");
        let rest = f.jobs(last + 4 * HOUR + MINUTE).await;
        assert_eq!(rest.len(), parked);
        for job in &rest {
            assert_eq!(f.subject(job).await, "b");
        }
        let report = f.report().await;
        let (winner, at, by) = report.winner.unwrap();
        assert_eq!((&*winner, at, by.as_deref()), ("b", Some(last + 4 * HOUR + MINUTE), Some("rule")));
        assert!(report.variants[1].opens == report.variants[1].sent && report.variants[0].opens == 0);
        assert!(f.store.system().open_trials(NOW + 99 * HOUR).await.unwrap().is_empty(), "it is over");
    });
}

/// Nobody of a small list may be in the sample: then there is nothing to wait for but the time itself.
fn a_trial_that_nobody_is_sent_is_decided_too(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::draft(store, |s| only(s, trial(&["a", "b"], Some(1)))).await;
        let mut enrolled = 0;
        let (trial, step) = (f.the_trial().await, f.open_trial().await.step_id);
        // Ids of leads are new in each run: the first that is not in the sample is taken.
        loop {
            f.enroll(enrolled..enrolled + 1).await;
            let leads = f.column::<LeadId>("SELECT lead_id AS x FROM campaign_leads").await;
            if leads.iter().any(|lead| trial.waits(step, *lead)) {
                break;
            }
            f.write("DELETE FROM campaign_leads", vec![]).await;
            enrolled += 1;
        }
        assert!(f.tenant().start_campaign(f.campaign_id, NOW).await.unwrap());
        assert!(f.jobs(NOW).await.is_empty());
        assert_eq!(f.judge(NOW).await, None);
        assert_eq!(f.judge(NOW + 4 * HOUR).await.unwrap().winner, "a");
        assert_eq!(f.jobs(NOW + 4 * HOUR).await.len(), 1);
    });
}

fn eight_schedulers_decide_once(engine: Engine) {
    with_stores(engine, 8, async |stores: Vec<Store>| {
        let f = Scene::started(stores[0].clone(), 20, |s| only(s, trial(&["a", "b"], Some(50)))).await;
        for job in &f.jobs(NOW).await {
            f.send(job, NOW).await;
        }
        let (trial, then) = (f.open_trial().await, NOW + 5 * HOUR);
        let judge = |store: Store| {
            tokio::spawn(async move {
                for _ in 0..5 {
                    match store.system().judge_trial(&trial, then).await {
                        Err(e) if e.is_transient() => {}
                        other => return other.unwrap(),
                    }
                }
                None
            })
        };
        let asked: Vec<_> = stores.into_iter().map(judge).collect();
        let mut decided = Vec::new();
        for one in asked {
            decided.extend(one.await.unwrap());
        }
        assert_eq!(decided.len(), 1, "{decided:?}");
        assert_eq!((decided[0].winner.as_str(), f.parked().await), ("a", 0));
    });
}

/// A person decides before the rule, the rule never after a person, and a person once more.
fn a_person_decides_at_any_time(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 20, |s| only(s, trial(&["a", "b"], Some(30)))).await;
        let sample = f.jobs(NOW).await.len();
        let tenant = f.tenant();
        let ask = async |step, key: &str| tenant.declare_winner(f.campaign_id, step, key, NOW).await.unwrap();
        assert_eq!(ask(2, "a").await, Declared::NoStep);
        assert_eq!(ask(1, "x").await, Declared::NoVariant(vec!["a".into(), "b".into()]));
        assert_eq!(f.parked().await, 20 - sample, "nothing was changed");
        assert_eq!(ask(1, "b").await, Declared::Done(None, (20 - sample) as u64));
        assert_eq!(f.judge(NOW + 99 * HOUR).await, None);
        assert_eq!(ask(1, "a").await, Declared::Done(Some("b".into()), 0));
        let rest = f.jobs(NOW).await;
        assert_eq!(rest.len(), 20 - sample);
        for job in &rest {
            assert_eq!(f.subject(job).await, "a");
        }
        let (winner, _, by) = f.report().await.winner.unwrap();
        assert_eq!((winner.as_str(), by.as_deref()), ("a", Some("person")));
    });
}

fn an_edit_of_variants_has_a_defined_effect(engine: Engine) {
    with_store(engine, async |store: Store| {
        let mut f = Scene::started(store, 20, |s| only(s, trial(&["a", "b", "c"], Some(40)))).await;
        let jobs = f.jobs(NOW).await;
        let variants = f.variants().await;
        let parked = f.parked().await;
        // `c` is left out, the others are in another order: what was planned with it goes with the first.
        f.edit(NOW + MINUTE, |s| only(s, trial(&["b", "a"], Some(40)))).await;
        assert_eq!(f.sends().await.len(), jobs.len(), "it is the same step");
        for (lead, variant) in f.variants().await {
            let was = variants[&lead].as_deref().unwrap();
            assert_eq!(variant.as_deref(), Some(if was == "c" { "b" } else { was }));
        }
        for job in &jobs {
            let job = f.refetch(job, NOW + MINUTE).await.unwrap();
            assert_eq!(f.variants().await[&job.lead.id], Some(f.subject(&job).await));
        }
        assert_eq!(f.parked().await, 0, "they are asked anew");
        f.plan(NOW + MINUTE).await;
        assert_eq!(f.parked().await, parked, "and wait on");
        // A winner is left out with all the others alone.
        assert!(matches!(
            f.tenant().declare_winner(f.campaign_id, 1, "a", NOW + MINUTE).await.unwrap(),
            Declared::Done(None, _)
        ));
        let mut without = f.setup.clone();
        only(&mut without, trial(&["b", "d"], Some(40)));
        let refused = apply_setup_at(&f.store, &without, NOW + 2 * MINUTE).await.unwrap_err();
        assert!(matches!(&refused, SetupError::WinnerLeftOut { step: 1, variant, .. } if variant == "a"), "{refused}");
        f.edit(NOW + 3 * MINUTE, |s| only(s, trial(&["d", "a"], None))).await;
        assert_eq!(f.the_trial().await.winner.as_deref(), Some("a"), "it stays, whatever becomes of the rule");
        let without_rule = f.report().await;
        assert_eq!(without_rule.rule, None);
        assert_eq!(without_rule.variants.iter().filter(|report| report.is_removed).count(), 2, "`b` and `c`");
        f.edit(NOW + 4 * MINUTE, |s| {
            s.steps[0].trial = None;
            s.steps[0].template.as_mut().unwrap().subject = "plain".into();
        })
        .await;
        let planned = f.plan(NOW + 4 * MINUTE).await.planned;
        assert_eq!(planned.len(), parked);
        for job in f.fetch(&planned, NOW + 4 * MINUTE).await {
            assert_eq!(f.subject(&job).await, "plain");
        }
        assert!(f.variants().await.values().all(Option::is_none), "what is planned goes with the one text");
        assert!(f.tenant().list_trials(f.campaign_id).await.unwrap().is_empty());
    });
}

fn a_forecast_knows_when_the_rule_decides(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 20, |s| only(s, trial(&["a", "b"], Some(40)))).await;
        let foreseen = async |now: Timestamp| {
            let all = f.store.system().prospects(f.tenant_id, f.campaign_id, now).await.unwrap();
            let rhythm =
                Rhythm { tick: Duration::from_secs(1), horizon: MINUTE, page: 100, warmup: WarmupTable::default() };
            let world = World::new(now, rhythm, all.shared, all.campaigns);
            let outlook = world.outlook(all.asked, &Zone::UTC, NOW + 400 * 24 * HOUR);
            assert!(outlook.is_done);
            outlook.slots.into_iter().map(|sent| sent.at).collect::<Vec<_>>()
        };
        let said = foreseen(NOW).await;
        let jobs = f.jobs(NOW).await;
        let expected = |sent: usize, at: Timestamp| [vec![NOW; jobs.len() - sent], vec![at; 20 - jobs.len()]].concat();
        assert_eq!(said, expected(0, NOW + 4 * HOUR));
        assert_eq!(foreseen(NOW).await, said, "the same with sends that have their slot");
        for job in &jobs {
            f.send(job, NOW).await;
        }
        assert_eq!(foreseen(NOW + HOUR).await, expected(jobs.len(), NOW + 4 * HOUR), "and with a sample that is sent");
        assert_eq!(foreseen(NOW + 9 * HOUR).await, expected(jobs.len(), NOW + 9 * HOUR), "late, in the next turn");
    });
}

/// Who waits for the first winner has the second mail still ahead: nobody decides about it before the whole sample was sent it.
fn a_second_trial_waits_for_those_who_wait_for_the_first(engine: Engine) {
    with_store(engine, async |store: Store| {
        let both = |s: &mut Setup| {
            for (step, hours) in s.steps.iter_mut().zip([48, 4]) {
                step.trial = Some(trial(&["a", "b"], Some(50)));
                step.trial.as_mut().unwrap().rule.as_mut().unwrap().after = hours * HOUR;
            }
            s.steps[1].wait_hours = 1.0;
        };
        let f = Scene::started(store, 40, both).await;
        let send_all = async |now: Timestamp| {
            let jobs = f.jobs(now).await;
            for job in &jobs {
                f.send(job, now).await;
            }
            jobs.len()
        };
        send_all(NOW).await;
        send_all(NOW + HOUR).await;
        for hours in [2, 6, 24, 47] {
            assert_eq!(f.judge(NOW + hours * HOUR).await, None, "at {hours} h");
        }
        assert_eq!(f.judge(NOW + 48 * HOUR).await.map(|decided| decided.step_order), Some(1));
        send_all(NOW + 48 * HOUR).await;
        assert_eq!(f.judge(NOW + 49 * HOUR - MINUTE).await, None, "they come to the second");
        assert!(send_all(NOW + 49 * HOUR).await > 0);
        assert_eq!(f.judge(NOW + 53 * HOUR - MINUTE).await, None);
        assert_eq!(f.judge(NOW + 53 * HOUR).await.map(|decided| decided.step_order), Some(2));
    });
}

/// A mail that is put off by its account is sent later: whoever waits for the winner waits for it.
fn a_mail_of_the_sample_that_is_tried_again_is_waited_for(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 20, |s| only(s, trial(&["a", "b"], Some(40)))).await;
        let jobs = f.jobs(NOW).await;
        let (late, others) = jobs.split_first().unwrap();
        for job in others {
            f.send(job, NOW).await;
        }
        let fence = f.granted(late, NOW).await;
        f.settled(late, fence, Outcome::Refused(ReplyAction::Retry), NOW).await;
        assert_eq!(f.judge(NOW + 6 * HOUR).await, None);
        let again = f.refetch(late, NOW + 6 * HOUR).await.unwrap();
        let fence = f.granted(&again, NOW + 6 * HOUR).await;
        let bounced = result(&again, fence, Outcome::Refused(ReplyAction::BounceHard), NOW + 6 * HOUR);
        f.apply(&[bounced], NOW + 6 * HOUR).await;
        assert!(f.judge(NOW + 7 * HOUR).await.is_some(), "one that is not sent is waited for no longer");
    });
}

/// They come back before the hours of the rule are over, and would put its decision off for ever.
fn leads_who_come_back_are_tried_once(engine: Engine) {
    with_store(engine, async |store: Store| {
        let f = Scene::started(store, 30, |s| {
            let mut trial = trial(&["a", "b"], Some(40));
            trial.rule.as_mut().unwrap().after = 30 * HOUR;
            only(s, trial);
            s.settings.repeat = Some(Repeat::Daily);
        })
        .await;
        let (sample, system) = (f.jobs(NOW).await, f.store.system());
        for job in &sample {
            let fence = f.granted(job, NOW).await;
            f.apply(&[last_result(job, fence, NOW)], NOW).await;
        }
        open_all_of(&f, &sample, "b").await;
        let due = system.due_rounds(NOW + DAY).await.unwrap().remove(0);
        assert_eq!(system.begin_round(&due, None, 100, NOW + DAY).await.unwrap().began, sample.len() as u64);
        assert_eq!(f.judge(NOW + DAY).await, None);
        let again = f.jobs(NOW + DAY).await;
        assert_eq!(again.len(), sample.len(), "the second round");
        for job in &again {
            let fence = f.granted(job, NOW + DAY).await;
            f.apply(&[last_result(job, fence, NOW + DAY)], NOW + DAY).await;
        }
        let decided = f.judge(NOW + 30 * HOUR).await.unwrap();
        assert_eq!((&*decided.winner, decided.waited), ("b", 30 - sample.len() as u64));
        let sent: u64 = f.report().await.variants.iter().map(|variant| variant.sent).sum();
        assert_eq!(sent, sample.len() as u64, "leads, not mails");
    });
}

on_every_engine! {
    a_second_trial_waits_for_those_who_wait_for_the_first
    leads_who_come_back_are_tried_once
    each_lead_gets_the_text_of_its_variant
    a_retry_and_a_new_account_keep_the_variant
    the_gate_compares_the_variants_own_text
    the_sample_decides_and_the_rest_gets_the_winner
    a_trial_that_nobody_is_sent_is_decided_too
    eight_schedulers_decide_once
    a_person_decides_at_any_time
    an_edit_of_variants_has_a_defined_effect
    a_forecast_knows_when_the_rule_decides
    a_mail_of_the_sample_that_is_tried_again_is_waited_for
}
