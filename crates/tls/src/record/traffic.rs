//! Both directions of an established session.

use super::alert::{Alert, Fault, Notice};
use super::key::Key;
use super::message::{KEY_UPDATE_NOT_REQUESTED, Progress};
use super::secrets::Secrets;
use super::{MAX_CONTENT_LEN, OVERHEAD, alert, content_type, incoming, outgoing};
use crate::TlsError;
use crate::connection::Connection;

/// Records that a key seals: a third of the 2^24.5 that AES-GCM is good for (RFC 8446 5.5).
const KEY_USES: u64 = 1 << 23;

/// The record of our key updates.
const UPDATE_LEN: usize = KEY_UPDATE_NOT_REQUESTED.len() + OVERHEAD;

/// Records without data that a peer may send in a row: pieces of tickets, mostly.
const PATIENCE: u16 = 256;

/// Records that a key update counts for, since it makes us derive a key.
const UPDATE_WEIGHT: u16 = 8;

/// What was in a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened<'r> {
    /// Data, never empty.
    Data(&'r [u8]),
    /// Something that concerns nobody above.
    Control,
    /// The peer's farewell.
    Farewell,
}

/// The records of an established session.
#[derive(Debug)]
pub(crate) struct Traffic {
    secrets: Secrets,
    incoming: Key,
    outgoing: Key,
    /// Records until the key to send with is changed.
    key_uses: u64,
    /// The peer asked for a key update, once or more, and has no answer.
    owes_update: bool,
    progress: Progress,
    patience: u16,
}

impl Traffic {
    /// Takes over from the library: its handshake is done, and it has nothing left to send.
    pub(crate) fn new(connection: Connection) -> Result<Self, TlsError> {
        let (secrets, incoming, outgoing) = Secrets::extract(connection)?;
        Ok(Self {
            secrets,
            incoming,
            outgoing,
            key_uses: KEY_USES,
            owes_update: false,
            progress: Progress::Between,
            patience: PATIENCE,
        })
    }

    /// Wears keys out sooner.
    #[cfg(test)]
    pub(crate) fn set_key_uses(&mut self, key_uses: u64) {
        self.key_uses = key_uses;
    }

    /// Opens a whole record in place.
    pub(crate) fn open<'r>(&mut self, record: &'r mut [u8]) -> Result<Opened<'r>, Fault> {
        let (content_type, content) = incoming::open(&mut self.incoming, record)?;
        if content_type == content_type::APPLICATION_DATA && self.progress == Progress::Between {
            if content.is_empty() {
                self.spend(1)?;
                return Ok(Opened::Control);
            }
            self.patience = PATIENCE;
            return Ok(Opened::Data(content));
        }
        match content_type {
            content_type::HANDSHAKE => self.read_messages(content)?,
            // Nothing comes between the pieces of a message (RFC 8446 5.1).
            content_type::ALERT if self.progress == Progress::Between => match alert::read(content)? {
                Notice::Farewell => return Ok(Opened::Farewell),
                Notice::Canceled => self.spend(1)?,
            },
            _ => return Err(Fault::misbehaved(Alert::UnexpectedMessage)),
        }
        Ok(Opened::Control)
    }

    fn read_messages(&mut self, content: &[u8]) -> Result<(), Fault> {
        self.spend(1)?;
        if let Some(update) = self.progress.read(content, self.secrets.is_client())? {
            self.spend(UPDATE_WEIGHT - 1)?;
            self.incoming = self.secrets.next_incoming()?;
            self.owes_update |= update.requested;
        }
        Ok(())
    }

    /// Bounds what a peer can make us do without sending data.
    fn spend(&mut self, weight: u16) -> Result<(), Fault> {
        match self.patience.checked_sub(weight) {
            Some(left) => self.patience = left,
            None => return Err(Fault::misbehaved(Alert::UnexpectedMessage)),
        }
        Ok(())
    }

    /// Most bytes that [`Traffic::seal`] writes.
    pub(crate) fn sealed_len(&self, plaintext_len: usize) -> usize {
        let records = plaintext_len.div_ceil(MAX_CONTENT_LEN);
        // The first is owed, or due by now.
        let updates = 1 + records as u64 / self.key_uses;
        plaintext_len + records * OVERHEAD + updates as usize * UPDATE_LEN
    }

    /// Seals data into `out`, which holds at least [`Traffic::sealed_len`] bytes, behind the key update that may be
    /// owed. Gives how many bytes were written.
    pub(crate) fn seal(&mut self, plaintext: &[u8], out: &mut [u8]) -> Result<usize, TlsError> {
        let mut written = put(self.owed_update()?, out);
        for content in plaintext.chunks(MAX_CONTENT_LEN) {
            written += put(self.due_update()?, &mut out[written..]);
            let kind = content_type::APPLICATION_DATA;
            written += outgoing::seal(&mut self.outgoing, kind, content, &mut out[written..])?;
        }
        Ok(written)
    }

    /// Like [`Traffic::seal`], behind what `out` holds.
    pub(crate) fn append(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        out.reserve(self.sealed_len(plaintext.len()));
        self.append_owed(out)?;
        for content in plaintext.chunks(MAX_CONTENT_LEN) {
            if let Some(update) = self.due_update()? {
                out.extend_from_slice(&update);
            }
            outgoing::append(&mut self.outgoing, content_type::APPLICATION_DATA, content, out)?;
        }
        Ok(())
    }

    /// Appends the answer to the peer's requests for a key update, if there were any.
    pub(crate) fn append_owed(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError> {
        if let Some(update) = self.owed_update()? {
            out.extend_from_slice(&update);
        }
        Ok(())
    }

    /// Appends an alert.
    pub(crate) fn append_alert(&mut self, alert: Alert, out: &mut Vec<u8>) -> Result<(), TlsError> {
        outgoing::append(&mut self.outgoing, content_type::ALERT, &alert.content(), out)
    }

    fn owed_update(&mut self) -> Result<Option<[u8; UPDATE_LEN]>, TlsError> {
        self.owes_update.then(|| self.update()).transpose()
    }

    fn due_update(&mut self) -> Result<Option<[u8; UPDATE_LEN]>, TlsError> {
        (self.outgoing.uses() >= self.key_uses).then(|| self.update()).transpose()
    }

    /// Changes the key to send with. Gives the record that says so, which must be sent first (RFC 8446 4.6.3).
    fn update(&mut self) -> Result<[u8; UPDATE_LEN], TlsError> {
        let mut record = [0; UPDATE_LEN];
        let kind = content_type::HANDSHAKE;
        outgoing::seal(&mut self.outgoing, kind, &KEY_UPDATE_NOT_REQUESTED, &mut record)?;
        self.outgoing = self.secrets.next_outgoing()?;
        self.owes_update = false;
        Ok(record)
    }
}

/// Puts the record of a key update, if it is time for one, in front. Gives how many bytes that were.
fn put(update: Option<[u8; UPDATE_LEN]>, out: &mut [u8]) -> usize {
    let Some(record) = update else { return 0 };
    out[..UPDATE_LEN].copy_from_slice(&record);
    UPDATE_LEN
}
