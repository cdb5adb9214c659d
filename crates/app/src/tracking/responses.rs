//! The answers of the tracking API, byte for byte as SPEC 2 wants them.
//!
//! Every bad token gets the same answer, so that nobody can probe. To add one: a function here.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, LOCATION, REFERRER_POLICY,
};
use hyper::{Response, StatusCode};

use super::Answer;

/// A transparent GIF of one pixel: 43 bytes.
const PIXEL: &[u8; 43] = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\x00\x00\x00\x21\xf9\x04\x01\x00\x00\x00\x00\x2c\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00\x3b";
const NO_STORE: &str = "no-store, no-cache, must-revalidate, private, max-age=0";

/// An answer with a status, a body and headers.
pub(super) fn with(status: StatusCode, body: impl Into<Bytes>, headers: &[(HeaderName, &str)]) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    for (name, value) in headers {
        if let Ok(value) = value.parse() {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}

pub(super) fn pixel() -> Answer {
    with(
        StatusCode::OK,
        &PIXEL[..],
        &[(CONTENT_TYPE, "image/gif"), (CACHE_CONTROL, NO_STORE), (ACCESS_CONTROL_ALLOW_ORIGIN, "*")],
    )
}

/// A destination that was checked when signed and again when verified. One that is no header value leads nowhere.
pub(super) fn redirect(url: &str) -> Answer {
    let ascii: String =
        url.bytes().map(|b| if b.is_ascii() { char::from(b).to_string() } else { format!("%{b:02X}") }).collect();
    with(StatusCode::FOUND, "", &[(LOCATION, &ascii), (CACHE_CONTROL, NO_STORE), (REFERRER_POLICY, "no-referrer")])
}

pub(super) fn invalid() -> Answer {
    with(
        StatusCode::BAD_REQUEST,
        "This link is not valid.\n",
        &[(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, NO_STORE)],
    )
}

pub(super) fn not_found() -> Answer {
    with(StatusCode::NOT_FOUND, "Not found.\n", &[(CONTENT_TYPE, "text/plain; charset=utf-8")])
}

pub(super) fn method_not_allowed(allow: &str) -> Answer {
    with(
        StatusCode::METHOD_NOT_ALLOWED,
        "Method not allowed.\n",
        &[(CONTENT_TYPE, "text/plain; charset=utf-8"), (ALLOW, allow)],
    )
}
