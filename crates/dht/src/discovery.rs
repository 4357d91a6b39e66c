//! Finding nodes on the local network by multicast (`dht.md` 6). Nothing in it is authenticated.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use towline_identity::DeviceId;

use crate::{InfoHash, WireError};

/// UDP port of discovery.
pub const PORT: u16 = 8888;
/// IPv4 group.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 192, 0, 1);
/// IPv6 group.
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff08, 0, 0, 0, 0, 0, 0, 0x101);

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
    pub fn decode(_datagram: &[u8]) -> Result<Self, WireError> {
        todo!()
    }

    /// Writes the datagram.
    pub fn encode(&self) -> Vec<u8> {
        todo!()
    }
}

/// The groups to send to and join, by family.
pub fn group(v6: bool) -> SocketAddr {
    let ip: IpAddr = if v6 { GROUP_V6.into() } else { GROUP_V4.into() };
    SocketAddr::new(ip, PORT)
}
