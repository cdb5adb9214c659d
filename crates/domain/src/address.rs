//! Email addresses and display names, checked once and safe to put into a header from then on.
//!
//! Not responsible for whether an address exists. `Debug` never shows the local part: addresses stay out of logs.
//! To add a rule: a variant of `AddressError` and its check in `EmailAddress::parse`.

use std::fmt;

/// A rule that an address breaks; the address itself never stands in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing there.
    #[error("address is empty")]
    Empty,
    /// Not exactly one `@` between two parts.
    #[error("address needs a local part, one `@` and a domain")]
    NoAt,
    /// Control characters, white space, or format characters that nobody sees.
    #[error("address holds a space, a control or an invisible character (hint: type it again instead of pasting it)")]
    Space,
    /// `"quoted"` local parts are valid mail but nearly always a mistake in a list.
    #[error("address has a quoted local part or a comment, which is not supported")]
    Quoted,
    /// Dots at an end or two in a row.
    #[error("local part starts or ends with a dot or has two in a row")]
    Dots,
    /// A character that no local part may hold.
    #[error("local part holds a character that is not allowed")]
    LocalCharacter,
    /// RFC 5321 4.5.3.1.
    #[error("address is too long (hint: 64 bytes before the `@`, 254 in all)")]
    Long,
    /// Not a domain name.
    #[error("domain is not a valid name")]
    Domain,
}

/// An email address: the local part as given, the domain in one form: lower case, international names in Unicode.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EmailAddress {
    text: String,
    at: usize,
}

impl EmailAddress {
    /// Reads an address without display name; surrounding white space is cut. Non-ASCII parts are allowed (RFC 6531).
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace() || is_invisible(c)) {
            return Err(AddressError::Space);
        }
        if text.contains(['"', '(', ')']) {
            return Err(AddressError::Quoted);
        }
        let (local, domain) = text.rsplit_once('@').ok_or(AddressError::NoAt)?;
        if local.is_empty() || domain.is_empty() || local.contains('@') {
            return Err(AddressError::NoAt);
        }
        if local.starts_with('.') || local.ends_with('.') || local.contains("..") {
            return Err(AddressError::Dots);
        }
        if local.contains(['<', '>', '[', ']', ':', ';', ',', '\\']) {
            return Err(AddressError::LocalCharacter);
        }
        if local.len() > 64 || text.len() > 254 {
            return Err(AddressError::Long);
        }
        let ascii = ascii_domain(domain)?;
        // One form for every spelling (case, width, punycode): else a suppressed address comes back in another.
        let domain = idna::domain_to_unicode(&ascii).0;
        if local.len() + 1 + ascii.len().max(domain.len()) > 254 {
            return Err(AddressError::Long);
        }
        Ok(Self { at: local.len(), text: format!("{local}@{domain}") })
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part before the `@`.
    pub fn local(&self) -> &str {
        &self.text[..self.at]
    }

    /// The part behind the `@`, in lower case and Unicode.
    pub fn domain(&self) -> &str {
        &self.text[self.at + 1..]
    }

    /// The domain in ASCII, international names as punycode (RFC 5891).
    pub fn domain_ascii(&self) -> String {
        idna::domain_to_ascii(self.domain()).unwrap_or_else(|_| self.domain().to_owned())
    }

    /// Whether the local part needs no SMTPUTF8 (RFC 6531).
    pub fn is_ascii_local(&self) -> bool {
        self.local().is_ascii()
    }

    /// The address in lower case: two addresses with one key are one lead.
    pub fn key(&self) -> String {
        self.text.to_lowercase()
    }
}

/// Zero-width spaces, soft hyphens, marks of direction. Joiners stay: Persian and Indic names need them (RFC 5892).
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    )
}

fn ascii_domain(domain: &str) -> Result<String, AddressError> {
    let ascii = idna::domain_to_ascii_strict(domain).map_err(|_| AddressError::Domain)?;
    let labels: Vec<&str> = ascii.split('.').collect();
    let good = |label: &&str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let numeric_top = labels.last().is_some_and(|top| top.bytes().all(|b| b.is_ascii_digit()));
    if ascii.len() > 253 || !labels.iter().all(good) || numeric_top {
        return Err(AddressError::Domain);
    }
    Ok(ascii)
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EmailAddress(…@{})", self.domain())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_addresses_keep_their_local_part() {
        for (given, kept, ascii) in [
            ("Ana.Gil+x@Example.COM", "Ana.Gil+x@example.com", "example.com"),
            (" o'neill@example.com ", "o'neill@example.com", "example.com"),
            ("jürgen@müller.example", "jürgen@müller.example", "xn--mller-kva.example"),
            ("a@localhost", "a@localhost", "localhost"),
        ] {
            let address = EmailAddress::parse(given).unwrap();
            assert_eq!((address.as_str(), address.domain_ascii().as_str()), (kept, ascii));
        }
        let address = EmailAddress::parse("Ana@Example.com").unwrap();
        assert_eq!(address.key(), "ana@example.com");
        assert_eq!(format!("{address:?}"), "EmailAddress(…@example.com)");
    }

    #[test]
    fn one_domain_has_one_spelling() {
        for given in
            ["a@MÜLLER.example", "a@xn--mller-kva.example", "a@mu\u{308}ller.example", "a@müller\u{3002}example"]
        {
            assert_eq!(EmailAddress::parse(given).unwrap().as_str(), "a@müller.example", "{given:?}");
        }
        assert_eq!(EmailAddress::parse("a@\u{ff45}xample.com").unwrap().key(), "a@example.com");
    }

    #[test]
    fn lengths_hold_for_both_forms_of_the_domain() {
        let domain = |label: &str| [label; 6].join(".");
        // 30 letters are 30 bytes as they are; the umlaut's name is longer in ASCII than in Unicode.
        let plain = format!("{}@{}.example", "x".repeat(50), domain(&"b".repeat(30)));
        assert!(EmailAddress::parse(&plain).is_ok());
        let longer = format!("{}@{}.example", "x".repeat(50), domain(&format!("ü{}", "b".repeat(28))));
        assert!(longer.len() <= 254);
        assert_eq!(EmailAddress::parse(&longer), Err(AddressError::Long));
    }

    proptest::proptest! {
        #[test]
        fn what_is_accepted_reads_back_the_same_and_fits_one_header_line(text in "[a-zA-Zü.\\r\\n @-]{1,30}(@[a-zA-ZÜß.-]{1,20})?") {
            if let Ok(address) = EmailAddress::parse(&text) {
                let again = EmailAddress::parse(address.as_str()).unwrap();
                proptest::prop_assert_eq!(&again, &address);
                proptest::prop_assert!(!address.as_str().contains(|c: char| c.is_control() || c == ' '));
                let shown = format!("{address:?}");
                proptest::prop_assert_eq!(shown, format!("EmailAddress(…@{})", address.domain()));
            }
        }
    }

    #[test]
    fn bad_addresses_name_their_rule() {
        for (given, rule) in [
            ("", AddressError::Empty),
            ("ana", AddressError::NoAt),
            ("@example.com", AddressError::NoAt),
            ("a@b@c.example", AddressError::NoAt),
            ("a b@example.com", AddressError::Space),
            ("a\r\nBcc:x@example.com", AddressError::Space),
            ("a\u{200b}na@example.com", AddressError::Space),
            ("ana@exam\u{ad}ple.com", AddressError::Space),
            ("\"a\"@example.com", AddressError::Quoted),
            (".a@example.com", AddressError::Dots),
            ("a..b@example.com", AddressError::Dots),
            ("a<b@example.com", AddressError::LocalCharacter),
            ("a@example..com", AddressError::Domain),
            ("a@-example.com", AddressError::Domain),
            ("a@exa_mple.com", AddressError::Domain),
            ("a@[127.0.0.1]", AddressError::Domain),
            ("a@127.0.0.1", AddressError::Domain),
        ] {
            assert_eq!(EmailAddress::parse(given), Err(rule), "{given:?}");
        }
        assert_eq!(EmailAddress::parse(&format!("{}@e.com", "x".repeat(65))), Err(AddressError::Long));
    }
}
