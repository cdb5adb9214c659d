//! Which provider of mailboxes a recipient's domain belongs to, by the names of its mail exchangers.
//!
//! The table `providers.toml` is data and says how to add a provider. Not responsible for asking a name server (`app`) or for
//! limits (`pace`). To change how names that are not listed are rolled up: `organisation`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    suffixes: BTreeSet<String>,
    hosts: BTreeMap<String, Vec<String>>,
}

/// Ends of names, and the provider of each.
struct Known {
    suffixes: BTreeSet<String>,
    providers: BTreeMap<String, String>,
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let table: Table = toml::from_str(include_str!("providers.toml")).expect("a test reads the table");
    let ends =
        table.hosts.into_iter().flat_map(|(provider, ends)| ends.into_iter().map(move |end| (end, provider.clone())));
    Known { suffixes: table.suffixes, providers: ends.collect() }
});

/// The provider of a domain with these mail exchangers, each with its preference: that of the one with the least, by name
/// where several have it; without any, the domain itself.
pub fn of_domain(domain: &str, exchangers: &[(u16, String)]) -> String {
    match exchangers.iter().min() {
        Some((_, host)) => roll_up(host),
        None => domain.to_ascii_lowercase(),
    }
}

/// The provider that a mail exchanger's name belongs to.
fn roll_up(host: &str) -> String {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    listed(&name).unwrap_or_else(|| organisation(&name)).to_owned()
}

/// A provider as a person names it: by one of its hosts' names, if it is listed; else as it stands there.
pub fn of_name(name: &str) -> String {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    listed(&name).map_or_else(|| name.clone(), str::to_owned)
}

fn listed(name: &str) -> Option<&'static str> {
    let mut ends = std::iter::successors(Some(name), |end| end.split_once('.').map(|(_, rest)| rest));
    ends.find_map(|end| KNOWN.providers.get(end)).map(String::as_str)
}

/// The last two labels, or three where the last two are no one's own.
fn organisation(name: &str) -> &str {
    let starts: Vec<usize> = name.rmatch_indices('.').map(|(at, _)| at + 1).collect();
    let behind = |dots: usize| starts.get(dots - 1).map_or(name, |at| &name[*at..]);
    let two = behind(2);
    if KNOWN.suffixes.contains(two) { behind(3) } else { two }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_rolled_up() {
        for (host, provider) in [
            ("aspmx.l.google.com.", "google.com"),
            ("ALT1.ASPMX.L.Google.com", "google.com"),
            ("acme-com.mail.protection.outlook.com.", "outlook.com"),
            ("mta7.am0.yahoodns.net", "yahoo.com"),
            ("mx01.mail.icloud.com", "icloud.com"),
            ("gmail.com", "google.com"),
            ("mx.acme.test", "acme.test"),
            ("mx.mail.acme.co.uk", "acme.co.uk"),
            ("co.uk", "co.uk"),
            ("notgoogle.com", "notgoogle.com"),
            ("localhost", "localhost"),
            ("", ""),
        ] {
            assert_eq!(roll_up(host), provider, "{host}");
        }
    }

    #[test]
    fn the_least_preference_says_whose_a_domain_is() {
        let mx = |list: &[(u16, &str)]| list.iter().map(|(n, host)| (*n, (*host).to_owned())).collect::<Vec<_>>();
        assert_eq!(of_domain("acme.test", &mx(&[(20, "mx.other.test"), (10, "aspmx.l.google.com")])), "google.com");
        assert_eq!(
            of_domain("acme.test", &mx(&[(10, "b.two.test"), (10, "a.one.test")])),
            "one.test",
            "always the same"
        );
        assert_eq!(of_domain("Mail.Acme.test", &[]), "mail.acme.test", "nobody's but its own");
    }

    #[test]
    fn a_providers_own_name_is_its_own() {
        for provider in KNOWN.providers.values() {
            assert_eq!((&roll_up(provider), &of_name(provider)), (provider, provider));
        }
        assert_eq!(of_name("Gmail.com"), "google.com");
        assert_eq!(of_name("mail.acme.test"), "mail.acme.test", "a domain without mail exchangers may be limited too");
    }
}
