//! Writing a message.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{BufMut, Bytes, BytesMut};

use super::decode::xor_mask;
use super::{
    Class, FINGERPRINT_LEN, FINGERPRINT_XOR, HEADER_LEN, INTEGRITY_LEN, INTEGRITY_SHA256_LEN, MAGIC_COOKIE,
    RoleClaim, TransactionId,
};
use super::{attribute, integrity, type_of};

/// Writes one message, attribute by attribute; [`Encoder::finish`] seals it.
///
/// Values are cut to what the attribute may hold (RFC 8489 section 14), so a message never grows past 64 KiB.
#[derive(Debug, Clone)]
pub struct Encoder {
    buffer: BytesMut,
}

/// The integrity code that ends a message.
#[derive(Clone, Copy)]
pub enum Seal<'k> {
    /// None.
    None,
    /// MESSAGE-INTEGRITY with this key.
    Sha1(&'k [u8]),
    /// MESSAGE-INTEGRITY-SHA256 with this key.
    Sha256(&'k [u8]),
}

impl std::fmt::Debug for Seal<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Sha1(_) => "Sha1",
            Self::Sha256(_) => "Sha256",
        })
    }
}

/// The longest value of an attribute of any kind, in bytes.
const MAX_VALUE: usize = 65_000;

/// The longest text put into an attribute, in bytes: USERNAME and SOFTWARE stay below it in any valid message.
const MAX_TEXT: usize = 762;

impl Encoder {
    /// Begins a message.
    pub fn new(class: Class, method: u16, transaction: TransactionId) -> Self {
        let mut buffer = BytesMut::with_capacity(160);
        buffer.put_u16(type_of(class, method));
        buffer.put_u16(0);
        buffer.put_u32(MAGIC_COOKIE);
        buffer.put_slice(&transaction.0);
        Self { buffer }
    }

    fn put(mut self, kind: u16, value: &[u8]) -> Self {
        self.buffer.put_u16(kind);
        self.buffer.put_u16(value.len() as u16);
        self.buffer.put_slice(value);
        self.buffer.put_bytes(0, value.len().next_multiple_of(4) - value.len());
        self
    }

    /// PRIORITY.
    #[must_use]
    pub fn priority(self, priority: u32) -> Self {
        self.put(attribute::PRIORITY, &priority.to_be_bytes())
    }

    /// USE-CANDIDATE.
    #[must_use]
    pub fn use_candidate(self) -> Self {
        self.put(attribute::USE_CANDIDATE, &[])
    }

    /// ICE-CONTROLLING or ICE-CONTROLLED.
    #[must_use]
    pub fn role(self, claim: RoleClaim) -> Self {
        match claim {
            RoleClaim::Controlling(tie) => self.put(attribute::ICE_CONTROLLING, &tie.to_be_bytes()),
            RoleClaim::Controlled(tie) => self.put(attribute::ICE_CONTROLLED, &tie.to_be_bytes()),
        }
    }

    /// USERNAME.
    #[must_use]
    pub fn username(self, name: &[u8]) -> Self {
        self.put(attribute::USERNAME, &name[..name.len().min(MAX_TEXT)])
    }

    /// SOFTWARE.
    #[must_use]
    pub fn software(self, text: &str) -> Self {
        self.put(attribute::SOFTWARE, &text.as_bytes()[..text.len().min(MAX_TEXT)])
    }

    /// XOR-MAPPED-ADDRESS.
    #[must_use]
    pub fn mapped_address(self, address: SocketAddr) -> Self {
        self.xor_address(attribute::XOR_MAPPED_ADDRESS, address)
    }

    /// Any attribute whose value is an address in the form of XOR-MAPPED-ADDRESS.
    #[must_use]
    pub fn xor_address(self, kind: u16, address: SocketAddr) -> Self {
        let transaction =
            TransactionId(self.buffer[8..HEADER_LEN].try_into().expect("the header is written first"));
        let port = address.port() ^ (MAGIC_COOKIE >> 16) as u16;
        let hidden: IpAddr = match address.ip() {
            IpAddr::V4(ip) => Ipv4Addr::from(u32::from(ip) ^ MAGIC_COOKIE).into(),
            IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) ^ xor_mask(&transaction)).into(),
        };
        self.address(kind, SocketAddr::new(hidden, port))
    }

    /// Any attribute whose value is an address in the form of MAPPED-ADDRESS.
    #[must_use]
    pub fn address(self, kind: u16, address: SocketAddr) -> Self {
        let mut value = BytesMut::with_capacity(20);
        value.put_u16(if address.is_ipv4() { 1 } else { 2 });
        value.put_u16(address.port());
        match address.ip() {
            IpAddr::V4(ip) => value.put_slice(&ip.octets()),
            IpAddr::V6(ip) => value.put_slice(&ip.octets()),
        }
        self.put(kind, &value)
    }

    /// Any attribute at all; the first 65,000 bytes of its value.
    ///
    /// The message as a whole must stay below 64 KiB, which is the caller's concern.
    #[must_use]
    pub fn attribute(self, kind: u16, value: &[u8]) -> Self {
        self.put(kind, &value[..value.len().min(MAX_VALUE)])
    }

    /// ERROR-CODE; `code` is 300 to 699.
    #[must_use]
    pub fn error(self, code: u16, reason: &str) -> Self {
        let mut value = vec![0, 0, (code / 100) as u8, (code % 100) as u8];
        value.extend_from_slice(&reason.as_bytes()[..reason.len().min(MAX_TEXT)]);
        self.put(attribute::ERROR_CODE, &value)
    }

    /// UNKNOWN-ATTRIBUTES: the first 32 of `types`.
    #[must_use]
    pub fn unknown_attributes(self, types: &[u16]) -> Self {
        let value: Vec<u8> = types.iter().take(32).flat_map(|kind| kind.to_be_bytes()).collect();
        self.put(attribute::UNKNOWN_ATTRIBUTES, &value)
    }

    /// Adds MESSAGE-INTEGRITY if there is a key, then FINGERPRINT.
    pub fn finish(self, key: Option<&[u8]>) -> Bytes {
        self.finish_with(key.map_or(Seal::None, Seal::Sha1))
    }

    /// Adds the integrity code that `seal` says, then FINGERPRINT.
    pub fn finish_with(mut self, seal: Seal<'_>) -> Bytes {
        match seal {
            Seal::None => {}
            Seal::Sha1(key) => {
                let code = integrity::code(&self.buffer, key);
                self.set_length(INTEGRITY_LEN);
                self = self.put(attribute::MESSAGE_INTEGRITY, &code);
            }
            Seal::Sha256(key) => {
                let code = integrity::code_sha256(&self.buffer, key);
                self.set_length(INTEGRITY_SHA256_LEN);
                self = self.put(attribute::MESSAGE_INTEGRITY_SHA256, &code);
            }
        }
        self.set_length(FINGERPRINT_LEN);
        let crc = crc32fast::hash(&self.buffer) ^ FINGERPRINT_XOR;
        self.put(attribute::FINGERPRINT, &crc.to_be_bytes()).buffer.freeze()
    }

    // The length field, once the attributes so far and `more` bytes are in.
    fn set_length(&mut self, more: usize) {
        let length = (self.buffer.len() - HEADER_LEN + more) as u16;
        self.buffer[2..4].copy_from_slice(&length.to_be_bytes());
    }
}
