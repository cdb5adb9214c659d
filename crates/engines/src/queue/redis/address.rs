//! Addresses of Redis: one server, a master that Sentinels know, or a Cluster, each with or without TLS.
//!
//! Not responsible for connections (`link`). To add a form: a variant of `Target`, an arm in `parse` and one in `open`.

use std::path::PathBuf;
use std::time::Duration;

use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo, RedisResult};
use redis::{TlsCertificates, TlsMode};

use super::answer::error;
use super::link::{CONNECT_LIMIT, RESPONSE_LIMIT};
use crate::error::{Error, Result};

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// What is at the hosts.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    Single,
    Sentinel { master: String },
    Cluster,
}

/// A parsed address. It holds passwords, so it is never shown.
pub(super) struct Address {
    target: Target,
    is_tls: bool,
    hosts: Vec<(String, u16)>,
    login: Login,
    sentinel_login: Login,
    database: i64,
    /// Authorities that TLS trusts instead of the host's own.
    ca: Option<PathBuf>,
}

#[derive(Default, PartialEq, Eq)]
struct Login {
    user: Option<String>,
    password: Option<String>,
}

/// How to reach what an address names.
pub(super) enum Opener {
    Single(Box<Client>),
    Sentinel(Box<SentinelClient>),
    Cluster(Box<ClusterClient>),
}

impl Address {
    /// Reads an address; the forms stand at `RedisQueue::connect`.
    pub(super) fn parse(url: &str) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").ok_or(Error::RedisAddress("has no scheme"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (tls, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let is_tls = match tls {
            "redis" => false,
            "rediss" => true,
            _ => return Err(Error::RedisAddress("has an unknown scheme")),
        };
        let (target, database) = match kind {
            "" => (Target::Single, path),
            "sentinel" => {
                let (master, database) = path.split_once('/').unwrap_or((path, ""));
                (Target::Sentinel { master: decode(master)? }, database)
            }
            "cluster" => (Target::Cluster, path),
            _ => return Err(Error::RedisAddress("has an unknown scheme")),
        };
        let default_port = if matches!(target, Target::Sentinel { .. }) { SENTINEL_PORT } else { PORT };
        let mut address = Self {
            target,
            is_tls,
            hosts: hosts.split(',').map(|host| host_and_port(host, default_port)).collect::<Result<_>>()?,
            login: Login::parse(login)?,
            sentinel_login: Login::default(),
            database: match database {
                "" => 0,
                number => number.parse().map_err(|_| Error::RedisAddress("has a database that is no number"))?,
            },
            ca: None,
        };
        for option in query.split('&').filter(|option| !option.is_empty()) {
            address.set(option)?;
        }
        address.check()
    }

    fn set(&mut self, option: &str) -> Result<()> {
        let (name, value) = option.split_once('=').ok_or(Error::RedisAddress("has an option without a value"))?;
        let value = decode(value)?;
        match name {
            "ca" => self.ca = Some(value.into()),
            "sentinel_user" => self.sentinel_login.user = Some(value),
            "sentinel_password" => self.sentinel_login.password = Some(value),
            _ => return Err(Error::RedisAddress("has an unknown option")),
        }
        Ok(())
    }

    fn check(self) -> Result<Self> {
        let is_sentinel = matches!(self.target, Target::Sentinel { .. });
        match &self.target {
            Target::Single if self.hosts.len() > 1 => Err(Error::RedisAddress("has several hosts")),
            Target::Sentinel { master } if master.is_empty() => Err(Error::RedisAddress("names no master")),
            Target::Cluster if self.database != 0 => Err(Error::RedisAddress("has a database, and a Cluster has one")),
            _ if !is_sentinel && self.sentinel_login != Login::default() => {
                Err(Error::RedisAddress("has a log-in for Sentinels and no Sentinels"))
            }
            _ if self.ca.is_some() && !self.is_tls => Err(Error::RedisAddress("has authorities and no TLS")),
            _ => Ok(self),
        }
    }

    /// Reads the file of authorities, if there is one, and prepares connections.
    pub(super) fn open(self) -> Result<Opener> {
        let certificates = match &self.ca {
            Some(path) => {
                let pem = std::fs::read(path).map_err(|e| Error::RedisRefused {
                    call: "reading authorities",
                    message: format!("{}: {e}", path.display()),
                })?;
                Some(TlsCertificates { client_tls: None, root_cert: Some(pem) })
            }
            None => None,
        };
        let opened = match &self.target {
            Target::Single => self.single(certificates).map(|c| Opener::Single(Box::new(c))),
            Target::Sentinel { master } => self.sentinel(master, certificates).map(|c| Opener::Sentinel(Box::new(c))),
            Target::Cluster => self.cluster(certificates).map(|c| Opener::Cluster(Box::new(c))),
        };
        opened.map_err(|e| error("opening", &e))
    }

    fn single(&self, certificates: Option<TlsCertificates>) -> RedisResult<Client> {
        let info = self.info(&self.hosts[0])?;
        match certificates {
            Some(certificates) => Client::build_with_tls(info, certificates),
            None => Client::open(info),
        }
    }

    fn sentinel(&self, master: &str, certificates: Option<TlsCertificates>) -> RedisResult<SentinelClient> {
        let sentinels: Vec<ConnectionAddr> = self.hosts.iter().map(|host| self.place(host)).collect();
        let mut builder = SentinelClientBuilder::new(sentinels, master, SentinelServerType::Master)?
            .set_client_to_redis_db(self.database)
            .set_client_to_redis_tcp_settings(tcp())
            .set_client_to_sentinel_tcp_settings(tcp());
        if self.is_tls {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        }
        if let Some(certificates) = certificates {
            builder = builder
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates);
        }
        if let Some(user) = &self.login.user {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = &self.login.password {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(user) = &self.sentinel_login.user {
            builder = builder.set_client_to_sentinel_username(user);
        }
        if let Some(password) = &self.sentinel_login.password {
            builder = builder.set_client_to_sentinel_password(password);
        }
        builder.build()
    }

    fn cluster(&self, certificates: Option<TlsCertificates>) -> RedisResult<ClusterClient> {
        let nodes = self.hosts.iter().map(|host| self.info(host)).collect::<RedisResult<Vec<_>>>()?;
        let mut builder = ClusterClientBuilder::new(nodes)
            .tcp_settings(tcp())
            .connection_timeout(CONNECT_LIMIT)
            .response_timeout(RESPONSE_LIMIT)
            .overall_response_timeout(Some(RESPONSE_LIMIT))
            // Enough to follow a moved slot; a longer outage is the caller's to wait for.
            .retries(3)
            .min_retry_wait(20)
            .max_retry_wait(500);
        if let Some(certificates) = certificates {
            builder = builder.certs(certificates);
        }
        builder.build()
    }

    fn place(&self, (host, port): &(String, u16)) -> ConnectionAddr {
        if self.is_tls {
            ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host.clone(), *port)
        }
    }

    fn info(&self, host: &(String, u16)) -> RedisResult<ConnectionInfo> {
        let mut settings = RedisConnectionInfo::default().set_db(self.database);
        if let Some(user) = &self.login.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &self.login.password {
            settings = settings.set_password(password);
        }
        let info = self.place(host).into_connection_info()?;
        Ok(info.set_tcp_settings(tcp()).set_redis_settings(settings))
    }
}

impl Login {
    fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let (user, password) = text.split_once(':').ok_or(Error::RedisAddress("has a user without a password"))?;
        let user = if user.is_empty() { None } else { Some(decode(user)?) };
        Ok(Self { user, password: Some(decode(password)?) })
    }
}

/// A half-open connection must show within seconds, and small commands must not wait for more.
fn tcp() -> TcpSettings {
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(10)).with_interval(Duration::from_secs(5)).with_retries(3);
    TcpSettings::default().set_nodelay(true).set_keepalive(keepalive).set_user_timeout(Duration::from_secs(15))
}

fn host_and_port(text: &str, default: u16) -> Result<(String, u16)> {
    let bad = Error::RedisAddress("has a host without a name or with a port that is no number");
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map(|(host, port)| (host, port.strip_prefix(':').unwrap_or(port))),
        None => Some(text.split_once(':').unwrap_or((text, ""))),
    }
    .filter(|(host, _)| !host.is_empty())
    .ok_or(bad)?;
    let port = match port {
        "" => default,
        number => number
            .parse()
            .map_err(|_| Error::RedisAddress("has a host without a name or with a port that is no number"))?,
    };
    Ok((host.to_owned(), port))
}

fn decode(text: &str) -> Result<String> {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| Error::RedisAddress("has a part that is no UTF-8 text once decoded"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Address {
        Address::parse(url).unwrap_or_else(|e| panic!("{url}: {e}"))
    }

    #[test]
    fn every_form_is_read() {
        let one = parse("redis://cache");
        assert!(one.target == Target::Single && !one.is_tls && one.login == Login::default());
        assert_eq!((one.hosts, one.database), (vec![("cache".into(), 6379)], 0));

        let safe = parse("rediss://ana:p%40ss%2Fword@[::1]:6380/7?ca=/etc/ca.pem");
        assert!(safe.is_tls && safe.login.user.as_deref() == Some("ana"));
        assert_eq!(safe.login.password.as_deref(), Some("p@ss/word"));
        assert_eq!((safe.hosts, safe.database), (vec![("::1".into(), 6380)], 7));
        assert_eq!(safe.ca, Some("/etc/ca.pem".into()));

        let sentinel = parse("redis+sentinel://:secret@a:1,b/mail/3?sentinel_password=other");
        assert_eq!(sentinel.target, Target::Sentinel { master: "mail".into() });
        assert_eq!((sentinel.hosts, sentinel.database), (vec![("a".into(), 1), ("b".into(), 26379)], 3));
        assert_eq!(sentinel.sentinel_login.password.as_deref(), Some("other"));
        assert!(sentinel.login.user.is_none() && sentinel.login.password.is_some());

        let cluster = parse("rediss+cluster://a:7000,b:7001");
        assert!(cluster.target == Target::Cluster && cluster.hosts.len() == 2);
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (url, word) in [
            ("localhost:6379", "scheme"),
            ("http://x", "unknown scheme"),
            ("redis+ring://x", "unknown scheme"),
            ("redis://", "host"),
            ("redis://:s3cret@host:port", "port"),
            ("redis://s3cret@host", "user without"),
            ("redis://:s3cret@a,b", "several hosts"),
            ("redis://:s3cret@host/x", "database"),
            ("redis+cluster://:s3cret@host/1", "database"),
            ("redis+sentinel://:s3cret@host", "no master"),
            ("redis://:s3cret@host?ca=/x", "no TLS"),
            ("redis://:s3cret@host?sentinel_password=s3cret", "no Sentinels"),
            ("redis://:s3cret@host?colour=s3cret", "unknown option"),
        ] {
            let text = Address::parse(url).err().unwrap().to_string();
            assert!(text.contains(word) && !text.contains("s3cret"), "{url}: {text}");
        }
    }
}
