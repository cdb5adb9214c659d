//! What is said of one lead's next mail, with the addresses that it is shown with, and its JSON object.
//!
//! Not responsible for the reason or the slot (`domain::forecast`). To add a state: a case of `Answer`.

use domain::campaign::{CampaignSettings, TimezoneStrategy};
use domain::ids::CampaignId;
use domain::pace::AccountBook;
use domain::reason::Reason;
use domain::schedule::WarmupTable;
use domain::send::SendStatus;
use domain::time::{Timestamp, Zone};
use engines::store::campaigns::CampaignName;
use engines::store::outlook::{EnrollmentStanding, Standing};
use serde_json::{Value, json};

use super::{FAR, Idle, aside, foresee};
use crate::context::Context;
use crate::exit::Failure;

/// What is said of a lead of a campaign.
#[derive(Debug)]
pub(crate) struct Explained {
    campaign_id: CampaignId,
    /// The lead's address.
    pub(crate) lead: String,
    answer: Answer,
}

impl Explained {
    /// Why the next mail of the lead of this id or address has not left, and when it will; none where the tenant has no such
    /// lead.
    ///
    /// # Errors
    /// The database, or a fault of ours.
    pub(crate) async fn of(ctx: &Context, campaign: &CampaignName, lead: &str) -> Result<Option<Self>, Failure> {
        let tenant = ctx.store.tenant(campaign.tenant_id);
        let Some(standing) = tenant.find_standing(campaign.id, lead).await? else { return Ok(None) };
        let answer = explain(ctx, campaign, &standing).await?;
        Ok(Some(Self { campaign_id: campaign.id, lead: standing.email, answer }))
    }

    /// One sentence.
    pub(crate) fn text(&self) -> &str {
        &self.answer.text
    }

    /// The object of `explain --json`.
    pub(crate) fn object(&self) -> Value {
        let slot = self.answer.slot.as_ref().map(
            |slot| json!({ "at": slot.at, "local": slot.local, "step": slot.step_order, "account": slot.account }),
        );
        json!({
            "campaignId": self.campaign_id, "lead": self.lead, "state": self.answer.state,
            "reason": self.answer.reason, "why": self.answer.text, "slot": slot,
            "nextRoundAt": self.answer.next_round,
        })
    }
}

/// What is said of a lead.
#[derive(Clone, Debug)]
struct Answer {
    /// `not_enrolled`, `completed`, `stopped`, `held` or `waiting`.
    state: &'static str,
    reason: Option<Reason>,
    /// One sentence.
    text: String,
    slot: Option<Slot>,
    /// When its next round begins, where it has finished.
    next_round: Option<Timestamp>,
}

#[derive(Clone, Debug)]
struct Slot {
    at: Timestamp,
    local: String,
    step_order: u32,
    account: String,
}

async fn explain(ctx: &Context, campaign: &CampaignName, standing: &Standing) -> Result<Answer, Failure> {
    let Some((enrollment, at)) = &standing.enrollment else {
        return Ok(Answer::settled("not_enrolled", None, "the lead is not enrolled in this campaign".into()));
    };
    let settled = Answer::without_forecast(at);
    if let Some(answer) = &settled {
        // Who has finished comes back with the campaign, if it does.
        let rounds = ctx.store.tenant(campaign.tenant_id).get_campaign(campaign.id).await?.rounds;
        if answer.state == "held" || rounds.is_none() {
            return Ok(answer.clone());
        }
    }
    let foresight = foresee(ctx, campaign.tenant_id, campaign.id, Idle::AsItStands).await?;
    let (settings, now, enrollment) = (foresight.settings, foresight.now, *enrollment);
    let told = aside(move || foresight.world.explain(foresight.campaign, enrollment, now + FAR)).await?;
    let ids = told.account.iter().map(|book| book.id).chain(told.slot.as_ref().map(|sent| sent.account));
    let addresses = ctx.store.tenant(campaign.tenant_id).account_addresses(ids).await?;
    let address = |id| addresses.get(&id).cloned().unwrap_or_default();
    let slot = told.slot.as_ref().map(|sent| Slot {
        at: sent.at,
        local: settings.timezone.for_people(sent.at),
        step_order: sent.step_order,
        account: address(sent.account),
    });
    if let Some(answer) = settled {
        return Ok(answer.coming_back(told.next_round, slot, &settings.timezone));
    }
    let warmup = &ctx.config.settings.email_account.warmup;
    let holder = told.account.as_ref().map(|book| (book, address(book.id)));
    let why = why(told.reason, holder, &settings, (warmup, now));
    let left_out =
        told.left_out.map_or(String::new(), |why| format!("; its next mail is left out: {}", why.for_people()));
    let text = match (&slot, told.left_out) {
        (Some(slot), _) => format!("{why}{left_out}; next slot {} from {}", slot.local, slot.account),
        (None, Some(_)) => format!("{why}{left_out}, and none follows"),
        (None, None) if told.reason.is_none() => {
            "nothing more is foreseen for this lead as long as nobody acts".to_owned()
        }
        (None, None) => format!("{why}; no slot is foreseen until a person changes that"),
    };
    Ok(Answer { state: "waiting", reason: told.reason.or(told.left_out), text, slot, next_round: None })
}

/// What holds the lead, in words, with the numbers of the limit.
fn why(
    reason: Option<Reason>,
    holder: Option<(&AccountBook, String)>,
    settings: &CampaignSettings,
    (warmup, now): (&WarmupTable, Timestamp),
) -> String {
    let Some(reason) = reason else { return "nothing holds it".to_owned() };
    match (reason, holder) {
        // Else it is a later day that is full already.
        (Reason::AccountCap, Some((book, address))) if book.remaining(now, warmup) == 0 => {
            let cap = book.cap(now, warmup).unwrap_or_default();
            format!("{address} is at {} of {cap} today", book.taken(now))
        }
        (Reason::AccountGap, Some((book, address))) => {
            format!("{address} keeps {} s between messages", book.pace.min_gap.as_secs())
        }
        (_, Some((_, address))) => format!("{}: {address}", reason.for_people()),
        (Reason::WindowClosed, None) if settings.timezone_strategy == TimezoneStrategy::RecipientLocal => {
            "the sending window is closed where the lead is".to_owned()
        }
        _ => reason.for_people().to_owned(),
    }
}

impl Answer {
    fn settled(state: &'static str, reason: Option<Reason>, text: String) -> Self {
        Self { state, reason, text, slot: None, next_round: None }
    }

    /// The same of one who has finished, with the round that it begins next, if it does.
    fn coming_back(mut self, next_round: Option<Timestamp>, slot: Option<Slot>, zone: &Zone) -> Self {
        let Some(at) = next_round else { return self };
        self.text.push_str(&format!("; its next round begins on {}", zone.for_people(at)));
        if let Some(slot) = &slot {
            self.text.push_str(&format!(", next slot {} from {}", slot.local, slot.account));
        }
        Self { slot, next_round, ..self }
    }

    /// What the ledger says by itself: the sequence is over, or a person decides.
    fn without_forecast(at: &EnrollmentStanding) -> Option<Self> {
        if let Some((step, SendStatus::Held, reason)) = at.last_send {
            let why = reason.map_or("", Reason::for_people);
            return Some(Self::settled("held", reason, format!("step {step} is held, a person decides: {why}")));
        }
        let sent = at
            .last_sent_at
            .map_or("nothing was sent".to_owned(), |at| format!("the last mail left on {}", Zone::UTC.for_people(at)));
        match (at.status.as_str(), at.stop_reason) {
            ("completed", _) => Some(Self::settled("completed", None, format!("the sequence is over, {sent}"))),
            ("stopped", reason) => {
                let why = reason.map_or("", Reason::for_people);
                Some(Self::settled("stopped", reason, format!("the sequence has ended: {why}; {sent}")))
            }
            _ => None,
        }
    }
}
