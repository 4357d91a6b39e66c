//! Where a service listens, and the names of channels to it (`spec/connection.md` 11.2).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU16;
use std::str::FromStr;

/// What the names of all channels to services begin with.
pub(crate) const SCHEME: &str = "nc://";

/// Longest name of a host in DNS.
const MAX_NAME: usize = 253;

/// Why a text does not name a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ServiceError {
    /// The channel is for something else.
    #[error("the name of a channel to a service begins with {SCHEME}")]
    Scheme,
    /// There is no port, or none that is one.
    #[error("expected HOST:PORT with a port from 1 to 65535")]
    Port,
    /// The host is neither an address nor a name.
    #[error("the host is neither an IP address nor a name of letters, digits, dots and dashes")]
    Host,
}

/// A host: an address, or a name that the side next to it resolves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    /// An address; one of IPv4 if it is one mapped to IPv6.
    Ip(IpAddr),
    /// A name in lower case.
    Name(String),
}

impl FromStr for Host {
    type Err = ServiceError;

    /// Reads an address, one of IPv6 with or without brackets, or a name.
    fn from_str(text: &str) -> Result<Self, ServiceError> {
        if let Some(inside) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let ip: Ipv6Addr = inside.parse().map_err(|_| ServiceError::Host)?;
            return Ok(Self::Ip(ip.to_canonical()));
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::Ip(ip.to_canonical()));
        }
        let fits = |c: u8| c.is_ascii_alphanumeric() || b".-_".contains(&c);
        if (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(fits) && !text.starts_with(['-', '.']) {
            Ok(Self::Name(text.to_ascii_lowercase()))
        } else {
            Err(ServiceError::Host)
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// A TCP service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Service {
    pub(crate) host: Host,
    pub(crate) port: NonZeroU16,
}

impl Service {
    /// The name of a channel to it.
    pub(crate) fn channel(&self) -> String {
        format!("{SCHEME}{self}")
    }

    /// The service that a channel of this name is for.
    pub(crate) fn of_channel(name: &str) -> Result<Self, ServiceError> {
        name.strip_prefix(SCHEME).ok_or(ServiceError::Scheme)?.parse()
    }
}

impl FromStr for Service {
    type Err = ServiceError;

    /// Reads `HOST:PORT`. The last colon counts, as dnc writes addresses of IPv6 without brackets.
    fn from_str(text: &str) -> Result<Self, ServiceError> {
        let (host, port) = text.rsplit_once(':').ok_or(ServiceError::Port)?;
        // A sign, which numbers may have elsewhere, is none of a port.
        if !port.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(ServiceError::Port);
        }
        let port = port.parse().map_err(|_| ServiceError::Port)?;
        Ok(Self { host: host.parse()?, port })
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_name_services() {
        for (name, said) in [
            ("nc://127.0.0.1:22", "127.0.0.1:22"),
            ("nc://LocalHost:8080", "localhost:8080"),
            ("nc://[::1]:22", "[::1]:22"),
            // As a client of dnc asks for it.
            ("nc://::1:22", "[::1]:22"),
            ("nc://[::ffff:127.0.0.1]:22", "127.0.0.1:22"),
            ("nc://db_1.example.org:65535", "db_1.example.org:65535"),
        ] {
            let service = Service::of_channel(name).unwrap();
            assert_eq!(service.to_string(), said);
            assert_eq!(Service::of_channel(&service.channel()), Ok(service), "{name}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        use ServiceError::{Host, Port, Scheme};
        for (name, error) in [
            ("", Scheme),
            ("nc:/127.0.0.1:22", Scheme),
            ("sip", Scheme),
            ("nc://", Port),
            ("nc://127.0.0.1", Port),
            ("nc://127.0.0.1:", Port),
            ("nc://127.0.0.1:0", Port),
            ("nc://127.0.0.1:+22", Port),
            ("nc://127.0.0.1:22x", Port),
            ("nc://127.0.0.1:65536", Port),
            ("nc://:22", Host),
            ("nc://[]:22", Host),
            ("nc://[127.0.0.1]:22", Host),
            ("nc://a b:22", Host),
            ("nc://user@host:22", Host),
            ("nc://-oops:22", Host),
            ("nc://a:b:22", Host),
            ("nc://hôte:22", Host),
        ] {
            assert_eq!(Service::of_channel(name), Err(error), "{name}");
        }
        let long = format!("nc://{}:22", "a".repeat(254));
        assert_eq!(Service::of_channel(&long), Err(Host));
    }
}
