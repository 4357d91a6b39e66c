//! PCP (RFC 6887): the MAP and ANNOUNCE requests and what routers answer.

use std::net::{IpAddr, Ipv6Addr};

use crate::request::Transport;

/// Version 2: that of the RFC.
const VERSION: u8 = 2;
const ANNOUNCE: u8 = 0;
const MAP: u8 = 1;
const RESPONSE: u8 = 0x80;
/// Sections 7.1 and 7.2: both have this length.
const HEADER: usize = 24;
/// Section 11.1.
const MAP_BODY: usize = 36;
/// Section 7: no message is longer.
pub const MAX_LEN: usize = 1100;

/// A refusal of the router (section 7.4), or an answer that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum PcpError {
    #[error("the router does not speak this version")]
    UnsupportedVersion,
    #[error("the router's owner does not allow it")]
    NotAuthorized,
    #[error("the router could not read the request")]
    MalformedRequest,
    #[error("the router does not know the request")]
    UnsupportedOpcode,
    #[error("the router does not know an option")]
    UnsupportedOption,
    #[error("the router could not read an option")]
    MalformedOption,
    #[error("the router has no connection")]
    NetworkFailure,
    #[error("the router has no mapping left")]
    NoResources,
    #[error("the router does not map this transport")]
    UnsupportedProtocol,
    #[error("this host has as many mappings as the router allows")]
    UserExceededQuota,
    #[error("the router cannot give that external address or port")]
    CannotProvideExternal,
    #[error("another NAT lies between this host and the router")]
    AddressMismatch,
    #[error("the router keeps no mapping for so many peers")]
    ExcessiveRemotePeers,
    #[error("the router answered with the unknown result {0}")]
    Unknown(u8),
    #[error("the answer is malformed")]
    Malformed,
}

impl PcpError {
    fn of(result: u8) -> Self {
        match result {
            1 => Self::UnsupportedVersion,
            2 => Self::NotAuthorized,
            3 => Self::MalformedRequest,
            4 => Self::UnsupportedOpcode,
            5 => Self::UnsupportedOption,
            6 => Self::MalformedOption,
            7 => Self::NetworkFailure,
            8 => Self::NoResources,
            9 => Self::UnsupportedProtocol,
            10 => Self::UserExceededQuota,
            11 => Self::CannotProvideExternal,
            12 => Self::AddressMismatch,
            13 => Self::ExcessiveRemotePeers,
            other => Self::Unknown(other),
        }
    }
}

/// What tells the owner of a mapping from others (section 11.2): kept from the first request to the release.
pub type Nonce = [u8; 12];

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Whether the router speaks PCP (section 14.1).
    Announce,
    /// A mapping; a lifetime of 0 releases it (section 15).
    Map {
        /// Who asks.
        nonce: Nonce,
        /// What for.
        transport: Transport,
        /// Our port.
        internal: u16,
        /// The port that is wished for; 0 for any.
        external: u16,
        /// Seconds.
        lifetime: u32,
    },
}

fn mapped(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

impl Request {
    fn opcode(self) -> u8 {
        match self {
            Self::Announce => ANNOUNCE,
            Self::Map { .. } => MAP,
        }
    }

    /// The datagram, from the address `client` of this host.
    pub fn encode(self, client: IpAddr) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER + MAP_BODY);
        let lifetime = if let Self::Map { lifetime, .. } = self { lifetime } else { 0 };
        out.extend([VERSION, self.opcode(), 0, 0]);
        out.extend(lifetime.to_be_bytes());
        out.extend(mapped(client));
        if let Self::Map { nonce, transport, internal, external, .. } = self {
            out.extend(nonce);
            out.extend([transport.ip_number(), 0, 0, 0]);
            out.extend(internal.to_be_bytes());
            out.extend(external.to_be_bytes());
            // Any external address of the family of ours (section 11.1).
            let any = if client.is_ipv4() {
                IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)
            } else {
                Ipv6Addr::UNSPECIFIED.into()
            };
            out.extend(mapped(any));
        }
        out
    }

    /// Whether a datagram is an answer to this, whatever it says. A router that only speaks NAT-PMP answers in its own
    /// version (section 9).
    pub fn is_answered_by(self, datagram: &[u8]) -> bool {
        match *datagram {
            [0, _, 0, 1, ..] => true,
            [VERSION, opcode, ..] => {
                opcode == RESPONSE | self.opcode()
                    && match self {
                        Self::Announce => true,
                        Self::Map { nonce, .. } => datagram.get(HEADER..HEADER + 12) == Some(&nonce[..]),
                    }
            }
            _ => false,
        }
    }
}

/// What a router granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It speaks PCP.
    Here {
        /// Seconds since it was started, or lost its state.
        epoch: u32,
    },
    /// A mapping.
    Mapped {
        /// Seconds since it was started, or lost its state.
        epoch: u32,
        /// The address outside.
        external: IpAddr,
        /// The port outside.
        port: u16,
        /// Seconds. 0 for one that was released.
        lifetime: u32,
    },
}

impl Answer {
    /// Reads the answer to `request`.
    pub fn decode(request: Request, datagram: &[u8]) -> Result<Self, PcpError> {
        if let [0, _, 0, 1, ..] = *datagram {
            return Err(PcpError::UnsupportedVersion);
        }
        let (header, body) = datagram.split_first_chunk::<HEADER>().ok_or(PcpError::Malformed)?;
        let &[VERSION, opcode, _, result, l0, l1, l2, l3, e0, e1, e2, e3, ..] = header else {
            return Err(if header[0] == VERSION {
                PcpError::Malformed
            } else {
                PcpError::UnsupportedVersion
            });
        };
        if opcode != RESPONSE | request.opcode()
            || datagram.len() > MAX_LEN
            || !datagram.len().is_multiple_of(4)
        {
            return Err(PcpError::Malformed);
        }
        if result != 0 {
            return Err(PcpError::of(result));
        }
        let (lifetime, epoch) = (u32::from_be_bytes([l0, l1, l2, l3]), u32::from_be_bytes([e0, e1, e2, e3]));
        let Request::Map { nonce, transport, internal, .. } = request else {
            return Ok(Self::Here { epoch });
        };
        let body = body.first_chunk::<MAP_BODY>().ok_or(PcpError::Malformed)?;
        let ours = body[..12] == nonce
            && body[12] == transport.ip_number()
            && body[16..18] == internal.to_be_bytes();
        if !ours {
            return Err(PcpError::Malformed);
        }
        let port = u16::from_be_bytes([body[18], body[19]]);
        let external = <[u8; 16]>::try_from(&body[20..36]).map_err(|_| PcpError::Malformed)?;
        Ok(Self::Mapped { epoch, external: Ipv6Addr::from(external).to_canonical(), port, lifetime })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Request = Request::Map {
        nonce: [7; 12],
        transport: Transport::Udp,
        internal: 4222,
        external: 4222,
        lifetime: 7200,
    };

    fn granted() -> Vec<u8> {
        let mut answer = vec![2, 0x81, 0, 0, 0, 0, 0x1c, 0x20, 0, 0, 0, 42];
        answer.extend([0; 12]);
        answer.extend([7; 12]);
        answer.extend([17, 0, 0, 0, 0x10, 0x7e, 0x20, 0x00]);
        answer.extend(mapped([203, 0, 113, 9].into()));
        answer
    }

    #[test]
    fn a_mapping_is_asked_as_the_rfc_says() {
        let bytes = ASKED.encode([192, 168, 1, 2].into());
        assert_eq!(bytes.len(), 60);
        assert_eq!(bytes[..8], [2, 1, 0, 0, 0, 0, 0x1c, 0x20]);
        assert_eq!(bytes[8..24], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168, 1, 2]);
        assert_eq!(bytes[24..36], [7; 12]);
        assert_eq!(bytes[36..44], [17, 0, 0, 0, 0x10, 0x7e, 0x10, 0x7e]);
        assert_eq!(bytes[44..60], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!(Request::Announce.encode([192, 168, 1, 2].into()).len(), 24);
    }

    #[test]
    fn a_grant() {
        let answer = granted();
        assert!(ASKED.is_answered_by(&answer));
        let external = IpAddr::from([203, 0, 113, 9]);
        let read = Answer::Mapped { epoch: 42, external, port: 0x2000, lifetime: 7200 };
        assert_eq!(Answer::decode(ASKED, &answer), Ok(read));
        for len in 0..answer.len() {
            assert!(Answer::decode(ASKED, &answer[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn what_is_not_for_us() {
        for at in [24, 35] {
            let mut answer = granted();
            answer[at] ^= 1;
            assert!(!ASKED.is_answered_by(&answer), "the nonce of another");
        }
        for at in [1, 36, 41] {
            let mut answer = granted();
            answer[at] ^= 2;
            assert_eq!(Answer::decode(ASKED, &answer), Err(PcpError::Malformed), "byte {at}");
        }
        let mut long = granted();
        long.resize(MAX_LEN + 4, 0);
        assert_eq!(Answer::decode(ASKED, &long), Err(PcpError::Malformed));
    }

    #[test]
    fn refusals_and_a_router_of_before() {
        let mut answer = granted();
        answer[3] = 12;
        assert_eq!(Answer::decode(ASKED, &answer), Err(PcpError::AddressMismatch));
        answer[3] = 99;
        assert_eq!(Answer::decode(ASKED, &answer), Err(PcpError::Unknown(99)));
        // RFC 6886 section 3.5: version 0, result 1.
        let old = [0, 129, 0, 1, 0, 0, 0, 9];
        assert!(ASKED.is_answered_by(&old) && Request::Announce.is_answered_by(&old));
        assert_eq!(Answer::decode(ASKED, &old), Err(PcpError::UnsupportedVersion));
    }
}
