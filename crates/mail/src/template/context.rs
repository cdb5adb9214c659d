//! Where in HTML a value will stand: a small state machine over the literal text of a template.
//!
//! It decides how each output is escaped, once at compile time. Not a parser: it knows tags, attributes, quotes,
//! comments and the elements whose content is no markup. To add a place: a `Place`, and its escaping in `render`.

/// How a value must be escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Between tags, or in a quoted attribute: `& < > " '` become references.
    Markup,
    /// In an attribute without quotes: white space too would end it.
    Unquoted,
    /// The beginning of a URL: its scheme is checked.
    UrlStart,
    /// Inside a URL: percent-encoded.
    UrlPart,
    /// Behind `mailto:`: percent-encoded but for `@`.
    Mailto,
    /// In a script, a style, a comment, a tag's name: nothing a value may enter.
    Forbidden,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Text,
    /// Behind `<`, reading the element's name.
    TagName(String),
    /// Inside a tag, between attributes; the element's name.
    Tag(String),
    /// Reading an attribute's name: element, name so far.
    AttributeName(String, String),
    /// Behind an attribute's name: element, name.
    AfterName(String, String),
    /// Behind `=`: element, name.
    BeforeValue(String, String),
    /// In an attribute's value: element, name, quote, value so far (its beginning is enough).
    Value(String, String, Option<char>, String),
    Comment,
    /// In an element whose content is no markup.
    Raw(String),
}

/// Bytes within which a URL's beginning is decided; no name that matters is as long, so names are cut there as well.
const PREFIX: usize = 64;
const URL_ATTRIBUTES: [&str; 9] =
    ["href", "src", "action", "formaction", "background", "cite", "poster", "longdesc", "data"];

impl State {
    /// Whether two branches may meet: both ended in the same kind of place.
    pub(super) fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Value(a, b, c, _), Self::Value(d, e, f, _)) => (a, b, c) == (d, e, f),
            (a, b) => a == b,
        }
    }

    /// The place of a value that follows now.
    pub(super) fn place(&self) -> Place {
        match self {
            Self::Text => Place::Markup,
            Self::Raw(name) if name == "title" || name == "textarea" => Place::Markup,
            Self::Value(_, name, quote, so_far) => {
                if name.starts_with("on") || name == "style" || name == "srcdoc" || name == "srcset" {
                    Place::Forbidden
                } else if URL_ATTRIBUTES.contains(&name.as_str()) {
                    let prefix = so_far.trim_start().to_ascii_lowercase();
                    match prefix.as_str() {
                        "" => Place::UrlStart,
                        p if p.starts_with("mailto:") => Place::Mailto,
                        // `java` + `script:` could be put together: only a complete scheme or path is a beginning.
                        p if p.contains([':', '/', '?', '#']) => Place::UrlPart,
                        _ => Place::Forbidden,
                    }
                } else if quote.is_some() {
                    Place::Markup
                } else {
                    Place::Unquoted
                }
            }
            Self::BeforeValue(_, name) if !URL_ATTRIBUTES.contains(&name.as_str()) && !name.starts_with("on") => {
                Place::Unquoted
            }
            _ => Place::Forbidden,
        }
    }

    /// The state behind a value.
    pub(super) fn after_value(self) -> Self {
        match self {
            Self::Value(element, name, quote, mut so_far) => {
                // Once is enough: from here on it is the middle of a URL.
                if !so_far.contains("{}/") {
                    so_far.push_str("{}/");
                }
                Self::Value(element, name, quote, so_far)
            }
            Self::BeforeValue(element, name) => Self::Value(element, name, None, "{}/".into()),
            other => other,
        }
    }

    /// The state behind literal text.
    pub(super) fn after_text(mut self, text: &str) -> Self {
        let mut at = 0;
        while let Some(c) = text[at..].chars().next() {
            if matches!(self, Self::Text) {
                // Most of a template is text between tags.
                let Some(open) = text[at..].find('<') else { return self };
                at += open;
                if text[at..].starts_with("<!--") {
                    self = Self::Comment;
                    at += 4;
                } else {
                    self = Self::TagName(String::new());
                    at += 1;
                }
                continue;
            }
            if matches!(self, Self::Comment) {
                let Some(close) = text[at..].find("-->") else { return self };
                at += close + 3;
                self = Self::Text;
                continue;
            }
            if let Self::Raw(name) = &self {
                let Some(end) = end_tag(&text[at..], name) else { return self };
                at += end;
                self = Self::Tag(format!("/{name}"));
                continue;
            }
            self = self.step(c);
            at += c.len_utf8();
        }
        self
    }

    /// One character inside a tag.
    fn step(self, c: char) -> Self {
        match self {
            Self::TagName(mut name) => match c {
                '>' => Self::opened(name),
                c if c.is_whitespace() => {
                    if name.is_empty() {
                        Self::Text
                    } else {
                        Self::Tag(name)
                    }
                }
                c if name.is_empty() && !(c.is_ascii_alphabetic() || c == '/' || c == '!') => Self::Text,
                c => {
                    extend(&mut name, c);
                    Self::TagName(name)
                }
            },
            Self::Tag(element) => match c {
                '>' => Self::opened(element),
                c if c.is_whitespace() || c == '/' => Self::Tag(element),
                c => Self::AttributeName(element, c.to_lowercase().collect()),
            },
            Self::AttributeName(element, mut name) => match c {
                '=' => Self::BeforeValue(element, name),
                '>' => Self::opened(element),
                c if c.is_whitespace() => Self::AfterName(element, name),
                c => {
                    extend(&mut name, c);
                    Self::AttributeName(element, name)
                }
            },
            Self::AfterName(element, name) => match c {
                '=' => Self::BeforeValue(element, name),
                '>' => Self::opened(element),
                c if c.is_whitespace() => Self::AfterName(element, name),
                c => Self::AttributeName(element, c.to_lowercase().collect()),
            },
            Self::BeforeValue(element, name) => match c {
                '"' | '\'' => Self::Value(element, name, Some(c), String::new()),
                '>' => Self::opened(element),
                c if c.is_whitespace() => Self::BeforeValue(element, name),
                c => Self::Value(element, name, None, c.into()),
            },
            Self::Value(element, name, quote, mut so_far) => match (quote, c) {
                (Some(q), c) if c == q => Self::Tag(element),
                (None, '>') => Self::opened(element),
                (None, c) if c.is_whitespace() => Self::Tag(element),
                _ => {
                    if so_far.len() < PREFIX {
                        so_far.push(c);
                    }
                    Self::Value(element, name, quote, so_far)
                }
            },
            other => other,
        }
    }

    fn opened(element: String) -> Self {
        match element.as_str() {
            "script" | "style" | "title" | "textarea" | "xmp" | "iframe" | "noembed" | "noframes" => Self::Raw(element),
            _ => Self::Text,
        }
    }
}

/// One more letter of a name. What is cut is no name that is known, and states stay cheap to copy.
fn extend(name: &mut String, c: char) {
    if name.len() < PREFIX {
        name.extend(c.to_lowercase());
    }
}

/// The offset behind the first `</name`, in either case.
fn end_tag(text: &str, name: &str) -> Option<usize> {
    let ends = |at: &usize| {
        let behind = text.as_bytes()[at + 1..].strip_prefix(b"/").and_then(|rest| rest.get(..name.len()));
        behind.is_some_and(|found| found.eq_ignore_ascii_case(name.as_bytes()))
    };
    memchr::memchr_iter(b'<', text.as_bytes()).find(ends).map(|at| at + 2 + name.len())
}
