//! Local networks, routers, boxes, roaming.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use towline_lab::{
    Drop, Event, Host, Link, Middlebox, Network, Packet, Plain, Record, Verdict, Way, World, run,
};
use towline_net::{Group, Net, TcpConnect, UdpBind, UdpSocket, now};

const MS: Duration = Duration::from_millis(1);
const LINE: u32 = 2;

fn host(world: &World, name: &str, network: Network) -> Host {
    let host = world.host(name);
    host.attach(network, Link::delay(MS));
    host
}

async fn arrives(socket: &dyn UdpSocket) -> Option<SocketAddr> {
    let mut buf = [0; 100];
    timeout(Duration::from_secs(1), socket.recv(&mut buf)).await.ok().map(|got| got.unwrap().from)
}

fn group(addr: impl Into<IpAddr>) -> Group {
    Group { addr: addr.into(), interface: LINE }
}

#[test]
fn multicast_reaches_the_members_in_the_segment() {
    run(1, async |world| {
        let (lan, other_lan, internet) = (world.lan(), world.lan(), world.internet());
        world.router("router", lan, internet, Link::fibre(), Plain);
        let here = host(&world, "here", lan);
        let v4 = Ipv4Addr::new(239, 192, 0, 1);
        let v6: IpAddr = "ff12::8080".parse().unwrap();
        let member = |host: &Host, groups| {
            let addr: SocketAddr = ([0, 0, 0, 0], 8888).into();
            host.bind_udp(&UdpBind { shared: true, groups, ..UdpBind::new(addr) }).unwrap()
        };
        let first = member(&host(&world, "first", lan), vec![group(v4)]);
        let second = host(&world, "second", lan);
        let (second, third) = (member(&second, vec![group(v4)]), member(&second, vec![group(v4)]));
        let stranger = member(&host(&world, "stranger", lan), vec![]);
        let far = member(&host(&world, "far", other_lan), vec![group(v4)]);
        let away = member(&host(&world, "away", internet), vec![]);

        let own = member(&here, vec![group(v4)]);
        own.try_send(b"anybody?", (v4, 8888).into()).unwrap();
        let from = Some((here.ipv4(), 8888).into());
        for wanted in [&first, &second, &third, &own] {
            assert_eq!(arrives(&**wanted).await, from);
        }
        for unwanted in [&stranger, &far, &away] {
            assert_eq!(arrives(&**unwanted).await, None);
        }

        let quiet = here.bind_udp(&UdpBind { multicast_loop: false, ..UdpBind::any_v4() }).unwrap();
        quiet.try_send(b"anybody?", (v4, 8888).into()).unwrap();
        assert!(arrives(&*first).await.is_some());
        assert_eq!(arrives(&*own).await, None);

        let addr: SocketAddr = "[::]:8888".parse().unwrap();
        let six = bind_on_another(&world, lan, &UdpBind { groups: vec![group(v6)], ..UdpBind::new(addr) });
        let ask = here.bind_udp(&UdpBind { multicast_interface: Some(LINE), ..UdpBind::any_v6() }).unwrap();
        ask.try_send(b"six?", (v6, 8888).into()).unwrap();
        assert_eq!(arrives(&*six).await, Some((here.ipv6(), ask.local_addr().port()).into()));
        let lost = host(&world, "lost", internet).bind_udp(&UdpBind::any_v4()).unwrap();
        let error = lost.try_send(b"anybody?", (v4, 8888).into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
    });
}

fn bind_on_another(world: &World, lan: Network, options: &UdpBind) -> Box<dyn UdpSocket> {
    host(world, "six", lan).bind_udp(options).unwrap()
}

#[test]
fn routers_join_networks_in_both_families() {
    run(1, async |world| {
        let internet = world.internet();
        let (street, home, other) = (world.lan(), world.lan(), world.lan());
        world.router("street", street, internet, Link::delay(10 * MS), Plain);
        world.router("home", home, street, Link::delay(2 * MS), Plain);
        world.router("other", other, internet, Link::delay(10 * MS), Plain);
        let (one, two) = (host(&world, "one", home), host(&world, "two", other));
        for (from, to) in [(&one, &two), (&two, &one)] {
            for addr in [to.ipv4(), to.ipv6()] {
                let mut listener = to.listen_tcp((addr, 0).into()).unwrap();
                let start = now();
                let connecting = from.connect_tcp(listener.local_addr(), TcpConnect::default());
                let (ours, theirs) = tokio::join!(connecting, listener.accept());
                // 1 + 0.1 + 2 + 0.1 + 10 + 10 + 0.1 + 1 ms each way, and what ethernet ports take to send.
                let one_way = now() - start;
                assert!((72 * MS..74 * MS).contains(&one_way), "{one_way:?}");
                assert_eq!(ours.unwrap().local_addr(), theirs.unwrap().peer_addr());
            }
        }
    });
}

/// A NAT that keeps the port and lets everybody in: enough to see that boxes may rewrite.
#[derive(Debug, Default)]
struct FullCone {
    outside: Option<IpAddr>,
    inside: BTreeMap<u16, SocketAddr>,
}

impl Middlebox for FullCone {
    fn attached(&mut self, _now: Duration, outside: &[IpAddr]) {
        self.outside = outside.iter().copied().find(IpAddr::is_ipv4);
    }

    fn announces(&self, ipv6: bool) -> bool {
        ipv6
    }

    fn pass(&mut self, _now: Duration, way: Way, packet: &mut Packet) -> Verdict {
        let Some(outside) = self.outside.filter(|_| packet.from.is_ipv4()) else { return Verdict::Forward };
        if way == Way::Out {
            self.inside.insert(packet.from.port(), packet.from);
            packet.from.set_ip(outside);
        }
        if packet.to.ip() == outside {
            match self.inside.get(&packet.to.port()) {
                Some(inside) => packet.to = *inside,
                None => return Verdict::Refuse,
            }
        }
        Verdict::Forward
    }
}

#[test]
fn a_box_may_translate_and_refuse() {
    run(1, async |world| {
        let internet = world.internet();
        let home = world.lan();
        world.router("nat", home, internet, Link::delay(MS), FullCone::default());
        let (inside, outside) = (host(&world, "inside", home), host(&world, "outside", internet));

        let mut listener = outside.listen_tcp((outside.ipv4(), 0).into()).unwrap();
        let connecting = inside.connect_tcp(listener.local_addr(), TcpConnect::default());
        let (ours, theirs) = tokio::join!(connecting, listener.accept());
        let (mut ours, mut theirs) = (ours.unwrap(), theirs.unwrap());
        assert_ne!(theirs.peer_addr(), ours.local_addr());
        theirs.write_all(b"hello").await.unwrap();
        ours.read_exact(&mut [0; 5]).await.unwrap();

        let (near, far) =
            (inside.bind_udp(&UdpBind::any_v4()).unwrap(), outside.bind_udp(&UdpBind::any_v4()).unwrap());
        near.try_send(b"out", (outside.ipv4(), far.local_addr().port()).into()).unwrap();
        let seen = arrives(&*far).await.unwrap();
        assert_eq!(seen.ip(), theirs.peer_addr().ip());
        far.try_send(b"in", seen).unwrap();
        assert!(arrives(&*near).await.is_some());
        // Round the corner, back into the house.
        let other = host(&world, "other", home).bind_udp(&UdpBind::any_v4()).unwrap();
        other.try_send(b"hairpin", seen).unwrap();
        assert_eq!(arrives(&*near).await.unwrap().ip(), seen.ip());

        // Uninvited: refused by the box; by its inner address: no way there.
        far.try_send(b"in", (seen.ip(), 9).into()).unwrap();
        far.try_send(b"in", (inside.ipv4(), near.local_addr().port()).into()).unwrap();
        assert!(arrives(&*near).await.is_none());
        let is = |why: Drop| move |record: &&Record| matches!(record, Record::Packet { event: Event::Dropped(is), .. } if *is == why);
        let trace = world.trace();
        assert_eq!(trace.timeline().filter(is(Drop::Refused)).count(), 1);
        assert_eq!(trace.timeline().filter(is(Drop::NoRoute)).count(), 1);

        let six = outside.listen_tcp((outside.ipv6(), 0).into()).unwrap();
        let ours = inside.connect_tcp(six.local_addr(), TcpConnect::default()).await.unwrap();
        assert_eq!(ours.local_addr().ip(), inside.ipv6());
    });
}

#[test]
fn a_host_is_told_when_its_interfaces_change() {
    run(1, async |world| {
        let internet = world.internet();
        let home = world.lan();
        world.router("router", home, internet, Link::delay(MS), Plain);
        let (phone, peer) = (host(&world, "phone", internet), host(&world, "peer", internet));
        let mut changes = phone.changes();
        assert!(timeout(10 * MS, changes.changed()).await.is_err());

        let old = phone.ipv4();
        let mut listener = peer.listen_tcp((peer.ipv4(), 0).into()).unwrap();
        let (mut stream, _theirs) = {
            let connecting = phone.connect_tcp(listener.local_addr(), TcpConnect::default());
            let (ours, theirs) = tokio::join!(connecting, listener.accept());
            (ours.unwrap(), theirs.unwrap())
        };
        let bound = phone.bind_udp(&UdpBind::new((old, 0).into())).unwrap();

        phone.roam(LINE, home);
        changes.changed().await;
        assert_ne!(phone.ipv4(), old);
        // What is bound to the old address is of no more use.
        let error = bound.try_send(b"x", (peer.ipv4(), 1).into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
        stream.write_all(b"x").await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::TimedOut);
        let again = phone.connect_tcp(listener.local_addr(), TcpConnect::default()).await.unwrap();
        assert_eq!(again.local_addr().ip(), phone.ipv4());

        phone.set_up(LINE, false);
        changes.changed().await;
        assert!(!phone.interfaces().unwrap()[1].up);
        let error = phone.connect_tcp(listener.local_addr(), TcpConnect::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
        phone.set_up(LINE, true);
        let before = phone.ipv4();
        phone.readdress(LINE);
        changes.changed().await;
        assert_ne!(phone.ipv4(), before);
        assert!(timeout(10 * MS, changes.changed()).await.is_err(), "changes are merged");
        phone.connect_tcp(listener.local_addr(), TcpConnect::default()).await.unwrap();
    });
}

#[test]
fn two_interfaces_are_two_ways() {
    run(1, async |world| {
        let (internet, home) = (world.internet(), world.lan());
        world.router("router", home, internet, Link::delay(10 * MS), Plain);
        let laptop = host(&world, "laptop", home);
        let mobile = laptop.attach(internet, Link::delay(40 * MS));
        let peer = host(&world, "peer", internet);
        let to = peer.bind_udp(&UdpBind::any_v4()).unwrap();
        let addr = (peer.ipv4(), to.local_addr().port()).into();
        let own: Vec<_> = laptop.interfaces().unwrap().iter().map(|i| i.addresses[0].addr).collect();
        for (interface, least) in [(LINE, 12 * MS), (mobile, 40 * MS)] {
            let local = own[interface as usize - 1];
            let from = laptop.bind_udp(&UdpBind::new((local, 0).into())).unwrap();
            let start = now();
            from.try_send(b"x", addr).unwrap();
            assert_eq!(arrives(&*to).await.unwrap().ip(), local);
            assert!(now() - start >= least && now() - start < least + 2 * MS);
        }
        // Without a word about the source, the first; when that is down, the other.
        let any = laptop.bind_udp(&UdpBind::any_v4()).unwrap();
        any.try_send(b"x", addr).unwrap();
        assert_eq!(arrives(&*to).await.unwrap().ip(), own[1]);
        laptop.set_up(LINE, false);
        any.try_send(b"x", addr).unwrap();
        assert_eq!(arrives(&*to).await.unwrap().ip(), own[2]);
    });
}

#[test]
fn hosts_are_found_by_name() {
    run(1, async |world| {
        let internet = world.internet();
        let (one, two) = (host(&world, "one", internet), host(&world, "two.example", internet));
        let found = one.resolve("two.example:4222").await.unwrap();
        assert_eq!(found, [SocketAddr::new(two.ipv4(), 4222), SocketAddr::new(two.ipv6(), 4222)]);
        assert_eq!(one.resolve("three:1").await.unwrap_err().kind(), ErrorKind::NotFound);
    });
}
