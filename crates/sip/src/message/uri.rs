//! SIP and SIPS URIs (RFC 3261 19.1).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::parameter::MAX_PARAMETERS;
use crate::error::ParseError;
use crate::text::{escape, number, unescape};

/// Characters of a user part that need no escape (`unreserved` and `user-unreserved`).
const USER: &[u8] = b"-_.!~*'()&=+$,;?/";
/// Characters of URI parameters that need no escape (`unreserved` and `param-unreserved`).
const PARAMETER: &[u8] = b"-_.!~*'()[]/:&+$";

/// A URI of a request line or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uri {
    /// `sip:` or `sips:`.
    Sip(SipUri),
    /// Any other scheme, as it was written.
    Other(Box<str>),
}

impl Uri {
    /// The SIP URI, if it is one.
    pub fn as_sip(&self) -> Option<&SipUri> {
        match self {
            Self::Sip(uri) => Some(uri),
            Self::Other(_) => None,
        }
    }
}

impl From<SipUri> for Uri {
    fn from(uri: SipUri) -> Self {
        Self::Sip(uri)
    }
}

/// `sip:user:password@host:port;parameters?headers`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SipUri {
    /// `sips:`.
    pub secure: bool,
    /// The user part with its escapes decoded. Jami writes ids of accounts and devices here.
    pub user: Option<String>,
    /// A host name, an IPv4 address, or an IPv6 address in brackets.
    pub host: String,
    /// The port, if one is given.
    pub port: Option<u16>,
    /// Names and values with their escapes decoded.
    pub parameters: Vec<(String, Option<String>)>,
    /// What follows the question mark, as it was written. It means nothing in requests.
    pub headers: Option<String>,
}

impl SipUri {
    /// `sip:host` or `sips:host`.
    ///
    /// # Panics
    ///
    /// If `host` is neither a name nor an address.
    pub fn new(secure: bool, host: &str) -> Self {
        assert!(is_host(host), "the caller gives a host");
        Self { secure, user: None, host: host.to_owned(), port: None, parameters: Vec::new(), headers: None }
    }

    /// With this user part.
    #[must_use]
    pub fn with_user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    /// With this port.
    #[must_use]
    pub fn with_port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// With one more parameter.
    #[must_use]
    pub fn with_parameter(mut self, name: &str, value: &str) -> Self {
        self.parameters.push((name.to_owned(), Some(value.to_owned())));
        self
    }

    /// The value of a parameter. Names are case-insensitive.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.and_then(|(_, value)| value.as_deref())
    }

    /// Reads what follows the scheme.
    fn parse(secure: bool, text: &str) -> Option<Self> {
        let (user, rest) = match text.rsplit_once('@') {
            Some((user, rest)) => {
                // A password is legal, deprecated, and means nothing here.
                let user = user.split_once(':').map_or(user, |(user, _)| user);
                if user.is_empty()
                    || !user.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'%' || USER.contains(&b))
                {
                    return None;
                }
                (Some(unescape(user)?), rest)
            }
            None => (None, text),
        };
        let (rest, headers) = match rest.split_once('?') {
            Some((rest, headers)) => (rest, Some(headers.to_owned())),
            None => (rest, None),
        };
        let mut parts = rest.split(';');
        let (host, port) = host_and_port(parts.next()?)?;
        let mut parameters: Vec<(String, Option<String>)> = Vec::new();
        for part in parts {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => {
                    (unescape(name)?, Some(unescape(value).filter(|value| !value.is_empty())?))
                }
                None => (unescape(part)?, None),
            };
            if name.is_empty() || parameters.iter().any(|(known, _)| known.eq_ignore_ascii_case(&name)) {
                return None;
            }
            if parameters.len() == MAX_PARAMETERS {
                return None;
            }
            parameters.push((name, value));
        }
        Some(Self { secure, user, host: host.to_owned(), port, parameters, headers })
    }
}

/// Splits `host:port` and checks both.
pub(crate) fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    let end_of_host = match text.strip_prefix('[') {
        Some(inner) => inner.find(']')? + 2,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at(end_of_host);
    let port = match rest.strip_prefix(':') {
        Some(digits) => Some(u16::try_from(number(digits)?).ok()?),
        None if rest.is_empty() => None,
        None => return None,
    };
    is_host(host).then_some((host, port))
}

fn is_host(text: &str) -> bool {
    if let Some(inner) = text.strip_prefix('[') {
        return inner.strip_suffix(']').is_some_and(|inner| inner.parse::<Ipv6Addr>().is_ok());
    }
    let name =
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    // What consists of numbers and dots is an address or nothing.
    let numeric = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    name && (!numeric || text.parse::<Ipv4Addr>().is_ok())
}

impl FromStr for Uri {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (scheme, rest) = text.split_once(':').ok_or(ParseError::Uri)?;
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>\"".contains(&byte)) {
            return Err(ParseError::Uri);
        }
        let secure = scheme.eq_ignore_ascii_case("sips");
        if secure || scheme.eq_ignore_ascii_case("sip") {
            return SipUri::parse(secure, rest).map(Self::Sip).ok_or(ParseError::Uri);
        }
        let letters = scheme.starts_with(|first: char| first.is_ascii_alphabetic());
        let legal = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if letters && legal && !rest.is_empty() { Ok(Self::Other(text.into())) } else { Err(ParseError::Uri) }
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sip(uri) => uri.fmt(f),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for SipUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::from(if self.secure { "sips:" } else { "sip:" });
        if let Some(user) = &self.user {
            escape(user, USER, &mut text);
            text.push('@');
        }
        text.push_str(&self.host);
        if let Some(port) = self.port {
            text.push(':');
            text.push_str(&port.to_string());
        }
        for (name, value) in &self.parameters {
            text.push(';');
            escape(name, PARAMETER, &mut text);
            if let Some(value) = value {
                text.push('=');
                escape(value, PARAMETER, &mut text);
            }
        }
        if let Some(headers) = &self.headers {
            text.push('?');
            text.push_str(headers);
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_go_both_ways() {
        for text in [
            "sips:f9acf777d81f60a34b454b9756ed3f302095ac67@10.77.0.3:47895;transport=tls",
            "sip:7f737dee8895927e7ad85cf3bd70b70c846ffd2a@ring.dht",
            "sips:10.77.0.3:58240;transport=tls",
            "sip:[2001:db8::1]:5060;lr",
            "sip:alice@example.com?subject=hi&priority=urgent",
            "sip:a%20b@example.com;maddr=10.0.0.1",
            "tel:+4930123456",
        ] {
            assert_eq!(text.parse::<Uri>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn parts_are_decoded() {
        let uri: Uri = "SIPS:j%40s%3Bn:pw@Host.example:5061;Transport=TLS;lr".parse().unwrap();
        let uri = uri.as_sip().unwrap();
        assert!(uri.secure);
        assert_eq!(uri.user.as_deref(), Some("j@s;n"));
        assert_eq!((&*uri.host, uri.port), ("Host.example", Some(5061)));
        assert_eq!((uri.parameter("transport"), uri.parameter("lr")), (Some("TLS"), None));
        assert_eq!(uri.parameters.len(), 2);
    }

    #[test]
    fn broken_uris_are_refused() {
        for text in [
            "",
            "sip",
            "sip:",
            "sip:@host",
            "sip:a@",
            "sip:host:",
            "sip:host:99999",
            "sip:host:x",
            "sip:[::1",
            "sip:[x]",
            "sip:999.1.1.1",
            "sip:a b@host",
            "sip:host;",
            "sip:host;a;A",
            "sip:host;a=",
            "sip:a%4@host",
            "1x:abc",
            "tel:",
            "sip:<a@host>",
            "sip:h\u{e9}@host",
        ] {
            assert_eq!(text.parse::<Uri>(), Err(ParseError::Uri), "{text}");
        }
    }
}
