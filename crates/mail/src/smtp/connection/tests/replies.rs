//! Odd answers: which ones count all the same, and which ones end the dialogue.

use super::*;

/// The text of a 250 to the dot that a server gave so.
async fn kept(answer: &'static str) -> String {
    let outcome = deliver(true, dot(answer), false, true).await;
    assert_eq!(dots(&outcome.seen), 1);
    match outcome.report.delivery {
        Delivery::Accepted(reply) if outcome.usable && reply.code == 250 => reply.text,
        other => panic!("{answer:?}: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn fs22_latin_1_and_nul_in_a_text() {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let server = tokio::spawn(async move {
        let mut theirs = BufReader::new(theirs);
        let mut line = Vec::new();
        for (expected, answer) in [(&b"DATA\r\n"[..], READY.as_bytes()), (b".\r\n", b"250 2.0.0 gr\xfc\xdf\0e\r\n")] {
            while line != expected {
                line.clear();
                assert!(theirs.read_until(b'\n', &mut line).await.unwrap() > 0);
            }
            theirs.get_mut().write_all(answer).await.unwrap();
        }
        theirs
    });
    let mut connection = over(ours);
    connection.capabilities.pipelining = true;
    let report = connection.deliver(&envelope(), b"x\r\n", async { true }).await;
    let text = "gr\u{fc}\u{df}e";
    assert!(matches!(&report.delivery, Delivery::Accepted(reply) if reply.text == text), "{report:?}");
    assert!(connection.is_usable());
    server.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn fs23_a_text_of_20_kib() {
    let answer: &'static str = format!("250 {}\r\n", "x".repeat(20 << 10)).leak();
    assert_eq!(kept(answer).await.len(), 1024, "a code that is known is an answer");
}

#[tokio::test(start_paused = true)]
async fn fs24_a_code_without_a_text() {
    assert_eq!(kept("250\r\n").await, "");
}

#[tokio::test(start_paused = true)]
async fn fs25_lines_that_end_with_lf_alone_are_taken_and_warned_of() {
    let outcome = deliver(true, vec![("DATA", "250 a\n250 b\n354 c\n"), (".", "250 kept\n")], false, true).await;
    assert!(accepted(&outcome) && outcome.usable);
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let script = vec![("DATA", "250 a\n250 b\n354 c\n"), (".", "250 kept\n"), ("DATA", READY), (".", OK)];
    let server = tokio::spawn(play(theirs, script, true));
    let mut connection = over(ours);
    connection.capabilities.pipelining = true;
    connection.deliver(&envelope(), b"x\r\n", async { true }).await;
    let second = connection.deliver(&envelope(), b"x\r\n", async { true }).await;
    assert!(second.transcript.starts_with("warning: the server ends its lines with LF alone\n"), "{second:?}");
    server.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn fs26_answers_byte_by_byte() {
    let (ours, theirs) = tokio::io::duplex(1);
    let server = tokio::spawn(play(theirs, dot("250-kept\r\n250 as X\r\n"), false));
    let mut connection = over(ours);
    connection.capabilities.pipelining = true;
    let report = connection.deliver(&envelope(), b"x\r\n", async { true }).await;
    assert!(matches!(&report.delivery, Delivery::Accepted(reply) if reply.text == "kept as X"), "{report:?}");
    assert!(connection.is_usable());
    drop(connection);
    assert_eq!(dots(&server.await.unwrap()), 1);
}

#[tokio::test(start_paused = true)]
async fn fs26_a_goodbye_in_the_segment_of_the_answer_retires_the_connection() {
    let outcome = deliver(true, dot("250 ok\r\n421 bye\r\n"), true, true).await;
    assert!(accepted(&outcome) && !outcome.usable);
}

#[tokio::test(start_paused = true)]
async fn fs27_nonsense_before_the_dot_is_surely_not_sent() {
    for (answer, stage) in [
        ("HTTP/1.1 400 Bad Request\r\n", Stage::Mail),
        ("250-a\r\n251 b\r\n", Stage::Mail),
        ("2500 a\r\n", Stage::Mail),
        ("250 a\r\n334 b\r\n503 c\r\n", Stage::Rcpt),
        ("250 a\r\n250 b\r\nwhat?\r\n", Stage::Data),
    ] {
        let outcome = deliver(true, vec![("DATA", answer)], false, true).await;
        assert!(is_protocol_trouble(&outcome.report.delivery, stage), "{answer} {:?}", outcome.report);
        assert!(!outcome.usable);
        assert_eq!(outcome.seen.last().unwrap(), "DATA", "nothing was written after it");
    }
}

#[tokio::test(start_paused = true)]
async fn fs27_nonsense_after_the_dot_leaves_it_unknown() {
    for answer in ["HTTP/1.1 200 OK\r\n", "250-a\r\n550 b\r\n", "2500 a\r\n", "354 more?\r\n"] {
        let outcome = deliver(true, dot(answer), false, true).await;
        let delivery = &outcome.report.delivery;
        assert!(matches!(delivery, Delivery::Unknown(Trouble::Protocol(_))), "{answer}: {delivery:?}");
        assert!(!outcome.usable);
        assert_eq!(dots(&outcome.seen), 1);
    }
}
