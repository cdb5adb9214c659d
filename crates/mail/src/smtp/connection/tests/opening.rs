//! Before a message: servers that are not there, greetings that are none, old servers, and which address is taken.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::Instant;

use super::super::happy_eyeballs::{STAGGER, race, take_turns};
use super::*;

fn server_at(port: u16) -> Server {
    Server { tls: TlsMode::None, ..tls::server_at(port, TlsMode::None, Trust::load(None).unwrap()) }
}

/// Banner and EHLO with a server that begins with `greeting` and then plays `script`; what the server heard.
async fn greeted(greeting: &str, script: Vec<Turn>, close: bool) -> (Result<Connection, Delivery>, Vec<String>) {
    let (ours, mut theirs) = tokio::io::duplex(1 << 20);
    theirs.write_all(greeting.as_bytes()).await.unwrap();
    let server = tokio::spawn(play(theirs, script, close));
    let mut connection = over(ours);
    let mut result = connection.banner().await;
    if result.is_ok() {
        result = connection.greet("client.example").await;
    }
    let result = result.map(|()| connection);
    match result {
        Ok(connection) => (Ok(connection), Vec::new()),
        Err(delivery) => (Err(delivery), server.await.unwrap()),
    }
}

async fn not_greeted(greeting: &str, script: Vec<Turn>, close: bool) -> (Delivery, Vec<String>) {
    let (result, seen) = greeted(greeting, script, close).await;
    (result.err().expect("such a server is not spoken to"), seen)
}

#[tokio::test]
async fn fs01_a_connection_that_is_refused_or_reset() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        tcp.set_zero_linger().unwrap();
    });
    let reset = Connection::open(&server_at(port)).await.err().unwrap();
    server.await.unwrap();
    let found = &reset.delivery;
    assert!(matches!(found, Delivery::Failed(Stage::Connect | Stage::Banner, _)), "as soon as it came: {found:?}");
    let refused = Connection::open(&server_at(port)).await.err().unwrap();
    let expected = Trouble::Network(io::ErrorKind::ConnectionRefused.to_string());
    assert_eq!(refused.delivery, Delivery::Failed(Stage::Connect, expected));
    assert!(!refused.gate_opened && !refused.stale);
}

#[tokio::test(start_paused = true)]
async fn fs01_a_connection_that_nobody_answers() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    // Once its queue is full, the kernel drops what asks for a connection.
    let mut queue = Vec::new();
    while let Ok(Ok(queued)) = timeout(Duration::from_secs(1), TcpStream::connect(address)).await {
        queue.push(queued);
    }
    let began = Instant::now();
    let report = Connection::open(&server_at(address.port())).await.err().unwrap();
    let limit = Timeouts::default().connect;
    assert_eq!(report.delivery, Delivery::Failed(Stage::Connect, Trouble::Timeout(limit)));
    assert_eq!(began.elapsed().as_secs(), limit.as_secs());
}

#[tokio::test(start_paused = true)]
async fn fs01_no_way_to_any_address() {
    let tried = race::<TcpStream, _>(vec![address(4, 1), address(6, 1)], async |_| -> io::Result<_> {
        Err(io::ErrorKind::NetworkUnreachable.into())
    });
    assert_eq!(tried.await.unwrap_err().kind(), io::ErrorKind::NetworkUnreachable);
}

#[tokio::test(start_paused = true)]
async fn fs02_a_greeting_that_never_comes() {
    let limit = Duration::from_secs(60);
    for (close, trouble) in [(false, Trouble::Timeout(limit)), (true, Trouble::Closed)] {
        let began = Instant::now();
        let (delivery, seen) = not_greeted("", vec![], close).await;
        assert_eq!(delivery, Delivery::Failed(Stage::Banner, trouble));
        assert!(seen.is_empty(), "nobody speaks first");
        assert_eq!(began.elapsed(), if close { Duration::ZERO } else { limit });
    }
}

#[tokio::test(start_paused = true)]
async fn fs03_a_greeting_that_says_no() {
    for (greeting, code) in [("421 4.3.2 later\r\n", 421), ("554 no service\r\n", 554)] {
        let (delivery, seen) = not_greeted(greeting, vec![], false).await;
        assert!(refused(&delivery, Stage::Banner, code) && seen.is_empty(), "{delivery:?}");
    }
    let (delivery, _) = not_greeted("354 go\r\n", vec![], false).await;
    assert!(is_protocol_trouble(&delivery, Stage::Banner));
}

#[tokio::test(start_paused = true)]
async fn fs04_a_greeting_without_end() {
    for (endless, why) in
        [("x".repeat(9 << 10), "a line without end"), ("220 ".repeat(20 << 10), "a reply without end")]
    {
        let began = Instant::now();
        let (delivery, seen) = not_greeted(&endless, vec![], false).await;
        assert_eq!(delivery, Delivery::Failed(Stage::Banner, Trouble::Protocol(why)));
        assert!(seen.is_empty() && began.elapsed().is_zero(), "it is cut by its size, not by the clock");
    }
}

#[tokio::test(start_paused = true)]
async fn fs05_an_answer_to_ehlo_without_end() {
    let lines: &'static str = "250-X-MORE\r\n".repeat(129).leak();
    let bytes: &'static str = format!("250-X{}\r\n", "-".repeat(1000)).repeat(66).leak();
    for (endless, why) in [(lines, "a reply with too many lines"), (bytes, "a reply without end")] {
        let (delivery, seen) = not_greeted("220 hello\r\n", vec![("EHLO", endless)], false).await;
        assert_eq!(delivery, Delivery::Failed(Stage::Ehlo, Trouble::Protocol(why)));
        assert_eq!(seen, ["EHLO client.example"]);
    }
}

#[tokio::test(start_paused = true)]
async fn fs06_an_old_server_behind_a_firewall_gets_its_mail_without_extensions() {
    let (ours, mut theirs) = tokio::io::duplex(1 << 20);
    theirs.write_all(b"220 ****************\r\n").await.unwrap();
    let old = vec![("EHLO", "502 what?\r\n"), ("HELO", "250 hello\r\n")];
    let message = vec![("MAIL", OK), ("RCPT", OK), ("DATA", GO), (".", OK)];
    let server = tokio::spawn(play(theirs, [old, message].concat(), false));
    let mut connection = over(ours);
    connection.banner().await.unwrap();
    connection.greet("client.example").await.unwrap();
    assert_eq!(connection.capabilities, Capabilities::default());
    let report = connection.deliver(&envelope(), b"x\r\n", async { true }).await;
    assert!(matches!(report.delivery, Delivery::Accepted(_)), "{report:?}");
    drop(connection);
    let seen = server.await.unwrap();
    assert_eq!(
        seen[..4],
        ["EHLO client.example", "HELO client.example", "MAIL FROM:<ana@acme.test>", "RCPT TO:<bo@example.com>"]
    );
    assert_eq!(dots(&seen), 1);
}

fn address(version: u8, last: u16) -> SocketAddr {
    let text = if version == 6 { format!("[2001:db8::{last}]:25") } else { format!("192.0.2.{last}:25") };
    text.parse().unwrap()
}

#[test]
fn fs36_families_take_turns_and_of_64_addresses_8_are_tried() {
    let all: Vec<SocketAddr> = (1..=32).map(|n| address(6, n)).chain((1..=32).map(|n| address(4, n))).collect();
    let tried = take_turns(&all);
    let expected: Vec<SocketAddr> = (1..=4).flat_map(|n| [address(6, n), address(4, n)]).collect();
    assert_eq!(tried, expected);
    assert_eq!(
        take_turns(&[address(4, 1), address(6, 1), address(4, 2)]),
        [address(4, 1), address(6, 1), address(4, 2)]
    );
    assert_eq!(take_turns(&[address(4, 1), address(4, 2)]), [address(4, 1), address(4, 2)]);
    assert!(take_turns(&[]).is_empty());
}

#[tokio::test(start_paused = true)]
async fn fs36_a_dead_ipv6_address_holds_up_its_living_neighbour_for_a_moment_only() {
    let tried = Arc::new(Mutex::new(Vec::new()));
    let began = Instant::now();
    let connect = |address: SocketAddr| {
        tried.lock().unwrap().push((address, began.elapsed()));
        async move {
            if address.is_ipv6() {
                // Nobody is there, and nobody says so.
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(address)
        }
    };
    let reached =
        race(take_turns(&[address(6, 1), address(6, 2), address(4, 1), address(4, 2)]), connect).await.unwrap();
    assert_eq!(reached, address(4, 1));
    assert_eq!(began.elapsed(), STAGGER + Duration::from_millis(20));
    assert_eq!(*tried.lock().unwrap(), [(address(6, 1), Duration::ZERO), (address(4, 1), STAGGER)], "and no third one");
}

#[tokio::test(start_paused = true)]
async fn fs36_an_address_that_refuses_is_followed_at_once_and_a_slow_one_may_still_win() {
    let began = Instant::now();
    let refusing = race(vec![address(6, 1), address(4, 1)], async |address: SocketAddr| match address {
        SocketAddr::V6(_) => Err(io::ErrorKind::ConnectionRefused.into()),
        SocketAddr::V4(_) => Ok(address),
    });
    assert_eq!(refusing.await.unwrap(), address(4, 1));
    assert!(began.elapsed().is_zero());
    let slow = race(vec![address(6, 1), address(4, 1)], async |address: SocketAddr| {
        let takes = if address.is_ipv6() { STAGGER * 2 } else { STAGGER * 10 };
        tokio::time::sleep(takes).await;
        Ok(address)
    });
    assert_eq!(slow.await.unwrap(), address(6, 1));
    assert_eq!(began.elapsed(), STAGGER * 2);
}

#[tokio::test]
async fn fs36_the_policy_is_asked_about_the_address_and_not_the_name() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = server_at(listener.local_addr().unwrap().port());
    let private = Server { policy: HostPolicy::Public(Vec::new()), ..server };
    let report = Connection::open(&private).await.err().unwrap();
    assert!(matches!(report.delivery, Delivery::Failed(Stage::Resolve, Trouble::Resolve(_))), "{report:?}");
    let knocked = std::future::poll_fn(|cx| std::task::Poll::Ready(listener.poll_accept(cx).is_ready())).await;
    assert!(!knocked, "not even a connection was made");
}
