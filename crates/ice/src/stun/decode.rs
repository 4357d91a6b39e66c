//! Reading a message.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{
    Class, FINGERPRINT_LEN, FINGERPRINT_XOR, HEADER_LEN, IntegrityError, MAGIC_COOKIE, RoleClaim,
    TransactionId, attribute, integrity, method_of,
};

/// The most attribute types kept in a list.
const MAX_UNKNOWN: usize = 32;

/// The rule a packet breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer than 20 bytes.
    #[error("a message has at least 20 bytes")]
    Short,
    /// One of the first two bits is set.
    #[error("the first two bits of a message are zero")]
    TopBits,
    /// The length field disagrees with the packet, or is no multiple of 4.
    #[error("the length field disagrees with the packet")]
    Length,
    /// No magic cookie.
    #[error("the magic cookie is missing")]
    Cookie,
    /// An attribute reaches beyond the message.
    #[error("attribute {attribute:#06x} reaches beyond the message")]
    Truncated {
        /// The type of the attribute.
        attribute: u16,
    },
    /// The value of a known attribute has a wrong length or content.
    #[error("attribute {attribute:#06x} has a bad value")]
    BadValue {
        /// The type of the attribute.
        attribute: u16,
    },
    /// Something follows FINGERPRINT.
    #[error("FINGERPRINT is not the last attribute")]
    FingerprintNotLast,
    /// The CRC does not match.
    #[error("FINGERPRINT does not match")]
    Fingerprint,
}

/// The content of ERROR-CODE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorCode<'a> {
    /// 300 to 699.
    pub code: u16,
    /// For people; empty when it is not UTF-8.
    pub reason: &'a str,
}

/// A decoded message, borrowing from its packet.
///
/// Of an attribute that occurs twice the first counts, and after MESSAGE-INTEGRITY only FINGERPRINT does
/// (RFC 8489 sections 14 and 14.5). A FINGERPRINT, if present, has been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    /// Request, indication or response.
    pub class: Class,
    /// The method; [`super::BINDING`] for checks.
    pub method: u16,
    /// Pairs responses with requests.
    pub transaction: TransactionId,
    /// USERNAME.
    pub username: Option<&'a [u8]>,
    /// PRIORITY.
    pub priority: Option<u32>,
    /// USE-CANDIDATE is present.
    pub use_candidate: bool,
    /// ICE-CONTROLLING or ICE-CONTROLLED.
    pub role: Option<RoleClaim>,
    /// XOR-MAPPED-ADDRESS, decoded.
    pub mapped_address: Option<SocketAddr>,
    /// ERROR-CODE.
    pub error: Option<ErrorCode<'a>>,
    /// SOFTWARE without trailing NULs (pjnath pads inside the length); empty when it is not UTF-8.
    pub software: Option<&'a str>,
    /// Types of attributes that must be understood and are not; the first 32.
    pub unknown: Vec<u16>,
    /// Types listed in UNKNOWN-ATTRIBUTES; the first 32.
    pub rejected: Vec<u16>,
    /// FINGERPRINT is present, and correct.
    pub fingerprint: bool,
    integrity: Option<(&'a [u8], &'a [u8])>,
    integrity_sha256: Option<(&'a [u8], &'a [u8])>,
    // From the end of the header up to the first integrity code or FINGERPRINT.
    attributes: &'a [u8],
}

/// The attributes of a message in their order, each with its type and its value; see [`Message::attributes`].
#[derive(Debug, Clone)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (head, rest) = self.rest.split_first_chunk::<4>()?;
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let value = rest.get(..len)?;
        self.rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_be_bytes([head[0], head[1]]), value))
    }
}

impl<'a> Message<'a> {
    /// Decodes one whole packet.
    pub fn decode(packet: &'a [u8]) -> Result<Self, DecodeError> {
        let header: &[u8; HEADER_LEN] = packet.first_chunk().ok_or(DecodeError::Short)?;
        let message_type = u16::from_be_bytes([header[0], header[1]]);
        if message_type & 0xc000 != 0 {
            return Err(DecodeError::TopBits);
        }
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if length + HEADER_LEN != packet.len() || !length.is_multiple_of(4) {
            return Err(DecodeError::Length);
        }
        if header[4..8] != MAGIC_COOKIE.to_be_bytes() {
            return Err(DecodeError::Cookie);
        }
        let mut message = Self {
            class: Class::of(message_type),
            method: method_of(message_type),
            transaction: TransactionId(header[8..20].try_into().expect("the header has 20 bytes")),
            username: None,
            priority: None,
            use_candidate: false,
            role: None,
            mapped_address: None,
            error: None,
            software: None,
            unknown: Vec::new(),
            rejected: Vec::new(),
            fingerprint: false,
            integrity: None,
            integrity_sha256: None,
            attributes: &packet[HEADER_LEN..],
        };
        let mut protected = None;
        let mut at = HEADER_LEN;
        while at < packet.len() {
            // Attributes and their padding are multiples of 4, so the four bytes of the next header exist.
            let attribute = u16::from_be_bytes([packet[at], packet[at + 1]]);
            let len = usize::from(u16::from_be_bytes([packet[at + 2], packet[at + 3]]));
            let value = packet.get(at + 4..at + 4 + len).ok_or(DecodeError::Truncated { attribute })?;
            if matches!(
                attribute,
                attribute::MESSAGE_INTEGRITY | attribute::MESSAGE_INTEGRITY_SHA256 | attribute::FINGERPRINT
            ) {
                protected.get_or_insert(at);
            }
            message.attribute(packet, at, attribute, value)?;
            at += 4 + len.next_multiple_of(4);
        }
        message.attributes = &packet[HEADER_LEN..protected.unwrap_or(packet.len())];
        Ok(message)
    }

    /// Every attribute that stands before the integrity code (or before FINGERPRINT, if there is none), known or not.
    ///
    /// This is how attributes of other usages are read, such as those of TURN.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes { rest: self.attributes }
    }

    fn attribute(
        &mut self,
        packet: &'a [u8],
        at: usize,
        kind: u16,
        value: &'a [u8],
    ) -> Result<(), DecodeError> {
        let bad = DecodeError::BadValue { attribute: kind };
        if kind == attribute::FINGERPRINT {
            let received = u32::from_be_bytes(value.try_into().map_err(|_| bad)?);
            if at + FINGERPRINT_LEN != packet.len() {
                return Err(DecodeError::FingerprintNotLast);
            }
            if crc32fast::hash(&packet[..at]) ^ FINGERPRINT_XOR != received {
                return Err(DecodeError::Fingerprint);
            }
            self.fingerprint = true;
            return Ok(());
        }
        if self.integrity_sha256.is_some() {
            return Ok(());
        }
        if kind == attribute::MESSAGE_INTEGRITY_SHA256 {
            // Shorter codes are for usages that allow them; none here does.
            if value.len() != 32 {
                return Err(bad);
            }
            self.integrity_sha256 = Some((&packet[..at], value));
            return Ok(());
        }
        if self.integrity.is_some() {
            return Ok(());
        }
        let word = || value.try_into().map(u32::from_be_bytes).map_err(|_| bad);
        let double = || value.try_into().map(u64::from_be_bytes).map_err(|_| bad);
        match kind {
            attribute::USERNAME => drop(self.username.get_or_insert(value)),
            attribute::PRIORITY => {
                let priority = word()?;
                self.priority.get_or_insert(priority);
            }
            attribute::USE_CANDIDATE if value.is_empty() => self.use_candidate = true,
            attribute::ICE_CONTROLLING => {
                let claim = RoleClaim::Controlling(double()?);
                self.role.get_or_insert(claim);
            }
            attribute::ICE_CONTROLLED => {
                let claim = RoleClaim::Controlled(double()?);
                self.role.get_or_insert(claim);
            }
            attribute::MESSAGE_INTEGRITY if value.len() == 20 => {
                self.integrity = Some((&packet[..at], value));
            }
            attribute::USE_CANDIDATE | attribute::MESSAGE_INTEGRITY => return Err(bad),
            attribute::XOR_MAPPED_ADDRESS => {
                let address = xor_address(value, &self.transaction).ok_or(bad)?;
                self.mapped_address.get_or_insert(address);
            }
            attribute::ERROR_CODE => {
                let error = error_code(value).ok_or(bad)?;
                self.error.get_or_insert(error);
            }
            attribute::SOFTWARE => {
                let text = std::str::from_utf8(value).unwrap_or_default().trim_end_matches('\0');
                self.software.get_or_insert(text);
            }
            attribute::UNKNOWN_ATTRIBUTES => {
                if !value.len().is_multiple_of(2) {
                    return Err(bad);
                }
                let types = value.chunks_exact(2).map(|two| u16::from_be_bytes([two[0], two[1]]));
                self.rejected.extend(types.take(MAX_UNKNOWN - self.rejected.len()));
            }
            _ if kind < attribute::COMPREHENSION_OPTIONAL && self.unknown.len() < MAX_UNKNOWN => {
                self.unknown.push(kind);
            }
            _ => {}
        }
        Ok(())
    }

    /// Proves that the sender knows `key`; compares in constant time.
    pub fn verify_integrity(&self, key: &[u8]) -> Result<(), IntegrityError> {
        let (head, code) = self.integrity.ok_or(IntegrityError::Missing)?;
        integrity::verify(head, key, code)
    }

    /// As [`Message::verify_integrity`], by MESSAGE-INTEGRITY-SHA256 (RFC 8489 section 14.6).
    pub fn verify_integrity_sha256(&self, key: &[u8]) -> Result<(), IntegrityError> {
        let (head, code) = self.integrity_sha256.ok_or(IntegrityError::Missing)?;
        integrity::verify_sha256(head, key, code)
    }

    /// Whether one of the two integrity codes is there, right or wrong.
    pub fn has_integrity(&self) -> bool {
        self.integrity.is_some() || self.integrity_sha256.is_some()
    }
}

fn error_code(value: &[u8]) -> Option<ErrorCode<'_>> {
    let (head, reason) = value.split_first_chunk::<4>()?;
    let (class, number) = (head[2] & 0x07, head[3]);
    if !(3..=6).contains(&class) || number > 99 {
        return None;
    }
    let code = u16::from(class) * 100 + u16::from(number);
    Some(ErrorCode { code, reason: std::str::from_utf8(reason).unwrap_or_default() })
}

/// Reads the value of an attribute like XOR-MAPPED-ADDRESS, in a message of `transaction` (RFC 8489 section 14.2).
///
/// Address and port are hidden from middleboxes by the cookie and the transaction id.
pub fn xor_address(value: &[u8], transaction: &TransactionId) -> Option<SocketAddr> {
    let hidden = address(value)?;
    let port = hidden.port() ^ (MAGIC_COOKIE >> 16) as u16;
    let ip: IpAddr = match hidden.ip() {
        IpAddr::V4(ip) => Ipv4Addr::from(u32::from(ip) ^ MAGIC_COOKIE).into(),
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) ^ xor_mask(transaction)).into(),
    };
    Some(SocketAddr::new(ip, port))
}

/// Reads the value of an attribute like MAPPED-ADDRESS or ALTERNATE-SERVER (RFC 8489 section 14.1).
pub fn address(value: &[u8]) -> Option<SocketAddr> {
    let (head, address) = value.split_first_chunk::<4>()?;
    let ip: IpAddr = match (head[1], address.len()) {
        (1, 4) => Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?).into(),
        (2, 16) => Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes([head[2], head[3]])))
}

pub(super) fn xor_mask(transaction: &TransactionId) -> u128 {
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
    mask[4..].copy_from_slice(&transaction.0);
    u128::from_be_bytes(mask)
}
