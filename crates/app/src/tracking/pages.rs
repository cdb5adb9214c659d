//! The two small pages of unsubscribing, made on the server, without script or anything from elsewhere.
//!
//! To add a page: a template here, an answer with `page`.

use askama::Template;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_FRAME_OPTIONS};

use super::Answer;
use super::responses::with;

/// The only page there is, in three states.
#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{{ title }}</title>
<style>
body { font: 1.1rem/1.5 system-ui, sans-serif; color: #1f2933; background: #f5f7fa; margin: 0; }
main { max-width: 28rem; margin: 12vh auto; padding: 2rem; background: #fff; border: 1px solid #d9e2ec; border-radius: .5rem; }
h1 { font-size: 1.4rem; margin: 0 0 1rem; }
p { margin: 0 0 1rem; }
button { font: inherit; padding: .7rem 1.4rem; color: #fff; background: #0b5394; border: 0; border-radius: .4rem; cursor: pointer; }
button:focus-visible { outline: 3px solid #f0a202; outline-offset: 2px; }
</style>
</head>
<body>
<main>
<h1>{{ title }}</h1>
<p>{{ text }}</p>
{% if ask %}<form method="post"><button type="submit">Unsubscribe</button></form>{% endif %}
</main>
</body>
</html>
"#
)]
struct Page<'a> {
    title: &'a str,
    text: &'a str,
    ask: bool,
}

fn page(status: StatusCode, page: &Page<'_>) -> Answer {
    let body = page.render().unwrap_or_else(|_| page.text.to_owned());
    with(
        status,
        body,
        &[
            (CONTENT_TYPE, "text/html; charset=utf-8"),
            (CACHE_CONTROL, "no-store"),
            (REFERRER_POLICY, "no-referrer"),
            (X_FRAME_OPTIONS, "DENY"),
            (
                CONTENT_SECURITY_POLICY,
                "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
            ),
        ],
    )
}

pub(super) fn confirm() -> Answer {
    let text = "You will get no more mail from this sender. Nothing changes until you press the button.";
    page(StatusCode::OK, &Page { title: "Unsubscribe?", text, ask: true })
}

pub(super) fn done() -> Answer {
    page(
        StatusCode::OK,
        &Page { title: "You are unsubscribed", text: "You will get no more mail from this sender.", ask: false },
    )
}

pub(super) fn invalid() -> Answer {
    let text = "This link is not complete or not ours. Please use the link in the mail once more.";
    page(StatusCode::BAD_REQUEST, &Page { title: "This link is not valid", text, ask: false })
}
