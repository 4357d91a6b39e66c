//! What a server says when it does not do what it was asked.

use std::fmt;

use towline_ice::stun::Message;

/// The meaning of an ERROR-CODE (RFC 8489 section 14.8, RFC 8656 section 19, RFC 6062 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// 300: another server should be asked.
    TryAlternate,
    /// 400: the server calls the request malformed.
    BadRequest,
    /// 401: credentials are missing or wrong.
    Unauthenticated,
    /// 403: policy forbids it, such as a peer that may not be reached.
    Forbidden,
    /// 420: an attribute must be understood and is not; the first one that the server names.
    UnknownAttribute(Option<u16>),
    /// 437: there is no allocation, or there is one already.
    AllocationMismatch,
    /// 438: the nonce is too old.
    StaleNonce,
    /// 440: the server has no addresses of that family.
    AddressFamilyNotSupported,
    /// 441: the allocation belongs to another user.
    WrongCredentials,
    /// 442: the server does not relay this transport.
    UnsupportedTransport,
    /// 443: the peer's address is of another family than the relayed one.
    PeerAddressFamilyMismatch,
    /// 446: there is a connection to this peer already.
    ConnectionExists,
    /// 447: the server could not connect to the peer.
    ConnectionFailed,
    /// 486: the user has as many allocations, or as much bandwidth, as allowed.
    QuotaReached,
    /// 500: the server failed for now.
    ServerError,
    /// 508: the server has no room.
    InsufficientCapacity,
    /// Any other code.
    Other(u16),
}

impl Refusal {
    /// The meaning of a number.
    pub fn from_code(code: u16) -> Self {
        match code {
            300 => Self::TryAlternate,
            400 => Self::BadRequest,
            401 => Self::Unauthenticated,
            403 => Self::Forbidden,
            420 => Self::UnknownAttribute(None),
            437 => Self::AllocationMismatch,
            438 => Self::StaleNonce,
            440 => Self::AddressFamilyNotSupported,
            441 => Self::WrongCredentials,
            442 => Self::UnsupportedTransport,
            443 => Self::PeerAddressFamilyMismatch,
            446 => Self::ConnectionExists,
            447 => Self::ConnectionFailed,
            486 => Self::QuotaReached,
            500 => Self::ServerError,
            508 => Self::InsufficientCapacity,
            other => Self::Other(other),
        }
    }

    /// Its number.
    pub fn code(self) -> u16 {
        match self {
            Self::TryAlternate => 300,
            Self::BadRequest => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::UnknownAttribute(_) => 420,
            Self::AllocationMismatch => 437,
            Self::StaleNonce => 438,
            Self::AddressFamilyNotSupported => 440,
            Self::WrongCredentials => 441,
            Self::UnsupportedTransport => 442,
            Self::PeerAddressFamilyMismatch => 443,
            Self::ConnectionExists => 446,
            Self::ConnectionFailed => 447,
            Self::QuotaReached => 486,
            Self::ServerError => 500,
            Self::InsufficientCapacity => 508,
            Self::Other(code) => code,
        }
    }

    /// What an error response says; none without a valid ERROR-CODE.
    pub(crate) fn of(response: &Message<'_>) -> Option<Self> {
        Some(match Self::from_code(response.error?.code) {
            Self::UnknownAttribute(_) => Self::UnknownAttribute(response.rejected.first().copied()),
            other => other,
        })
    }

    /// The phrase that goes with the number.
    pub fn phrase(self) -> &'static str {
        match self {
            Self::TryAlternate => "try another server",
            Self::BadRequest => "bad request",
            Self::Unauthenticated => "credentials missing or wrong",
            Self::Forbidden => "forbidden",
            Self::UnknownAttribute(_) => "unknown attribute",
            Self::AllocationMismatch => "allocation mismatch",
            Self::StaleNonce => "stale nonce",
            Self::AddressFamilyNotSupported => "address family not supported",
            Self::WrongCredentials => "the allocation belongs to other credentials",
            Self::UnsupportedTransport => "transport not supported",
            Self::PeerAddressFamilyMismatch => "the peer's address is of another family",
            Self::ConnectionExists => "there is a connection already",
            Self::ConnectionFailed => "the peer could not be connected",
            Self::QuotaReached => "quota reached",
            Self::ServerError => "the server failed",
            Self::InsufficientCapacity => "no room on the server",
            Self::Other(_) => "refused",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.phrase(), self.code())?;
        if let Self::UnknownAttribute(Some(kind)) = self {
            write!(f, ", {kind:#06x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_keeps_its_number() {
        for code in 300..700 {
            assert_eq!(Refusal::from_code(code).code(), code);
        }
        assert_eq!(Refusal::QuotaReached.to_string(), "quota reached (486)");
        assert_eq!(Refusal::UnknownAttribute(Some(0x17)).to_string(), "unknown attribute (420), 0x0017");
    }
}
