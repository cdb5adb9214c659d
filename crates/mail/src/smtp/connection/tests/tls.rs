//! Whole openings over real sockets and real TLS: whom we trust, and what never crosses a connection that is not safe.

use std::io::Write as _;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;

/// An authority of our own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// What a client takes that knows this authority.
    fn trust(&self) -> Trust {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(self.0.pem().as_bytes()).unwrap();
        Trust::load(Some(file.path())).unwrap()
    }

    /// A server's side, with a certificate for `name` that ends with `year`.
    fn acceptor(&self, name: &str, year: i32) -> TlsAcceptor {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(year, 12, 31);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Answers commands until the client leaves, asks for TLS or says DATA; all that it said.
async fn serve(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), offers: &str) -> Vec<String> {
    let mut stream = BufReader::new(stream);
    let mut seen = Vec::new();
    let mut line = String::new();
    while stream.read_line(&mut line).await.unwrap_or(0) > 0 {
        let command = std::mem::take(&mut line).trim_end().to_owned();
        let answer = match command.split(' ').next().unwrap() {
            "EHLO" => format!("250-here\r\n{offers}250 SIZE\r\n"),
            "STARTTLS" => "220 go\r\n".to_owned(),
            "AUTH" => "235 ok\r\n".to_owned(),
            "DATA" => "354 go\r\n".to_owned(),
            "." => "250 2.0.0 kept\r\n".to_owned(),
            "MAIL" | "RCPT" => "250 ok\r\n".to_owned(),
            _ => String::new(),
        };
        let over = command == "STARTTLS";
        seen.push(command);
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        if over {
            break;
        }
    }
    seen
}

/// What the server heard: before TLS, and under it; none where the handshake failed.
type Heard = (Vec<String>, Option<Vec<String>>);

async fn play_tls(tcp: TcpStream, mode: TlsMode, acceptor: TlsAcceptor, offers: &'static str) -> Heard {
    let mut tcp = tcp;
    let mut plain = Vec::new();
    if mode != TlsMode::Implicit {
        tcp.write_all(b"220 hello\r\n").await.unwrap();
        plain = serve(&mut tcp, offers).await;
    }
    if mode == TlsMode::None || (mode == TlsMode::Starttls && plain.last().is_none_or(|last| last != "STARTTLS")) {
        return (plain, None);
    }
    let Ok(mut tls) = acceptor.accept(tcp).await else { return (plain, None) };
    if mode == TlsMode::Implicit {
        tls.write_all(b"220 hello\r\n").await.unwrap();
    }
    (plain, Some(serve(&mut tls, "250-PIPELINING\r\n250-AUTH PLAIN\r\n").await))
}

/// Opens a connection to such a server and hands one message over; how it ended, and what the server heard.
async fn run(
    mode: TlsMode,
    acceptor: TlsAcceptor,
    trust: Trust,
    offers: &'static str,
) -> (Result<Report, Report>, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        play_tls(tcp, mode, acceptor, offers).await
    });
    let target = server_at(port, mode, trust);
    let result = match Connection::open(&target).await {
        Ok(mut connection) => {
            let report = connection.deliver(&envelope(), b"Subject: x\r\n\r\nhello\r\n", async { true }).await;
            connection.quit().await;
            Ok(report)
        }
        Err(report) => Err(report),
    };
    (result, server.await.unwrap())
}

pub(super) fn server_at(port: u16, tls: TlsMode, trust: Trust) -> Server {
    Server {
        host: "localhost".into(),
        port,
        tls,
        credentials: Some(Credentials { user: "ana".into(), password: "secret".into(), method: LogInMethod::Password }),
        allow_plain_auth: false,
        ehlo: "client.example".into(),
        trust,
        policy: HostPolicy::AllowAll,
        timeouts: Timeouts::default(),
    }
}

const STARTTLS: &str = "250-STARTTLS\r\n250-AUTH PLAIN\r\n";

#[tokio::test]
async fn a_message_goes_over_tls_from_the_start_and_after_starttls() {
    let authority = Authority::new();
    for mode in [TlsMode::Implicit, TlsMode::Starttls] {
        let (result, (plain, protected)) =
            run(mode, authority.acceptor("localhost", 2099), authority.trust(), STARTTLS).await;
        let report = result.unwrap();
        assert!(matches!(report.delivery, Delivery::Accepted(_)), "{report:?}");
        assert!(!plain.iter().any(|line| line.starts_with("AUTH")));
        let protected = protected.unwrap();
        assert_eq!(protected[..2], ["EHLO client.example", "AUTH PLAIN AGFuYQBzZWNyZXQ="], "greeted again under TLS");
        assert_eq!(protected.last().unwrap(), "QUIT");
        let steps: Vec<&str> =
            report.steps.iter().map(|step| step.stage.as_str()).filter(|s| *s != "connect").collect();
        let opened: &[&str] = match mode {
            TlsMode::Implicit => &["resolve", "tls", "banner", "ehlo", "auth"],
            _ => &["resolve", "banner", "ehlo", "starttls", "tls", "ehlo", "auth"],
        };
        assert_eq!(steps, [opened, &["mail", "rcpt", "data", "body", "dot"]].concat(), "opening counts to its message");
    }
}

#[tokio::test]
async fn fs07_a_certificate_that_is_not_good_ends_it_before_the_log_in() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    for (what, acceptor) in [
        ("of a stranger", stranger.acceptor("localhost", 2099)),
        ("for another name", authority.acceptor("other.example", 2099)),
        ("that has ended", authority.acceptor("localhost", 2001)),
    ] {
        for mode in [TlsMode::Implicit, TlsMode::Starttls] {
            let (result, (plain, protected)) = run(mode, acceptor.clone(), authority.trust(), STARTTLS).await;
            let report = result.unwrap_err();
            assert!(matches!(report.delivery, Delivery::Failed(Stage::Tls, Trouble::Tls(_))), "{what}: {report:?}");
            assert!(protected.is_none() && !plain.iter().any(|line| line.starts_with("AUTH")), "{what}: {plain:?}");
        }
    }
}

#[tokio::test]
async fn fs07_without_tls_no_log_in_is_sent_unless_that_was_allowed() {
    let authority = Authority::new();
    for (mode, expected) in [
        (TlsMode::None, (Stage::Auth, Trouble::PlainAuth)),
        (TlsMode::Starttls, (Stage::StartTls, Trouble::NoStartTls)),
    ] {
        let acceptor = authority.acceptor("localhost", 2099);
        let (result, (plain, _)) = run(mode, acceptor, authority.trust(), "250-AUTH PLAIN LOGIN\r\n").await;
        let report = result.unwrap_err();
        assert_eq!(report.delivery, Delivery::Failed(expected.0, expected.1));
        assert_eq!(plain, ["EHLO client.example"]);
        assert_eq!(report.transcript, "banner: 220\nehlo: 250\n");
    }
}

/// Opens a connection to a server that answers STARTTLS so and never does TLS; every line that the server got.
async fn without_tls(answer: &'static [u8]) -> (Delivery, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let mut tcp = BufReader::new(listener.accept().await.unwrap().0);
        tcp.get_mut().write_all(b"220 hello\r\n").await.unwrap();
        let mut seen = Vec::new();
        let mut line = Vec::new();
        while tcp.read_until(b'\n', &mut line).await.unwrap_or(0) > 0 {
            seen.push(String::from_utf8_lossy(&std::mem::take(&mut line)).trim_end().to_owned());
            let answer: &[u8] = match seen.last().unwrap().as_str() {
                "EHLO client.example" => b"250-here\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN\r\n",
                "STARTTLS" => answer,
                _ => b"",
            };
            tcp.get_mut().write_all(answer).await.unwrap();
            if seen.last().unwrap() == "STARTTLS" && !tcp.fill_buf().await.unwrap_or(&[]).is_empty() {
                // To whatever came: no TLS is spoken here.
                tcp.get_mut().write_all(b"500 what?\r\n").await.unwrap();
            }
        }
        seen
    });
    let report = Connection::open(&server_at(port, TlsMode::Starttls, Authority::new().trust())).await.err().unwrap();
    (report.delivery, server.await.unwrap())
}

#[tokio::test]
async fn fs07_tls_that_is_put_off_or_fails_ends_it_before_the_log_in() {
    let (delivery, seen) = without_tls(b"454 4.7.0 not now\r\n").await;
    assert!(refused(&delivery, Stage::StartTls, 454), "{delivery:?}");
    assert_eq!(seen, ["EHLO client.example", "STARTTLS"]);
    let (delivery, seen) = without_tls(b"220 go\r\n").await;
    assert!(matches!(delivery, Delivery::Failed(Stage::Tls, Trouble::Tls(_))), "{delivery:?}");
    assert!(!seen.iter().any(|line| line.starts_with("AUTH")), "{seen:?}");
}

#[tokio::test]
async fn fs08_plain_text_behind_the_answer_to_starttls_ends_it() {
    let (delivery, seen) = without_tls(b"220 go\r\n250 injected\r\n").await;
    assert!(is_protocol_trouble(&delivery, Stage::StartTls), "{delivery:?}");
    assert_eq!(seen, ["EHLO client.example", "STARTTLS"], "neither a handshake nor a log-in");
}
