//! A peer that holds the right keys, and puts into records whatever a test wants.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::ConnectionTrafficSecrets;
use towline_tls::{Session, TlsError};

use super::peer::{self, Role, Speaks};

struct Key {
    aead: LessSafeKey,
    iv: Vec<u8>,
    sequence: u64,
}

impl Key {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Self {
        let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else {
            panic!("AES-256-GCM was chosen")
        };
        let aead = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).unwrap());
        Self { aead, iv: iv.as_ref().to_vec(), sequence }
    }

    /// The 96 bits of the sequence number, with the IV.
    fn nonce(&mut self) -> Nonce {
        let iv = self.iv.iter().fold(0, |number: u128, byte| number << 8 | u128::from(*byte));
        let nonce = (iv ^ u128::from(self.sequence)).to_be_bytes();
        self.sequence += 1;
        Nonce::try_assume_unique_for_key(&nonce[4..]).unwrap()
    }
}

pub(crate) struct Raw {
    to_session: Key,
    from_session: Key,
}

impl Raw {
    /// An established session, and the peer that has its keys.
    pub(crate) fn pair(role: Role) -> (Session, Self) {
        let (session, peer) = peer::pair(role, Speaks::Aes256);
        let secrets = match peer {
            rustls::Connection::Client(peer) => peer.dangerous_extract_secrets(),
            rustls::Connection::Server(peer) => peer.dangerous_extract_secrets(),
        }
        .unwrap();
        (session, Self { to_session: Key::new(secrets.tx), from_session: Key::new(secrets.rx) })
    }

    /// A record around these bytes: content, type, padding.
    pub(crate) fn inner(&mut self, inner: &[u8]) -> Vec<u8> {
        let len = (inner.len() + 16) as u16;
        let header = [&[23, 3, 3], &len.to_be_bytes()[..]].concat();
        let mut body = inner.to_vec();
        let nonce = self.to_session.nonce();
        self.to_session.aead.seal_in_place_append_tag(nonce, Aad::from(&header), &mut body).unwrap();
        [header, body].concat()
    }

    /// A record of this type.
    pub(crate) fn record(&mut self, content_type: u8, content: &[u8]) -> Vec<u8> {
        self.inner(&[content, &[content_type]].concat())
    }

    pub(crate) fn data(&mut self, data: &[u8]) -> Vec<u8> {
        self.record(23, data)
    }

    /// The records that the session sent: types and contents.
    pub(crate) fn read(&mut self, mut wire: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut records = Vec::new();
        while !wire.is_empty() {
            let len = usize::from(u16::from_be_bytes([wire[3], wire[4]]));
            let (record, rest) = wire.split_at(5 + len);
            wire = rest;
            let (header, body) = record.split_at(5);
            assert_eq!(header[..3], [23, 3, 3]);
            let mut body = body.to_vec();
            let nonce = self.from_session.nonce();
            let inner = self.from_session.aead.open_in_place(nonce, Aad::from(header), &mut body).unwrap();
            let (content_type, content) = inner.split_last().unwrap();
            records.push((*content_type, content.to_vec()));
        }
        records
    }

    /// Everything that the session wants to send by itself.
    pub(crate) fn said_by(&mut self, session: &mut Session) -> Vec<(u8, Vec<u8>)> {
        let mut wire = Vec::new();
        session.poll_transmit(&mut wire);
        self.read(&wire)
    }

    /// The session refuses this for good, with this alert.
    pub(crate) fn refused(&mut self, session: &mut Session, wire: &[u8], error: &TlsError, alert: u8) {
        let (heard, result) = super::hear(session, wire);
        assert_eq!((heard, result.as_ref()), (Vec::new(), Err(error)));
        assert_eq!(self.said_by(session), [(21, vec![2, alert])]);
        assert_eq!(session.error(), Some(error));
        assert_eq!(session.send(b"x", &mut Vec::new()).as_ref(), Err(error));
        assert_eq!(super::hear(session, &[]).1.as_ref(), Err(error));
        assert!(!session.poll_transmit(&mut Vec::new()), "the last word was said");
    }
}
