//! The sink over real connections: every fault fires and is counted, messages arrive as they were.

use domain::email_account::{LogInMethod, TlsMode};
use mail::smtp::target::HostPolicy;
use mail::smtp::{Connection, Credentials, Delivery, Envelope, Server, Timeouts, Trust};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;

struct Running {
    address: SocketAddr,
    shutdown: Shutdown,
    serving: JoinHandle<(u64, Vec<(String, u64)>)>,
}

async fn start(options: SinkOptions, offers: Offers) -> Running {
    let sink = Listening::open("127.0.0.1:0".parse().unwrap(), options).await.unwrap().offering(offers);
    let (address, shutdown) = (sink.address().unwrap(), Shutdown::new());
    Running { address, shutdown: shutdown.clone(), serving: tokio::spawn(sink.run(shutdown)) }
}

async fn start_with(faults: Faults) -> Running {
    start(SinkOptions { faults, ..SinkOptions::default() }, Offers::default()).await
}

impl Running {
    /// Sends everything in one segment, and reads until the sink closes; `!reset` stands for a reset.
    async fn talk(&self, lines: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(lines.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let end = stream.read_to_end(&mut answer).await;
        let end = end.map_or("!reset", |_| "");
        String::from_utf8(answer).unwrap() + end
    }

    async fn stop(self) -> (u64, Vec<(String, u64)>) {
        self.shutdown.stop();
        self.serving.await.unwrap()
    }
}

fn message(recipient: &str, body: &str) -> String {
    format!("MAIL FROM:<a@b.c>\r\nRCPT TO:<{recipient}>\r\nDATA\r\nMessage-ID: <1@b.c>\r\n\r\n{body}\r\n.\r\n")
}

/// Codes of the replies, one for each reply.
fn codes(answer: &str) -> Vec<&str> {
    answer
        .split("\r\n")
        .filter(|line| !line.is_empty() && line.as_bytes().get(3) != Some(&b'-'))
        .map(|line| if line.starts_with('!') { line } else { &line[..3] })
        .collect()
}

#[tokio::test]
async fn a_pipelined_burst_is_answered_in_order_and_kept_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (told, mut heard) = mpsc::unbounded_channel();
    let folder = dir.path().join("mail");
    let journal = dir.path().join("journal");
    let sink = start(
        SinkOptions {
            folder: Some(folder.clone()),
            journal: Some(journal.clone()),
            told: Some(told),
            faults: Faults::default(),
        },
        Offers::default(),
    )
    .await;
    let burst = format!(
        "EHLO x\r\n{}MAIL FROM:<a@b.c>\r\nRSET\r\n{}NOOP\r\nVRFY x\r\nHELP\r\nQUIT\r\n",
        message("ana@x.test", "..dot"),
        message("greylist+a@x.test", "no faults here"),
    );
    let answer = sink.talk(&burst).await;
    let expected = "220 250 250 250 354 250 250 250 250 250 354 250 250 252 500 221";
    assert_eq!(codes(&answer).join(" "), expected, "{answer}");
    assert_eq!(sink.stop().await, (2, vec![]));

    let first = heard.recv().await.unwrap();
    assert_eq!(&*first.message, b"Message-ID: <1@b.c>\r\n\r\n.dot\r\n");
    assert_eq!(std::fs::read(folder.join("000001.eml")).unwrap(), first.message);
    let journal = std::fs::read_to_string(journal).unwrap();
    assert_eq!(journal, "<1@b.c>\tana@x.test\n<1@b.c>\tgreylist+a@x.test\n");
}

/// What a client that sends ahead says to a server that will answer with `replies`.
fn dialogue(recipient: &str, replies: &str) -> String {
    let whole = message(recipient, "x");
    let said = if replies.contains("354") { whole.as_str() } else { whole.split("Message-ID").next().unwrap() };
    format!("EHLO x\r\n{said}QUIT\r\n")
}

#[tokio::test]
async fn every_fault_by_local_part_fires_and_is_counted() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let faults = Faults::new(Vec::new(), true);
    let options = SinkOptions { faults, told: Some(told), ..SinkOptions::default() };
    let sink = start(options, Offers::default()).await;
    let cases = [
        ("unknown", "220 250 250 550 554 221", false),
        ("550", "220 250 250 550 554 221", false),
        ("busy", "220 250 250 421", false),
        ("452-at-data", "220 250 250 250 452 221", false),
        ("full", "220 250 250 250 354 552 221", false),
        ("spam", "220 250 250 250 354 554 221", false),
        ("later", "220 250 250 250 354 451 221", false),
        ("421-after-dot", "220 250 250 250 354 421", false),
        ("cut", "220 250 250 250 354", false),
        ("reset-in-data", "220 250 250 250 354 !reset", false),
        ("close-after-dot", "220 250 250 250 354", false),
        ("close-at-rcpt", "220 250 250", false),
        ("silent", "220 250 250 250 354", true),
        ("451-after-accept", "220 250 250 250 354 451 221", true),
        ("slow-1ms", "220 250 250 250 354 250 221", true),
        ("slow-1ms-at-rcpt", "220 250 250 250 354 250 221", true),
    ];
    for (word, replies, is_kept) in cases {
        let answer = sink.talk(&dialogue(&format!("{word}+a@x.test"), replies)).await;
        assert_eq!(codes(&answer).join(" "), replies, "{word}: {answer}");
        assert_eq!(heard.try_recv().is_ok(), is_kept, "{word}");
    }
    let (received, fired) = sink.stop().await;
    assert_eq!(received, 4);
    assert_eq!(fired.len(), cases.len(), "{fired:?}");
    assert!(fired.iter().all(|(_, count)| *count == 1), "{fired:?}");
}

#[tokio::test]
async fn once_is_over_for_each_address_alone() {
    let sink = start_with(Faults::new(Vec::new(), true)).await;
    for recipient in ["greylist+1@x.test", "greylist+2@x.test"] {
        assert!(sink.talk(&dialogue(recipient, "451")).await.contains("451 4.7.1"));
        assert!(sink.talk(&dialogue(recipient, "354")).await.contains("250 2.0.0 OK: kept"));
    }
    assert_eq!(sink.stop().await, (2, vec![("greylist".to_owned(), 2)]));
}

#[tokio::test]
async fn faults_of_a_plan_fire_at_every_stage() {
    for (rule, replies) in [
        (plan::fail("connect=554"), "554"),
        (plan::fail("ehlo=502"), "220 502 503 503 503 221"),
        (plan::fail("mail=421"), "220 250 421"),
        (plan::fail("mail=553,times=1"), "220 250 553 503 503 221"),
        (plan::fail("rcpt=450,for=*@x.test"), "220 250 250 450 554 221"),
        (plan::fail("data=451"), "220 250 250 250 451 221"),
        (plan::fail("body=552"), "220 250 250 250 354 552"),
        (plan::fail("dot=554 5.7.1 no,nth=1"), "220 250 250 250 354 554 221"),
        (plan::drop("connect"), ""),
        (plan::drop("mail=reset"), "220 250 !reset"),
        (plan::drop("accept"), "220 250 250 250 354"),
        (plan::delay("2ms"), "220 250 250 250 354 250 221"),
        (plan::delay("ehlo=2ms"), "220 250 250 250 354 250 221"),
    ] {
        let rule = rule.unwrap();
        let name = rule.to_string();
        let sink = start_with(Faults::new(vec![rule], false)).await;
        let answer = sink.talk(&dialogue("a@x.test", replies)).await;
        assert_eq!(codes(&answer).join(" "), replies, "{name}: {answer}");
        assert_eq!(sink.stop().await.1, [(name, 1)]);
    }
}

#[tokio::test(start_paused = true)]
async fn waits_are_as_long_as_they_say() {
    let sink = start_with(Faults::new(vec![plan::delay("mail=4s").unwrap()], true)).await;
    let before = tokio::time::Instant::now();
    assert!(sink.talk(&dialogue("slow-6s+a@x.test", "354")).await.contains("kept"));
    assert!(before.elapsed() >= Duration::from_secs(10), "{:?}", before.elapsed());
    sink.stop().await;
}

#[tokio::test]
async fn what_is_hidden_is_not_offered_and_not_taken() {
    let hidden = vec![Extension::EightBitMime, Extension::Smtputf8, Extension::Pipelining, Extension::Chunking];
    let sink = start(SinkOptions::default(), Offers { hidden, max_size: 100, ..Offers::default() }).await;
    let answer = sink.talk("EHLO x\r\nQUIT\r\n").await;
    let expected = "220 sink ESMTP\r\n250-sink\r\n250-SIZE 100\r\n250-AUTH PLAIN LOGIN\r\n250 ENHANCEDSTATUSCODES\r\n\
                    221 2.0.0 bye\r\n";
    assert_eq!(answer, expected);
    assert!(sink.talk(&format!("EHLO x\r\n{}QUIT\r\n", message("a@b.c", "é"))).await.contains("554 5.6.3"));
    assert!(sink.talk("EHLO x\r\nMAIL FROM:<é@b.c>\r\nQUIT\r\n").await.contains("553 5.6.7"));
    assert!(sink.talk("EHLO x\r\nMAIL FROM:<a@b.c> SIZE=101\r\nQUIT\r\n").await.contains("552 5.3.4"));
    assert!(sink.talk("EHLO x\r\nBDAT 0 LAST\r\nQUIT\r\n").await.contains("502 5.5.1"));
    let long = message("a@b.c", &"x".repeat(1000));
    assert!(sink.talk(&format!("EHLO x\r\n{long}QUIT\r\n")).await.contains("552 5.3.4"));
    assert_eq!(sink.stop().await.0, 0);
}

#[tokio::test]
async fn chunks_make_a_message_and_are_swallowed_where_they_are_not_wanted() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let options = SinkOptions { faults: Faults::new(Vec::new(), true), told: Some(told), ..SinkOptions::default() };
    let sink = start(options, Offers { max_size: 30, ..Offers::default() }).await;
    let chunks = "BDAT 21\r\nMessage-ID: <1@b.c>\r\nBDAT 9 LAST\r\n\r\n.\r\nabé";
    let to = |local: &str| format!("MAIL FROM:<a@b.c>\r\nRCPT TO:<{local}@x.test>\r\n");
    for (said, codes_then) in [
        (to("ana") + chunks, "250 250 250 250"),
        (to("full+a") + chunks, "250 250 250 552"),
        (to("550+a") + chunks, "250 550 503 503"),
        (chunks.to_owned(), "503 503"),
        (to("ana") + "BDAT 2\r\nabDATA\r\n", "250 250 250 503"),
        (to("ana") + "BDAT 20\r\n....................BDAT 11 LAST\r\nQUIT\r\nQUIT\r", "250 250 250 552"),
    ] {
        let answer = sink.talk(&format!("EHLO x\r\n{said}\nQUIT\r\n")).await;
        let expected = format!("220 250 {codes_then} 221");
        let codes: Vec<&str> = codes(&answer).into_iter().filter(|code| *code != "500").collect();
        assert_eq!(codes.join(" "), expected, "{said}: {answer}");
    }
    assert_eq!(sink.stop().await.0, 1);
    assert_eq!(&*heard.recv().await.unwrap().message, "Message-ID: <1@b.c>\r\n\r\n.\r\nabé".as_bytes());
}

#[tokio::test]
async fn log_in_is_asked_for_and_checked() {
    let login = Some(("ana".to_owned(), "secret".to_owned().into()));
    let sink = start(SinkOptions::default(), Offers { login, ..Offers::default() }).await;
    let mail = message("a@b.c", "x");
    let refused = mail.split("Message-ID").next().unwrap();
    for (log_in, said, codes_then) in [
        ("", refused, "530 503 503"),
        ("AUTH PLAIN AGFuYQBzZWNyZXQ=\r\n", mail.as_str(), "235 250 250 354 250"),
        ("AUTH PLAIN\r\nAGFuYQBzZWNyZXQ=\r\n", mail.as_str(), "334 235 250 250 354 250"),
        ("AUTH LOGIN\r\nYW5h\r\nc2VjcmV0\r\n", mail.as_str(), "334 334 235 250 250 354 250"),
        ("AUTH LOGIN YW5h\r\nc2VjcmV0\r\n", mail.as_str(), "334 235 250 250 354 250"),
        ("AUTH PLAIN AGFuYQB3cm9uZw==\r\n", refused, "535 530 503 503"),
        ("AUTH PLAIN\r\n*\r\n", refused, "334 501 530 503 503"),
        ("AUTH GSSAPI\r\n", refused, "504 530 503 503"),
    ] {
        let answer = sink.talk(&format!("EHLO x\r\n{log_in}{said}QUIT\r\n")).await;
        assert_eq!(codes(&answer).join(" "), format!("220 250 {codes_then} 221"), "{log_in}");
    }
    assert_eq!(sink.stop().await.0, 4);
}

#[tokio::test]
async fn our_own_client_gets_through_with_tls_and_log_in() {
    let dir = tempfile::tempdir().unwrap();
    let ca_file = dir.path().join("ca.pem");
    for (tls, mode) in [(Tls::Starttls, TlsMode::Starttls), (Tls::Implicit, TlsMode::Implicit)] {
        let offers = Offers::with_tls(tls).unwrap();
        std::fs::write(&ca_file, offers.certificate_pem.as_ref().unwrap()).unwrap();
        let login = Some(("ana".to_owned(), "secret".to_owned().into()));
        let sink = start(SinkOptions::default(), Offers { login, ..offers }).await;
        let server = Server {
            host: "127.0.0.1".into(),
            port: sink.address.port(),
            tls: mode,
            credentials: Some(Credentials {
                user: "ana".into(),
                password: "secret".into(),
                method: LogInMethod::Password,
            }),
            allow_plain_auth: false,
            ehlo: "client.test".into(),
            trust: Trust::load(Some(&ca_file)).unwrap(),
            policy: HostPolicy::AllowAll,
            timeouts: Timeouts::default(),
        };
        let mut connection = Connection::open(&server).await.unwrap();
        let envelope = Envelope { from: "a@b.c".into(), to: "d@e.f".into(), needs_smtputf8: false };
        for _ in 0..3 {
            let report = connection.deliver(&envelope, b"Message-ID: <1@b.c>\r\n\r\n.x\r\n", async { true }).await;
            assert!(matches!(report.delivery, Delivery::Accepted(_)), "{report:?}");
        }
        connection.quit().await;
        assert_eq!(sink.stop().await.0, 3);
    }
}

#[tokio::test]
async fn stopping_says_goodbye_to_idle_clients() {
    let sink = start_with(Faults::default()).await;
    let mut stream = TcpStream::connect(sink.address).await.unwrap();
    let mut greeting = [0; 16];
    stream.read_exact(&mut greeting).await.unwrap();
    sink.stop().await;
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "421 4.3.2 service is going down\r\n");
}
