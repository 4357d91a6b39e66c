//! What stands in the encrypted payloads.

use super::{Refused, hybrid, noise::Pattern};
use crate::{ConnectionId, Suite, varint};

/// The first byte of an answer that is no refusal.
const ACCEPTED: u8 = 0;

/// Pattern and suite, in clear in front of the first Noise message.
pub(super) fn put_choice(out: &mut Vec<u8>, pattern: Pattern, suite: Suite) {
    out.push(match pattern {
        Pattern::Ik => 1,
        Pattern::Xx => 2,
    });
    out.push(match suite {
        Suite::Aes256Gcm => 1,
        Suite::ChaCha20Poly1305 => 2,
    });
}

pub(super) fn choice(message: &[u8]) -> Option<(Pattern, Suite, &[u8])> {
    let (pattern, rest) = message.split_first()?;
    let (suite, rest) = rest.split_first()?;
    let pattern = match pattern {
        1 => Pattern::Ik,
        2 => Pattern::Xx,
        _ => return None,
    };
    let suite = match suite {
        1 => Suite::Aes256Gcm,
        2 => Suite::ChaCha20Poly1305,
        _ => return None,
    };
    Some((pattern, suite, rest))
}

/// What a side says about itself: transport parameters and credentials.
pub(super) struct About<'a> {
    pub(super) parameters: &'a [u8],
    pub(super) credentials: &'a [u8],
}

impl<'a> About<'a> {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        varint::put(out, self.parameters.len() as u64);
        out.extend_from_slice(self.parameters);
        out.extend_from_slice(self.credentials);
    }

    pub(super) fn parse(mut input: &'a [u8]) -> Option<Self> {
        let length = usize::try_from(varint::get(&mut input)?).ok()?;
        let (parameters, credentials) = input.split_at_checked(length)?;
        Some(Self { parameters, credentials })
    }
}

/// The first payload: encapsulation key, and with `IK` what the initiator says about itself.
pub(super) fn hello(input: &[u8]) -> Option<(&[u8; hybrid::KEY_LEN], &[u8])> {
    input.split_first_chunk()
}

pub(super) enum Answer<'a> {
    Accepted(ConnectionId, About<'a>),
    Refused(Refused),
}

impl<'a> Answer<'a> {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Accepted(id, about) => {
                out.push(ACCEPTED);
                out.extend_from_slice(&id.0);
                about.put(out);
            }
            Self::Refused(reason) => out.push(reason.code()),
        }
    }

    pub(super) fn parse(input: &'a [u8]) -> Option<Self> {
        let (status, rest) = input.split_first()?;
        if *status != ACCEPTED {
            return Some(Self::Refused(Refused::from_code(*status)));
        }
        let (id, about) = rest.split_first_chunk()?;
        Some(Self::Accepted(ConnectionId(*id), About::parse(about)?))
    }
}
