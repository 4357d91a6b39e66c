//! A home of the lab whose router opens ports when it is asked by NAT-PMP.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use towline::net::{
    BoxFuture, Changes, Gateway, Interface, Net, TcpConnect, TcpListener, TcpStream, UdpBind, UdpSocket,
};
use towline_lab::towline_nat::{Request, Transport};
use towline_lab::{Host, Link, NatHandle, Site, World};

/// The host of a site, told which router it has: a host beside it that speaks for the NAT.
#[derive(Debug)]
pub struct Home {
    host: Host,
    gateway: Gateway,
}

impl Home {
    pub fn new(world: &World, site: &Site) -> Self {
        let router = world.host("control of the router");
        router.attach(site.network, Link::ethernet());
        let nat = site.border().unwrap().nat.clone().unwrap();
        let socket = router.bind_udp(&UdpBind::new(SocketAddr::new(router.ipv4(), 5351))).unwrap();
        tokio::spawn(serve(socket, nat));
        Self::with_router(&site.host, router.ipv4())
    }

    /// The host, told that this is its router, whatever answers there.
    pub fn with_router(host: &Host, router: IpAddr) -> Self {
        let interfaces = host.interfaces().unwrap();
        let interface = interfaces.iter().find(|interface| !interface.loopback).unwrap().index;
        Self { host: host.clone(), gateway: Gateway { router, local: host.ipv4(), interface } }
    }
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

impl Net for Home {
    fn interfaces(&self) -> io::Result<Vec<Interface>> {
        self.host.interfaces()
    }

    fn gateways(&self) -> io::Result<Vec<Gateway>> {
        Ok(vec![self.gateway])
    }

    fn changes(&self) -> Changes {
        self.host.changes()
    }

    fn bind_udp(&self, options: &UdpBind) -> io::Result<Box<dyn UdpSocket>> {
        self.host.bind_udp(options)
    }

    fn listen_tcp(&self, addr: SocketAddr) -> io::Result<Box<dyn TcpListener>> {
        self.host.listen_tcp(addr)
    }

    fn connect_tcp(
        &self,
        to: SocketAddr,
        options: TcpConnect,
    ) -> BoxFuture<'static, io::Result<Box<dyn TcpStream>>> {
        self.host.connect_tcp(to, options)
    }

    fn resolve(&self, host_port: &str) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        self.host.resolve(host_port)
    }

    fn unix_time(&self) -> Duration {
        self.host.unix_time()
    }

    fn fill_random(&self, out: &mut [u8]) {
        self.host.fill_random(out);
    }

    fn offload_job(&self, job: Box<dyn FnOnce() + Send>) {
        self.host.offload_job(job);
    }
}
