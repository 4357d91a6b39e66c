//! What one side tells the other about its NAT.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use crate::nat::{Allocation, Mapping, UnknownMapping};

/// The least port a NAT gives out.
const FIRST_PORT: i32 = 1024;

/// The NAT of one side, as far as it is seen from outside.
///
/// As text (`Display`, `FromStr`): the mapping and the address, with a blank between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Party {
    /// How it maps.
    pub mapping: Mapping,
    /// The outside address seen last.
    pub outside: SocketAddr,
}

impl Party {
    /// The outside addresses that come next, likeliest first: the next `count` of a sequence, or the one that is known.
    pub fn predict(&self, count: u16) -> Vec<SocketAddr> {
        self.following(1).take(count.into()).collect()
    }

    /// Every `stride`-th address that follows the one seen last, without end for a sequence; otherwise that one, once.
    pub(super) fn following(&self, stride: u16) -> impl Iterator<Item = SocketAddr> + use<> {
        let outside = self.outside;
        let step = match self.mapping {
            Mapping::Dependent { ports: Allocation::Sequential { step }, .. } => i32::from(step),
            _ => 0,
        };
        let ports = i32::from(u16::MAX) + 1 - FIRST_PORT;
        (1i32..).take(if step == 0 { 1 } else { usize::from(u16::MAX) }).map(move |n| {
            let port = if step == 0 {
                outside.port()
            } else {
                // Sequences begin anew at their end.
                let offset = (step * i32::from(stride) * n) % ports;
                let port = FIRST_PORT + (i32::from(outside.port()) - FIRST_PORT + offset).rem_euclid(ports);
                u16::try_from(port).expect("the remainder is a port")
            };
            SocketAddr::new(outside.ip(), port)
        })
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.mapping, self.outside)
    }
}

/// The text describes no party.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PartyError {
    /// The first word names no kind of mapping.
    #[error("{0}")]
    Mapping(#[from] UnknownMapping),
    /// The second word is no address with a port.
    #[error("the second word is no address with a port")]
    Address,
}

impl FromStr for Party {
    type Err = PartyError;

    fn from_str(text: &str) -> Result<Self, PartyError> {
        let (mapping, outside) = text.split_once(' ').ok_or(PartyError::Address)?;
        let mapping = mapping.parse()?;
        let outside: SocketAddr = outside.parse().map_err(|_| PartyError::Address)?;
        if outside.port() == 0 {
            return Err(PartyError::Address);
        }
        Ok(Self { mapping, outside })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(text: &str, count: u16) -> Vec<u16> {
        text.parse::<Party>().unwrap().predict(count).iter().map(SocketAddr::port).collect()
    }

    #[test]
    fn a_sequence_goes_on_and_begins_anew() {
        assert_eq!(ports("by-port-sequential:2 198.51.100.1:7000", 3), [7002, 7004, 7006]);
        assert_eq!(ports("by-port-sequential:-1 198.51.100.1:1025", 3), [1024, 65535, 65534]);
        assert_eq!(ports("by-address-sequential:1 198.51.100.1:65535", 2), [1024, 1025]);
        assert_eq!(ports("independent 198.51.100.1:443", 3), [443]);
        assert_eq!(ports("by-port-random 198.51.100.1:7000", 3), [7000]);
        assert_eq!(ports("by-port-sequential:64 198.51.100.1:1", 65535).len(), 65535);
    }

    #[test]
    fn it_survives_its_text_and_bad_text_is_refused() {
        for text in ["by-port-sequential:-3 198.51.100.1:7000", "open [2001:db8::1]:1"] {
            assert_eq!(text.parse::<Party>().unwrap().to_string(), text);
        }
        for bad in ["", "open", "open 198.51.100.1", "open 198.51.100.1:0", "open  198.51.100.1:1"] {
            assert_eq!(bad.parse::<Party>(), Err(PartyError::Address), "{bad}");
        }
        assert_eq!("odd 198.51.100.1:1".parse::<Party>(), Err(UnknownMapping.into()));
    }
}
