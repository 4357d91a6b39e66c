//! Hosts with a wrong clock, without names, without room for another socket; and boxes that read what passes.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::{
    io::ErrorKind,
    sync::{Arc, Mutex},
    time::Duration,
};

use towline_lab::{Link, Middlebox, Names, Packet, Verdict, Way, World, run};
use towline_net::{Net as _, TcpConnect, UdpBind};

fn hosts(world: &World) -> [towline_lab::Host; 2] {
    let internet = world.internet();
    ["one", "other"].map(|name| {
        let host = world.host(name);
        host.attach(internet, Link::fibre());
        host
    })
}

#[test]
fn a_clock_may_be_wrong_and_goes_on() {
    run(1, async |world| {
        let [one, other] = hosts(&world);
        one.set_clock(Duration::from_hours(24));
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(one.unix_time(), Duration::from_hours(24) + Duration::from_secs(5));
        assert_eq!(other.unix_time(), Duration::from_hours(500_000) + Duration::from_secs(5));
    });
}

#[test]
fn names_may_be_unknown_or_never_answered_and_addresses_are_none() {
    run(2, async |world| {
        let [one, other] = hosts(&world);
        let ask = async |name: &str| {
            let begun = towline_net::now();
            (one.resolve(name).await.map_err(|error| error.kind()), towline_net::now() - begun)
        };
        let address = (other.ipv4(), 7).into();
        for (names, answer, took) in [
            (Names::Unknown, Err(ErrorKind::NotFound), Duration::ZERO),
            (Names::Silent, Err(ErrorKind::TimedOut), Duration::from_secs(10)),
        ] {
            one.set_names(names);
            assert_eq!(ask("other:7").await, (answer, took));
            assert_eq!(ask(&format!("{}:7", other.ipv4())).await, (Ok(vec![address]), Duration::ZERO));
            assert!(other.resolve("one:7").await.is_ok(), "the others are not concerned");
        }
        one.set_names(Names::Answered);
        assert!(ask("other:7").await.0.unwrap().contains(&address));
    });
}

#[test]
fn without_room_no_socket_of_any_kind_is_opened() {
    run(3, async |world| {
        let [one, other] = hosts(&world);
        let _listener = other.listen_tcp((other.ipv4(), 7).into()).unwrap();
        let kept = one.bind_udp(&UdpBind::any_v4()).unwrap();
        one.set_room(one.sockets());
        let connected = one.connect_tcp((other.ipv4(), 7).into(), TcpConnect::default()).await;
        let tried = [
            one.bind_udp(&UdpBind::any_v4()).map(drop),
            one.listen_tcp((one.ipv4(), 0).into()).map(drop),
            connected.map(drop),
        ];
        for failed in tried {
            assert_eq!(failed.unwrap_err().raw_os_error(), Some(24), "as the system says it");
        }
        let to = other.bind_udp(&UdpBind::any_v4()).unwrap();
        kept.send(b"still here", (other.ipv4(), to.local_addr().port()).into()).await.unwrap();
        assert_eq!(to.recv(&mut [0; 16]).await.unwrap().len, 10);
        drop(kept);
        one.bind_udp(&UdpBind::any_v4()).unwrap();
    });
}

#[test]
fn ports_may_be_few() {
    run(5, async |world| {
        let [one, _] = hosts(&world);
        let before = one.bind_udp(&UdpBind::any_v4()).unwrap();
        assert_eq!(before.local_addr().port(), 49152);
        one.set_ports(3000..=3002);
        let few: Vec<_> = (0..3).map(|_| one.bind_udp(&UdpBind::any_v4()).unwrap()).collect();
        let mut ports: Vec<u16> = few.iter().map(|socket| socket.local_addr().port()).collect();
        ports.sort_unstable();
        assert_eq!(ports, [3000, 3001, 3002]);
        assert_eq!(one.bind_udp(&UdpBind::any_v4()).unwrap_err().kind(), ErrorKind::AddrInUse);
        one.bind_udp(&UdpBind::new((one.ipv4(), 4000).into())).unwrap();
        one.listen_tcp((one.ipv4(), 0).into()).unwrap();
    });
}

/// Keeps the words of datagrams.
#[derive(Debug, Clone, Default)]
struct Tap(Arc<Mutex<Vec<Vec<u8>>>>);

impl Middlebox for Tap {
    fn pass(&mut self, _: Duration, _: Way, packet: &mut Packet) -> Verdict {
        self.0.lock().unwrap().extend(packet.datagram().map(<[u8]>::to_vec));
        Verdict::Forward
    }
}

#[test]
fn a_box_reads_datagrams_and_nothing_else() {
    run(4, async |world| {
        let internet = world.internet();
        let (inside, tap) = (world.lan(), Tap::default());
        world.router("tap", inside, internet, Link::fibre(), tap.clone());
        let (near, far) = (world.host("near"), world.host("far"));
        near.attach(inside, Link::ethernet());
        far.attach(internet, Link::fibre());
        let _listener = far.listen_tcp((far.ipv4(), 7).into()).unwrap();
        near.connect_tcp((far.ipv4(), 7).into(), TcpConnect::default()).await.unwrap();
        let socket = near.bind_udp(&UdpBind::any_v4()).unwrap();
        socket.send(b"words", (far.ipv4(), 7).into()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(*tap.0.lock().unwrap(), [b"words".to_vec()]);
    });
}
