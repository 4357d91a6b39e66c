//! Handshake messages behind the handshake (RFC 8446 4.6): key updates, and tickets, which are not kept.

use super::alert::{Alert, Fault};

const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// Lifetime, age, nonce, ticket, extensions, each as long as it can be (RFC 8446 4.6.1).
const MAX_TICKET_LEN: usize = 4 + 4 + (1 + 0xff) + (2 + 0xffff) + (2 + 0xffff);

/// What our next key comes with, if the peer did not ask for it or just did.
pub(super) const KEY_UPDATE_NOT_REQUESTED: [u8; 5] = [KEY_UPDATE, 0, 0, 1, 0];

/// The peer has a new key from the next record on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyUpdate {
    /// It wants us to change ours as well.
    pub(super) requested: bool,
}

/// Where in a message we are. Nothing of it is kept but this: a message may come in many pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Between,
    Header { bytes: [u8; 4], have: usize },
    KeyUpdate,
    Ticket { left: usize },
}

impl Progress {
    /// Takes in the content of a handshake record. `tickets`: whether the peer may send tickets, being a server.
    pub(super) fn read(&mut self, mut content: &[u8], tickets: bool) -> Result<Option<KeyUpdate>, Fault> {
        if content.is_empty() {
            return Err(Fault::misbehaved(Alert::UnexpectedMessage));
        }
        while let Some((&first, rest)) = content.split_first() {
            match self {
                Self::Between => {
                    *self = Self::Header { bytes: [first, 0, 0, 0], have: 1 };
                    content = rest;
                }
                Self::Header { bytes, have } => {
                    bytes[*have] = first;
                    *have += 1;
                    content = rest;
                    if *have == bytes.len() {
                        *self = Self::announced(*bytes, tickets)?;
                    }
                }
                Self::KeyUpdate => {
                    let requested = match first {
                        0 => false,
                        1 => true,
                        _ => return Err(Fault::misbehaved(Alert::IllegalParameter)),
                    };
                    // A key changes between records only (RFC 8446 5.1).
                    if !rest.is_empty() {
                        return Err(Fault::misbehaved(Alert::UnexpectedMessage));
                    }
                    *self = Self::Between;
                    return Ok(Some(KeyUpdate { requested }));
                }
                Self::Ticket { left } => {
                    let taken = content.len().min(*left);
                    content = &content[taken..];
                    *left -= taken;
                    if *left == 0 {
                        *self = Self::Between;
                    }
                }
            }
        }
        Ok(None)
    }

    fn announced([kind, len @ ..]: [u8; 4], tickets: bool) -> Result<Self, Fault> {
        let len = len.into_iter().fold(0, |len, byte| len << 8 | usize::from(byte));
        match kind {
            KEY_UPDATE if len == 1 => Ok(Self::KeyUpdate),
            NEW_SESSION_TICKET if tickets && (1..=MAX_TICKET_LEN).contains(&len) => {
                Ok(Self::Ticket { left: len })
            }
            KEY_UPDATE => Err(Fault::misbehaved(Alert::DecodeError)),
            NEW_SESSION_TICKET if tickets => Err(Fault::misbehaved(Alert::DecodeError)),
            // Among them a CertificateRequest: we do not offer to be asked (RFC 8446 4.6.2).
            _ => Err(Fault::misbehaved(Alert::UnexpectedMessage)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(len: usize) -> Vec<u8> {
        let mut message = (0x0400_0000 | len as u32).to_be_bytes().to_vec();
        message.resize(4 + len, 9);
        message
    }

    #[test]
    fn in_pieces_of_any_size() {
        let messages = [&ticket(200)[..], &ticket(1), &ticket(70_000), &[24, 0, 0, 1, 1]].concat();
        for size in [1, 2, 3, 4, 5, 7, 100, 16_384] {
            let mut progress = Progress::Between;
            let pieces = messages.chunks(size);
            let last = pieces.len() - 1;
            for (index, piece) in pieces.enumerate() {
                let update = progress.read(piece, true).unwrap();
                assert_eq!(update, (index == last).then_some(KeyUpdate { requested: true }));
            }
            assert_eq!(progress, Progress::Between);
        }
    }

    #[test]
    fn what_is_refused() {
        let alert =
            |content: &[u8], tickets| Progress::Between.read(content, tickets).unwrap_err().alert.unwrap();
        assert_eq!(alert(&[], true), Alert::UnexpectedMessage);
        assert_eq!(alert(&[24, 0, 0, 1, 2], true), Alert::IllegalParameter);
        assert_eq!(alert(&[24, 0, 0, 0], true), Alert::DecodeError);
        assert_eq!(alert(&[24, 0, 0, 2, 0, 0], true), Alert::DecodeError);
        assert_eq!(alert(&[24, 0, 0, 1, 0, 24], true), Alert::UnexpectedMessage);
        assert_eq!(alert(&ticket(1), false), Alert::UnexpectedMessage, "only servers send tickets");
        assert_eq!(alert(&ticket(0), true), Alert::DecodeError);
        assert_eq!(alert(&ticket(MAX_TICKET_LEN + 1), true), Alert::DecodeError);
        for kind in (0..=255).filter(|kind| ![NEW_SESSION_TICKET, KEY_UPDATE].contains(kind)) {
            assert_eq!(alert(&[kind, 0, 0, 1], true), Alert::UnexpectedMessage, "type {kind}");
        }
    }
}
