//! Packed node lists and addresses (`dht.md` 1.8).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::WireError;
use crate::{InfoHash, NodeEntry};

/// Bytes of an `n4` entry: id, address, port.
const ENTRY_V4: usize = InfoHash::LEN + 4 + 2;
/// Bytes of an `n6` entry.
const ENTRY_V6: usize = InfoHash::LEN + 16 + 2;

pub(super) fn read_v4(packed: &[u8]) -> Result<Vec<NodeEntry>, WireError> {
    read::<4, ENTRY_V4>(packed, "n4")
}

pub(super) fn read_v6(packed: &[u8]) -> Result<Vec<NodeEntry>, WireError> {
    read::<16, ENTRY_V6>(packed, "n6")
}

/// A list with a length that is no multiple spoils the whole answer.
fn read<const IP: usize, const ENTRY: usize>(
    packed: &[u8],
    what: &'static str,
) -> Result<Vec<NodeEntry>, WireError> {
    let (entries, rest) = packed.as_chunks::<ENTRY>();
    if !rest.is_empty() {
        return Err(WireError::Range(what));
    }
    let entry = |entry: &[u8; ENTRY]| {
        let (id, address) = entry.split_at(InfoHash::LEN);
        let (ip, port) = address.split_at(IP);
        let id = InfoHash::from_slice(id)?;
        Some(NodeEntry {
            id,
            address: SocketAddr::new(read_ip(ip)?, u16::from_be_bytes(port.try_into().ok()?)),
        })
    };
    Ok(entries.iter().filter_map(entry).collect())
}

/// An address of 4 or 16 bytes.
pub(super) fn read_ip(bytes: &[u8]) -> Option<IpAddr> {
    match *bytes {
        [a, b, c, d] => Some(Ipv4Addr::new(a, b, c, d).into()),
        _ => <[u8; 16]>::try_from(bytes).ok().map(|octets| Ipv6Addr::from(octets).into()),
    }
}

/// The list of those `nodes` that have an IPv4 address.
pub(super) fn pack_v4(nodes: &[NodeEntry]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(nodes.len() * ENTRY_V4);
    for node in nodes {
        if let IpAddr::V4(ip) = node.address.ip() {
            pack(&mut packed, node, &ip.octets());
        }
    }
    packed
}

/// The list of those `nodes` that have an IPv6 address.
pub(super) fn pack_v6(nodes: &[NodeEntry]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(nodes.len() * ENTRY_V6);
    for node in nodes {
        if let IpAddr::V6(ip) = node.address.ip() {
            pack(&mut packed, node, &ip.octets());
        }
    }
    packed
}

fn pack(packed: &mut Vec<u8>, node: &NodeEntry, ip: &[u8]) {
    packed.extend_from_slice(node.id.as_ref());
    packed.extend_from_slice(ip);
    packed.extend_from_slice(&node.address.port().to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_round_trip_and_odd_lengths_fail() {
        let node = |text: &str| NodeEntry { id: InfoHash([7; 20]), address: text.parse().unwrap() };
        let v4 = [node("192.0.2.1:4222"), node("198.51.100.7:1")];
        let v6 = [node("[2001:db8::1]:4222")];
        assert_eq!(read_v4(&pack_v4(&v4)).unwrap(), v4);
        assert_eq!(read_v6(&pack_v6(&v6)).unwrap(), v6);
        assert_eq!(read_v4(&[0; 25]), Err(WireError::Range("n4")));
        assert_eq!(read_v6(&[0; 39]), Err(WireError::Range("n6")));
        assert_eq!(read_v4(&[]), Ok(vec![]));
    }
}
