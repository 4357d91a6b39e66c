//! IPv4 packets with UDP, TCP or ICMP errors in them: addresses read, replaced, and checksums kept right.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use towline_nat::{Flags, Header, Transport};

/// Bytes of an IPv4 header without options, of a TCP header without options, of an ICMP error before what it quotes.
const IP: usize = 20;
const TCP: usize = 20;
const ICMP: usize = 8;
/// Bytes of the transport header that an ICMP error quotes.
const QUOTED: usize = 8;
/// Hops that packets of our own may pass.
const TTL: u8 = 64;

/// What a packet is, to a NAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// UDP or TCP.
    Packet(Header),
    /// An ICMP error about a packet with this header.
    Error(Header),
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn address(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3])
}

/// The length of the IPv4 header, if there is one and what it says is there.
fn header_len(packet: &[u8]) -> Option<usize> {
    let len = usize::from(packet.first()? & 0x0f) * 4;
    (packet[0] >> 4 == 4 && len >= IP && packet.len() >= len).then_some(len)
}

/// Source and destination of a packet or of what an error quotes.
fn ends(packet: &[u8]) -> Option<(Transport, SocketAddr, SocketAddr)> {
    let len = header_len(packet)?;
    let transport = match packet[9] {
        6 => Transport::Tcp,
        17 => Transport::Udp,
        _ => return None,
    };
    // An error may be about a first fragment, but only that has ports.
    if packet.len() < len + QUOTED || word(packet, 6) & 0x1fff != 0 {
        return None;
    }
    let end = |ip, port| SocketAddr::new(IpAddr::V4(address(packet, ip)), word(packet, port));
    Some((transport, end(12, len), end(16, len + 2)))
}

/// What a packet is; nothing, if a NAT has no use for it.
pub(crate) fn read(packet: &[u8]) -> Option<Content> {
    let len = header_len(packet)?;
    if word(packet, 6) & 0x3fff != 0 {
        return None;
    }
    if packet[9] == 1 {
        // Unreachable, time exceeded, parameter problem.
        let error = matches!(packet.get(len)?, 3 | 11 | 12);
        let (transport, from, to) = ends(packet.get(len + ICMP..)?).filter(|_| error)?;
        return Some(Content::Error(Header { transport, from, to, flags: Flags::default() }));
    }
    let (transport, from, to) = ends(packet)?;
    let flags = match transport {
        Transport::Udp => Flags::default(),
        Transport::Tcp => {
            let bits = *packet.get(len + 13).filter(|_| packet.len() >= len + TCP)?;
            let set = |bit: u8| bits & bit != 0;
            Flags { fin: set(0x01), syn: set(0x02), rst: set(0x04), ack: set(0x10) }
        }
    };
    Some(Content::Packet(Header { transport, from, to, flags }))
}

/// A checksum after some 16-bit words were replaced (RFC 1624, equation 3).
fn adjust(sum: u16, old: &[u16], new: &[u16]) -> u16 {
    let mut total = u32::from(!sum);
    total += old.iter().map(|word| u32::from(!word)).sum::<u32>();
    total += new.iter().map(|word| u32::from(*word)).sum::<u32>();
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}

fn words(ip: Ipv4Addr) -> [u16; 2] {
    let [a, b, c, d] = ip.octets();
    [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
}

fn sum(bytes: &[u8]) -> u16 {
    let mut total: u32 =
        bytes.chunks(2).map(|pair| u32::from(word(&[pair[0], *pair.get(1).unwrap_or(&0)], 0))).sum();
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}

/// Replaces one end of a packet that [`ends`] has read: address at `ip`, port at `port`.
fn replace(packet: &mut [u8], ip: usize, port: usize, end: SocketAddr) {
    let IpAddr::V4(new) = end.ip() else { return };
    let Some(len) = header_len(packet) else { return };
    let old = [words(address(packet, ip))[0], words(address(packet, ip))[1], word(packet, port)];
    let new = [words(new)[0], words(new)[1], end.port()];
    put(packet, 10, adjust(word(packet, 10), &old[..2], &new[..2]));
    let check = len + if packet[9] == 6 { 16 } else { 6 };
    // An error quotes eight bytes, which do not reach to the checksum of TCP; and UDP may have none.
    if packet.len() >= check + 2 && (packet[9] == 6 || word(packet, check) != 0) {
        let changed = adjust(word(packet, check), &old, &new);
        put(packet, check, if changed == 0 && packet[9] == 17 { 0xffff } else { changed });
    }
    put(packet, ip, new[0]);
    put(packet, ip + 2, new[1]);
    put(packet, port, new[2]);
}

/// Gives a packet other ends.
pub(crate) fn rewrite(packet: &mut [u8], from: SocketAddr, to: SocketAddr) {
    let Some(len) = header_len(packet) else { return };
    replace(packet, 12, len, from);
    replace(packet, 16, len + 2, to);
}

/// Lets an ICMP error quote another header, and gives it another source. Its destination is who sent what it quotes.
pub(crate) fn rewrite_error(packet: &mut [u8], quoted: &Header, from: Ipv4Addr) {
    let Some(len) = header_len(packet) else { return };
    rewrite(&mut packet[len + ICMP..], quoted.from, quoted.to);
    put(packet, len + 2, 0);
    let check = sum(&packet[len..]);
    put(packet, len + 2, check);
    let IpAddr::V4(to) = quoted.from.ip() else { return };
    packet[12..16].copy_from_slice(&from.octets());
    packet[16..20].copy_from_slice(&to.octets());
    put(packet, 10, 0);
    let check = sum(&packet[..len]);
    put(packet, 10, check);
}

/// The source address of a packet.
pub(crate) fn source(packet: &[u8]) -> Ipv4Addr {
    address(packet, 12)
}

/// One hop more. Returns whether the packet may go on.
pub(crate) fn hop(packet: &mut [u8]) -> bool {
    if packet[8] <= 1 {
        return false;
    }
    let old = word(packet, 8);
    packet[8] -= 1;
    put(packet, 10, adjust(word(packet, 10), &[old], &[word(packet, 8)]));
    true
}

fn header(protocol: u8, from: IpAddr, to: IpAddr, len: usize) -> Option<Vec<u8>> {
    let (IpAddr::V4(from), IpAddr::V4(to)) = (from, to) else { return None };
    let mut packet = vec![0; IP];
    packet[0] = 0x45;
    put(&mut packet, 2, (IP + len) as u16);
    (packet[8], packet[9]) = (TTL, protocol);
    packet[12..16].copy_from_slice(&from.octets());
    packet[16..20].copy_from_slice(&to.octets());
    let check = sum(&packet);
    put(&mut packet, 10, check);
    Some(packet)
}

/// ICMP: port unreachable, about this packet, as if its destination said so.
pub(crate) fn unreachable(about: &[u8]) -> Option<Vec<u8>> {
    let len = header_len(about)?;
    let quoted = about.get(..len + QUOTED)?;
    let mut packet = header(1, address(about, 16).into(), address(about, 12).into(), ICMP + quoted.len())?;
    packet.extend([3, 3, 0, 0, 0, 0, 0, 0]);
    packet.extend(quoted);
    let check = sum(&packet[IP..]);
    put(&mut packet, IP + 2, check);
    Some(packet)
}

/// The reset that answers this segment, as if its destination sent it (RFC 9293 3.10.7.1).
pub(crate) fn reset(about: &[u8]) -> Option<Vec<u8>> {
    let len = header_len(about)?;
    let segment = about.get(len..).filter(|segment| segment.len() >= TCP)?;
    let flags = segment[13];
    let data = (about.len() - len).saturating_sub(usize::from(segment[12] >> 4) * 4) as u32;
    let number = |at: usize| u32::from(word(segment, at)) << 16 | u32::from(word(segment, at + 2));
    let mut packet = header(6, address(about, 16).into(), address(about, 12).into(), TCP)?;
    packet.extend(&segment[2..4]);
    packet.extend(&segment[..2]);
    if flags & 0x10 != 0 {
        packet.extend(number(8).to_be_bytes());
        packet.extend([0, 0, 0, 0, 0x50, 0x04]);
    } else {
        let taken = data + u32::from(flags & 0x02 != 0) + u32::from(flags & 0x01 != 0);
        packet.extend([0; 4]);
        packet.extend(number(4).wrapping_add(taken).to_be_bytes());
        packet.extend([0x50, 0x14]);
    }
    packet.extend([0; 6]);
    let mut pseudo = packet[12..20].to_vec();
    pseudo.extend([0, 6, 0, TCP as u8]);
    pseudo.extend(&packet[IP..]);
    let check = sum(&pseudo);
    put(&mut packet, IP + 16, check);
    Some(packet)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn checks_hold(packet: &[u8]) {
        let len = header_len(packet).expect("IPv4");
        assert_eq!(sum(&packet[..len]), 0, "IP");
        let body = &packet[len..];
        if packet[9] == 1 {
            return assert_eq!(sum(body), 0, "ICMP");
        }
        let mut pseudo = packet[12..20].to_vec();
        pseudo.extend([0, packet[9]]);
        pseudo.extend((body.len() as u16).to_be_bytes());
        pseudo.extend(body);
        assert_eq!(sum(&pseudo), 0, "transport");
    }

    pub(crate) fn end(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    /// A datagram or a segment with right checksums.
    fn packet(protocol: u8, body: &[u8]) -> Vec<u8> {
        let ip = |text: &str| text.parse().expect("an address");
        let mut packet =
            header(protocol, ip("192.168.1.10"), ip("198.51.100.1"), body.len()).expect("both are IPv4");
        packet.extend(body);
        let check = IP + if protocol == 6 { 16 } else { 6 };
        let mut pseudo = packet[12..20].to_vec();
        pseudo.extend([0, protocol]);
        pseudo.extend((body.len() as u16).to_be_bytes());
        pseudo.extend(&packet[IP..]);
        put(&mut packet, check, sum(&pseudo));
        packet
    }

    /// From 192.168.1.10:5000 to 198.51.100.1:3478.
    pub(crate) fn datagram() -> Vec<u8> {
        let mut body = vec![0x13, 0x88, 0x0d, 0x96, 0, 13, 0, 0];
        body.extend(b"hello");
        packet(17, &body)
    }

    /// From 192.168.1.10:5000 to 198.51.100.1:80.
    pub(crate) fn segment(flags: u8) -> Vec<u8> {
        packet(6, &[0x13, 0x88, 0, 80, 0, 0, 0, 9, 0, 0, 0, 7, 0x50, flags, 1, 0, 0, 0, 0, 0, b'x', b'y'])
    }

    #[test]
    fn ends_are_replaced_and_checksums_stay_right() {
        for mut packet in [datagram(), segment(0x18)] {
            checks_hold(&packet);
            let (from, to) = (end("203.0.113.1:40000"), end("10.255.0.1:65535"));
            rewrite(&mut packet, from, to);
            assert!(hop(&mut packet));
            checks_hold(&packet);
            let Some(Content::Packet(header)) = read(&packet) else { panic!("it is one") };
            assert_eq!((header.from, header.to), (from, to));
        }
        let mut without = datagram();
        put(&mut without, IP + 6, 0);
        rewrite(&mut without, end("203.0.113.1:40000"), end("10.255.0.1:65535"));
        assert_eq!(word(&without, IP + 6), 0, "no checksum stays none");
        let mut last = datagram();
        last[8] = 1;
        assert!(!hop(&mut last));
    }

    #[test]
    fn errors_quote_what_the_other_side_knows() {
        let inner = datagram();
        let mut error = unreachable(&inner).expect("it can be quoted");
        checks_hold(&error);
        let Some(Content::Error(quoted)) = read(&error) else { panic!("it is one") };
        assert_eq!((quoted.from, quoted.to), (end("192.168.1.10:5000"), end("198.51.100.1:3478")));
        let outside = Header { from: end("203.0.113.1:40000"), ..quoted };
        rewrite_error(&mut error, &outside, Ipv4Addr::new(198, 51, 100, 1));
        checks_hold(&error);
        assert_eq!(read(&error), Some(Content::Error(outside)));
        assert_eq!(address(&error, 16), Ipv4Addr::new(203, 0, 113, 1));
    }

    #[test]
    fn resets_are_of_the_connection_that_they_end() {
        let answer = reset(&segment(0x02)).expect("a segment");
        checks_hold(&answer);
        let Some(Content::Packet(header)) = read(&answer) else { panic!("it is one") };
        assert_eq!((header.from, header.to), (end("198.51.100.1:80"), end("192.168.1.10:5000")));
        assert!(header.flags.rst && header.flags.ack);
        assert_eq!(answer[IP + 8..IP + 12], [0, 0, 0, 12], "behind SYN and two bytes");
        let answer = reset(&segment(0x18)).expect("a segment");
        checks_hold(&answer);
        assert_eq!(answer[IP + 4..IP + 8], [0, 0, 0, 7], "where the other side is");
    }

    #[test]
    fn nothing_that_is_no_packet_is_read_as_one() {
        for packet in [datagram(), segment(0x02), unreachable(&datagram()).expect("it can be quoted")] {
            for len in 0..packet.len().min(IP + QUOTED) {
                assert_eq!(read(&packet[..len]), None);
                assert_eq!(reset(&packet[..len]), None);
                assert_eq!(unreachable(&packet[..len]), None);
            }
            for (at, bits) in [(0, 0x4f), (0, 0x65), (9, 47)] {
                let mut wrong = packet.clone();
                wrong[at] = bits;
                assert_eq!(read(&wrong), None, "byte {at}: {bits:02x}");
            }
        }
        for (at, bits) in [(6, 0x20), (7, 0x01)] {
            let mut fragment = datagram();
            fragment[at] = bits;
            assert_eq!(read(&fragment), None, "a fragment");
        }
    }
}
