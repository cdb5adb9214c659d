//! Where a tenant's server name may lead: looked up at every connect, and checked address by address.
//!
//! A tenant could name a host of ours (SSRF): private, loopback, link-local and metadata addresses are refused after
//! resolution unless the operator allows them. To add a range: `is_private`.

use std::io;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::Trouble;

/// Which addresses may be connected to.
#[derive(Clone, Debug, Default)]
pub enum HostPolicy {
    /// Any: the operator runs the servers.
    #[default]
    AllowAll,
    /// Public ones, and those in these networks.
    Public(Vec<IpNet>),
}

impl HostPolicy {
    /// Whether this address may be connected to.
    pub fn allows(&self, address: IpAddr) -> bool {
        match self {
            Self::AllowAll => true,
            Self::Public(networks) => {
                let address = address.to_canonical();
                !is_private(address) || networks.iter().any(|network| network.contains(&address))
            }
        }
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.is_documentation()
                || a == 0
                // Carrier-grade NAT, benchmarking, reserved.
                || (a == 100 && (64..128).contains(&b))
                || (a == 198 && (18..20).contains(&b))
                || a >= 240
        }
        IpAddr::V6(v6) => {
            let first = v6.segments()[0];
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                // Unique local, link local; NAT64 and 6to4 (they lead to any IPv4 address).
                || (first & 0xfe00) == 0xfc00
                || (first & 0xffc0) == 0xfe80
                || (first == 0x0064 && v6.segments()[1] == 0xff9b)
                || first == 0x2002
        }
    }
}

/// Looks a name up and keeps the addresses that the policy allows.
pub(super) async fn resolve(host: &str, port: u16, policy: &HostPolicy) -> Result<Vec<SocketAddr>, Trouble> {
    let found = tokio::net::lookup_host((host, port)).await;
    choose(found.map(Iterator::collect), policy)
}

/// What the answer of a look-up leads to.
fn choose(found: io::Result<Vec<SocketAddr>>, policy: &HostPolicy) -> Result<Vec<SocketAddr>, Trouble> {
    let mut addresses = found.map_err(|e| if is_no_such_name(&e) { Trouble::NoSuchName } else { not_looked_up(&e) })?;
    if addresses.is_empty() {
        return Err(Trouble::Resolve("the server's name has no address".into()));
    }
    addresses.retain(|address| policy.allows(address.ip()));
    if addresses.is_empty() {
        return Err(Trouble::Resolve(
            "the server's name leads to a private address (hint: ALLOW_PRIVATE_HOSTS lists networks that are meant)"
                .into(),
        ));
    }
    Ok(addresses)
}

fn not_looked_up(e: &io::Error) -> Trouble {
    Trouble::Resolve(format!("the server's name cannot be looked up: {e}"))
}

/// Whether the answer was NXDOMAIN. The standard library keeps `EAI_NONAME` only as the C library's words; where they
/// are others (a library that is not listed), the account backs off as for an answer that did not come.
fn is_no_such_name(e: &io::Error) -> bool {
    const WORDS: [&str; 3] = ["Name or service not known", "Name does not resolve", "nodename nor servname provided"];
    let text = e.to_string();
    WORDS.iter().any(|words| text.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_refused_unless_listed() {
        let policy = HostPolicy::Public(vec!["10.1.0.0/16".parse().unwrap()]);
        for refused in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.3.4",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "::1",
            "fe80::1",
            "fd00::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::1",
            "255.255.255.255",
        ] {
            assert!(!policy.allows(refused.parse().unwrap()), "{refused}");
        }
        for allowed in ["10.1.2.3", "93.184.216.34", "2606:2800:220:1::1"] {
            assert!(policy.allows(allowed.parse().unwrap()), "{allowed}");
        }
    }

    fn looked_up(text: &str) -> Result<Vec<SocketAddr>, Trouble> {
        choose(Err(io::Error::other(format!("failed to lookup address information: {text}"))), &HostPolicy::AllowAll)
    }

    #[test]
    fn fs36_a_name_that_is_not_there_is_told_from_one_that_is_not_answered() {
        assert_eq!(looked_up("Name or service not known"), Err(Trouble::NoSuchName), "NXDOMAIN");
        assert_eq!(looked_up("Name does not resolve"), Err(Trouble::NoSuchName), "NXDOMAIN, musl");
        for (what, text) in [
            ("SERVFAIL, time-out", "Temporary failure in name resolution"),
            ("a loop of CNAMEs", "Non-recoverable failure in name resolution"),
            ("no address", "No address associated with hostname"),
        ] {
            assert!(matches!(looked_up(text), Err(Trouble::Resolve(_))), "{what}");
        }
        assert!(matches!(choose(Ok(Vec::new()), &HostPolicy::AllowAll), Err(Trouble::Resolve(_))));
    }

    #[test]
    fn fs36_each_address_of_a_name_is_held_against_the_policy() {
        let address = |text: &str| SocketAddr::new(text.parse().unwrap(), 25);
        let policy = HostPolicy::Public(Vec::new());
        let found = ["127.0.0.1", "93.184.216.34", "::1", "2606:2800:220:1::1", "169.254.169.254"].map(address);
        let kept = ["93.184.216.34", "2606:2800:220:1::1"].map(address);
        assert_eq!(choose(Ok(found.to_vec()), &policy), Ok(kept.to_vec()));
        let refused = choose(Ok(vec![address("127.0.0.1")]), &policy);
        assert!(matches!(&refused, Err(Trouble::Resolve(text)) if text.contains("private")), "{refused:?}");
    }
}
