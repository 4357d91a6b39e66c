//! Via: the way back of a response (RFC 3261 20.42).

use std::fmt;

use super::uri::host_and_port;
use super::{HeaderName, Parameters};
use crate::error::ParseError;
use crate::text::{is_token, trim};

/// What every branch of this protocol begins with (8.1.1.7).
pub const MAGIC_COOKIE: &str = "z9hG4bK";

/// One hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Via {
    /// The transport: `TLS` on our channels.
    pub transport: String,
    /// Host of the sender.
    pub host: String,
    /// Port of the sender.
    pub port: Option<u16>,
    /// Parameters, the branch among them.
    pub parameters: Parameters,
}

impl Via {
    /// What identifies the transaction.
    pub fn branch(&self) -> Option<&str> {
        self.parameters.value("branch")
    }

    /// Reads one value.
    pub(crate) fn parse(text: &str) -> Result<Self, ParseError> {
        Self::read(text).ok_or(ParseError::Value(HeaderName::Via))
    }

    fn read(text: &str) -> Option<Self> {
        let (hop, parameters) = match text.split_once(';') {
            Some((hop, parameters)) => (hop, Parameters::parse(parameters)?),
            None => (text, Parameters::new()),
        };
        let mut protocol = hop.splitn(3, '/').map(trim);
        let (name, version, rest) = (protocol.next()?, protocol.next()?, protocol.next()?);
        let (transport, sent_by) = rest.split_once([' ', '\t'])?;
        if !name.eq_ignore_ascii_case("SIP") || version != "2.0" || !is_token(transport) {
            return None;
        }
        let sent_by: String = sent_by.chars().filter(|character| !matches!(character, ' ' | '\t')).collect();
        let (host, port) = host_and_port(&sent_by)?;
        Some(Self { transport: transport.to_owned(), host: host.to_owned(), port, parameters })
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SIP/2.0/{} {}", self.transport, self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        self.parameters.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vias_go_both_ways() {
        for text in [
            "SIP/2.0/TLS 10.77.0.2:44294;rport;branch=z9hG4bKPj33f206a0-f507-4498-9820-a8bbc0b8bfcb;alias",
            "SIP/2.0/TLS 10.77.0.2:44294;rport=44294;received=10.77.0.2;branch=z9hG4bKPj33f2;alias",
            "SIP/2.0/UDP [2001:db8::9:1];received=[2001:db8::9:255];branch=z9hG4bKas3",
        ] {
            assert_eq!(Via::parse(text).unwrap().to_string(), text);
        }
        let spaced = Via::parse("SIP  / 2.0 / TCP     192.0.2.2 : 5060 ; branch = 390skdjuw").unwrap();
        assert_eq!(spaced.to_string(), "SIP/2.0/TCP 192.0.2.2:5060;branch=390skdjuw");
    }

    #[test]
    fn broken_vias_are_refused() {
        for text in [
            "",
            "SIP/2.0/TLS",
            "SIP/3.0/TLS a",
            "XMPP/2.0/TLS a",
            "SIP/2.0/TLS a:b",
            "SIP/2.0/ a",
            "SIP/2.0/TLS a;;",
        ] {
            assert!(Via::parse(text).is_err(), "{text}");
        }
    }
}
