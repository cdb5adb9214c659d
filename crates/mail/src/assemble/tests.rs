//! A message from templates to bytes, read back by an independent parser.

use domain::ids::{CampaignId, LeadId, StepId, TenantId};
use domain::lead::LeadStatus;
use mail_parser::MessageParser;
use uuid::Uuid;

use super::*;
use crate::token::Verified;

const NOW: Timestamp = Timestamp::from_unix_seconds(1_772_366_400);

fn lead(consent: bool) -> Lead {
    Lead {
        id: LeadId::from_uuid(Uuid::from_u128(2)),
        tenant_id: TenantId::from_uuid(Uuid::from_u128(1)),
        email: "bo@example.com".into(),
        name: Some("Bo <b>Berg</b>".into()),
        first_name: None,
        last_name: None,
        company: Some("Acme & Co".into()),
        job_title: None,
        phone: None,
        city: None,
        state: None,
        country: None,
        timezone: None,
        custom_fields: serde_json::json!({ "favourite": "tea" }),
        status: LeadStatus::Active,
        tracking_consent: consent,
    }
}

fn keys() -> TokenKeys {
    TokenKeys::new(b"0123456789abcdef0123456789abcdef", &[]).unwrap()
}

fn make(html: &str, text: Option<&str>, lead: &Lead, thread: Option<&str>, subject: &str) -> Message {
    let template = MessageTemplate::parse(subject, html, text).unwrap();
    let from = EmailAddress::parse("ana@acme.test").unwrap();
    let to = EmailAddress::parse(&lead.email).unwrap();
    let sender = Sender {
        from_name: Some("Ana"),
        from: &from,
        reply_to: None,
        company_name: "Acme <Ltd>",
        company_address: "1 Main Street",
        public_url: "https://t.example",
        track_opens: true,
        track_clicks: true,
        tokens_expire_at: Timestamp::from_unix_seconds(1_780_000_000),
        zone: &Zone::UTC,
    };
    let order = Order {
        send_id: SendId::from_uuid(Uuid::from_u128(9)),
        message_id: None,
        ids: TokenIds {
            tenant_id: lead.tenant_id,
            lead_id: lead.id,
            campaign_id: CampaignId::from_uuid(Uuid::from_u128(3)),
            step_id: StepId::from_uuid(Uuid::from_u128(4)),
        },
        lead,
        to: &to,
        date: NOW,
        subject: None,
        references: &[],
        thread_subject: thread,
    };
    assemble(&template, &sender, &order, &keys()).unwrap()
}

fn parts(message: &Message) -> (String, String) {
    let parsed = MessageParser::default().parse(&message.bytes).unwrap();
    (parsed.body_html(0).unwrap().into_owned(), parsed.body_text(0).unwrap().into_owned())
}

#[test]
fn a_message_has_values_tracked_links_pixel_and_footer() {
    let message = make(
        "<body><p>Hi {{ firstName }} of {{ company }}, {{ customField.favourite }}?</p><a href=\"https://shop.example/?a=1&amp;b=2\">shop</a></body>",
        None,
        &lead(true),
        None,
        "Hello {{ first_name }}",
    );
    assert_eq!(message.subject, "Hello Bo");
    let (html, text) = parts(&message);
    assert!(html.contains("Hi Bo of Acme &amp; Co, tea?"));
    assert!(html.contains("Acme &lt;Ltd&gt;<br>1 Main Street"));
    assert!(html.contains("/api/track/open?token=") && html.ends_with("</body>"));
    let click = links::destinations(&html);
    assert_eq!(click.len(), 2, "{click:?}");
    let token = click[0].strip_prefix("https://t.example/api/track/click?token=").unwrap();
    let Verified::Valid(claims) = keys().verify(token, Purpose::Click, NOW) else { panic!("token") };
    assert_eq!(claims.url.as_deref(), Some("https://shop.example/?a=1&b=2"));
    assert!(click[1].starts_with("https://t.example/unsubscribe?token="));
    assert!(text.contains("Hi Bo of Acme & Co, tea?") && text.contains("https://shop.example/?a=1&b=2"));
    assert!(text.contains("Unsubscribe: https://t.example/unsubscribe?token="));
    assert!(message.message_id.ends_with("@acme.test>"));
    let again = make("<p>x</p>", None, &lead(true), None, "y");
    assert_eq!(again.message_id, message.message_id, "stable per send");
}

#[test]
fn without_consent_nothing_is_measured() {
    let (html, _) = parts(&make("<a href=\"https://shop.example/\">x</a>", None, &lead(false), None, "s"));
    assert!(html.contains("href=\"https://shop.example/\"") && !html.contains("/api/track/"));
}

#[test]
fn an_own_way_out_replaces_the_footer() {
    let (html, text) = parts(&make(
        "<p>x</p><a href=\"{{ unsubscribe_url }}\">leave</a>",
        Some("leave: {{ unsubscribe_url }}"),
        &lead(true),
        None,
        "s",
    ));
    assert_eq!(html.matches("/unsubscribe?token=").count(), 1);
    assert!(!html.contains("1 Main Street"));
    assert_eq!(text.matches("/unsubscribe?token=").count(), 1);
}

#[test]
fn a_follow_up_without_a_subject_answers_the_first_mail() {
    assert_eq!(make("<p>x</p>", None, &lead(true), Some("Hello Bo"), "").subject, "Re: Hello Bo");
    assert_eq!(make("<p>x</p>", None, &lead(true), Some("Hello Bo"), "Own").subject, "Own");
}

#[test]
fn a_subject_alone_is_that_of_the_message() {
    for (source, thread) in [("Hi {{ firstName }} of {{ company_name }}", None), ("{{ nothing }}", Some("Hi Bo"))] {
        let message = make("<p>x</p>", None, &lead(true), thread, source);
        let template = Template::parse(source, Kind::Header).unwrap();
        let alone = subject(&template, &lead(true), "Acme <Ltd>", "1 Main Street", thread).unwrap();
        assert_eq!((alone.as_str(), alone.contains("Hi Bo")), (message.subject.as_str(), true));
    }
}
