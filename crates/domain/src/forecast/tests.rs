//! Cases of the forecast: several campaigns in one world, and what it costs.

use super::*;
use crate::campaign::{CampaignSettings, CampaignStatus, Repeat, TimezoneStrategy};
use crate::email_account::{AccountPace, AccountStatus};
use crate::ids::{CampaignId, StepId, TemplateId};
use crate::lead::LeadStatus;
use crate::pace::{DayUse, Days, ProviderLimit, Recipient};
use crate::plan::Past;
use crate::step::{ConditionType, Reactions, Step, StepType};
use crate::time::Zone;

pub(super) const NOW: Timestamp = Timestamp::from_unix_seconds(1_772_366_400); // Sunday 2026-03-01T12:00:00Z
const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);
const FAR: Duration = Duration::from_secs(400 * 24 * 3600);

fn uuid(kind: u32, n: usize) -> uuid::Uuid {
    uuid::Uuid::from_u128(u128::from(kind) << 64 | n as u128)
}

fn account_id(n: usize) -> EmailAccountId {
    EmailAccountId::from_uuid(uuid(1, n))
}

/// An account with a gap, and so many mails a day.
pub(super) fn account(n: usize, gap: u64, daily_limit: Option<u32>) -> (EmailAccountId, AccountBook) {
    let pace = AccountPace {
        daily_limit,
        min_gap: Duration::from_secs(gap),
        warmup_started_at: None,
        zone: Zone::UTC,
        last_slot_at: None,
        backoff_until: None,
        backoff_failures: 0,
    };
    let id = account_id(n);
    (id, AccountBook { id, status: AccountStatus::Active, pace, days: Days::new(), last_dot_at: None })
}

pub(super) fn step(campaign: usize, step_order: u32) -> Step {
    Step {
        id: StepId::from_uuid(uuid(2, campaign * 100 + step_order as usize)),
        step_order,
        step_type: StepType::Email,
        email_account_id: None,
        template_id: Some(TemplateId::from_uuid(uuid(3, 0))),
        wait: if step_order == 1 { Duration::ZERO } else { HOUR },
        wait_until: None,
        condition: ConditionType::Always.into(),
        stop_if_false: false,
        is_active: true,
    }
}

pub(super) fn lead(campaign: usize, n: usize) -> Candidate {
    Candidate {
        enrollment_id: EnrollmentId::from_uuid(uuid(4, campaign * 1_000_000 + n)),
        lead_id: LeadId::from_uuid(uuid(5, n)),
        due: Due { step_order: 1, at: NOW },
        email_account_id: None,
        lead_status: LeadStatus::Active,
        lead_zone: None,
        suppressed: false,
        is_new: true,
        reactions: Reactions::default(),
        past: Past::default(),
        recipient: Recipient::Unlimited,
    }
}

/// A campaign of two mails to so many leads, from these accounts.
pub(super) fn prospect(campaign: usize, leads: usize, pool: &[usize]) -> Prospect {
    let plan = CampaignPlan {
        id: CampaignId::from_uuid(uuid(6, campaign)),
        status: CampaignStatus::Sending,
        settings: CampaignSettings::default(),
        steps: vec![step(campaign, 1), step(campaign, 2)],
        seen_until: None,
        lost_time: None,
        trials: crate::trial::Trials::new(),
    };
    Prospect {
        plan,
        starts_at: None,
        next_plan_at: None,
        waiting: (0..leads).map(|n| lead(campaign, n)).collect(),
        stranded: 0,
        open: Vec::new(),
        pool: pool.iter().map(|n| account_id(*n)).collect(),
        book: CampaignBook { daily_limit: None, zone: Zone::UTC, days: Days::new() },
        trials: Vec::new(),
        rounds: None,
        finished: Vec::new(),
    }
}

fn world(accounts: &[(EmailAccountId, AccountBook)], prospects: Vec<Prospect>) -> World {
    let rhythm = Rhythm {
        tick: Duration::from_secs(1),
        horizon: Duration::from_secs(60),
        page: 500,
        warmup: WarmupTable::default(),
    };
    World::new(
        NOW,
        rhythm,
        Shared { accounts: accounts.iter().cloned().collect(), tenant: None, providers: None },
        prospects,
    )
}

fn outlook(world: World) -> Outlook {
    world.outlook(0, &Zone::UTC, NOW + FAR)
}

/// What lies behind the end of a forecast waits for nobody; what waits for a person does not come by itself.
#[test]
fn a_forecast_says_whether_more_comes_behind_it() {
    let accounts = [account(1, 0, None)];
    let told = |change: fn(&mut Prospect)| {
        let mut asked = prospect(0, 2, &[1]);
        change(&mut asked);
        let outlook = outlook(world(&accounts, vec![asked]));
        (outlook.slots.len(), outlook.is_done, outlook.goes_on)
    };
    assert_eq!(told(|_| {}), (4, true, false));
    assert_eq!(told(|asked| asked.waiting[0].due.at = NOW + FAR + HOUR), (2, false, true));
    assert_eq!(told(|asked| asked.starts_at = Some(NOW + FAR + HOUR)), (0, false, true));
    assert_eq!(told(|asked| asked.plan.steps[1].wait = FAR + HOUR), (2, false, true));
    assert_eq!(told(|asked| asked.plan.steps[1].template_id = None), (2, false, false));
    assert_eq!(told(|asked| asked.plan.status = CampaignStatus::Paused), (0, false, false));
}

/// It rests when its own accounts have no slot, whatever others have: each turn asks no more of its leads then.
#[test]
fn another_campaigns_accounts_change_nothing() {
    let accounts = [account(1, 120, None), account(2, 90, None), account(3, 0, None), account(4, 600, Some(3))];
    let alone = outlook(world(&accounts[..2], vec![prospect(0, 30, &[1, 2])]));
    let others = || vec![prospect(0, 30, &[1, 2]), prospect(1, 10, &[3]), prospect(2, 10, &[4])];
    let beside = outlook(world(&accounts, others()));
    assert!(alone.is_done && alone.slots.len() == 60);
    assert!(alone == beside, "{:?} {:?}", alone.limits, beside.limits);
}

/// An account that is in no pool any more serves the leads that keep it, and its limits hold nobody else.
#[test]
fn an_account_that_leads_keep_counts_until_they_are_done() {
    let accounts = [account(1, 3_600, None), account(2, 0, None)];
    let mut prospect = prospect(0, 10, &[1]);
    for candidate in &mut prospect.waiting {
        candidate.email_account_id = Some(account_id(1));
    }
    let kept = prospect.waiting.last_mut().unwrap();
    kept.email_account_id = Some(account_id(2));
    kept.due.at = NOW + HOUR / 2;
    let slots = outlook(world(&accounts, vec![prospect])).slots;
    let of_kept = slots.iter().find(|sent| sent.account == account_id(2)).unwrap();
    assert_eq!(of_kept.at, NOW + HOUR / 2);
}

/// The account's one slot of the day is held for a lead who has unsubscribed: it comes free when that is seen.
#[test]
fn a_slot_that_is_given_back_wakes_who_rests_for_it() {
    let mut accounts = [account(1, 0, Some(1))];
    let day = Zone::UTC.day(NOW);
    accounts[0].1.days.entry(day.clone()).or_default().reserved = 1;
    let mut holds = prospect(1, 0, &[1]);
    let excluded = Candidate { lead_status: LeadStatus::Unsubscribed, ..lead(1, 50) };
    let (at, days) = (NOW + HOUR, (Some(day.clone()), Some(day)));
    holds.open.push(OpenSend {
        candidate: excluded,
        account: account_id(1),
        at,
        is_dot: false,
        moves_on: true,
        reason: None,
        days,
    });
    let rests = prospect(0, 1, &[1]);
    let slots = outlook(world(&accounts, vec![rests, holds])).slots;
    assert_eq!(slots[0].at, NOW + HOUR, "in the turn of that moment, not on the next day");
}

/// Three an hour, of which one is taken already: each hour's first seconds have what the cap lets through, and others wait for
/// nothing.
#[test]
fn a_providers_cap_is_foreseen() {
    let limit = ProviderLimit { provider: "google.com".into(), per_hour: Some(3), per_day: None };
    let mut book = ProviderBook::new([limit]);
    book.note("google.com", NOW, DayUse { reserved: 0, used: 1 });
    let mut asked = prospect(0, 10, &[1]);
    asked.plan.steps.truncate(1);
    for candidate in asked.waiting.iter_mut().take(8) {
        candidate.recipient = book.recipient(Some("google.com"));
    }
    let mut world = world(&[account(1, 0, None)], vec![asked]);
    world.shared.providers = Some(book);
    let waiting = world.campaigns[0].waiting.page(None, NOW + HOUR, 8, None).remove(7).enrollment_id;
    let explained = {
        let mut later = world.clone();
        while later.step(NOW + HOUR / 2, &mut |_| ()) {}
        later.explain(0, waiting, NOW + FAR)
    };
    assert_eq!(explained.reason, Some(Reason::ProviderCap));
    let outlook = outlook(world);
    let hour = |sent: &Sent| sent.at.since(NOW).as_secs() / 3600;
    let in_hours: Vec<usize> = (0..4).map(|n| outlook.slots.iter().filter(|sent| hour(sent) == n).count()).collect();
    assert_eq!((in_hours, outlook.slots.len()), (vec![2 + 2, 3, 3, 0], 10));
    assert_eq!(outlook.limits[0].0, Reason::ProviderCap, "{:?}", outlook.limits);
}

/// A campaign of one mail, whose window is open in the nine hours before noon where each lead is.
fn in_the_morning(leads: Vec<Candidate>) -> Prospect {
    let mut asked = prospect(0, 0, &[1]);
    asked.plan.steps.truncate(1);
    asked.plan.settings.timezone_strategy = TimezoneStrategy::RecipientLocal;
    asked.plan.settings.send_time_start = "03:00".parse().unwrap();
    asked.plan.settings.send_time_end = "12:00".parse().unwrap();
    asked.waiting = leads;
    asked
}

/// Planning has put it off until the window opens, so that its due time says nothing about its wait any more.
#[test]
fn who_was_put_off_is_told_what_lasts_longest() {
    let told = |hours: u32| {
        let due = Due { step_order: 1, at: NOW + hours * HOUR };
        let asked = Candidate { due, ..lead(0, 0) };
        let world = world(&[account(1, 0, None)], vec![in_the_morning(vec![asked.clone()])]);
        let told = world.explain(0, asked.enrollment_id, NOW + FAR);
        (told.reason, told.slot.unwrap().at)
    };
    let opens = NOW + 15 * HOUR;
    assert_eq!(told(0), (Some(Reason::WindowClosed), opens));
    assert_eq!(told(15), (Some(Reason::WindowClosed), opens), "so it stands in the ledger after its first turn");
    assert_eq!(told(7), (Some(Reason::WindowClosed), opens), "its wait ends sooner");
    assert_eq!(told(16), (Some(Reason::NotDue), NOW + 16 * HOUR));
}

#[test]
fn who_waits_for_a_person_is_told_so_and_not_foreseen() {
    let accounts = [account(1, 0, None)];
    let mut asked = prospect(0, 3, &[1]);
    asked.plan.steps[1].template_id = None;
    let first = asked.waiting[0].enrollment_id;
    let mut put_off = asked.clone();
    for candidate in &mut put_off.waiting {
        candidate.due = Due { step_order: 2, at: NOW + HOUR / 4 };
    }
    let told = world(&accounts, vec![put_off]).explain(0, first, NOW + FAR);
    assert_eq!((told.reason, told.slot), (Some(Reason::StepWithoutTemplate), None));
    let mut world = world(&accounts, vec![asked]);
    while world.step(NOW + FAR, &mut |_| ()) {}
    assert!(!world.is_done(0));
    assert!(world.steps < 20, "nobody is asked again and again: {}", world.steps);
}

/// Whatever else the pool has left.
#[test]
fn who_waits_for_the_account_that_its_step_names_is_foreseen_and_told() {
    let accounts = [account(1, 0, Some(2)), account(2, 0, None)];
    let mut asked = prospect(0, 5, &[1, 2]);
    asked.plan.steps.truncate(1);
    asked.plan.steps[0].email_account_id = Some(account_id(1));
    let world = world(&accounts, vec![asked.clone()]);
    let last = asked.waiting[4].enrollment_id;
    assert_eq!(world.clone().explain(0, last, NOW + FAR).reason, Some(Reason::AccountCap));
    let outlook = outlook(world);
    let days: Vec<u64> = outlook.slots.iter().map(|sent| (sent.at.since(NOW) + DAY / 2).as_secs() / 86_400).collect();
    assert_eq!((days, outlook.is_done), (vec![0, 0, 1, 1, 2], true));
}

/// Nobody knows its provider yet: it is foreseen as if that had no limit, and what it waits for is told.
#[test]
fn who_is_being_looked_up_is_told_so() {
    let mut asked = prospect(0, 2, &[1]);
    asked.waiting[0].recipient = Recipient::NotKnown;
    let [unknown, known] = [0, 1].map(|n| asked.waiting[n].enrollment_id);
    let mut world = world(&[account(1, 0, None)], vec![asked]);
    world.shared.providers = Some(ProviderBook::new([]));
    let told = world.clone().explain(0, unknown, NOW + FAR);
    assert_eq!((told.reason, told.slot.map(|slot| slot.at)), (Some(Reason::ProviderCap), Some(NOW)));
    assert_eq!(world.explain(0, known, NOW + FAR).reason, None);
}

/// How many things happen until a forecast has its answer.
fn steps(look: impl FnOnce(&mut World)) -> u64 {
    let accounts = [account(1, 30, Some(400)), account(2, 40, None)];
    let mut asked = prospect(0, 2_000, &[1, 2]);
    asked.waiting[40].lead_status = LeadStatus::Unsubscribed;
    let mut world = world(&accounts, vec![asked, prospect(1, 500, &[2])]);
    look(&mut world);
    world.steps
}

#[test]
fn a_forecast_ends_with_its_answer() {
    let all = steps(|world| {
        let outlook = world.look_out(0, &Zone::UTC, NOW + FAR, usize::MAX);
        assert_eq!(outlook.slots.len(), 2 * 1_999);
    });
    let calendar = steps(|world| {
        let outlook = world.look_out(0, &Zone::UTC, NOW + FAR, 20);
        assert_eq!((outlook.slots.len(), outlook.is_done, outlook.finish), (20, false, None));
    });
    let explained = |n: usize, leaves: bool| {
        steps(|world| {
            let told = world.follow(0, lead(0, n).enrollment_id, NOW + FAR);
            assert_eq!(told.0.is_some(), leaves);
        })
    };
    let (first, ended, unknown) = (explained(0, true), explained(40, false), explained(5_000, false));
    assert!(calendar < 100 && first < 5, "{calendar} {first}");
    assert!(ended < 500, "the lead gets no mail, which is seen when its turn comes: {ended}");
    assert_eq!(unknown, 0);
    assert!(all > 5_000, "{all}");
}

/// A campaign of two mails at once, which comes back every day three times in all.
fn recurring(leads: usize) -> Prospect {
    let mut prospect = prospect(0, leads, &[1]);
    prospect.plan.settings.repeat = Some(Repeat::Daily);
    prospect.plan.settings.repeat_count = Some(3);
    prospect.plan.steps.iter_mut().for_each(|step| step.wait = Duration::ZERO);
    prospect.rounds = Rounds::of(&prospect.plan.settings, Some(NOW), None);
    prospect
}

#[test]
fn rounds_begin_at_their_occurrences_for_who_has_finished() {
    let foreseen = outlook(world(&[account(1, 0, None)], vec![recurring(4)]));
    let at: Vec<Timestamp> = foreseen.slots.iter().map(|sent| sent.at).collect();
    assert_eq!(at.len(), 4 * 2 * 3);
    for (n, at) in at.chunks(8).enumerate() {
        let begins = NOW + DAY * u32::try_from(n).unwrap();
        assert!(at.iter().all(|at| *at >= begins && *at < begins + Duration::from_secs(120)), "{at:?}");
    }
    assert!(foreseen.is_done && foreseen.next_round.is_none() && foreseen.finish == at.last().copied());
}

#[test]
fn who_is_under_way_at_an_occurrence_or_gets_no_mail_begins_none_of_its_rounds() {
    let mut slow = recurring(3);
    slow.plan.steps[1].wait = Duration::from_secs(30 * 3600);
    slow.waiting[2].lead_status = LeadStatus::Unsubscribed;
    let foreseen = outlook(world(&[account(1, 0, None)], vec![slow]));
    // From the start, and from the third occurrence on: at the second they wait for their second mail.
    assert_eq!(foreseen.slots.len(), 2 * 2 * 2);
    assert!(foreseen.slots[4].at >= NOW + DAY * 2 && foreseen.is_done, "{:?}", foreseen.slots[4]);
}

#[test]
fn of_rounds_without_end_those_are_foreseen_that_begin_in_time_and_the_next_one_is_told() {
    let mut endless = recurring(1);
    endless.plan.settings.repeat_count = None;
    endless.rounds = Rounds::of(&endless.plan.settings, Some(NOW), None);
    let world = world(&[account(1, 0, None)], vec![endless]);
    let foreseen = world.outlook(0, &Zone::UTC, NOW + DAY * 5 + DAY / 2);
    assert_eq!((foreseen.slots.len(), foreseen.finish, foreseen.is_done), (2 * 6, None, false));
    assert_eq!(foreseen.next_round, Some(NOW + DAY * 6));
}

#[test]
fn who_has_finished_is_told_when_the_next_round_begins_and_its_first_mail_leaves() {
    let mut between = recurring(0);
    let finished =
        Candidate { due: Due { step_order: 2, at: NOW }, email_account_id: Some(account_id(2)), ..lead(0, 7) };
    between.finished.push(finished.clone());
    assert!(between.senders().contains(&account_id(2)), "its account is kept");
    let accounts = [account(1, 0, None), account(2, 0, None)];
    let told = world(&accounts, vec![between]).explain(0, finished.enrollment_id, NOW + FAR);
    assert_eq!((told.reason, told.next_round), (None, Some(NOW + DAY)));
    let slot = told.slot.unwrap();
    assert_eq!((slot.step_order, slot.account, slot.at), (1, account_id(2), NOW + DAY));
}

#[test]
fn a_mail_of_an_earlier_round_leaves_and_moves_nobody() {
    let mut old = prospect(0, 0, &[1]);
    let candidate = lead(0, 1);
    let (account_of, at, days) = (account_id(1), NOW + DAY, (None, None));
    let send = |moves_on| OpenSend {
        candidate: candidate.clone(),
        account: account_of,
        at,
        is_dot: false,
        moves_on,
        reason: None,
        days: days.clone(),
    };
    old.open.push(send(false));
    let alone = outlook(world(&[account(1, 0, None)], vec![old.clone()]));
    assert_eq!((alone.slots.len(), alone.is_done), (1, true));
    old.open = vec![send(true)];
    assert_eq!(
        outlook(world(&[account(1, 0, None)], vec![old])).slots.len(),
        2,
        "of its own round the next one follows"
    );
}

/// Who waits for a full account is not asked while another has slots, and is told what its own account says.
#[test]
fn a_line_of_a_full_account_holds_up_no_other() {
    let accounts = [account(1, 0, Some(1)), account(2, 60, None)];
    let mut asked = prospect(0, 400, &[1, 2]);
    for (n, candidate) in asked.waiting.iter_mut().enumerate() {
        candidate.email_account_id = Some(account_id(if n < 300 { 1 } else { 2 }));
        candidate.is_new = false;
        candidate.due.step_order = 2;
    }
    let last = asked.waiting[299].enrollment_id;
    let mut world = world(&accounts, vec![asked]);
    let explained = world.clone().explain(0, last, NOW + FAR);
    assert_eq!(
        (explained.reason, explained.account.map(|book| book.id)),
        (Some(Reason::AccountCap), Some(account_id(1)))
    );
    let Answers { asked, closed, stop } = world.plan(0, &mut |_| ());
    assert_eq!(closed.keys().copied().collect::<Vec<_>>(), [(account_id(1), true), (account_id(2), true)]);
    assert!(asked.len() == 2 && stop.is_some(), "{asked:?}");
    let outlook = outlook(world);
    assert_eq!(outlook.slots.len(), 400);
    let of = |n| outlook.slots.iter().filter(move |sent| sent.account == account_id(n));
    assert!(of(2).next_back().unwrap().at < NOW + 3 * HOUR, "with its own gap alone");
    let of_first: Vec<_> = of(1).map(|sent| sent.enrollment_id).collect();
    assert!(of_first.is_sorted() && of_first.last() == Some(&last), "one a day, in their order");
    assert!(outlook.limits[0].0 == Reason::AccountCap && outlook.limits[0].1 > 0.99, "{:?}", outlook.limits);
}

/// Who passes a wait stands where that puts him, so the first who stands still closes the line.
#[test]
fn who_moves_on_closes_no_line() {
    let mut asked = prospect(0, 4, &[1, 2]);
    asked.plan.steps[0].step_type = StepType::Wait;
    for candidate in &mut asked.waiting {
        candidate.email_account_id = Some(account_id(1));
        candidate.due = Due { step_order: 1, at: NOW - 2 * HOUR };
    }
    asked.waiting[1].due.step_order = 2;
    let ids: Vec<_> = asked.waiting.iter().map(|candidate| candidate.enrollment_id).collect();
    let mut world = world(&[account(1, 0, Some(0)), account(2, 0, None)], vec![asked]);
    let answers = world.plan(0, &mut |_| ());
    assert_eq!(answers.asked.keys().copied().collect::<Vec<_>>(), ids[..2]);
    let place = |n: usize| world.campaigns[0].waiting.of(ids[n]).unwrap().due;
    assert_eq!([place(0), place(2)].map(|due| (due.step_order, due.at)), [(2, NOW - HOUR), (1, NOW - 2 * HOUR)]);
    // The next turn finds the same first, and changes nothing.
    let again = world.plan(0, &mut |_| ());
    assert_eq!(again.asked.keys().copied().collect::<Vec<_>>(), ids[1..2]);
}

/// Three leads, two mails a day, an hour of window a day: all wait 21 hours for it, then one waits 15 hours for the account's next day and 9
/// for its window.
#[test]
fn what_leads_wait_for_is_shared_out_by_their_hours() {
    let mut campaign = prospect(0, 3, &[0]);
    campaign.plan.steps.truncate(1);
    campaign.plan.settings.send_time_start = "09:00".parse().unwrap();
    campaign.plan.settings.send_time_end = "10:00".parse().unwrap();
    let outlook = outlook(world(&[account(0, 0, Some(2))], vec![campaign]));
    let hours = [(Reason::WindowClosed, 3.0 * 21.0 + 9.0), (Reason::AccountCap, 15.0)];
    assert_eq!(outlook.limits.len(), hours.len(), "{:?}", outlook.limits);
    for ((reason, share), (of, hours)) in outlook.limits.iter().zip(hours) {
        assert!(*reason == of && (share - hours / 87.0).abs() < 1e-3, "{:?}", outlook.limits);
    }
}
