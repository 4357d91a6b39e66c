//! What NATs and firewalls do to programs: connections that open from both sides, refusals, restarts, new addresses, leases.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep, timeout},
};
use towline_lab::{
    Gate, Host, Link, Pair, Place, Site, World, run,
    towline_nat::{Config, MapError, Midstream, Refusal, Request, Rules, Transport},
};
use towline_net::{Net, TcpConnect, TcpStream, UdpBind, UdpSocket};

const S: Duration = Duration::from_secs(1);
const LINE: u32 = 2;

/// A TCP connection to the rendezvous, and how it is seen there.
async fn known(pair: &Pair, site: &Site, local: SocketAddr) -> (Box<dyn TcpStream>, SocketAddr) {
    let mut listener = pair.rendezvous.listen_tcp((pair.rendezvous.ipv4(), 0).into()).unwrap();
    let options = TcpConnect { local: Some(local), ..TcpConnect::default() };
    let connecting = site.host.connect_tcp(listener.local_addr(), options);
    let (ours, theirs) = tokio::join!(biased; connecting, listener.accept());
    (ours.unwrap(), theirs.unwrap().peer_addr())
}

/// Both connect to each other at once, from the ports that the rendezvous has seen.
async fn open_at_once(world: &World, config: &Config, lag: Duration) -> [io::Result<()>; 2] {
    let pair = world.behind(config.clone(), config.clone());
    let (a, b): (SocketAddr, SocketAddr) =
        ((pair.a.host.ipv4(), 7000).into(), (pair.b.host.ipv4(), 7001).into());
    let (_kept_a, seen_a) = known(&pair, &pair.a, a).await;
    let (_kept_b, seen_b) = known(&pair, &pair.b, b).await;
    let dial = async |host: &Host, local, to, after| {
        sleep(after).await;
        let mut stream = host.connect_tcp(to, TcpConnect { local: Some(local), timeout: 20 * S }).await?;
        stream.write_all(b"hello").await?;
        stream.read_exact(&mut [0; 5]).await?;
        Ok(())
    };
    let (of_a, of_b) = tokio::join!(biased; dial(&pair.a.host, a, seen_b, Duration::ZERO), dial(&pair.b.host, b, seen_a, lag));
    [of_a, of_b]
}

/// RFC 5382 REQ-2 and REQ-4: it depends on what the box says to who comes too early.
#[test]
fn simultaneous_open_passes_boxes_that_keep_silent() {
    let lag = Duration::from_millis(300);
    for (unsolicited, passes) in [
        (Refusal::Silent, true),
        (Refusal::Late(6 * S), true),
        (Refusal::Reset, false),
        (Refusal::Unreachable, false),
    ] {
        let config = Config { unsolicited, ..Config::port_restricted_cone() };
        let ends = run(1, async |world| open_at_once(&world, &config, lag).await);
        assert_eq!(ends.iter().all(Result::is_ok), passes, "{unsolicited:?}: {ends:?}");
        // Who comes second finds the way open, or the first gone; who comes first is told at once.
        if !passes {
            let why = ends[0].as_ref().unwrap_err().kind();
            assert!(matches!(why, ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable), "{why:?}");
        }
    }
    let ends = run(1, async |world| open_at_once(&world, &Config::symmetric(), lag).await);
    assert!(ends.iter().all(Result::is_err), "no luck between two symmetric ones: {ends:?}");
}

/// Time that a connection from outside takes to fail, and how.
fn knock(config: Config) -> (Duration, ErrorKind) {
    run(1, async |world| {
        let pair = world.behind(config, Place::Open);
        let border = pair.a.border().unwrap().router.addresses()[0];
        let start = Instant::now();
        let options = TcpConnect { timeout: 20 * S, ..TcpConnect::default() };
        let error = pair.b.host.connect_tcp((border, 9).into(), options).await.unwrap_err();
        (start.elapsed(), error.kind())
    })
}

#[test]
fn who_knocks_is_told_as_the_box_has_it() {
    let with = |unsolicited| knock(Config { unsolicited, ..Config::default() });
    let (took, why) = with(Refusal::Reset);
    assert!(took < S / 10 && why == ErrorKind::ConnectionRefused, "{took:?} {why:?}");
    let (took, why) = with(Refusal::Unreachable);
    assert!(took < S / 10 && why == ErrorKind::HostUnreachable, "{took:?} {why:?}");
    let (took, why) = with(Refusal::Late(6 * S));
    assert!(took > 6 * S && took < 7 * S && why == ErrorKind::HostUnreachable, "{took:?} {why:?}");
    assert_eq!(with(Refusal::Silent), (20 * S, ErrorKind::TimedOut));
}

/// A router that finds nobody at an address in one of its networks says so to the sender, through its own box.
#[test]
fn who_connects_through_a_router_to_nobody_is_told() {
    run(1, async |world| {
        let options = TcpConnect { timeout: 20 * S, ..TcpConnect::default() };
        let unreachable = async |from: &Host, to: SocketAddr| {
            let start = Instant::now();
            let error = from.connect_tcp(to, options).await.unwrap_err();
            let took = start.elapsed();
            assert_eq!(error.kind(), ErrorKind::HostUnreachable, "{to} after {took:?}");
            assert!(took > 2 * S && took < 4 * S, "{took:?}");
        };
        // Outside of the first router is the network of the carrier.
        let pair = world.behind(Place::DoubleNat, Config::full_cone());
        let IpAddr::V4(home) = pair.a.gateways[0].router.addresses()[0] else { panic!("it has IPv4 only") };
        let [a, b, c, _] = home.octets();
        unreachable(&pair.a.host, ([a, b, c, 200], 9).into()).await;
        // Inside of the other one is a host that has gone since.
        let (_kept, seen) = known(&pair, &pair.b, (pair.b.host.ipv4(), 7000).into()).await;
        pair.b.host.unplug(LINE);
        unreachable(&pair.rendezvous, seen).await;
    });
}

#[test]
fn a_restart_and_a_new_address_break_connections_as_the_box_has_it() {
    let fates = [
        (Midstream::Reset, ErrorKind::ConnectionReset, S),
        // Adopted with another port, which the other side does not know, and resets.
        (Midstream::Adopt, ErrorKind::ConnectionReset, S),
        (Midstream::Drop, ErrorKind::TimedOut, 60 * S),
    ];
    for (midstream, wanted, within) in fates {
        for readdress in [false, true] {
            run(1, async |world| {
                let allocation = towline_lab::towline_nat::Allocation::Random;
                let config = Config { midstream, allocation, ..Config::port_restricted_cone() };
                let pair = world.behind(config, Place::Open);
                let mut listener = pair.rendezvous.listen_tcp((pair.rendezvous.ipv4(), 80).into()).unwrap();
                let connecting = pair.a.host.connect_tcp(listener.local_addr(), TcpConnect::default());
                let (ours, theirs) = tokio::join!(biased; connecting, listener.accept());
                let (mut ours, _theirs) = (ours.unwrap(), theirs.unwrap());
                let border = pair.a.border().unwrap();
                let before = border.router.addresses();
                if readdress {
                    border.router.readdress();
                    assert_ne!(border.router.addresses(), before);
                } else {
                    border.nat.as_ref().unwrap().forget();
                }
                let start = Instant::now();
                ours.write_all(b"still there?").await.unwrap();
                let error = ours.read(&mut [0]).await.unwrap_err();
                assert_eq!(error.kind(), wanted, "{midstream:?}");
                assert!(start.elapsed() < within, "{midstream:?}: {:?}", start.elapsed());
                // What is new works.
                let connecting = pair.a.host.connect_tcp(listener.local_addr(), TcpConnect::default());
                let (ours, theirs) = tokio::join!(biased; connecting, listener.accept());
                ours.unwrap();
                let now = border.router.addresses()[0];
                assert_eq!(theirs.unwrap().peer_addr().ip(), now);
            });
        }
    }
}

async fn hears(socket: &dyn UdpSocket) -> Option<SocketAddr> {
    let mut buf = [0; 100];
    timeout(S, socket.recv(&mut buf)).await.ok().map(|received| received.unwrap().from)
}

#[test]
fn a_box_opens_ports_on_request() {
    run(1, async |world| {
        let pair = world.behind(Place::PortMapping, Place::Symmetric);
        let socket = pair.a.host.bind_udp(&UdpBind::any_v4()).unwrap();
        let mut listener = pair.a.host.listen_tcp((pair.a.host.ipv4(), 0).into()).unwrap();
        let nat = pair.a.border().unwrap().nat.clone().unwrap();
        let ask = |transport, port| Request {
            transport,
            inside: (pair.a.host.ipv4(), port).into(),
            port: Some(4000),
            exact: false,
            lifetime: 3600 * S,
        };
        let udp = nat.map(&ask(Transport::Udp, socket.local_addr().port())).unwrap().outside;
        let tcp = nat.map(&ask(Transport::Tcp, listener.local_addr().port())).unwrap().outside;
        assert_eq!((udp.port(), tcp.port(), udp.ip()), (4000, 4000, nat.outside()[0]));
        let stranger = pair.b.host.bind_udp(&UdpBind::any_v4()).unwrap();
        stranger.send(b"hello", udp).await.unwrap();
        let from = hears(&*socket).await.unwrap();
        socket.send(b"hello yourself", from).await.unwrap();
        assert_eq!(hears(&*stranger).await, Some(udp));
        let connecting = pair.b.host.connect_tcp(tcp, TcpConnect::default());
        let (theirs, ours) = tokio::join!(biased; connecting, listener.accept());
        assert!(theirs.is_ok() && ours.is_ok());

        let other = pair.b.border().unwrap().nat.clone().unwrap();
        assert_eq!(other.map(&ask(Transport::Udp, 1)), Err(MapError::Disabled));
        // Behind a second NAT a lease of the first opens nothing.
        let inner = Gate::nat(Config::home_router());
        let deep = world.site("deep", pair.internet, vec![inner, Gate::nat(Config::carrier_grade())]);
        let near = deep.gateways[0].nat.as_ref().unwrap();
        let inside = (deep.host.ipv4(), 5000).into();
        let lease = near.map(&Request { inside, ..ask(Transport::Udp, 1) }).unwrap();
        assert!(lease.outside.to_string().starts_with("100.64."), "{}", lease.outside);
    });
}

#[test]
fn hosts_share_the_addresses_of_a_carrier() {
    run(1, async |world| {
        let pair = world.behind(Place::CarrierGrade, Place::Open);
        let border = pair.a.border().unwrap();
        for _ in 0..3 {
            border.router.add_address();
        }
        assert_eq!(border.nat.as_ref().unwrap().outside().len(), 4);
        let server = pair.rendezvous.bind_udp(&UdpBind::any_v4()).unwrap();
        let at = (pair.rendezvous.ipv4(), server.local_addr().port()).into();
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..12 {
            let host = world.host(format!("phone {number}"));
            host.attach(pair.a.network, Link::ethernet());
            let mut own = std::collections::BTreeSet::new();
            for _ in 0..4 {
                let socket = host.bind_udp(&UdpBind::any_v4()).unwrap();
                socket.send(b"hello", at).await.unwrap();
                let from = hears(&*server).await.unwrap();
                server.send(b"hello", from).await.unwrap();
                assert!(hears(&*socket).await.is_some());
                own.insert(from.ip());
            }
            assert_eq!(own.len(), 1, "paired");
            seen.extend(own);
        }
        assert!(seen.len() > 1, "{seen:?}");
    });
}

#[test]
fn udp_can_be_forbidden_in_mid_flight_and_only_the_web_let_through() {
    run(1, async |world| {
        let pair = world.behind(vec![Gate::firewall(Rules::stateful())], Place::Open);
        let (one, other) = (
            pair.a.host.bind_udp(&UdpBind::any_v4()).unwrap(),
            pair.b.host.bind_udp(&UdpBind::any_v4()).unwrap(),
        );
        let (a, b) =
            ((pair.a.host.ipv4(), one.local_addr().port()), (pair.b.host.ipv4(), other.local_addr().port()));
        one.send(b"hello", b.into()).await.unwrap();
        assert_eq!(hears(&*other).await, Some(a.into()));
        other.send(b"hello", a.into()).await.unwrap();
        assert!(hears(&*one).await.is_some());
        let wall = pair.a.border().unwrap().firewall.clone().unwrap();
        wall.set_rules(Rules::no_udp());
        one.send(b"hello", b.into()).await.unwrap();
        other.send(b"hello", a.into()).await.unwrap();
        assert_eq!((hears(&*one).await, hears(&*other).await), (None, None));
        assert_eq!(wall.log().len(), 2);

        wall.set_rules(Rules::web_only());
        for (port, passes) in [(443, true), (444, false)] {
            let _listener = pair.b.host.listen_tcp((pair.b.host.ipv4(), port).into()).unwrap();
            let to = (pair.b.host.ipv4(), port).into();
            let options = TcpConnect { timeout: 5 * S, ..TcpConnect::default() };
            assert_eq!(pair.a.host.connect_tcp(to, options).await.is_ok(), passes);
        }
    });
}

#[test]
fn broken_ipv6_has_routes_and_arrives_nowhere() {
    run(1, async |world| {
        let pair = world.behind(Place::BrokenIpv6, Place::Ipv6Only);
        let server = pair.rendezvous.bind_udp(&UdpBind::any_v6()).unwrap();
        let at = (pair.rendezvous.ipv6(), server.local_addr().port()).into();
        for (site, works) in [(&pair.a, false), (&pair.b, true)] {
            let socket = site.host.bind_udp(&UdpBind::any_v6()).unwrap();
            socket.send(b"anybody?", at).await.unwrap();
            assert_eq!(hears(&*server).await.is_some(), works);
        }
        let error = pair
            .b
            .host
            .bind_udp(&UdpBind::any_v4())
            .unwrap()
            .try_send(b"four", (pair.rendezvous.ipv4(), 9).into());
        assert_eq!(error.unwrap_err().kind(), ErrorKind::NetworkUnreachable);
    });
}

#[test]
fn interfaces_come_and_go_and_old_sockets_fall_silent() {
    run(1, async |world| {
        let pair = world.behind(Place::FullCone, Place::Open);
        let (host, server) = (&pair.a.host, pair.rendezvous.bind_udp(&UdpBind::any_v4()).unwrap());
        let at: SocketAddr = (pair.rendezvous.ipv4(), server.local_addr().port()).into();
        let mut listener = pair.rendezvous.listen_tcp((pair.rendezvous.ipv4(), 80).into()).unwrap();
        let connecting = host.connect_tcp(listener.local_addr(), TcpConnect::default());
        let (stream, _theirs) = tokio::join!(biased; connecting, listener.accept());
        let mut stream = stream.unwrap();
        let mut changes = host.changes();
        let (old, any) = (
            host.bind_udp(&UdpBind::new((host.ipv4(), 0).into())).unwrap(),
            host.bind_udp(&UdpBind::any_v4()).unwrap(),
        );
        for socket in [&old, &any] {
            socket.send(b"hello", at).await.unwrap();
            assert!(hears(&*server).await.is_some());
        }

        let was = host.ipv4();
        host.unplug(LINE);
        timeout(S, changes.changed()).await.unwrap();
        let lines = host.interfaces().unwrap();
        let line = lines.iter().find(|one| one.index == LINE).unwrap();
        assert!(!line.up && line.addresses.is_empty());
        assert_eq!(any.try_send(b"hello", at).unwrap_err().kind(), ErrorKind::NetworkUnreachable);

        host.plug(LINE, pair.a.network);
        timeout(S, changes.changed()).await.unwrap();
        assert_ne!(host.ipv4(), was);
        any.send(b"hello", at).await.unwrap();
        assert!(hears(&*server).await.is_some(), "a socket without an address of its own goes on");
        assert_eq!(old.try_send(b"hello", at).unwrap_err().kind(), ErrorKind::AddrNotAvailable);
        let start = Instant::now();
        stream.write_all(b"hello").await.unwrap();
        let error = stream.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "nobody says that the address is gone");
        assert!(start.elapsed() >= 30 * S);
    });
}
