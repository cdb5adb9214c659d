//! The body and its dot: what is surely not sent, what is unknown, and what the server said meanwhile.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::*;

/// A pipe takes this much before its reader reads.
const PIPE: usize = 4 << 10;

/// What the server does once it has read some of the body.
#[derive(Clone, Copy)]
enum Then {
    HangUp,
    Say(&'static str),
    SayAndHangUp(&'static str),
}

/// Delivers 300 KiB to a server that answers 354, reads `read` bytes of the body and no more.
async fn broken_off(read: usize, then: Then) -> (Report, bool, Duration) {
    broken_off_at(300 << 10, false, read, then).await
}

async fn broken_off_at(size: usize, protected: bool, read: usize, then: Then) -> (Report, bool, Duration) {
    let (ours, mut theirs) = tokio::io::duplex(PIPE);
    let server = tokio::spawn(async move {
        let mut buffer = vec![0; PIPE];
        let mut commands = Vec::new();
        while !commands.ends_with(b"DATA\r\n") {
            let n = theirs.read(&mut buffer).await.unwrap();
            commands.extend_from_slice(&buffer[..n]);
        }
        theirs.write_all(b"250 a\r\n250 b\r\n354 c\r\n").await.unwrap();
        let mut body = vec![0; read];
        theirs.read_exact(&mut body).await.unwrap();
        assert!(!body.windows(5).any(|five| five == b"\r\n.\r\n"), "the fault comes before the dot");
        if matches!(then, Then::HangUp) {
            // Until the pipe is full again: what fits in it has left the client.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        if let Then::Say(text) | Then::SayAndHangUp(text) = then {
            theirs.write_all(text.as_bytes()).await.unwrap();
        }
        matches!(then, Then::Say(_)).then_some(theirs)
    });
    let mut connection = over(ours);
    connection.capabilities.pipelining = true;
    connection.protected = protected;
    let message = "All work and no play.\r\n".repeat(size / 23);
    let started = Instant::now();
    let report = connection.deliver(&envelope(), message.as_bytes(), async { true }).await;
    let took = started.elapsed();
    let _open_until_here = server.await.unwrap();
    (report, connection.is_usable(), took)
}

#[tokio::test(start_paused = true)]
async fn fs19_a_refusal_during_the_body_is_heard() {
    for then in [Then::SayAndHangUp("552 5.3.4 too big\r\n"), Then::Say("552 5.3.4 too big\r\n")] {
        let (report, usable, took) = broken_off(100 << 10, then).await;
        assert!(
            matches!(&report.delivery, Delivery::Refused(Stage::Body, reply) if reply.code == 552),
            "{:?}",
            report.delivery
        );
        assert!(!usable && took < Duration::from_secs(1), "it is heard at once, not when a limit is over");
    }
}

#[tokio::test(start_paused = true)]
async fn fs17_a_cut_during_the_body_is_surely_not_sent() {
    for read in [0, 1, 100 << 10, 290 << 10] {
        let (report, usable, _) = broken_off(read, Then::HangUp).await;
        assert_eq!(report.delivery, Delivery::Failed(Stage::Body, Trouble::Closed), "after {read} bytes");
        assert!(report.gate_opened && !usable);
    }
}

/// With TLS a failed write does not tell what has left: once the dot was given away, the outcome is unknown.
#[tokio::test(start_paused = true)]
async fn fs17_a_cut_in_the_block_of_the_dot_is_unknown_under_tls_alone() {
    for (protected, expected) in
        [(false, Delivery::Failed(Stage::Body, Trouble::Closed)), (true, Delivery::Unknown(Trouble::Closed))]
    {
        let (report, ..) = broken_off_at(30 << 10, protected, 1, Then::HangUp).await;
        assert_eq!(report.delivery, expected);
        let (report, ..) = broken_off_at(300 << 10, protected, 1, Then::HangUp).await;
        assert_eq!(report.delivery, Delivery::Failed(Stage::Body, Trouble::Closed), "an earlier block");
    }
}

#[tokio::test(start_paused = true)]
async fn unknown_begins_with_the_first_of_the_final_octets() {
    let dot = 300 * 1024 / 23 * 23;
    let (before, ..) = broken_off(dot - PIPE, Then::HangUp).await;
    assert_eq!(before.delivery, Delivery::Failed(Stage::Body, Trouble::Closed), "the whole body, but no dot");
    let (begun, ..) = broken_off(dot + 1 - PIPE, Then::HangUp).await;
    assert_eq!(begun.delivery, Delivery::Unknown(Trouble::Closed), "one octet of the dot");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stops_reading_is_left_within_the_limit_of_a_block() {
    let (report, usable, took) = broken_off(100 << 10, Then::Say("")).await;
    let limit = Duration::from_secs(180);
    assert_eq!(report.delivery, Delivery::Failed(Stage::Body, Trouble::Timeout(limit)));
    assert!(!usable && took <= limit + LAST_WORDS);
}

#[tokio::test(start_paused = true)]
async fn an_answer_before_the_dot_is_never_taken_for_the_answer_to_it() {
    let early = "250 a\r\n250 b\r\n354 c\r\n250 queued as nothing\r\n";
    let outcome = deliver(true, vec![("DATA", early)], false, true).await;
    assert!(matches!(outcome.report.delivery, Delivery::Failed(Stage::Body, Trouble::Protocol(_))));
    assert_eq!(outcome.seen.last().unwrap(), "DATA", "neither body nor dot were written");
    let (report, ..) = broken_off(100 << 10, Then::Say("250 queued as nothing\r\n")).await;
    assert!(matches!(report.delivery, Delivery::Failed(Stage::Body, Trouble::Protocol(_))));
}

#[tokio::test(start_paused = true)]
async fn nothing_follows_data_before_the_gate_opens() {
    let (ours, mut theirs) = tokio::io::duplex(1 << 20);
    let (open, opening) = oneshot::channel();
    let server = tokio::spawn(async move {
        let mut seen = Vec::new();
        let mut buffer = [0; 1024];
        while !seen.ends_with(b"DATA\r\n") {
            let n = theirs.read(&mut buffer).await.unwrap();
            seen.extend_from_slice(&buffer[..n]);
        }
        theirs.write_all(b"250 a\r\n250 b\r\n354 c\r\n").await.unwrap();
        let waited = timeout(Duration::from_secs(30), theirs.read(&mut buffer)).await;
        assert!(waited.is_err(), "the gate is closed: not a byte of the body");
        open.send(()).unwrap();
        let n = theirs.read(&mut buffer).await.unwrap();
        assert!(buffer[..n].ends_with(b"\r\n.\r\n"));
        theirs.write_all(b"250 ok\r\n").await.unwrap();
    });
    let mut connection = over(ours);
    connection.capabilities.pipelining = true;
    let gate = async { opening.await.is_ok() };
    let report = connection.deliver(&envelope(), b"x\r\n", gate).await;
    assert!(matches!(report.delivery, Delivery::Accepted(_)) && report.gate_opened);
    server.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_was_asked_is_awaited_although_the_dialogue_is_over() {
    for (answer, close) in [("250 a\r\n", true), ("250 a\r\n550 no\r\n503 b\r\n", false), ("nonsense\r\n", false)] {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let server = tokio::spawn(play(theirs, vec![("DATA", answer)], close));
        let mut connection = over(ours);
        connection.capabilities.pipelining = true;
        let mut written = false;
        let gate = async {
            tokio::time::sleep(Duration::from_secs(20)).await;
            written = true;
            true
        };
        let report = connection.deliver(&envelope(), b"x\r\n", gate).await;
        assert!(report.gate_opened && written, "{answer}: the caller must learn that an intent was written");
        assert!(!matches!(report.delivery, Delivery::Accepted(_) | Delivery::Unknown(_)));
        drop(connection);
        assert_eq!(server.await.unwrap().last().unwrap(), "DATA", "and no dot was");
    }
}

#[tokio::test(start_paused = true)]
async fn fs15_and_fs16_a_refusal_after_the_dot_is_an_answer() {
    for (answer, code) in [("552 5.2.2 full\r\n", 552), ("554 5.7.1 spam\r\n", 554), ("451 4.3.0 later\r\n", 451)] {
        let outcome = deliver(true, dot(answer), false, true).await;
        assert!(refused(&outcome.report.delivery, Stage::Dot, code), "{:?}", outcome.report);
        assert!(outcome.usable && outcome.report.gate_opened && dots(&outcome.seen) == 1);
    }
}

#[tokio::test(start_paused = true)]
async fn fs17_a_cut_before_354_is_surely_not_sent() {
    let outcome = deliver(true, vec![("DATA", "250 a\r\n250 b\r\n")], true, true).await;
    assert_eq!(outcome.report.delivery, Delivery::Failed(Stage::Data, Trouble::Closed));
    assert!(outcome.report.gate_opened, "the intent is recorded, and provably nothing was sent");
    assert!(!outcome.usable && dots(&outcome.seen) == 0);
}

#[tokio::test]
async fn fs17_a_reset_in_the_middle_of_the_body_is_surely_not_sent() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 1024];
        tcp.write_all(READY.as_bytes()).await.unwrap();
        let mut seen = Vec::new();
        while seen.len() < 200 << 10 {
            let n = tcp.read(&mut buffer).await.unwrap();
            seen.extend_from_slice(&buffer[..n]);
        }
        tcp.set_zero_linger().unwrap();
        seen
    });
    let mut connection =
        Connection::new(Box::new(tokio::net::TcpStream::connect(address).await.unwrap()), Timeouts::default());
    connection.capabilities.pipelining = true;
    let message = "All work and no play.\r\n".repeat(1 << 20);
    let report = connection.deliver(&envelope(), message.as_bytes(), async { true }).await;
    assert!(matches!(report.delivery, Delivery::Failed(Stage::Body, Trouble::Closed)), "{:?}", report.delivery);
    assert!(!connection.is_usable());
    assert!(!server.await.unwrap().windows(5).any(|five| five == b"\r\n.\r\n"));
}

#[tokio::test(start_paused = true)]
async fn fs18_no_answer_to_the_dot_is_unknown() {
    let limit = Duration::from_secs(600);
    for (close, trouble) in [(true, Trouble::Closed), (false, Trouble::Timeout(limit))] {
        let outcome = deliver(true, dot(""), close, true).await;
        assert_eq!(outcome.report.delivery, Delivery::Unknown(trouble));
        assert!(!outcome.usable && !outcome.report.stale && dots(&outcome.seen) == 1);
    }
}

#[tokio::test(start_paused = true)]
async fn fs20_a_late_answer_is_waited_for() {
    for seconds in [6, 300, 599] {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let server = tokio::spawn(async move {
            let mut theirs = BufReader::new(theirs);
            theirs.get_mut().write_all(READY.as_bytes()).await.unwrap();
            let mut line = String::new();
            while line != ".\r\n" {
                line.clear();
                assert!(theirs.read_line(&mut line).await.unwrap() > 0);
            }
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            theirs.get_mut().write_all(OK.as_bytes()).await.unwrap();
            theirs
        });
        let mut connection = over(ours);
        connection.capabilities.pipelining = true;
        let began = Instant::now();
        let report = connection.deliver(&envelope(), b"x\r\n", async { true }).await;
        assert!(matches!(report.delivery, Delivery::Accepted(_)), "{:?}", report.delivery);
        assert!(connection.is_usable() && began.elapsed().as_secs() == seconds);
        server.await.unwrap();
    }
}
