//! Methods, attributes and address families of TURN (RFC 8656 sections 17 and 18, RFC 6062 section 6).

use std::net::{IpAddr, SocketAddr};

use towline_ice::stun::{MAGIC_COOKIE, Message};

/// Method numbers.
pub(crate) mod method {
    pub(crate) const ALLOCATE: u16 = 0x003;
    pub(crate) const REFRESH: u16 = 0x004;
    pub(crate) const SEND: u16 = 0x006;
    pub(crate) const DATA: u16 = 0x007;
    pub(crate) const CREATE_PERMISSION: u16 = 0x008;
    pub(crate) const CHANNEL_BIND: u16 = 0x009;
    pub(crate) const CONNECT: u16 = 0x00a;
    pub(crate) const CONNECTION_BIND: u16 = 0x00b;
    pub(crate) const CONNECTION_ATTEMPT: u16 = 0x00c;
}

/// Attribute types.
pub(crate) mod attribute {
    pub(crate) const CHANNEL_NUMBER: u16 = 0x000c;
    pub(crate) const LIFETIME: u16 = 0x000d;
    pub(crate) const XOR_PEER_ADDRESS: u16 = 0x0012;
    pub(crate) const DATA: u16 = 0x0013;
    pub(crate) const REALM: u16 = 0x0014;
    pub(crate) const NONCE: u16 = 0x0015;
    pub(crate) const XOR_RELAYED_ADDRESS: u16 = 0x0016;
    pub(crate) const REQUESTED_ADDRESS_FAMILY: u16 = 0x0017;
    pub(crate) const EVEN_PORT: u16 = 0x0018;
    pub(crate) const REQUESTED_TRANSPORT: u16 = 0x0019;
    pub(crate) const PASSWORD_ALGORITHM: u16 = 0x001d;
    pub(crate) const USERHASH: u16 = 0x001e;
    pub(crate) const CONNECTION_ID: u16 = 0x002a;
    pub(crate) const ADDITIONAL_ADDRESS_FAMILY: u16 = 0x8000;
    pub(crate) const ADDRESS_ERROR_CODE: u16 = 0x8001;
    pub(crate) const PASSWORD_ALGORITHMS: u16 = 0x8002;
    pub(crate) const ALTERNATE_DOMAIN: u16 = 0x8003;
    pub(crate) const ICMP: u16 = 0x8004;
    pub(crate) const ALTERNATE_SERVER: u16 = 0x8023;

    /// The numbers under which coturn knows ADDITIONAL-ADDRESS-FAMILY and ADDRESS-ERROR-CODE, from before RFC 8656.
    pub(crate) const COTURN_ADDITIONAL_ADDRESS_FAMILY: u16 = 0x8032;
    pub(crate) const COTURN_ADDRESS_ERROR_CODE: u16 = 0x8033;
}

/// Numbers of channels (RFC 8656 section 12).
pub(crate) const CHANNELS: std::ops::RangeInclusive<u16> = 0x4000..=0x4fff;

/// What a server takes: older clients use more numbers (RFC 5766 section 11).
pub(crate) const CHANNELS_OF_OLD: std::ops::RangeInclusive<u16> = 0x4000..=0x7ffe;

/// How long a server keeps a permission (RFC 8656 section 9).
pub(crate) const PERMISSION_SECS: u64 = 300;

/// How long a server keeps a channel (RFC 8656 section 12).
pub(crate) const CHANNEL_SECS: u64 = 600;

/// Protocol numbers in REQUESTED-TRANSPORT.
pub(crate) const PROTOCOL_TCP: u8 = 6;
pub(crate) const PROTOCOL_UDP: u8 = 17;

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            Self::V4 => 1,
            Self::V6 => 2,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::V4),
            2 => Some(Self::V6),
            _ => None,
        }
    }
}

/// The value of the first attribute of a type.
pub(crate) fn find<'a>(message: &Message<'a>, wanted: u16) -> Option<&'a [u8]> {
    message.attributes().find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// A 32-bit value.
pub(crate) fn word(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

/// Bytes that [`Client::encode`](crate::Client::encode) wants free before a payload: the longest header, of a Send
/// indication to an IPv6 address.
pub const HEADROOM: usize = 48;

/// The longest payload: what fits a datagram between client and server in every form, in bytes.
pub(crate) const MAX_PAYLOAD: usize = 65_507 - HEADROOM - 3;

/// All of a Send or Data indication before its payload, and how long that is: the header of the message, XOR-PEER-ADDRESS,
/// and the header of DATA.
pub(crate) fn indication_header(
    method: u16,
    peer: SocketAddr,
    id: [u8; 12],
    payload_len: usize,
) -> ([u8; HEADROOM], usize) {
    let mut out = [0; HEADROOM];
    let address_len = if peer.is_ipv4() { 8 } else { 20 };
    let body = 4 + address_len + 4 + payload_len.next_multiple_of(4);
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
    mask[4..].copy_from_slice(&id);
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        out[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    // The class bits of an indication; both methods have one digit, so their bits are not interleaved.
    put(&(0x0010 | method).to_be_bytes());
    put(&(body as u16).to_be_bytes());
    put(&mask);
    put(&attribute::XOR_PEER_ADDRESS.to_be_bytes());
    put(&(address_len as u16).to_be_bytes());
    put(&[0, Family::of(peer.ip()).code()]);
    put(&(peer.port() ^ (MAGIC_COOKIE >> 16) as u16).to_be_bytes());
    match peer.ip() {
        IpAddr::V4(ip) => put(&(u32::from(ip) ^ MAGIC_COOKIE).to_be_bytes()),
        IpAddr::V6(ip) => put(&(u128::from(ip) ^ u128::from_be_bytes(mask)).to_be_bytes()),
    }
    put(&attribute::DATA.to_be_bytes());
    put(&(payload_len as u16).to_be_bytes());
    (out, at)
}
