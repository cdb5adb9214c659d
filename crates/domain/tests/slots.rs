//! Slots of random campaigns, planned turn by turn for weeks: inside the window, never before due, in order and apart per
//! account, and no cap exceeded by one.
//!
//! The world is the forecast's, which `app/simulation` holds against the real scheduler, gate and worker. Not responsible
//! for single rules (beside their functions). To add something random: a field of `Given`.
#![expect(clippy::unwrap_used, reason = "a campaign that cannot be built has failed")]

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use domain::campaign::{CampaignSettings, CampaignStatus, TimezoneStrategy};
use domain::email_account::{AccountPace, AccountStatus};
use domain::forecast::{Outlook, Prospect, Rhythm, Shared, World};
use domain::ids::{CampaignId, EmailAccountId, EnrollmentId, LeadId, StepId, TemplateId};
use domain::lead::LeadStatus;
use domain::pace::{AccountBook, CampaignBook, Days, Recipient};
use domain::plan::{CampaignPlan, Candidate, Past};
use domain::schedule::{DaySet, WarmupTable};
use domain::step::{ConditionType, Due, Reactions, Step, StepType};
use domain::time::{Timestamp, Zone};
use proptest::prelude::*;
use uuid::Uuid;

const ZONES: [&str; 7] = [
    "UTC",
    "Europe/Madrid",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Asia/Kathmandu",
    "America/Sao_Paulo",
];
const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);
const MINUTE: Duration = Duration::from_secs(60);

/// What is random.
#[derive(Clone, Debug)]
struct Given {
    /// Within 2010 to 2030, so that many changes of clocks are met.
    begin: i64,
    zone: usize,
    local: bool,
    days: Vec<bool>,
    /// Minutes of the day.
    window: Option<(u16, u16)>,
    campaign_limit: Option<u32>,
    accounts: Vec<GivenAccount>,
    /// Minutes.
    waits: Vec<u32>,
    leads: Vec<(usize, u32)>,
}

/// Limit, gap in seconds, zone, whether it is warming up.
type GivenAccount = (Option<u32>, u64, usize, bool);

fn given() -> impl Strategy<Value = Given> {
    let account =
        (prop::option::of(1..12_u32), prop_oneof![Just(0_u64), 1..400_u64], 0..ZONES.len(), prop::bool::weighted(0.2));
    let lead = (0..=ZONES.len(), 0..20_000_u32);
    (
        1_262_304_000..1_900_000_000_i64,
        (0..ZONES.len(), any::<bool>()),
        prop::collection::vec(any::<bool>(), 7).prop_filter("a day to send on", |days| days.contains(&true)),
        prop::option::of((0..1440_u16, 0..1440_u16).prop_filter("it is open", |(start, end)| start != end)),
        prop::option::of(1..30_u32),
        prop::collection::vec(account, 1..8),
        prop::collection::vec(0..6_000_u32, 1..4),
        prop::collection::vec(lead, 1..40),
    )
        .prop_map(|(begin, (zone, local), days, window, campaign_limit, accounts, waits, leads)| Given {
            begin,
            zone,
            local,
            days,
            window,
            campaign_limit,
            accounts,
            waits,
            leads,
        })
}

fn uuid(n: usize) -> Uuid {
    Uuid::from_u128(n as u128 + 1)
}

fn zone(index: usize) -> Zone {
    ZONES[index].parse().unwrap()
}

impl Given {
    fn begin(&self) -> Timestamp {
        Timestamp::from_unix_seconds(self.begin)
    }

    fn settings(&self) -> CampaignSettings {
        let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        let days: Vec<&str> =
            names.into_iter().zip(&self.days).filter(|(_, is_on)| **is_on).map(|(day, _)| day).collect();
        let send_days: DaySet = serde_json::from_value(serde_json::json!(days)).unwrap();
        let time = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60).parse().unwrap();
        let usual = CampaignSettings::default();
        let (send_time_start, send_time_end) = match self.window {
            Some((start, end)) => (time(start), time(end)),
            None => (usual.send_time_start, usual.send_time_end),
        };
        let timezone_strategy = if self.local { TimezoneStrategy::RecipientLocal } else { TimezoneStrategy::Single };
        let (timezone, daily_limit) = (zone(self.zone), self.campaign_limit);
        CampaignSettings {
            timezone,
            timezone_strategy,
            send_days,
            send_time_start,
            send_time_end,
            daily_limit,
            ..usual
        }
    }

    fn steps(&self) -> Vec<Step> {
        let step = |(n, minutes): (usize, &u32)| Step {
            id: StepId::from_uuid(uuid(n)),
            step_order: u32::try_from(n).unwrap() + 1,
            step_type: StepType::Email,
            email_account_id: None,
            template_id: Some(TemplateId::from_uuid(uuid(0))),
            wait: if n == 0 { Duration::ZERO } else { MINUTE * *minutes },
            wait_until: None,
            condition: ConditionType::Always.into(),
            stop_if_false: false,
            is_active: true,
        };
        self.waits.iter().enumerate().map(step).collect()
    }

    fn leads(&self) -> Vec<Candidate> {
        let candidate = |(n, (lead_zone, minutes)): (usize, &(usize, u32))| Candidate {
            enrollment_id: EnrollmentId::from_uuid(uuid(n)),
            lead_id: LeadId::from_uuid(uuid(n)),
            due: Due { step_order: 1, at: self.begin() + MINUTE * *minutes },
            email_account_id: None,
            lead_status: LeadStatus::Active,
            lead_zone: (*lead_zone < ZONES.len()).then(|| zone(*lead_zone)),
            suppressed: false,
            is_new: true,
            reactions: Reactions::default(),
            past: Past::default(),
            recipient: Recipient::Unlimited,
        };
        self.leads.iter().enumerate().map(candidate).collect()
    }

    fn accounts(&self) -> BTreeMap<EmailAccountId, AccountBook> {
        let book = |(n, (daily_limit, gap, account_zone, young)): (usize, &GivenAccount)| {
            let id = EmailAccountId::from_uuid(uuid(n));
            let pace = AccountPace {
                daily_limit: *daily_limit,
                min_gap: Duration::from_secs(*gap),
                warmup_started_at: young.then(|| self.begin()),
                zone: zone(*account_zone),
                last_slot_at: None,
                backoff_until: None,
                backoff_failures: 0,
            };
            (id, AccountBook { id, status: AccountStatus::Active, pace, days: Days::new(), last_dot_at: None })
        };
        self.accounts.iter().enumerate().map(book).collect()
    }

    fn outlook(&self) -> Outlook {
        let (settings, accounts) = (self.settings(), self.accounts());
        let book =
            CampaignBook { daily_limit: settings.daily_limit, zone: settings.timezone.clone(), days: Days::new() };
        let campaign_zone = settings.timezone.clone();
        let plan = CampaignPlan {
            id: CampaignId::from_uuid(uuid(0)),
            status: CampaignStatus::Sending,
            settings,
            steps: self.steps(),
            seen_until: None,
            lost_time: None,
            trials: domain::trial::Trials::new(),
        };
        let prospect = Prospect {
            plan,
            starts_at: None,
            next_plan_at: None,
            waiting: self.leads(),
            stranded: 0,
            open: Vec::new(),
            pool: accounts.keys().copied().collect(),
            book,
            trials: Vec::new(),
            rounds: None,
            finished: Vec::new(),
        };
        let warmup = WarmupTable::default();
        let rhythm = Rhythm { tick: Duration::from_secs(1), horizon: MINUTE, page: 500, warmup };
        World::new(self.begin(), rhythm, Shared { accounts, tenant: None, providers: None }, vec![prospect]).outlook(
            0,
            &campaign_zone,
            self.begin() + 2 * YEAR,
        )
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn slots_keep_every_rule(given in given()) {
        let (settings, outlook, books) = (given.settings(), given.outlook(), given.accounts());
        let mut last_of_lead: HashMap<LeadId, Timestamp> = HashMap::new();
        let mut of_account: HashMap<EmailAccountId, Timestamp> = HashMap::new();
        let mut days: HashMap<(Option<EmailAccountId>, String), u32> = HashMap::new();
        let leads = given.leads();
        for sent in &outlook.slots {
            let lead = leads.iter().find(|lead| lead.lead_id == sent.lead_id).unwrap();
            let window = settings.window(lead.lead_zone.as_ref()).unwrap();
            prop_assert!(window.is_open(sent.at), "outside the window: {sent:?}");
            let wait = MINUTE * given.waits[usize::try_from(sent.step_order).unwrap() - 1];
            let due = last_of_lead.insert(sent.lead_id, sent.at).map_or(lead.due.at, |before| before + wait);
            prop_assert!(sent.at >= due, "before it is due at {due}: {sent:?}");
            let book = &books[&sent.account];
            if let Some(before) = of_account.insert(sent.account, sent.at) {
                prop_assert!(sent.at >= before + book.pace.min_gap, "closer than the gap: {before} {sent:?}");
            }
            let account_day = days.entry((Some(sent.account), book.pace.zone.day(sent.at))).or_default();
            *account_day += 1;
            let cap = book.cap(sent.at, &WarmupTable::default());
            prop_assert!(cap.is_none_or(|cap| *account_day <= cap), "{account_day} of {cap:?}: {sent:?}");
            let campaign_day = days.entry((None, settings.timezone.day(sent.at))).or_default();
            *campaign_day += 1;
            let limit = settings.daily_limit;
            prop_assert!(limit.is_none_or(|most| *campaign_day <= most), "{campaign_day} of {limit:?}: {sent:?}");
        }
        prop_assert_eq!(outlook.slots.len(), given.leads.len() * given.waits.len(), "every mail leaves");
        prop_assert_eq!(outlook.finish, outlook.slots.last().map(|sent| sent.at));
    }

    /// A lead keeps the account of its first mail.
    #[test]
    fn a_lead_keeps_its_account(given in given()) {
        let mut accounts: HashMap<LeadId, EmailAccountId> = HashMap::new();
        for sent in given.outlook().slots {
            prop_assert_eq!(*accounts.entry(sent.lead_id).or_insert(sent.account), sent.account);
        }
    }
}
