//! Ties a message together: renders the templates for one lead, adds footer, pixel and tracked links, composes.
//!
//! Not responsible for reading anything: all input is passed. To add a name that templates may use: `data`.

use domain::address::EmailAddress;
use domain::ids::SendId;
use domain::lead::{Lead, split_name};
use domain::time::{Timestamp, Zone};
use serde_json::{Map, Value};

use crate::compose::{Parts, compose};
use crate::links;
use crate::template::{Budget, Kind, ParseError, RenderError, Template, escape};
use crate::token::{Claims, Purpose, TokenIds, TokenKeys};

/// A message's compiled templates.
#[derive(Clone, Debug)]
pub struct MessageTemplate {
    subject: Template,
    html: Template,
    text: Option<Template>,
}

impl MessageTemplate {
    /// Compiles subject, HTML and, where there is one, text.
    ///
    /// # Errors
    /// The part and place that is no template.
    pub fn parse(subject: &str, html: &str, text: Option<&str>) -> Result<Self, (&'static str, ParseError)> {
        Ok(Self {
            subject: Template::parse(subject, Kind::Header).map_err(|e| ("subject", e))?,
            html: Template::parse(html, Kind::Html).map_err(|e| ("html", e))?,
            text: text.map(|text| Template::parse(text, Kind::Text).map_err(|e| ("text", e))).transpose()?,
        })
    }
}

/// What is the same for all messages of a campaign and account.
#[derive(Clone, Debug)]
pub struct Sender<'a> {
    /// Name in From.
    pub from_name: Option<&'a str>,
    /// Address in From.
    pub from: &'a EmailAddress,
    /// Address in Reply-To.
    pub reply_to: Option<&'a EmailAddress>,
    /// Company in the footer.
    pub company_name: &'a str,
    /// Its postal address.
    pub company_address: &'a str,
    /// Base of all links, without a slash at its end.
    pub public_url: &'a str,
    /// Whether opens are measured.
    pub track_opens: bool,
    /// Whether clicks are measured.
    pub track_clicks: bool,
    /// When open and click tokens expire.
    pub tokens_expire_at: Timestamp,
    /// The zone that Date shows.
    pub zone: &'a Zone,
}

/// One message to make.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    /// The send.
    pub send_id: SendId,
    /// The Message-ID of its first attempt: every attempt has the same. None makes one.
    pub message_id: Option<&'a str>,
    /// The ids in its tokens.
    pub ids: TokenIds,
    /// To whom.
    pub lead: &'a Lead,
    /// To which address: the lead's, checked.
    pub to: &'a EmailAddress,
    /// When the first attempt was made: Date, the same at every attempt.
    pub date: Timestamp,
    /// Replaces the template's subject.
    pub subject: Option<&'a Template>,
    /// Message-IDs of earlier mails of the thread.
    pub references: &'a [&'a str],
    /// Subject of the thread: a follow-up without a subject of its own shows `Re:` and this.
    pub thread_subject: Option<&'a str>,
}

/// A finished message.
#[derive(Clone, Debug)]
pub struct Message {
    /// RFC 5322 bytes.
    pub bytes: Vec<u8>,
    /// With its brackets.
    pub message_id: String,
    /// Its Date.
    pub date: Timestamp,
    /// The rendered subject.
    pub subject: String,
    /// What had no value or was left out.
    pub warnings: Vec<String>,
}

/// Message-ID of a send at the sender's domain: a keyed hash, so that a bounce can be told from a forged one.
pub fn message_id(keys: &TokenKeys, send_id: SendId, from: &EmailAddress) -> String {
    format!("<{}@{}>", keys.proof(send_id.uuid().as_bytes()), from.domain_ascii())
}

/// Makes the message.
///
/// # Errors
/// A template over its budget.
pub fn assemble(
    template: &MessageTemplate,
    sender: &Sender<'_>,
    order: &Order<'_>,
    keys: &TokenKeys,
) -> Result<Message, RenderError> {
    let claims = |purpose, url: Option<&str>| Claims {
        ids: order.ids,
        purpose,
        exp: (purpose != Purpose::Unsubscribe).then(|| sender.tokens_expire_at.unix_seconds()),
        url: url.map(str::to_owned),
    };
    let base = sender.public_url;
    let unsubscribe = format!("{base}/unsubscribe?token={}", keys.sign(&claims(Purpose::Unsubscribe, None)));
    let data = data(order.lead, sender.company_name, sender.company_address, &unsubscribe);
    let budget = Budget::default();
    let subject = order.subject.unwrap_or(&template.subject).render(&data, budget)?;
    let mut html = template.html.render(&data, budget)?;
    let mut text = match &template.text {
        Some(text) => text.render(&data, budget)?,
        None => crate::template::Rendered { text: plain_text(&html.text), warnings: Vec::new() },
    };
    add_footer(sender, &unsubscribe, &mut html.text, &mut text.text);
    let consent = order.lead.tracking_consent;
    if sender.track_clicks && consent {
        html.text = links::rewrite(&html.text, base, |url| {
            Some(format!("{base}/api/track/click?token={}", keys.sign(&claims(Purpose::Click, Some(url)))))
        });
    }
    if sender.track_opens && consent {
        let token = keys.sign(&claims(Purpose::Open, None));
        let pixel = format!(
            "<img src=\"{base}/api/track/open?token={token}\" width=\"1\" height=\"1\" alt=\"\" style=\"border:0;width:1px;height:1px\">"
        );
        links::before_body_end(&mut html.text, &pixel);
    }
    let shown_subject = shown_subject(&subject.text, order.thread_subject);
    let known = order.message_id.map(str::to_owned);
    let message_id = known.unwrap_or_else(|| message_id(keys, order.send_id, sender.from));
    let short = |id: uuid::Uuid| id.simple().to_string()[20..].to_owned();
    let feedback_id =
        format!("{}:{}:penguinmails", short(order.ids.campaign_id.uuid()), short(order.ids.tenant_id.uuid()));
    let bytes = compose(&Parts {
        from_name: sender.from_name,
        from: sender.from,
        to: order.to,
        reply_to: sender.reply_to,
        subject: &shown_subject,
        date: &sender.zone.rfc5322(order.date),
        message_id: &message_id,
        references: order.references,
        unsubscribe_url: Some(&unsubscribe),
        feedback_id: Some(&feedback_id),
        text: &text.text,
        html: &html.text,
    });
    let mut warnings = subject.warnings;
    warnings.extend(html.warnings);
    warnings.extend(text.warnings);
    Ok(Message { bytes, message_id, date: order.date, subject: shown_subject, warnings })
}

/// The subject of a message that has gone and is not made again, as `assemble` shows it.
///
/// # Errors
/// A template over its budget.
pub fn subject(
    template: &Template,
    lead: &Lead,
    company_name: &str,
    company_address: &str,
    thread_subject: Option<&str>,
) -> Result<String, RenderError> {
    let data = data(lead, company_name, company_address, "");
    Ok(shown_subject(&template.render(&data, Budget::default())?.text, thread_subject))
}

fn shown_subject(own: &str, thread: Option<&str>) -> String {
    match (own.trim(), thread) {
        ("", Some(thread)) => format!("Re: {thread}"),
        (own, _) => own.to_owned(),
    }
}

/// What templates see: the lead's fields at the top and under `lead`, custom ones under `custom` and `customField`.
fn data(lead: &Lead, company_name: &str, company_address: &str, unsubscribe: &str) -> Value {
    let (first, last) = split_name(lead.name.as_deref(), lead.first_name.as_deref(), lead.last_name.as_deref());
    let whole = match (&lead.name, first, last) {
        (Some(name), _, _) => Some(name.clone()),
        (None, Some(first), Some(last)) => Some(format!("{first} {last}")),
        (None, first, last) => first.or(last).map(str::to_owned),
    };
    let mut fields = Map::new();
    let mut set = |name: &str, value: Option<&str>| {
        if let Some(value) = value.filter(|v| !v.is_empty()) {
            fields.insert(name.to_owned(), Value::from(value));
        }
    };
    set("email", Some(&lead.email));
    set("name", whole.as_deref());
    set("first_name", first);
    set("last_name", last);
    set("company", lead.company.as_deref());
    set("job_title", lead.job_title.as_deref());
    set("phone", lead.phone.as_deref());
    set("city", lead.city.as_deref());
    set("state", lead.state.as_deref());
    set("country", lead.country.as_deref());
    let lead_fields = Value::Object(fields.clone());
    fields.insert("lead".into(), lead_fields);
    fields.insert("custom".into(), lead.custom_fields.clone());
    fields.insert("custom_field".into(), lead.custom_fields.clone());
    fields.insert("unsubscribe_url".into(), Value::from(unsubscribe));
    fields.insert("company_name".into(), Value::from(company_name));
    fields.insert("company_address".into(), Value::from(company_address));
    Value::Object(fields)
}

/// The text part of an HTML part, made before links are rewritten: it shows where they lead.
fn plain_text(html: &str) -> String {
    html2text::config::plain().link_footnotes(true).string_from_read(html.as_bytes(), 78).unwrap_or_default()
}

/// The law wants company, address and a way out; a template that shows the way out brings its own footer.
fn add_footer(sender: &Sender<'_>, unsubscribe: &str, html: &mut String, text: &mut String) {
    if !html.contains(&unsubscribe.replace('&', "&amp;")) && !html.contains(unsubscribe) {
        let mut footer = String::from("<p style=\"color:#777;font-size:12px;margin-top:2em\">");
        escape(sender.company_name, &mut footer);
        footer.push_str("<br>");
        escape(sender.company_address, &mut footer);
        footer.push_str("<br><a href=\"");
        escape(unsubscribe, &mut footer);
        footer.push_str("\">Unsubscribe</a></p>\n");
        links::before_body_end(html, &footer);
    }
    if !text.contains(unsubscribe) {
        let newline = if text.ends_with('\n') { "" } else { "\n" };
        text.push_str(&format!(
            "{newline}\n-- \n{}\n{}\nUnsubscribe: {unsubscribe}\n",
            sender.company_name, sender.company_address
        ));
    }
}

#[cfg(test)]
mod tests;
