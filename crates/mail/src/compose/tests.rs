//! Messages read back by an independent parser: nothing changes on the way, no header breaks out.

use mail_parser::MessageParser;
use proptest::prelude::*;

use super::*;

fn address(text: &str) -> EmailAddress {
    EmailAddress::parse(text).unwrap()
}

fn message(subject: &str, name: &str, text: &str, html: &str) -> Vec<u8> {
    compose(&Parts {
        from_name: Some(name),
        from: &address("ana@acme.test"),
        to: &address("bo@müller.example"),
        reply_to: Some(&address("re@acme.test")),
        subject,
        date: "Sun, 1 Mar 2026 10:00:00 +0100",
        message_id: "<0123456789abcdef0123456789abcdef@acme.test>",
        references: &["<one@acme.test>", "<two@acme.test>"],
        unsubscribe_url: Some("https://t.example/unsubscribe?token=x"),
        feedback_id: Some("c1:t1:penguinmails"),
        text,
        html,
    })
}

fn check_form(bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).unwrap();
    assert!(text.is_ascii(), "7-bit");
    for line in text.split("\r\n") {
        assert!(!line.contains(['\r', '\n']), "bare line end in {line:?}");
        assert!(line.len() <= 998);
    }
}

#[test]
fn a_whole_message_reads_as_written() {
    let bytes = message("Hello Ana", "Ana \"from\" Acme", "Hi,\nbye", "<p>Hi</p>");
    check_form(&bytes);
    let text = String::from_utf8(bytes).unwrap();
    let expected = "From: \"Ana \\\"from\\\" Acme\" <ana@acme.test>\r\n\
        To: bo@xn--mller-kva.example\r\n\
        Reply-To: re@acme.test\r\n\
        Subject: Hello Ana\r\n\
        Date: Sun, 1 Mar 2026 10:00:00 +0100\r\n\
        Message-ID: <0123456789abcdef0123456789abcdef@acme.test>\r\n\
        In-Reply-To: <two@acme.test>\r\n\
        References: <one@acme.test>\r\n <two@acme.test>\r\n\
        List-Unsubscribe: <https://t.example/unsubscribe?token=x>\r\n\
        List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\
        Feedback-ID: c1:t1:penguinmails\r\n\
        MIME-Version: 1.0\r\n\
        Content-Type: multipart/alternative;\r\n boundary=\"=_0123456789abcdef0123456789abcdefacmetest\"\r\n\
        \r\n--=_0123456789abcdef0123456789abcdefacmetest\r\n\
        Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
        Hi,\r\nbye\r\n--=_0123456789abcdef0123456789abcdefacmetest\r\n\
        Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
        <p>Hi</p>\r\n--=_0123456789abcdef0123456789abcdefacmetest--\r\n";
    assert_eq!(text, expected);
}

#[test]
fn the_same_input_makes_the_same_bytes() {
    assert_eq!(message("a", "b", "c", "d"), message("a", "b", "c", "d"));
}

#[test]
fn no_header_breaks_out() {
    let bytes = message("x\r\nBcc: evil@x.example\u{85}\u{2028}", "n\r\nBcc: evil@x.example", "t", "h");
    check_form(&bytes);
    let parsed = MessageParser::default().parse(&bytes).unwrap();
    assert!(parsed.header("Bcc").is_none());
    assert!(parsed.subject().unwrap().starts_with("x  Bcc: evil@x.example"));
}

#[test]
fn long_and_foreign_headers_come_through() {
    for subject in [
        "Привет 👋🏽 мир, это очень длинная тема письма, которая не помещается в одну строку",
        "שלום עולם",
        "word ".repeat(60).trim_end(),
        &"x".repeat(300),
        "=?utf-8?B?eA==?= is not a word",
        "double  space",
    ] {
        let bytes =
            message(subject, "Zoë Ñandú of a rather long company name, with commas; and more of the same", "t", "h");
        check_form(&bytes);
        let head = String::from_utf8(bytes.clone()).unwrap();
        for line in head.split("\r\n\r\n").next().unwrap().split("\r\n") {
            assert!(line.len() <= 78, "{line}");
        }
        let parsed = MessageParser::default().parse(&bytes).unwrap();
        assert_eq!(parsed.subject().unwrap(), subject);
        assert!(parsed.from().unwrap().first().unwrap().name().unwrap().starts_with("Zoë Ñandú"));
    }
}

#[test]
fn hard_bodies_come_through() {
    let hard = "dots\n.\n..x\nFrom here\ntrailing space \n\ttab\t\n=3D soft=\nnul \u{0} é 👋 ".to_owned()
        + &"long ".repeat(1000);
    let bytes = message("s", "n", &hard, &hard);
    check_form(&bytes);
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(!text.contains("\r\n.") && !text.contains("\r\nFrom "));
    assert!(text.split("\r\n").skip_while(|l| !l.is_empty()).all(|line| line.len() <= 76));
    let parsed = MessageParser::default().parse(&bytes).unwrap();
    assert_eq!(parsed.body_text(0).unwrap().replace("\r\n", "\n"), hard);
    assert_eq!(parsed.body_html(0).unwrap().replace("\r\n", "\n"), hard);
}

proptest! {
    #[test]
    fn any_body_comes_through(body in "(\\PC|[ \t\n.=F]|From ){0,200}") {
        let bytes = message("s", "n", &body, &body);
        check_form(&bytes);
        let parsed = MessageParser::default().parse(&bytes).unwrap();
        prop_assert_eq!(parsed.body_html(0).unwrap().replace("\r\n", "\n"), body);
    }

    #[test]
    fn any_subject_comes_through(subject in "[^\\p{Cc}]{1,120}") {
        let bytes = message(&subject, "n", "t", "h");
        check_form(&bytes);
        let parsed = MessageParser::default().parse(&bytes).unwrap();
        prop_assert_eq!(parsed.subject().unwrap_or_default().trim(), subject.trim());
    }
}
