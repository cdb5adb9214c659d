//! Which links are rewritten, that nothing else changes, and that an independent parser sees the same links.

use super::*;
use proptest::prelude::*;

const OWN: &str = "https://t.example";

fn tracked(html: &str) -> (String, Vec<String>) {
    let mut seen = Vec::new();
    let out = rewrite(html, OWN, |url| {
        seen.push(url.to_owned());
        Some(format!("https://t.example/{}", seen.len()))
    });
    (out, seen)
}

#[test]
fn web_links_are_rewritten_and_the_rest_stays() {
    for (html, expected) in [
        ("<a href=\"https://a.example/x?b=1&amp;c=2\">x</a>", "<a href=\"https://t.example/1\">x</a>"),
        ("<A HREF='http://a.example' class=b>x</A>", "<A HREF='https://t.example/1' class=b>x</A>"),
        ("<a href=https://a.example/x>x</a>", "<a href=https://t.example/1>x</a>"),
        (
            "<a class=\"b\"\n href = \" https://a.example \" >x</a>",
            "<a class=\"b\"\n href = \"https://t.example/1\" >x</a>",
        ),
        (
            "<map><area shape=rect href=\"https&#58;&#x2F;/a.example\"></map>",
            "<map><area shape=rect href=\"https://t.example/1\"></map>",
        ),
    ] {
        assert_eq!(tracked(html).0, expected);
    }
    assert_eq!(tracked("<a href=\"https://a.example/x?b=1&amp;c=2\">").1, ["https://a.example/x?b=1&c=2"]);
}

#[test]
fn other_pages_of_the_trackers_host_are_tracked() {
    for page in ["https://t.example/pricing", "https://t.example/unsubscribed", "https://t.example.evil/unsubscribe"] {
        assert_eq!(tracked(&format!("<a href=\"{page}\">")).1, [page]);
    }
}

#[test]
fn other_links_are_left_alone() {
    for html in [
        "<a href=\"mailto:a@b.example\">",
        "<a href=\"tel:+34\">",
        "<a href=\"#top\">",
        "<a href=\"/relative\">",
        "<a href=\"javascript:alert(1)\">",
        "<a href=\"https://t.example/unsubscribe?token=x\">",
        "<a href=\"https://t.example/api/track/click?token=x\">",
        "<a data-no-track href=\"https://a.example\">",
        "<a href=\"https://a.example\" DATA-NO-TRACK=\"\">",
        "<a name=x>",
        "<abbr href=\"https://a.example\">",
        "<link href=\"https://a.example/x.css\">",
        "<!-- <a href=\"https://a.example\"> -->",
        "<!--[if mso]><a href=\"https://a.example\">x</a><![endif]-->",
        "<script>'<a href=\"https://a.example\">'</script>",
        "<title><a href=\"https://a.example\"></title>",
        "<a title='<a href=\"https://a.example\">'>",
        "<a href=\"https://a.example",
        "a < b href=\"https://a.example\">",
    ] {
        assert_eq!(tracked(html), (html.to_owned(), vec![]), "{html}");
    }
}

#[test]
fn the_pixel_stands_before_the_end_of_the_body() {
    let mut html = "<body>x</BODY></html>".to_owned();
    before_body_end(&mut html, "<img>");
    assert_eq!(html, "<body>x<img></BODY></html>");
    let mut html = "no body é".to_owned();
    before_body_end(&mut html, "<img>");
    assert_eq!(html, "no body é<img>");
}

/// The links that an independent HTML parser sees, values as they stand in the source.
fn reference_links(html: &str) -> Vec<String> {
    use lol_html::{RewriteStrSettings, element, rewrite_str};
    let seen = std::cell::RefCell::new(Vec::new());
    let handler = element!("a[href], area[href]", |el| {
        seen.borrow_mut().push(el.get_attribute("href").unwrap_or_default());
        Ok(())
    });
    rewrite_str(html, RewriteStrSettings::new().append_element_content_handler(handler)).unwrap();
    seen.into_inner()
}

proptest! {
    #[test]
    fn an_independent_parser_sees_the_same_links(html in
        "(<a |<area |<p |<b>|</a>|>|/>|href=|HREF = |\"|'|https://a\\.example|x|=| |\n|<!--|-->|<script>|</script>|class=y|<|é|data-no-track ){0,24}>")
    {
        // HTML knows a script that begins a comment that begins a script; mail has none, and the scanner neither.
        prop_assume!(!(html.contains("<script>") && html.contains("<!--")));
        let own: Vec<String> = {
            let mut found = Vec::new();
            scan(&html, |tag| if let Some((s, e)) = tag.href { found.push(html[s..e].to_owned()) });
            found
        };
        prop_assert_eq!(own, reference_links(&html));
    }

    #[test]
    fn nothing_but_values_changes(html in "(<a href=\"https://a\\.example/[a-z]{0,3}\">|<p>|x|é|&amp;| |<br/>|</a>){0,12}") {
        let out = rewrite(&html, OWN, |url| Some(url.to_owned()));
        prop_assert_eq!(out, html);
    }
}
