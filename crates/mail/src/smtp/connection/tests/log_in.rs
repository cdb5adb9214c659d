//! AUTH: refused, put off, astray; bounded, never shown, and never to a server that goes astray.

use super::*;

const PLAIN: Capabilities = with(true, false);
const LOGIN: Capabilities = with(false, true);

const fn with(auth_plain: bool, auth_login: bool) -> Capabilities {
    Capabilities {
        auth_plain,
        auth_login,
        auth_xoauth2: false,
        pipelining: false,
        chunking: false,
        smtputf8: false,
        starttls: false,
        size: None,
    }
}

/// How a log-in to such a server ends, and what the server heard.
async fn log_in(offers: Capabilities, script: Vec<Turn>) -> (Result<(), Delivery>, Vec<String>) {
    log_in_by(LogInMethod::Password, offers, script).await
}

async fn log_in_by(
    method: LogInMethod,
    offers: Capabilities,
    script: Vec<Turn>,
) -> (Result<(), Delivery>, Vec<String>) {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let server = tokio::spawn(play(theirs, script, false));
    let mut connection = over(ours);
    connection.capabilities = offers;
    let result = connection.log_in(&Credentials { user: "ana".into(), password: "secret".into(), method }).await;
    let transcript = &connection.record.transcript;
    assert!(!transcript.contains("c2VjcmV0") && !transcript.contains("secret") && !transcript.contains("ana"));
    drop(connection);
    (result, server.await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn plain_comes_before_login_and_takes_one_step() {
    let (both, seen) = log_in(with(true, true), vec![("AUTH PLAIN AGFuYQBzZWNyZXQ=", "235 2.7.0 ok\r\n")]).await;
    assert!(both.is_ok() && seen.len() == 1);
    let script =
        vec![("AUTH LOGIN", "334 VXNlcm5hbWU6\r\n"), ("YW5h", "334 UGFzc3dvcmQ6\r\n"), ("c2VjcmV0", "235 ok\r\n")];
    let (login, seen) = log_in(LOGIN, script).await;
    assert!(login.is_ok() && seen.len() == 3);
}

#[tokio::test(start_paused = true)]
async fn fs09_a_wrong_password_is_said_once() {
    let (result, seen) = log_in(PLAIN, vec![("AUTH", "535 5.7.8 no\r\n")]).await;
    assert!(refused(&result.unwrap_err(), Stage::Auth, 535));
    assert_eq!(seen.len(), 1, "no second log-in");
}

#[tokio::test(start_paused = true)]
async fn fs10_a_log_in_that_is_put_off_keeps_its_code() {
    for (answer, code) in [("454 4.7.0 later\r\n", 454), ("432 4.7.12 change it\r\n", 432), ("421 4.3.2 bye\r\n", 421)]
    {
        let (result, seen) = log_in(PLAIN, vec![("AUTH", answer)]).await;
        assert!(refused(&result.unwrap_err(), Stage::Auth, code));
        assert_eq!(seen.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn fs11_a_log_in_that_goes_astray_is_given_up() {
    let astray = Err(Delivery::Failed(Stage::Auth, Trouble::Protocol("AUTH went astray")));
    for (what, script) in [
        ("asks for ever", vec![("AUTH LOGIN", "334 YQ==\r\n"), ("YW5h", "334 Yg==\r\n"), ("c2VjcmV0", "334 Yw==\r\n")]),
        ("asks in what is no base64", vec![("AUTH LOGIN", "334 ?name?\r\n")]),
        ("takes anybody", vec![("AUTH LOGIN", "235 welcome\r\n")]),
        ("says what means nothing", vec![("AUTH LOGIN", "250 ok\r\n")]),
    ] {
        let steps = script.len();
        let (result, seen) = log_in(LOGIN, script).await;
        assert_eq!(result, astray, "{what}");
        assert_eq!(seen.len(), steps, "{what}: nothing more was said");
    }
    let (none, seen) = log_in(Capabilities::default(), vec![]).await;
    assert_eq!(none, Err(Delivery::Failed(Stage::Auth, Trouble::NoMechanism)));
    assert!(seen.is_empty());
}

const XOAUTH2: Capabilities = Capabilities { auth_xoauth2: true, ..with(true, true) };
/// `user=ana`, Control-A, `auth=Bearer secret`, Control-A twice.
const TOKEN: &str = "AUTH XOAUTH2 dXNlcj1hbmEBYXV0aD1CZWFyZXIgc2VjcmV0AQE=";

#[tokio::test(start_paused = true)]
async fn a_token_goes_by_xoauth2_alone() {
    let (good, seen) = log_in_by(LogInMethod::Xoauth2, XOAUTH2, vec![(TOKEN, "235 2.7.0 ok\r\n")]).await;
    assert!(good.is_ok());
    assert_eq!(seen, [TOKEN]);
    let (none, seen) = log_in_by(LogInMethod::Xoauth2, with(true, true), vec![]).await;
    assert_eq!(none, Err(Delivery::Failed(Stage::Auth, Trouble::NoMechanism)));
    assert!(seen.is_empty(), "no other mechanism sees a token");
    let (password, seen) = log_in(XOAUTH2, vec![("AUTH", "235 ok\r\n")]).await;
    assert!(password.is_ok() && seen[0].starts_with("AUTH PLAIN"), "nor is a password a token");
}

#[tokio::test(start_paused = true)]
async fn fs09_a_token_that_has_ended_is_explained_and_then_refused() {
    let why = "334 eyJzdGF0dXMiOiI0MDAifQ==\r\n";
    let script = vec![(TOKEN, why), ("", "535 5.7.8 not accepted\r\n")];
    let (result, seen) = log_in_by(LogInMethod::Xoauth2, XOAUTH2, script).await;
    assert!(refused(&result.unwrap_err(), Stage::Auth, 535));
    assert_eq!(seen, [TOKEN, ""], "an empty line asks for the refusal, and nothing is tried again");
    let at_once = log_in_by(LogInMethod::Xoauth2, XOAUTH2, vec![(TOKEN, "535 5.7.8 no\r\n")]).await;
    assert!(refused(&at_once.0.unwrap_err(), Stage::Auth, 535));
}

#[tokio::test(start_paused = true)]
async fn fs11_a_token_is_not_explained_for_ever() {
    for answer in ["334 e30=\r\n", "235 come in\r\n"] {
        let script = vec![(TOKEN, "334 e30=\r\n"), ("", answer)];
        let (result, seen) = log_in_by(LogInMethod::Xoauth2, XOAUTH2, script).await;
        assert_eq!(result, Err(Delivery::Failed(Stage::Auth, Trouble::Protocol("AUTH went astray"))));
        assert_eq!(seen.len(), 2);
    }
}
