//! A home of the lab whose router opens ports when it is asked by NAT-PMP.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use towline::net::{Gateway, Net as _, UdpBind, UdpSocket};
use towline_lab::towline_nat::{Request, Transport};
use towline_lab::{Host, Link, NatHandle, Site, World};

/// Tells the host of a site which router it has: a host beside it that speaks for the NAT.
pub fn open_ports(world: &World, site: &Site) {
    let router = world.host("control of the router");
    router.attach(site.network, Link::ethernet());
    let nat = site.gateways[0].nat.clone().unwrap();
    let socket = router.bind_udp(&UdpBind::new(SocketAddr::new(router.ipv4(), 5351))).unwrap();
    tokio::spawn(serve(socket, nat));
    set_router(&site.host, router.ipv4());
}

/// Tells a host that this is its router, whatever answers there.
pub fn set_router(host: &Host, router: IpAddr) {
    let interfaces = host.interfaces().unwrap();
    let interface = interfaces.iter().find(|interface| !interface.loopback).unwrap().index;
    host.set_gateways(vec![Gateway { router, local: host.ipv4(), interface }]);
}

async fn serve(socket: Box<dyn UdpSocket>, nat: NatHandle) {
    let mut buf = [0; 64];
    loop {
        let received = socket.recv(&mut buf).await.unwrap();
        if let Some(answer) = answer(&buf[..received.len], received.from.ip(), &nat) {
            socket.send(&answer, received.from).await.unwrap();
        }
    }
}

/// RFC 6886 section 3.
fn answer(asked: &[u8], from: IpAddr, nat: &NatHandle) -> Option<Vec<u8>> {
    let IpAddr::V4(outside) = nat.outside()[0] else { return None };
    let head = |version: u8, opcode: u8, result: u8| vec![version, opcode | 0x80, 0, result, 0, 0, 0, 7];
    match *asked {
        // Asked in PCP.
        [2, opcode, ..] => Some(head(0, opcode, 1)),
        [0, 0] => Some([head(0, 0, 0), outside.octets().to_vec()].concat()),
        [0, opcode @ 1..=2, _, _, ref rest @ ..] => {
            let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
            let (inside, wanted) = (port(0), port(2));
            let lifetime = u32::from_be_bytes(*rest.last_chunk()?);
            let lifetime = Duration::from_secs(lifetime.into());
            let lease = nat.map(&Request {
                transport: if opcode == 1 { Transport::Udp } else { Transport::Tcp },
                inside: SocketAddr::new(from, inside),
                port: Some(wanted),
                exact: false,
                lifetime,
            });
            let Ok(lease) = lease else { return Some(head(0, opcode, 2)) };
            let mut answer = head(0, opcode, 0);
            answer.extend(inside.to_be_bytes());
            answer.extend(lease.outside.port().to_be_bytes());
            answer.extend((lease.lifetime.as_secs() as u32).to_be_bytes());
            Some(answer)
        }
        _ => None,
    }
}
