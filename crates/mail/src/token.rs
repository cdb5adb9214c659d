//! Tokens in links: what a click, an open or an unsubscribe carries, signed so that nobody can make one up.
//!
//! JWT (RFC 7519) with HS256 alone; a `kid` names the key, so keys can be changed while old mail still works. No
//! personal data in a token. Not responsible for routes. To add a purpose: a word in `Purpose` and its route.

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use domain::ids::{CampaignId, LeadId, StepId, TenantId};
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Longest token that is looked at.
const MAX_TOKEN: usize = 8192;
/// Longest destination of a click.
const MAX_URL: usize = 2048;

/// What a token may be used for; one never works as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// The pixel.
    Open,
    /// A link.
    Click,
    /// Unsubscribing; never expires.
    Unsubscribe,
}

/// The four ids that every token carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenIds {
    /// Whose mail it is.
    pub tenant_id: TenantId,
    /// To whom.
    pub lead_id: LeadId,
    /// In which campaign.
    pub campaign_id: CampaignId,
    /// Which step.
    pub step_id: StepId,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The four ids.
    #[serde(flatten)]
    pub ids: TokenIds,
    /// What it may be used for.
    pub purpose: Purpose,
    /// Seconds since 1970 at which it expires; none for unsubscribing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<i64>,
    /// Destination of a click.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verified {
    /// Ours, for this purpose, in time.
    Valid(Claims),
    /// Ours and for this purpose, but too old.
    Expired(Claims),
    /// Anything else; why is not told, so that nobody can probe.
    Invalid,
}

/// A secret that cannot sign.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("secret has {0} bytes, at least 32 are needed (hint: `openssl rand -base64 48` makes one)")]
pub struct ShortSecret(usize);

struct Key {
    kid: String,
    key: hmac::Key,
    /// The encoded header and its dot.
    header: String,
}

impl Key {
    fn new(secret: &[u8]) -> Result<Self, ShortSecret> {
        if secret.len() < 32 {
            return Err(ShortSecret(secret.len()));
        }
        let kid: String =
            digest::digest(&digest::SHA256, secret).as_ref()[..4].iter().map(|b| format!("{b:02x}")).collect();
        let header = format!(r#"{{"alg":"HS256","kid":"{kid}","typ":"JWT"}}"#);
        let header = format!("{}.", BASE64.encode(header));
        Ok(Self { kid, key: hmac::Key::new(hmac::HMAC_SHA256, secret), header })
    }
}

/// The keys: one signs, all verify.
pub struct TokenKeys {
    current: Key,
    old: Vec<Key>,
}

impl TokenKeys {
    /// Keys from secrets; `current` signs.
    ///
    /// # Errors
    /// A secret shorter than 32 bytes.
    pub fn new(current: &[u8], old: &[&[u8]]) -> Result<Self, ShortSecret> {
        let old = old.iter().map(|secret| Key::new(secret)).collect::<Result<_, _>>()?;
        Ok(Self { current: Key::new(current)?, old })
    }

    /// A keyed hash of `data` for other proofs of ours, such as a Message-ID; 16 bytes as lower-case hexadecimal.
    pub fn proof(&self, data: &[u8]) -> String {
        hmac::sign(&self.current.key, data).as_ref()[..16].iter().map(|b| format!("{b:02x}")).collect()
    }

    /// Signs claims. A click's destination has been checked by `is_destination`.
    pub fn sign(&self, claims: &Claims) -> String {
        let payload = serde_json::to_vec(claims).expect("claims are plain strings and numbers");
        let mut token = String::with_capacity(self.current.header.len() + payload.len() * 4 / 3 + 48);
        token.push_str(&self.current.header);
        BASE64.encode_string(&payload, &mut token);
        let tag = hmac::sign(&self.current.key, token.as_bytes());
        token.push('.');
        BASE64.encode_string(tag.as_ref(), &mut token);
        token
    }

    /// Checks a token for one purpose at one time.
    pub fn verify(&self, token: &str, purpose: Purpose, now: Timestamp) -> Verified {
        let Some(claims) = self.authentic(token) else { return Verified::Invalid };
        let url_fits = match (&claims.url, purpose) {
            (Some(url), Purpose::Click) => is_destination(url),
            (None, Purpose::Click) => false,
            _ => true,
        };
        if claims.purpose != purpose || !url_fits {
            return Verified::Invalid;
        }
        match (claims.exp, purpose) {
            (_, Purpose::Unsubscribe) => Verified::Valid(claims),
            (None, _) => Verified::Invalid,
            (Some(exp), _) if exp <= now.unix_seconds() => Verified::Expired(claims),
            (Some(_), _) => Verified::Valid(claims),
        }
    }

    /// The claims of a token that one of our keys has signed.
    fn authentic(&self, token: &str) -> Option<Claims> {
        #[derive(Deserialize)]
        struct Header {
            alg: String,
            #[serde(default)]
            kid: Option<String>,
        }
        if token.len() > MAX_TOKEN {
            return None;
        }
        let (signed, tag) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        let tag = BASE64.decode(tag).ok()?;
        let mut all = std::iter::once(&self.current).chain(&self.old);
        // Our own tokens of the current key need no parsing of their header.
        let verified = if self.current.header.strip_suffix('.') == Some(header) {
            hmac::verify(&self.current.key, signed.as_bytes(), &tag).is_ok()
        } else {
            let header: Header = serde_json::from_slice(&BASE64.decode(header).ok()?).ok()?;
            let fits = |key: &&Key| header.kid.as_ref().is_none_or(|kid| *kid == key.kid);
            header.alg == "HS256"
                && all.any(|key| fits(&key) && hmac::verify(&key.key, signed.as_bytes(), &tag).is_ok())
        };
        if !verified {
            return None;
        }
        serde_json::from_slice(&BASE64.decode(payload).ok()?).ok()
    }
}

/// Whether a click may lead there: an absolute http or https URL with a host, no user name, no control characters.
pub fn is_destination(url: &str) -> bool {
    let rest = ["https://", "http://"].iter().find_map(|scheme| {
        let head = url.get(..scheme.len())?;
        head.eq_ignore_ascii_case(scheme).then(|| &url[scheme.len()..])
    });
    let Some(rest) = rest else { return false };
    let host = rest.split(['/', '?', '#', '\\']).next().unwrap_or("");
    // `https://bank.example@evil.example` looks like the bank.
    let plain_host = !host.is_empty() && !host.contains('@') && !host.starts_with(':');
    plain_host && url.len() <= MAX_URL && !url.chars().any(|c| c.is_control() || c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
    const OLD: &[u8] = b"fedcba9876543210fedcba9876543210";
    const NOW: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);

    fn ids() -> TokenIds {
        let id = |n: u128| Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + n);
        TokenIds {
            tenant_id: TenantId::from_uuid(id(1)),
            lead_id: LeadId::from_uuid(id(2)),
            campaign_id: CampaignId::from_uuid(id(3)),
            step_id: StepId::from_uuid(id(4)),
        }
    }

    fn claims(purpose: Purpose, exp: Option<i64>, url: Option<&str>) -> Claims {
        Claims { ids: ids(), purpose, exp, url: url.map(str::to_owned) }
    }

    fn keys() -> TokenKeys {
        TokenKeys::new(SECRET, &[OLD]).unwrap()
    }

    #[test]
    fn a_token_says_what_was_signed_and_is_short() {
        let open = claims(Purpose::Open, Some(NOW.unix_seconds() + 60), None);
        let token = keys().sign(&open);
        assert!(token.len() <= 450, "{}", token.len());
        assert_eq!(keys().verify(&token, Purpose::Open, NOW), Verified::Valid(open.clone()));
        let later = Timestamp::from_unix_seconds(NOW.unix_seconds() + 60);
        assert_eq!(keys().verify(&token, Purpose::Open, later), Verified::Expired(open));
    }

    #[test]
    fn one_purpose_never_works_as_another() {
        let token = keys().sign(&claims(Purpose::Unsubscribe, None, None));
        assert!(matches!(keys().verify(&token, Purpose::Unsubscribe, NOW), Verified::Valid(_)));
        assert_eq!(keys().verify(&token, Purpose::Open, NOW), Verified::Invalid);
        assert_eq!(keys().verify(&token, Purpose::Click, NOW), Verified::Invalid);
    }

    #[test]
    fn every_altered_character_is_noticed() {
        let token = keys().sign(&claims(Purpose::Open, Some(i64::MAX), None));
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(bytes).unwrap();
            // The last character of a part has bits that decode to nothing; the strict decoder refuses those as well.
            assert_eq!(keys().verify(&altered, Purpose::Open, NOW), Verified::Invalid, "at {at}");
        }
    }

    #[test]
    fn old_keys_verify_and_unknown_ones_do_not() {
        let token = TokenKeys::new(OLD, &[]).unwrap().sign(&claims(Purpose::Open, Some(i64::MAX), None));
        assert!(matches!(keys().verify(&token, Purpose::Open, NOW), Verified::Valid(_)));
        assert_eq!(TokenKeys::new(SECRET, &[]).unwrap().verify(&token, Purpose::Open, NOW), Verified::Invalid);
        assert_eq!(TokenKeys::new(b"short", &[]).err(), Some(ShortSecret(5)));
    }

    #[test]
    fn strangers_tokens_are_taken_by_the_same_rules() {
        use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
        let _installed = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
        let open = claims(Purpose::Open, Some(NOW.unix_seconds() + 60), None);
        let sign = |algorithm, secret: &[u8], kid: Option<&str>| {
            let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
            encode(&header, &open, &EncodingKey::from_secret(secret)).unwrap()
        };
        let verify = |token: &str| keys().verify(token, Purpose::Open, NOW);
        assert_eq!(verify(&sign(Algorithm::HS256, SECRET, None)), Verified::Valid(open.clone()));
        assert_eq!(verify(&sign(Algorithm::HS256, OLD, None)), Verified::Valid(open.clone()));
        assert_eq!(verify(&sign(Algorithm::HS256, SECRET, Some("00000000"))), Verified::Invalid);
        assert_eq!(verify(&sign(Algorithm::HS512, SECRET, None)), Verified::Invalid);
        let none =
            format!("{}.{}.", BASE64.encode(r#"{"alg":"none"}"#), BASE64.encode(serde_json::to_vec(&open).unwrap()));
        assert_eq!(verify(&none), Verified::Invalid);
        for rubbish in ["", ".", "..", "a.b.c", "ä.ö.ü", &"x".repeat(9000)] {
            assert_eq!(verify(rubbish), Verified::Invalid);
        }
    }

    #[test]
    fn destinations_are_plain_web_addresses() {
        for good in ["https://a.example", "HTTP://a.example/x?y=z#w", "https://a.example:8443/", "https://ä.example/ü"]
        {
            assert!(is_destination(good), "{good}");
        }
        for bad in [
            "javascript:alert(1)",
            "//a.example",
            "https://",
            "https:///x",
            "https://bank.example@evil.example/",
            "ftp://a.example",
            "https://a.example/\r\nX: y",
            "https://a .example",
            "https://:80/",
            "data:text/html,x",
        ] {
            assert!(!is_destination(bad), "{bad}");
        }
        let click = keys().sign(&claims(Purpose::Click, Some(i64::MAX), Some("javascript:alert(1)")));
        assert_eq!(keys().verify(&click, Purpose::Click, NOW), Verified::Invalid);
    }
}
