//! Socket addresses in the raw form that OpenDHT copies out of memory (`dht.md` 2.13, 3.5): written as Linux lays
//! them out, read as Linux, Windows, macOS and FreeBSD do.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

const LEN_V4: usize = 16;
const LEN_V6: usize = 28;

/// Family and length of the structure: a little-endian family, or a length byte and a family byte.
fn is_v6(bytes: &[u8]) -> Option<bool> {
    let family = match *bytes.first_chunk::<2>()? {
        [family, 0] => family,
        [len, family] if usize::from(len) == bytes.len() => family,
        _ => return None,
    };
    match (family, bytes.len()) {
        (2, LEN_V4) => Some(false),
        (10 | 23 | 28 | 30, LEN_V6) => Some(true),
        _ => None,
    }
}

/// The address in these bytes; `None` if they are no address of a known family.
pub(crate) fn read(bytes: &[u8]) -> Option<SocketAddr> {
    let v6 = is_v6(bytes)?;
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    if v6 {
        let ip = Ipv6Addr::from(*bytes.get(8..)?.first_chunk::<16>()?);
        let scope = u32::from_le_bytes(*bytes.get(24..)?.first_chunk()?);
        Some(SocketAddrV6::new(ip, port, 0, scope).into())
    } else {
        let ip = Ipv4Addr::from(*bytes.get(4..)?.first_chunk::<4>()?);
        Some((ip, port).into())
    }
}

/// The bytes of `struct sockaddr_in` or `sockaddr_in6` on little-endian Linux.
pub(crate) fn write(address: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(LEN_V6);
    match address {
        SocketAddr::V4(address) => {
            bytes.extend([2, 0]);
            bytes.extend(address.port().to_be_bytes());
            bytes.extend(address.ip().octets());
            bytes.resize(LEN_V4, 0);
        }
        SocketAddr::V6(address) => {
            bytes.extend([10, 0]);
            bytes.extend(address.port().to_be_bytes());
            bytes.extend([0; 4]);
            bytes.extend(address.ip().octets());
            bytes.extend(address.scope_id().to_le_bytes());
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_of_the_platforms() {
        let v4 = "127.0.0.1:17063".parse().unwrap();
        let mut bytes = write(v4);
        assert_eq!(hex::encode(&bytes), "020042a77f0000010000000000000000");
        assert_eq!(read(&bytes), Some(v4));
        bytes[..2].copy_from_slice(&[16, 2]);
        assert_eq!(read(&bytes), Some(v4), "BSD");
        let v6 = "[2001:db8::1]:4222".parse().unwrap();
        let mut bytes = write(v6);
        for family in [[10, 0], [23, 0], [28, 30], [28, 28]] {
            bytes[..2].copy_from_slice(&family);
            assert_eq!(read(&bytes), Some(v6));
        }
        assert_eq!(read(&bytes[..27]), None);
        assert_eq!(read(&[2, 0]), None);
        assert_eq!(read(&[]), None);
    }
}
