//! More than one message over a connection: reset after an error, retired, or found dead.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

const NO_SUCH: &str = "250 a\r\n550 no\r\n503 b\r\n";

/// A connection with PIPELINING to a server that plays `script` and closes.
fn played(script: Vec<Turn>) -> (Connection, tokio::task::JoinHandle<Vec<String>>) {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let server = tokio::spawn(play(theirs, script, true));
    let mut connection = over(ours);
    connection.capabilities.pipelining = true;
    (connection, server)
}

async fn send(connection: &mut Connection) -> Report {
    connection.deliver(&envelope(), b"x\r\n", async { true }).await
}

#[tokio::test(start_paused = true)]
async fn fs32_a_connection_that_was_closed_while_idle_is_stale() {
    let (mut connection, server) = played(dot(OK));
    assert!(matches!(send(&mut connection).await.delivery, Delivery::Accepted(_)));
    server.await.unwrap();
    let second = send(&mut connection).await;
    assert!(second.stale && matches!(second.delivery, Delivery::Failed(Stage::Mail, Trouble::Closed)), "{second:?}");
    assert!(!connection.is_usable());
}

#[tokio::test(start_paused = true)]
async fn fs32_a_421_is_stale_on_a_reused_connection_alone() {
    let (mut connection, server) = played([dot(OK), vec![("DATA", "421 4.4.2 idle too long\r\n")]].concat());
    let first = send(&mut connection).await;
    assert!(matches!(first.delivery, Delivery::Accepted(_)) && !first.stale);
    let second = send(&mut connection).await;
    assert!(refused(&second.delivery, Stage::Mail, 421));
    assert!(second.stale && second.gate_opened && !connection.is_usable());
    assert_eq!(dots(&server.await.unwrap()), 1);
    let fresh = deliver(true, vec![("DATA", "421 4.3.2 closing\r\n")], true, true).await;
    assert!(!fresh.report.stale, "the first message of a connection: the account waits");
}

#[tokio::test(start_paused = true)]
async fn fs32_no_answer_to_rset_is_stale() {
    for answer in ["", "421 4.4.2 idle too long\r\n", "554 no\r\n"] {
        let (mut connection, _server) = played(vec![("DATA", NO_SUCH), ("RSET", answer)]);
        send(&mut connection).await;
        let asked = AtomicBool::new(false);
        let gate = async { asked.fetch_or(true, Ordering::Relaxed) };
        let second = connection.deliver(&envelope(), b"x\r\n", gate).await;
        assert!(second.stale && matches!(second.delivery, Delivery::Failed(Stage::Rset, _)), "{second:?}");
        assert!(!asked.into_inner() && !second.gate_opened, "nobody was asked");
    }
}

#[tokio::test(start_paused = true)]
async fn fs33_after_an_error_comes_rset_and_mail_never_comes_twice() {
    let script = [vec![("DATA", NO_SUCH), ("RSET", OK)], dot(OK), dot(OK)].concat();
    let (mut connection, server) = played(script);
    assert!(refused(&send(&mut connection).await.delivery, Stage::Rcpt, 550));
    for _ in 0..2 {
        assert!(matches!(send(&mut connection).await.delivery, Delivery::Accepted(_)));
    }
    let seen = server.await.unwrap();
    let order: Vec<&str> = seen.iter().map(|line| line.split([' ', ':']).next().unwrap()).collect();
    let message = ["MAIL", "RCPT", "DATA", "x", "."];
    assert_eq!(order, [&["MAIL", "RCPT", "DATA", "RSET"][..], &message, &message].concat());
}

/// 5.5.x, 500 to 504 and 555: the two sides do not agree on the protocol.
#[tokio::test(start_paused = true)]
async fn a_connection_on_which_we_broke_the_protocol_is_retired() {
    for (answer, usable) in [("550 5.5.2 syntax", false), ("501 syntax", false), ("550 5.1.1 no such user", true)] {
        let reply: &'static str = format!("250 a\r\n{answer}\r\n503 b\r\n").leak();
        let (mut connection, server) = played(vec![("DATA", reply)]);
        assert!(matches!(send(&mut connection).await.delivery, Delivery::Refused(Stage::Rcpt, _)));
        assert_eq!(connection.is_usable(), usable, "{answer}");
        server.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn fs34_a_server_that_closes_after_some_messages_costs_none() {
    let goodbye = "250 kept\r\n421 4.7.0 enough for one connection\r\n";
    let (mut connection, server) = played([dot(OK), dot(goodbye)].concat());
    for usable in [true, false] {
        assert!(matches!(send(&mut connection).await.delivery, Delivery::Accepted(_)));
        assert_eq!(connection.is_usable(), usable, "no third message is tried on it");
    }
    assert_eq!((connection.delivered(), dots(&server.await.unwrap())), (2, 2));
}
