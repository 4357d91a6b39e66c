//! Finding nodes on the local network by multicast (`dht.md` 6). Nothing in it is authenticated.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use towline_identity::DeviceId;

use crate::wire::reader::{Reader, Token};
use crate::wire::writer::Writer;
use crate::{InfoHash, WireError};

/// UDP port of discovery, to be bound with address reuse.
pub const PORT: u16 = 8888;
/// IPv4 group.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 192, 0, 1);
/// IPv6 group.
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff08, 0, 0, 0, 0, 0, 0, 0x101);
/// The whole of a query.
const QUERY: &str = "q";

/// A discovery datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// "Who is there?", sent to the group.
    Query,
    /// What the sender offers; to the group when it starts, and to whoever sent a query.
    Announcement(Announcement),
}

/// The services one host announces; other programs share port, group and map.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Announcement {
    /// An OpenDHT node (`dht`).
    pub dht: Option<DhtService>,
    /// A device that can be dialled directly (`towline`).
    pub device: Option<DeviceService>,
}

/// An OpenDHT node on the sender's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DhtService {
    /// Its id.
    pub id: InfoHash,
    /// Its UDP port.
    pub port: u16,
    /// Its network.
    pub network: u32,
}

/// A Towline device on the sender's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceService {
    /// Its long id. Not proved by the announcement: the handshake does that.
    pub device: DeviceId,
    /// The port it accepts connections on.
    pub port: u16,
}

impl Packet {
    /// Reads a datagram. Unknown services are ignored; a known one with a malformed payload is an error.
    pub fn decode(datagram: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(datagram);
        let len = match reader.token()? {
            Token::Str(text) if text == QUERY.as_bytes() => return Ok(Self::Query),
            Token::Map(len) => len,
            _ => return Err(WireError::Type("packet")),
        };
        let mut announcement = Announcement::default();
        for _ in 0..len {
            match reader.key()? {
                Some(b"dht") => announcement.dht = Some(DhtService::read(reader.object()?)?),
                Some(b"towline") => announcement.device = Some(DeviceService::read(reader.object()?)?),
                _ => {
                    reader.object()?;
                }
            }
        }
        Ok(Self::Announcement(announcement))
    }

    /// Writes the datagram.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        match self {
            Self::Query => writer.str(QUERY),
            Self::Announcement(Announcement { dht, device }) => {
                writer.map(usize::from(dht.is_some()) + usize::from(device.is_some()));
                if let Some(dht) = dht {
                    writer.str("dht");
                    writer.array(3);
                    writer.bin(dht.id.as_ref());
                    writer.uint(dht.port);
                    writer.uint(dht.network);
                }
                if let Some(device) = device {
                    writer.str("towline");
                    writer.array(2);
                    writer.bin(device.device.as_bytes());
                    writer.uint(device.port);
                }
            }
        }
        writer.finish()
    }
}

impl DhtService {
    fn read(object: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(object);
        if reader.array("dht")? < 3 {
            return Err(WireError::Range("dht"));
        }
        Ok(Self { id: reader.id("dht")?, port: reader.narrow("dht")?, network: reader.narrow("dht")? })
    }
}

impl DeviceService {
    fn read(object: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(object);
        if reader.array("towline")? < 2 {
            return Err(WireError::Range("towline"));
        }
        let device: [u8; 32] = reader.bin("towline")?.try_into().map_err(|_| WireError::Range("towline"))?;
        Ok(Self { device: device.into(), port: reader.narrow("towline")? })
    }
}

/// The group to join and to send to, by family.
pub const fn group(v6: bool) -> SocketAddr {
    let ip = if v6 { IpAddr::V6(GROUP_V6) } else { IpAddr::V4(GROUP_V4) };
    SocketAddr::new(ip, PORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_services_round_trip() {
        let dht = DhtService { id: InfoHash([3; 20]), port: 4222, network: 0 };
        let device = DeviceService { device: [5; 32].into(), port: 7000 };
        for announcement in [
            Announcement::default(),
            Announcement { dht: Some(dht), device: None },
            Announcement { dht: None, device: Some(device) },
            Announcement { dht: Some(dht), device: Some(device) },
        ] {
            let packet = Packet::Announcement(announcement);
            assert_eq!(Packet::decode(&packet.encode()), Ok(packet));
        }
    }

    #[test]
    fn strangers_services_are_stepped_over() {
        let packet = [&[0x82, 0xa4][..], b"jami", &[0x91, 0xc0, 0xa7], b"towline", &[0x91, 0x01]].concat();
        assert_eq!(Packet::decode(&packet), Err(WireError::Range("towline")));
        let packet = [&[0x81, 0xa4][..], b"jami", &[0x91, 0xc0]].concat();
        assert_eq!(Packet::decode(&packet), Ok(Packet::Announcement(Announcement::default())));
        assert_eq!(Packet::decode(&[0xa1, b'x']), Err(WireError::Type("packet")));
        assert_eq!(Packet::decode(&[]), Err(WireError::Truncated));
    }
}
