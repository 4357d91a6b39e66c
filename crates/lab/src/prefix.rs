//! Network prefixes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use towline_net::InterfaceAddress;

/// A block of addresses: the address of the network and the length of the prefix in bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    addr: IpAddr,
    len: u8,
}

impl Prefix {
    /// The block around an address.
    ///
    /// # Panics
    ///
    /// If the prefix is longer than the address.
    pub fn new(addr: impl Into<IpAddr>, len: u8) -> Self {
        let addr = addr.into();
        assert!(len <= if addr.is_ipv6() { 128 } else { 32 }, "prefix of {len} bits for {addr}");
        Self { addr: mask(addr, len), len }
    }

    /// Length in bits.
    pub fn bits(&self) -> u8 {
        self.len
    }

    /// Whether it is a block of IPv6 addresses.
    pub fn is_ipv6(&self) -> bool {
        self.addr.is_ipv6()
    }

    /// Whether the block has this address.
    pub fn contains(&self, addr: IpAddr) -> bool {
        addr.is_ipv6() == self.addr.is_ipv6() && mask(addr, self.len) == self.addr
    }

    /// The address this many after the first.
    pub fn nth(&self, number: u32) -> IpAddr {
        match self.addr {
            IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() + number).into(),
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() + u128::from(number)).into(),
        }
    }

    /// The block that an address of an interface lies in.
    pub(crate) fn of(address: InterfaceAddress) -> Self {
        Self::new(address.addr, address.prefix)
    }
}

fn mask(addr: IpAddr, len: u8) -> IpAddr {
    match addr {
        IpAddr::V4(v4) => {
            let kept = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & kept).into()
        }
        IpAddr::V6(v6) => {
            let kept = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & kept).into()
        }
    }
}
