//! MAIL, RCPT, DATA: refusals with their stage, what is found out before a word is said, and who gets a dot.

use super::*;

#[tokio::test(start_paused = true)]
async fn fs12_a_421_ends_it_at_any_command_without_a_dot() {
    for (answer, stage) in [
        ("421 4.3.2 bye\r\n", Stage::Mail),
        ("250 a\r\n421 4.3.2 bye\r\n", Stage::Rcpt),
        ("250 a\r\n250 b\r\n421 4.3.2 bye\r\n", Stage::Data),
    ] {
        let outcome = deliver(true, vec![("DATA", answer)], true, true).await;
        assert!(refused(&outcome.report.delivery, stage, 421), "{:?}", outcome.report);
        assert!(!outcome.usable && !outcome.report.stale && dots(&outcome.seen) == 0);
    }
    let one_by_one = deliver(false, vec![("MAIL", OK), ("RCPT", "421 4.3.2 bye\r\n")], true, true).await;
    assert!(refused(&one_by_one.report.delivery, Stage::Rcpt, 421) && !one_by_one.usable);
    assert!(!one_by_one.report.gate_opened, "without PIPELINING nobody was asked yet");
}

#[tokio::test(start_paused = true)]
async fn fs13_a_temporary_refusal_keeps_stage_code_and_connection() {
    for (answer, stage, code, enhanced) in [
        ("451 4.7.1 grey\r\n503 a\r\n503 b\r\n", Stage::Mail, 451, "4.7.1"),
        ("250 a\r\n450 4.2.0 grey\r\n503 b\r\n", Stage::Rcpt, 450, "4.2.0"),
        ("250 a\r\n452 4.5.3 many\r\n503 b\r\n", Stage::Rcpt, 452, "4.5.3"),
        ("250 a\r\n452 4.2.2 full\r\n503 b\r\n", Stage::Rcpt, 452, "4.2.2"),
        ("250 a\r\n452 4.3.1 disk\r\n503 b\r\n", Stage::Rcpt, 452, "4.3.1"),
    ] {
        let outcome = deliver(true, vec![("DATA", answer)], false, true).await;
        let delivery = &outcome.report.delivery;
        let found =
            matches!(delivery, Delivery::Refused(_, reply) if reply.enhanced_text().as_deref() == Some(enhanced));
        assert!(found && refused(delivery, stage, code), "{delivery:?}");
        assert!(outcome.usable && dots(&outcome.seen) == 0);
    }
}

#[tokio::test(start_paused = true)]
async fn fs14_an_unknown_recipient_in_three_lines() {
    let answer = "250 a\r\n550-5.1.1 No such user\r\n550-5.1.1 really\r\n550 5.1.1 not\r\n503 b\r\n";
    let outcome = deliver(true, vec![("DATA", answer)], false, true).await;
    let Delivery::Refused(Stage::Rcpt, reply) = &outcome.report.delivery else { panic!("{:?}", outcome.report) };
    assert_eq!((reply.code, reply.enhanced, &*reply.text), (550, Some((5, 1, 1)), "No such user really not"));
    assert!(outcome.usable && dots(&outcome.seen) == 0);
}

#[tokio::test(start_paused = true)]
async fn fs21_a_tarpit_is_left_when_its_limit_is_over() {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let server = tokio::spawn(async move {
        let mut theirs = BufReader::new(theirs);
        let mut seen = String::new();
        theirs.read_line(&mut seen).await.unwrap();
        tokio::time::sleep(Duration::from_secs(12)).await;
        let heard = theirs.get_mut().write_all(b"250 at last\r\n").await.is_ok();
        (seen, heard)
    });
    let limit = Duration::from_secs(3);
    let mut connection = Connection::new(Box::new(ours), Timeouts { command: limit, ..Timeouts::default() });
    let report = connection.deliver(&envelope(), b"x\r\n", async { true }).await;
    assert_eq!(report.delivery, Delivery::Failed(Stage::Mail, Trouble::Timeout(limit)));
    assert!(!connection.is_usable() && !report.stale);
    drop(connection);
    let (seen, heard) = server.await.unwrap();
    assert!(seen.starts_with("MAIL") && !heard, "we were gone when it answered");
    let patient = deliver(true, vec![("DATA", "")], false, true).await;
    let limit = Duration::from_secs(60);
    assert_eq!(
        patient.report.delivery,
        Delivery::Failed(Stage::Mail, Trouble::Timeout(limit)),
        "unless told otherwise"
    );
}

/// Delivers to a server with these offers and no script but good answers; how it ended, and what the server heard.
async fn offered(offers: Capabilities, to: &Envelope, message: &[u8]) -> (Delivery, Vec<String>) {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let refusal_is_due = super::super::local_refusal(&offers, to, message).is_some();
    let script = if refusal_is_due { vec![] } else { vec![("MAIL", OK), ("RCPT", OK), ("DATA", GO), (".", OK)] };
    let server = tokio::spawn(play(theirs, script, false));
    let mut connection = over(ours);
    connection.capabilities = offers;
    let report = connection.deliver(to, message, async { true }).await;
    assert!(connection.is_usable() && !connection.dirty);
    drop(connection);
    (report.delivery, server.await.unwrap())
}

/// A message as we write them, with texts beyond ASCII, to `to`.
fn composed(to: &str) -> (Envelope, Vec<u8>) {
    use domain::address::EmailAddress;
    let (from, to) = (EmailAddress::parse("ana@acme.test").unwrap(), EmailAddress::parse(to).unwrap());
    let message = crate::compose::compose(&crate::compose::Parts {
        from_name: Some("Añá"),
        from: &from,
        to: &to,
        reply_to: None,
        subject: "¡Hola! 日本",
        date: "Mon, 2 Mar 2026 12:00:00 +0000",
        message_id: "<1@acme.test>",
        references: &[],
        unsubscribe_url: None,
        feedback_id: None,
        text: "Grüße aus Málaga 🎉",
        html: "<p>Grüße aus Málaga 🎉</p>",
    });
    let ascii = crate::compose::ascii_address;
    (Envelope { from: ascii(&from), to: ascii(&to), needs_smtputf8: !to.is_ascii_local() }, message)
}

#[tokio::test(start_paused = true)]
async fn fs28_without_8bitmime_not_one_byte_has_its_high_bit_set() {
    let (envelope, message) = composed("bo@example.com");
    let (delivery, seen) = offered(Capabilities::default(), &envelope, &message).await;
    assert!(matches!(delivery, Delivery::Accepted(_)), "{delivery:?}");
    assert!(seen.iter().all(|line| line.is_ascii()), "{seen:?}");
    let data = seen.iter().position(|line| line == "DATA").unwrap();
    let received = seen[data + 1..seen.len() - 1].join("\r\n");
    let parsed = mail_parser::MessageParser::default().parse(received.as_bytes()).unwrap();
    assert_eq!(parsed.subject(), Some("¡Hola! 日本"));
    assert_eq!(parsed.body_text(0).unwrap().trim(), "Grüße aus Málaga 🎉", "and nothing was lost by it");
    let (refusal, seen) = offered(Capabilities::default(), &envelope, "é\r\n".as_bytes()).await;
    assert!(refused(&refusal, Stage::Mail, 554) && seen.is_empty(), "8 bit never leaves us");
}

#[tokio::test(start_paused = true)]
async fn fs29_without_smtputf8_a_local_part_fails_and_a_domain_goes_as_punycode() {
    let (envelope, message) = composed("zoë@example.com");
    let (delivery, seen) = offered(Capabilities::default(), &envelope, &message).await;
    assert!(matches!(&delivery, Delivery::Refused(Stage::Mail, reply) if reply.enhanced == Some((5, 6, 7))));
    assert!(seen.is_empty(), "not a word was said");
    let offers = Capabilities { smtputf8: true, ..Capabilities::default() };
    let (delivery, seen) = offered(offers, &envelope, &message).await;
    assert!(matches!(delivery, Delivery::Accepted(_)));
    assert_eq!(seen[..2], ["MAIL FROM:<ana@acme.test> SMTPUTF8", "RCPT TO:<zoë@example.com>"]);
    let (envelope, message) = composed("bo@grüße.example");
    let (delivery, seen) = offered(Capabilities::default(), &envelope, &message).await;
    assert!(matches!(delivery, Delivery::Accepted(_)));
    assert_eq!(seen[1], "RCPT TO:<bo@xn--gre-6ka8l.example>");
}

#[tokio::test(start_paused = true)]
async fn fs30_a_message_that_is_too_large_is_not_begun() {
    let offers = |size| Capabilities { size: Some(size), ..Capabilities::default() };
    let (delivery, seen) = offered(offers(2), &envelope(), b"xyz\r\n").await;
    assert!(refused(&delivery, Stage::Mail, 552) && seen.is_empty());
    let (delivery, seen) = offered(offers(5), &envelope(), b"xyz\r\n").await;
    assert!(matches!(delivery, Delivery::Accepted(_)));
    assert_eq!(seen[0], "MAIL FROM:<ana@acme.test> SIZE=5");
    let said = deliver(true, vec![("DATA", "552 5.3.4 too big\r\n503 a\r\n503 b\r\n")], false, true).await;
    assert!(refused(&said.report.delivery, Stage::Mail, 552) && said.usable);
    assert_eq!(said.seen.last().unwrap(), "DATA", "neither body nor dot");
}

#[tokio::test(start_paused = true)]
async fn fs31_a_refused_recipient_gets_a_lone_dot() {
    for (answer, stage) in
        [("250 a\r\n550 5.1.1 no\r\n354 c\r\n", Stage::Rcpt), ("550 a\r\n503 b\r\n354 c\r\n", Stage::Mail)]
    {
        let outcome = deliver(true, vec![("DATA", answer), (".", "554 no valid recipients\r\n")], false, true).await;
        assert!(refused(&outcome.report.delivery, stage, 550), "{:?}", outcome.report);
        let data = outcome.seen.iter().position(|line| line == "DATA").unwrap();
        assert_eq!(outcome.seen[data + 1..], ["."], "nothing but the dot followed");
        assert!(outcome.usable);
    }
    let taken = deliver(true, vec![("DATA", "550 a\r\n250 b\r\n354 c\r\n")], false, true).await;
    assert!(is_protocol_trouble(&taken.report.delivery, Stage::Mail), "{:?}", taken.report);
    assert!(!taken.usable && dots(&taken.seen) == 0, "a dot would send an empty message to that recipient");
}

#[tokio::test(start_paused = true)]
async fn fs35_an_answer_of_the_wrong_kind_ends_it_without_a_dot() {
    for (answer, stage) in [("250 a\r\n250 b\r\n250 c\r\n", Stage::Data), ("354 a\r\n354 b\r\n354 c\r\n", Stage::Mail)]
    {
        let outcome = deliver(true, vec![("DATA", answer)], false, true).await;
        assert!(is_protocol_trouble(&outcome.report.delivery, stage), "{:?}", outcome.report);
        assert!(!outcome.usable);
        assert_eq!(outcome.seen.last().unwrap(), "DATA");
    }
    let one_by_one = deliver(false, vec![("MAIL", OK), ("RCPT", OK), ("DATA", "250 c\r\n")], false, true).await;
    assert!(is_protocol_trouble(&one_by_one.report.delivery, Stage::Data) && !one_by_one.usable);
}
