//! BDAT (RFC 3030): the gate before the last chunk, its length, and when unknown begins.

use tokio::io::AsyncReadExt as _;

use super::*;

const MESSAGE: &[u8] = b"Subject: x\r\n\r\n.hidden\r\n.\r\nbare\n";
const CHUNK: &str = "BDAT 32 LAST";

/// Delivers `MESSAGE` to a server with CHUNKING that plays `script`.
async fn chunked(pipelining: bool, script: Vec<Turn>, close: bool, grant: bool) -> Outcome {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let server = tokio::spawn(play(theirs, script, close));
    let mut connection = over(ours);
    connection.capabilities = Capabilities { pipelining, chunking: true, ..Capabilities::default() };
    let report = connection.deliver(&envelope(), MESSAGE, async { grant }).await;
    let usable = connection.is_usable();
    drop(connection);
    Outcome { report, usable, seen: server.await.unwrap() }
}

const TWO: &str = "250 a\r\n250 b\r\n";

#[tokio::test(start_paused = true)]
async fn a_message_goes_as_one_chunk_with_its_dots_as_they_are() {
    for (pipelining, script) in [
        (true, vec![("RCPT", TWO), (CHUNK, ""), ("bare", "250 kept\r\n")]),
        (false, vec![("MAIL", OK), ("RCPT", OK), (CHUNK, ""), ("bare", "250 kept\r\n")]),
    ] {
        let outcome = chunked(pipelining, script, false, true).await;
        assert!(accepted(&outcome) && outcome.usable && outcome.report.gate_opened, "{:?}", outcome.report);
        assert_eq!(outcome.seen[2..], [CHUNK, "Subject: x", "", ".hidden", ".", "bare"], "a bare LF became CRLF");
        let stages: Vec<&str> = outcome.report.steps.iter().map(|step| step.stage.as_str()).collect();
        assert_eq!(stages, ["mail", "rcpt", "body", "dot"]);
    }
}

#[tokio::test(start_paused = true)]
async fn no_chunk_is_begun_while_the_gate_is_closed_and_the_connection_lives_on() {
    for (pipelining, script) in [(true, vec![("RCPT", TWO)]), (false, vec![("MAIL", OK), ("RCPT", OK)])] {
        let outcome = chunked(pipelining, script, false, false).await;
        assert_eq!(outcome.report.delivery, Delivery::NotGranted);
        assert!(outcome.usable && outcome.seen.len() == 2, "{:?}", outcome.seen);
    }
}

#[tokio::test(start_paused = true)]
async fn no_chunk_is_begun_for_a_recipient_that_was_refused() {
    for (answer, stage, code, usable) in [
        ("250 a\r\n550 5.1.1 no\r\n", Stage::Rcpt, 550, true),
        ("550 a\r\n250 b\r\n", Stage::Mail, 550, true),
        ("421 bye\r\n", Stage::Mail, 421, false),
        ("250 a\r\n421 bye\r\n", Stage::Rcpt, 421, false),
    ] {
        let outcome = chunked(true, vec![("RCPT", answer)], !usable, true).await;
        assert!(refused(&outcome.report.delivery, stage, code), "{:?}", outcome.report);
        assert_eq!((outcome.usable, outcome.seen.len()), (usable, 2), "{:?}", outcome.seen);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_refused_chunk_comes_rset() {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let (refusal, kept) = (("bare", "554 5.7.1 spam\r\n"), ("bare", "250 kept\r\n"));
    let script = vec![("RCPT", TWO), refusal, ("RSET", OK), ("RCPT", TWO), kept, ("RCPT", TWO), kept];
    let server = tokio::spawn(play(theirs, script, false));
    let mut connection = over(ours);
    connection.capabilities = Capabilities { pipelining: true, chunking: true, ..Capabilities::default() };
    let first = connection.deliver(&envelope(), MESSAGE, async { true }).await;
    assert!(refused(&first.delivery, Stage::Dot, 554) && connection.is_usable());
    for _ in 0..2 {
        let next = connection.deliver(&envelope(), MESSAGE, async { true }).await;
        assert!(matches!(next.delivery, Delivery::Accepted(_)), "{next:?}");
    }
    drop(connection);
    assert_eq!(server.await.unwrap().iter().filter(|line| *line == "RSET").count(), 1);
}

/// Cuts the connection when so many octets of the chunk and its command have come.
async fn cut_after(octets: usize) -> Delivery {
    let (ours, mut theirs) = tokio::io::duplex(1);
    let server = tokio::spawn(async move {
        let mut commands = Vec::new();
        while !commands.ends_with(b"<bo@example.com>\r\n") {
            theirs.read_buf(&mut commands).await.unwrap();
        }
        theirs.write_all(TWO.as_bytes()).await.unwrap();
        theirs.read_exact(&mut vec![0; octets]).await.unwrap();
    });
    let mut connection = over(ours);
    connection.capabilities = Capabilities { pipelining: true, chunking: true, ..Capabilities::default() };
    let report = connection.deliver(&envelope(), MESSAGE, async { true }).await;
    server.await.unwrap();
    assert!(report.gate_opened && !connection.is_usable());
    report.delivery
}

#[tokio::test(start_paused = true)]
async fn fs17_and_fs18_of_a_chunk_unknown_begins_with_its_last_octet() {
    let all = CHUNK.len() + 2 + 32;
    for octets in [1, CHUNK.len() + 2, all - 2] {
        assert_eq!(cut_after(octets).await, Delivery::Failed(Stage::Body, Trouble::Closed), "{octets} of {all}");
    }
    assert_eq!(cut_after(all).await, Delivery::Unknown(Trouble::Closed));
    let silent = chunked(true, vec![("RCPT", TWO), ("bare", "")], false, true).await;
    assert!(matches!(silent.report.delivery, Delivery::Unknown(Trouble::Timeout(_))) && !silent.usable);
}
