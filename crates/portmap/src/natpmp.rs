//! NAT-PMP (RFC 6886): requests and what routers answer.

use std::net::Ipv4Addr;

use crate::request::Transport;

/// Where routers listen, for NAT-PMP and PCP alike.
pub const PORT: u16 = 5351;

/// A refusal of the router, or an answer that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NatPmpError {
    /// Result 1: it speaks another version, which PCP routers say, too.
    #[error("the router does not speak this version")]
    UnsupportedVersion,
    /// Result 2.
    #[error("the router's owner does not allow it")]
    NotAuthorized,
    /// Result 3: the router has no address itself.
    #[error("the router has no connection")]
    NetworkFailure,
    /// Result 4.
    #[error("the router has no mapping left")]
    OutOfResources,
    /// Result 5.
    #[error("the router does not know the request")]
    UnsupportedOpcode,
    /// A result that the RFC does not know.
    #[error("the router answered with the unknown result {0}")]
    Unknown(u16),
    /// Not an answer to what was asked, or too short.
    #[error("the answer is malformed")]
    Malformed,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Section 3.2: the external address.
    Address,
    /// Section 3.3: a mapping; a lifetime of 0 releases it (section 3.4).
    Map {
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

impl Request {
    fn opcode(self) -> u8 {
        match self {
            Self::Address => 0,
            Self::Map { transport: Transport::Udp, .. } => 1,
            Self::Map { transport: Transport::Tcp, .. } => 2,
        }
    }

    /// The datagram.
    pub fn encode(self) -> Vec<u8> {
        let mut out = vec![0, self.opcode()];
        if let Self::Map { internal, external, lifetime, .. } = self {
            out.extend([0, 0]);
            out.extend(internal.to_be_bytes());
            out.extend(external.to_be_bytes());
            out.extend(lifetime.to_be_bytes());
        }
        out
    }

    /// Whether a datagram is an answer to this, whatever it says.
    pub fn is_answered_by(self, datagram: &[u8]) -> bool {
        let [0, opcode, _, result @ ..] = datagram else { return false };
        let Some(&[result]) = result.first_chunk::<1>() else { return false };
        // A router that does not know the opcode or the version says so without repeating the ports.
        *opcode == 128 | self.opcode()
            && (result != 0
                || match self {
                    Self::Address => true,
                    Self::Map { internal, .. } => datagram.get(8..10) == Some(&internal.to_be_bytes()[..]),
                })
    }
}

/// What a router granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Its external address.
    Address {
        /// Seconds since it was started.
        epoch: u32,
        /// The address.
        external: Ipv4Addr,
    },
    /// A mapping.
    Mapped {
        /// Seconds since it was started.
        epoch: u32,
        /// The port outside.
        external: u16,
        /// Seconds. 0 for one that was released.
        lifetime: u32,
    },
}

impl Answer {
    /// Reads the answer to `request`.
    pub fn decode(request: Request, datagram: &[u8]) -> Result<Self, NatPmpError> {
        let (header, rest) = datagram.split_first_chunk::<4>().ok_or(NatPmpError::Malformed)?;
        let [0, opcode, high, low] = *header else { return Err(NatPmpError::Malformed) };
        if opcode != 128 | request.opcode() {
            return Err(NatPmpError::Malformed);
        }
        match u16::from_be_bytes([high, low]) {
            0 => {}
            1 => return Err(NatPmpError::UnsupportedVersion),
            2 => return Err(NatPmpError::NotAuthorized),
            3 => return Err(NatPmpError::NetworkFailure),
            4 => return Err(NatPmpError::OutOfResources),
            5 => return Err(NatPmpError::UnsupportedOpcode),
            other => return Err(NatPmpError::Unknown(other)),
        }
        let (epoch, rest) = rest.split_first_chunk::<4>().ok_or(NatPmpError::Malformed)?;
        let epoch = u32::from_be_bytes(*epoch);
        match request {
            Request::Address => {
                let external = rest.first_chunk::<4>().ok_or(NatPmpError::Malformed)?;
                Ok(Self::Address { epoch, external: Ipv4Addr::from(*external) })
            }
            Request::Map { internal, .. } => {
                let fields = rest.first_chunk::<8>().ok_or(NatPmpError::Malformed)?;
                let [i0, i1, e0, e1, l0, l1, l2, l3] = *fields;
                if u16::from_be_bytes([i0, i1]) != internal {
                    return Err(NatPmpError::Malformed);
                }
                let lifetime = u32::from_be_bytes([l0, l1, l2, l3]);
                Ok(Self::Mapped { epoch, external: u16::from_be_bytes([e0, e1]), lifetime })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: Request =
        Request::Map { transport: Transport::Tcp, internal: 4222, external: 4223, lifetime: 7200 };

    #[test]
    fn requests_are_those_of_the_rfc() {
        assert_eq!(Request::Address.encode(), [0, 0]);
        assert_eq!(MAP.encode(), [0, 2, 0, 0, 0x10, 0x7e, 0x10, 0x7f, 0, 0, 0x1c, 0x20]);
    }

    #[test]
    fn answers() {
        let address = [0, 128, 0, 0, 0, 0, 0, 9, 203, 0, 113, 5];
        let external = Ipv4Addr::new(203, 0, 113, 5);
        assert_eq!(Answer::decode(Request::Address, &address), Ok(Answer::Address { epoch: 9, external }));
        let mapped = [0, 130, 0, 0, 0, 0, 0, 9, 0x10, 0x7e, 0x20, 0x00, 0, 0, 0x0e, 0x10];
        assert_eq!(
            Answer::decode(MAP, &mapped),
            Ok(Answer::Mapped { epoch: 9, external: 0x2000, lifetime: 3600 })
        );
        assert!(MAP.is_answered_by(&mapped) && !Request::Address.is_answered_by(&mapped));
        for len in 0..mapped.len() {
            assert_eq!(Answer::decode(MAP, &mapped[..len]), Err(NatPmpError::Malformed), "{len}");
        }
        // Of another port, and of the other transport.
        let mut other = mapped;
        other[9] = 0;
        assert!(!MAP.is_answered_by(&other));
        assert_eq!(Answer::decode(MAP, &other), Err(NatPmpError::Malformed));
        let mut other = mapped;
        other[1] = 129;
        assert!(!MAP.is_answered_by(&other));
    }

    #[test]
    fn refusals_are_named() {
        let named = [
            (1, NatPmpError::UnsupportedVersion),
            (2, NatPmpError::NotAuthorized),
            (3, NatPmpError::NetworkFailure),
            (4, NatPmpError::OutOfResources),
            (5, NatPmpError::UnsupportedOpcode),
            (77, NatPmpError::Unknown(77)),
        ];
        for (result, error) in named {
            let answer = [0, 130, 0, result];
            assert!(MAP.is_answered_by(&answer));
            assert_eq!(Answer::decode(MAP, &answer), Err(error));
        }
    }
}
