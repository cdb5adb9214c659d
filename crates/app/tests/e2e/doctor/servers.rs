//! What can be wrong between an account and its server, and with the way back to us.

use super::Clinic;
use crate::app::Engine;

#[test]
fn a_server_without_the_tls_that_the_account_asks_for() {
    let Some(clinic) = Clinic::new(Engine::Sqlite) else { return };
    clinic.account(&format!("smtp = \"{}\"\ndaily_limit = 50", clinic._sink.url.replace("none", "starttls")));
    clinic.must_find(2, ["smtp", "problem", "does not offer STARTTLS", "tls = implicit for port 465"], &[]);
}

#[test]
fn a_server_whose_name_does_not_exist() {
    let Some(mut clinic) = Clinic::new(Engine::Sqlite) else { return };
    clinic.app.set("PUBLIC_URL", "https://t.doctor.example");
    clinic.account("smtp = \"smtp://mail.gone.invalid:587?tls=starttls\"\ndaily_limit = 50");
    clinic.must_find(5, ["smtp", "unreachable", "mail.gone.invalid", "mend the host"], &[]);
}

#[test]
fn links_without_a_certificate() {
    let Some(mut clinic) = Clinic::new(Engine::Sqlite) else { return };
    clinic.app.set("PUBLIC_URL", "http://t.doctor.example");
    clinic.account("smtp = \"smtp://mail.gone.invalid:587?tls=starttls\"\ndaily_limit = 50");
    let (_, report) = clinic.look(&[]);
    let links = report["findings"].as_array().unwrap().iter().find(|f| f["check"] == "links").unwrap();
    assert_eq!(links["level"], "warning", "{links}");
    assert!(links["message"].as_str().unwrap().contains("one-click unsubscribing over https alone"), "{links}");
    assert!(links["mend"].as_str().unwrap().contains("certificate before the tracker"), "{links}");
}

#[test]
fn an_account_that_its_server_has_locked_out() {
    let Some(clinic) = Clinic::new(Engine::Postgres) else { return };
    clinic.app.sql("UPDATE email_accounts SET status = 'authentication_failed'");
    clinic.must_find(
        0,
        ["account", "warning", "is authentication_failed: its mails wait", "give its password anew"],
        &[],
    );
}
