//! Actions of a router's service and what comes back (UPnP Device Architecture 1.1 section 3).

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr},
};

use crate::request::Transport;

/// Elements of an answer that are looked at.
const MAX_NODES: u32 = 512;
/// Longest description of an error that is kept.
const MAX_TEXT: usize = 128;

/// What the service is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action<'a> {
    /// Tell the external address.
    ExternalAddress,
    /// Open that very port, or say [conflict](SoapFault::is_conflict).
    Add {
        /// What for.
        transport: Transport,
        /// The port outside.
        external: u16,
        /// This host and its port.
        internal: (Ipv4Addr, u16),
        /// Seconds; 0 for ever.
        lease: u32,
        /// What the router's owner is shown.
        description: &'a str,
    },
    /// Open that port or, if it is taken, another (IGD 2).
    AddAny {
        /// What for.
        transport: Transport,
        /// The port outside that is wished for.
        external: u16,
        /// This host and its port.
        internal: (Ipv4Addr, u16),
        /// Seconds.
        lease: u32,
        /// What the router's owner is shown.
        description: &'a str,
    },
    /// Close it.
    Delete {
        /// What for.
        transport: Transport,
        /// The port outside.
        external: u16,
    },
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SoapFault {
    /// UPnP's number.
    pub code: u16,
    /// What the router says of it.
    pub text: String,
}

impl SoapFault {
    /// The port is another host's, or may not be given.
    pub fn is_conflict(&self) -> bool {
        // ConflictInMappingEntry, NotAuthorized for the port (IGD 2 section 2.5.16.5), ConflictWithOtherMechanisms.
        matches!(self.code, 718 | 606 | 729)
    }

    /// Mappings of this router stay until they are deleted.
    pub fn wants_permanent(&self) -> bool {
        self.code == 725
    }

    /// The router does not have this action.
    pub fn is_unknown_action(&self) -> bool {
        matches!(self.code, 401 | 602)
    }
}

impl std::fmt::Display for SoapFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let known = match self.code {
            401 | 602 => "it has no such action",
            402 => "it does not like the arguments",
            501 => "the action failed",
            606 => "it does not allow it",
            714 => "there is no such mapping",
            718 => "the port is taken",
            724 => "it wants the same port inside and outside",
            725 => "it only makes mappings without an end",
            728 => "it has no mapping left",
            _ => "",
        };
        let text = if known.is_empty() { &self.text } else { known };
        write!(f, "{text} (UPnP error {})", self.code)
    }
}

/// Why an action came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SoapError {
    /// The router says no.
    #[error("{0}")]
    Fault(SoapFault),
    /// Its answer cannot be read.
    #[error("the answer of the service is malformed")]
    Malformed,
}

impl Action<'_> {
    /// The name of the action.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ExternalAddress => "GetExternalIPAddress",
            Self::Add { .. } => "AddPortMapping",
            Self::AddAny { .. } => "AddAnyPortMapping",
            Self::Delete { .. } => "DeletePortMapping",
        }
    }

    /// What `SOAPAction` says for a service of this kind.
    pub fn header(self, kind: &str) -> String {
        format!("{kind}#{}", self.name())
    }

    /// The body of the request.
    pub fn body(self, kind: &str) -> String {
        let mut arguments = String::new();
        let mut argument = |name: &str, value: &dyn std::fmt::Display| {
            write!(arguments, "<{name}>{value}</{name}>").expect("a string takes everything");
        };
        match self {
            Self::ExternalAddress => {}
            Self::Add { transport, external, internal, lease, description }
            | Self::AddAny { transport, external, internal, lease, description } => {
                argument("NewRemoteHost", &"");
                argument("NewExternalPort", &external);
                argument("NewProtocol", &transport.upnp());
                argument("NewInternalPort", &internal.1);
                argument("NewInternalClient", &internal.0);
                argument("NewEnabled", &1);
                argument("NewPortMappingDescription", &escaped(description));
                argument("NewLeaseDuration", &lease);
            }
            Self::Delete { transport, external } => {
                argument("NewRemoteHost", &"");
                argument("NewExternalPort", &external);
                argument("NewProtocol", &transport.upnp());
            }
        }
        let name = self.name();
        format!(
            "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body><u:{name} xmlns:u=\"{kind}\">{arguments}\
             </u:{name}></s:Body></s:Envelope>\r\n"
        )
    }

    /// Reads the answer: the fields of it.
    pub fn read(self, body: &[u8]) -> Result<Outcome, SoapError> {
        let text = std::str::from_utf8(body).map_err(|_| SoapError::Malformed)?.trim_end_matches('\0').trim();
        let options =
            roxmltree::ParsingOptions { allow_dtd: false, nodes_limit: MAX_NODES, ..Default::default() };
        let document =
            roxmltree::Document::parse_with_options(text, options).map_err(|_| SoapError::Malformed)?;
        let find = |name: &str| {
            let found = document.descendants().find(|node| node.tag_name().name() == name)?;
            Some(found.text().unwrap_or_default().trim())
        };
        if let Some(code) = find("errorCode") {
            let code = code.parse().map_err(|_| SoapError::Malformed)?;
            let text = find("errorDescription").unwrap_or_default();
            let text = text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect();
            return Err(SoapError::Fault(SoapFault { code, text }));
        }
        let response = format!("{}Response", self.name());
        find(&response).ok_or(SoapError::Malformed)?;
        match self {
            Self::ExternalAddress => {
                let address = find("NewExternalIPAddress").and_then(|text| text.parse().ok());
                Ok(Outcome::Address(address.ok_or(SoapError::Malformed)?))
            }
            Self::AddAny { .. } => {
                let port =
                    find("NewReservedPort").and_then(|text| text.parse().ok()).filter(|port| *port != 0);
                Ok(Outcome::Port(port.ok_or(SoapError::Malformed)?))
            }
            Self::Add { external, .. } => Ok(Outcome::Port(external)),
            Self::Delete { .. } => Ok(Outcome::Done),
        }
    }
}

/// What an action brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The external address.
    Address(IpAddr),
    /// The external port.
    Port(u16),
    /// Nothing but success.
    Done,
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: &str = "urn:schemas-upnp-org:service:WANIPConnection:1";
    const ADD: Action<'_> = Action::Add {
        transport: Transport::Tcp,
        external: 4222,
        internal: (Ipv4Addr::new(192, 168, 1, 7), 4222),
        lease: 7200,
        description: "a <b> & c",
    };

    fn envelope(inner: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body>{inner}</s:Body>\
             </s:Envelope>"
        )
    }

    #[test]
    fn what_is_said() {
        assert_eq!(ADD.header(KIND), "urn:schemas-upnp-org:service:WANIPConnection:1#AddPortMapping");
        let body = ADD.body(KIND);
        let document = roxmltree::Document::parse(body.trim()).unwrap();
        let said: Vec<_> = document
            .descendants()
            .filter(|node| node.tag_name().name().starts_with("New"))
            .map(|node| (node.tag_name().name().to_owned(), node.text().unwrap_or_default().to_owned()))
            .collect();
        let pairs = [
            ("NewRemoteHost", ""),
            ("NewExternalPort", "4222"),
            ("NewProtocol", "TCP"),
            ("NewInternalPort", "4222"),
            ("NewInternalClient", "192.168.1.7"),
            ("NewEnabled", "1"),
            ("NewPortMappingDescription", "a <b> & c"),
            ("NewLeaseDuration", "7200"),
        ];
        assert_eq!(said, pairs.map(|(name, text)| (name.to_owned(), text.to_owned())));
    }

    #[test]
    fn what_comes_back() {
        let done = envelope("<u:AddPortMappingResponse xmlns:u=\"x\"></u:AddPortMappingResponse>");
        assert_eq!(ADD.read(done.as_bytes()), Ok(Outcome::Port(4222)));
        let address = |text: &str| {
            let inner = format!(
                "<GetExternalIPAddressResponse><NewExternalIPAddress>{text}</NewExternalIPAddress></GetExternalIPAddressResponse>"
            );
            Action::ExternalAddress.read(envelope(&inner).as_bytes())
        };
        assert_eq!(address("203.0.113.1"), Ok(Outcome::Address([203, 0, 113, 1].into())));
        assert_eq!(address(""), Err(SoapError::Malformed));
        assert_eq!(address("example.org"), Err(SoapError::Malformed));
        let fault = envelope(
            "<s:Fault><faultcode>s:Client</faultcode><detail><UPnPError><errorCode>718</errorCode><errorDescription>Conflict\
             InMappingEntry</errorDescription></UPnPError></detail></s:Fault>",
        );
        let Err(SoapError::Fault(fault)) = ADD.read(fault.as_bytes()) else { panic!() };
        assert!(fault.is_conflict());
        assert_eq!(fault.to_string(), "the port is taken (UPnP error 718)");
        // Of another action, and no answer at all.
        assert_eq!(Action::ExternalAddress.read(done.as_bytes()), Err(SoapError::Malformed));
        assert_eq!(ADD.read(b"<a>"), Err(SoapError::Malformed));
        assert_eq!(ADD.read(b""), Err(SoapError::Malformed));
    }
}
