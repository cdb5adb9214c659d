//! AUTH (RFC 4954): PLAIN, LOGIN and XOAUTH2, with a bounded number of steps.
//!
//! Not responsible for whether a log-in may cross this connection (`connection`). To add a mechanism: `steps`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use domain::email_account::LogInMethod;

use super::{Capabilities, Credentials};

/// The commands of a log-in in order; each but the last is answered by 334. None where nothing fits.
pub(super) fn steps(capabilities: &Capabilities, credentials: &Credentials) -> Option<Vec<String>> {
    let Credentials { user, password, method } = credentials;
    if *method == LogInMethod::Xoauth2 {
        // As RFC 7628 has it, under the name that servers offer: no other mechanism is to see a token.
        let response = BASE64.encode(format!("user={user}\x01auth=Bearer {password}\x01\x01"));
        return capabilities.auth_xoauth2.then(|| vec![format!("AUTH XOAUTH2 {response}\r\n")]);
    }
    if capabilities.auth_plain {
        let response = BASE64.encode(format!("\0{user}\0{password}"));
        return Some(vec![format!("AUTH PLAIN {response}\r\n")]);
    }
    capabilities.auth_login.then(|| {
        let line = |text: &str| format!("{}\r\n", BASE64.encode(text));
        vec!["AUTH LOGIN\r\n".to_owned(), line(user), line(password)]
    })
}

/// Whether the text of a 334 is base64, or nothing; a server that asks in plain words gets no password.
pub(super) fn is_challenge(text: &str) -> bool {
    BASE64.decode(text.trim()).is_ok()
}
