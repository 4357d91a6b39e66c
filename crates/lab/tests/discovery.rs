//! What a device can find out about the NAT before it with a few sockets and a server of two addresses and two ports, as
//! RFC 5780 has it, is what the NAT is.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::time::timeout;
use towline_lab::{
    Host, Pair, run,
    towline_nat::{Allocation, Config, Filtering, Mapping, Taken},
};
use towline_net::{Net, UdpBind, UdpSocket};

const PORTS: [u16; 2] = [3478, 3479];

/// A server: what comes to one of its four ends is answered from the one that the question names, with the source it had.
fn serve(host: &Host) -> [IpAddr; 2] {
    let interfaces = host.interfaces().unwrap();
    let own: Vec<_> =
        interfaces.iter().filter(|one| !one.loopback).map(|one| one.addresses[0].addr).collect();
    let bind = |ip: IpAddr, port| Arc::from(host.bind_udp(&UdpBind::new((ip, port).into())).unwrap());
    let ends: [Arc<dyn UdpSocket>; 4] = [0, 1, 2, 3].map(|end| bind(own[end / 2], PORTS[end % 2]));
    for end in &ends {
        let (end, all) = (Arc::clone(end), ends.clone());
        tokio::spawn(async move {
            let mut buf = [0; 1];
            while let Ok(received) = end.recv(&mut buf).await {
                let answer = received.from.to_string();
                all[usize::from(buf[0])].try_send(answer.as_bytes(), received.from).unwrap();
            }
        });
    }
    [own[0], own[1]]
}

struct Client<'a> {
    host: &'a Host,
    server: [IpAddr; 2],
}

impl Client<'_> {
    fn end(&self, number: usize) -> SocketAddr {
        (self.server[number / 2], PORTS[number % 2]).into()
    }

    fn socket(&self) -> Box<dyn UdpSocket> {
        self.host.bind_udp(&UdpBind::any_v4()).unwrap()
    }

    /// How this socket is seen at an end, if the answer comes when it is sent from another.
    async fn ask(&self, socket: &dyn UdpSocket, end: usize, from: usize) -> Option<SocketAddr> {
        let mut buf = [0; 64];
        socket.send(&[from as u8], self.end(end)).await.unwrap();
        let received = timeout(Duration::from_millis(500), socket.recv(&mut buf)).await.ok()?.unwrap();
        Some(std::str::from_utf8(&buf[..received.len]).unwrap().parse().unwrap())
    }

    /// RFC 5780 4.3.
    async fn mapping(&self) -> Mapping {
        let socket = self.socket();
        let first = self.ask(&*socket, 0, 0).await.unwrap();
        if self.ask(&*socket, 2, 2).await.unwrap() == first {
            assert_eq!(self.ask(&*socket, 3, 3).await, Some(first), "for one it is for all");
            return Mapping::EndpointIndependent;
        }
        if self.ask(&*socket, 1, 1).await.unwrap() == first {
            return Mapping::AddressDependent;
        }
        Mapping::AddressAndPortDependent
    }

    /// RFC 5780 4.4, each question by a socket of its own.
    async fn filtering(&self) -> Filtering {
        if self.ask(&*self.socket(), 0, 3).await.is_some() {
            return Filtering::EndpointIndependent;
        }
        match self.ask(&*self.socket(), 0, 1).await {
            Some(_) => Filtering::AddressDependent,
            None => Filtering::AddressAndPortDependent,
        }
    }

    /// Ports that new mappings get.
    async fn allocation(&self) -> Allocation {
        let mut steps = Vec::new();
        let (mut last, mut kept) = (None, 0);
        for _ in 0..8 {
            let socket = self.socket();
            let seen = self.ask(&*socket, 0, 0).await.unwrap().port();
            kept += usize::from(seen == socket.local_addr().port());
            steps.extend(last.replace(seen).map(|last: u16| seen.wrapping_sub(last) as i16));
        }
        if kept == 8 {
            return Allocation::Preserving { taken: Taken::Random };
        }
        if steps.iter().all(|step| *step == steps[0]) {
            return Allocation::Sequential { step: steps[0] };
        }
        Allocation::Random
    }

    async fn hairpin(&self) -> bool {
        let (one, other) = (self.socket(), self.socket());
        let seen = self.ask(&*other, 0, 0).await.unwrap();
        let own = self.ask(&*one, 0, 0).await.unwrap();
        // Whatever the filter, it lets in who was sent to.
        other.send(b"open", own).await.unwrap();
        one.send(b"hello", seen).await.unwrap();
        timeout(Duration::from_millis(500), other.recv(&mut [0; 8])).await.is_ok()
    }
}

async fn discover(pair: &Pair) -> (Mapping, Filtering, Allocation) {
    let client = Client { host: &pair.a.host, server: serve(&pair.rendezvous) };
    (client.mapping().await, client.filtering().await, client.allocation().await)
}

#[test]
fn every_kind_is_told_from_outside() {
    use Filtering as F;
    use Mapping as M;
    for mapping in [M::EndpointIndependent, M::AddressDependent, M::AddressAndPortDependent] {
        for filtering in [F::EndpointIndependent, F::AddressDependent, F::AddressAndPortDependent] {
            for allocation in [
                Allocation::Preserving { taken: Taken::Random },
                Allocation::Sequential { step: 2 },
                Allocation::Random,
            ] {
                let config = Config::of_kind(mapping, filtering, allocation);
                let found = run(11, async |world| discover(&world.behind(config, Config::full_cone())).await);
                assert_eq!(found, (mapping, filtering, allocation));
            }
        }
    }
}

#[test]
fn hairpins_are_told_from_inside() {
    for hairpin in [false, true] {
        let config = Config { hairpin, ..Config::full_cone() };
        let found = run(1, async |world| {
            let pair = world.behind(config, Config::full_cone());
            Client { host: &pair.a.host, server: serve(&pair.rendezvous) }.hairpin().await
        });
        assert_eq!(found, hairpin);
    }
}
