//! The emulator between real sockets, beside the NAT of the kernel: each is what it says, seen with the same eyes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use interop::jami::Namespace;
use interop::{Peer, require};
use towline_emulator::towline_link::Link;
use towline_emulator::towline_nat::{Allocation, Config, Filtering, Mapping, Refusal, Refused, Rules, Taken};
use towline_emulator::{Router, Running, Wire};

const HOME: &str = "192.168.1.10";
const WORLD: [&str; 2] = ["198.51.100.1", "198.51.100.2"];
const OUTSIDE: &str = "203.0.113.1";
/// Longest wait for what must come.
const PATIENCE: Duration = Duration::from_secs(10);

/// A host behind a router, and one in the world with two addresses.
struct Two {
    home: Namespace,
    world: Namespace,
    _files: tempfile::TempDir,
}

impl Two {
    fn new() -> Self {
        let files = tempfile::tempdir().unwrap();
        let [home, world] = ["home", "world"].map(|name| Namespace::new(name, files.path()).unwrap());
        Self { home, world, _files: files }
    }

    fn addresses(&self) {
        self.home.ip(&format!("addr add {HOME}/24 dev eth0")).unwrap();
        for address in WORLD {
            self.world.ip(&format!("addr add {address}/24 dev eth0")).unwrap();
        }
        for side in [&self.home, &self.world] {
            side.ip("link set eth0 up").unwrap();
        }
    }

    /// The emulator between the two.
    fn emulated() -> (Self, Running) {
        let two = Self::new();
        // Names in the namespace of the test, where others may be at work.
        let [inside, outside] = ["i", "o"].map(|side| format!("emu{side}{}", std::process::id()));
        let wire = Wire::new(&inside, &outside, 1500).unwrap();
        for (namespace, device) in [(&two.home, inside), (&two.world, outside)] {
            namespace.adopt(&device).unwrap();
            namespace.ip(&format!("link set {device} name eth0")).unwrap();
        }
        two.addresses();
        for side in [&two.home, &two.world] {
            side.ip("route add default dev eth0").unwrap();
        }
        let running = wire.run(router(Config::full_cone())).unwrap();
        (two, running)
    }

    fn client(&self) -> UdpSocket {
        self.home.within(|| bind(HOME, 0)).unwrap()
    }

    /// Two addresses, two ports each.
    fn servers(&self) -> [UdpSocket; 4] {
        [0, 1, 2, 3]
            .map(|end| self.world.within(move || bind(WORLD[end / 2], 3478 + end as u16 % 2)).unwrap())
    }
}

fn bind(address: &str, port: u16) -> anyhow::Result<UdpSocket> {
    let socket = UdpSocket::bind((address, port))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn router(config: Config) -> Router {
    let outside: IpAddr = OUTSIDE.parse().unwrap();
    Router::new(Some(config), None, &[outside], [9; 32])
}

/// How a client is seen by a server.
fn seen(client: &UdpSocket, server: &UdpSocket) -> SocketAddr {
    client.send_to(b"?", server.local_addr().unwrap()).unwrap();
    server.recv_from(&mut [0]).unwrap().1
}

fn mapping(two: &Two, servers: &[UdpSocket; 4]) -> Mapping {
    let client = two.client();
    let [first, port, address] = [0, 1, 2].map(|end| seen(&client, &servers[end]));
    match (first == port, first == address) {
        (true, true) => Mapping::EndpointIndependent,
        (true, false) => Mapping::AddressDependent,
        _ => Mapping::AddressAndPortDependent,
    }
}

/// Strangers send first; then who was sent to, whose datagram must come, and what has not come by then will not.
fn filtering(two: &Two, servers: &[UdpSocket; 4]) -> Filtering {
    let client = two.client();
    let at = seen(&client, &servers[0]);
    let mut came = Vec::new();
    for end in [3, 1, 0] {
        servers[end].send_to(&[end as u8], at).unwrap();
    }
    let mut buf = [9];
    while buf[0] != 0 {
        client.recv_from(&mut buf).unwrap();
        came.push(buf[0]);
    }
    match came[..] {
        [3, 1, 0] => Filtering::EndpointIndependent,
        [1, 0] => Filtering::AddressDependent,
        [0] => Filtering::AddressAndPortDependent,
        _ => panic!("{came:?}"),
    }
}

fn allocation(two: &Two, servers: &[UdpSocket; 4]) -> Allocation {
    let clients = [(); 6].map(|()| two.client());
    let ports = clients.each_ref().map(|client| seen(client, &servers[0]).port());
    let steps: Vec<i16> = ports.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]) as i16).collect();
    if clients.iter().zip(ports).all(|(client, port)| client.local_addr().unwrap().port() == port) {
        return Allocation::Preserving { taken: Taken::Random };
    }
    if steps.iter().all(|step| *step == steps[0]) {
        return Allocation::Sequential { step: steps[0] };
    }
    Allocation::Random
}

#[test]
fn every_kind_is_told_from_outside() {
    if require(&[Peer::Kernel]).is_none() {
        return;
    }
    let (two, running) = Two::emulated();
    let servers = two.servers();
    let mappings =
        [Mapping::EndpointIndependent, Mapping::AddressDependent, Mapping::AddressAndPortDependent];
    let filterings =
        [Filtering::EndpointIndependent, Filtering::AddressDependent, Filtering::AddressAndPortDependent];
    let allocations = [
        Allocation::Preserving { taken: Taken::Random },
        Allocation::Sequential { step: 2 },
        Allocation::Random,
    ];
    for (kind, (a, b, c)) in mappings
        .into_iter()
        .flat_map(|a| filterings.map(|b| (a, b)))
        .flat_map(|(a, b)| allocations.map(|c| (a, b, c)))
        .enumerate()
    {
        running.with(|router, _| *router = self::router(Config::of_kind(a, b, c)));
        let found = (mapping(&two, &servers), filtering(&two, &servers), allocation(&two, &servers));
        assert_eq!(found, (a, b, c), "kind {kind}");
    }
    let (passed, dropped) = running.counts();
    assert!(passed > 27 * 10 && dropped >= 9 * 3, "{passed} passed, {dropped} dropped");
}

#[test]
fn a_datagram_that_is_rejected_does_not_pass_though_something_goes_back() {
    if require(&[Peer::Kernel]).is_none() {
        return;
    }
    let (two, running) = Two::emulated();
    running.with(|router, _| router.set_rules(Rules { refused_out: Refused::Reject, ..Rules::no_udp() }));
    let (servers, client) = (two.servers(), two.client());
    let (passed, dropped) = running.counts();
    client.connect(servers[0].local_addr().unwrap()).unwrap();
    client.send(b"?").unwrap();
    assert_eq!(client.recv(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(running.counts(), (passed, dropped + 1));
}

/// A megabyte, which arrives as it was.
fn transfer(from: &mut TcpStream, to: &mut TcpStream) {
    let sent: Vec<u8> = (0..1_000_000u32).map(|at| (at % 251) as u8).collect();
    let mut got = vec![0; sent.len()];
    std::thread::scope(|scope| {
        scope.spawn(|| from.write_all(&sent).unwrap());
        to.read_exact(&mut got).unwrap();
    });
    assert!(got == sent);
}

#[test]
fn connections_errors_and_refusals_pass_between_kernels() {
    if require(&[Peer::Kernel]).is_none() {
        return;
    }
    let (two, running) = Two::emulated();
    running.with(|router, _| *router = self::router(Config::port_restricted_cone()));
    let listener = two.world.within(|| Ok(TcpListener::bind((WORLD[0], 80))?)).unwrap();
    let mut client = two.home.within(|| Ok(TcpStream::connect((WORLD[0], 80))?)).unwrap();
    let (mut server, peer) = listener.accept().unwrap();
    assert_eq!(peer.ip().to_string(), OUTSIDE);
    transfer(&mut client, &mut server);
    transfer(&mut server, &mut client);
    // ICMP of the kernel finds its way home.
    let asker = two.client();
    asker.connect((WORLD[0], 9)).unwrap();
    asker.send(b"anybody?").unwrap();
    assert_eq!(asker.recv(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    // What the emulator says itself is understood.
    for unsolicited in [Refusal::Reset, Refusal::Unreachable, Refusal::Late(Duration::from_millis(20))] {
        let config = Config { unsolicited, ..Config::port_restricted_cone() };
        running.with(|router, _| *router = self::router(config));
        let to = SocketAddr::new(OUTSIDE.parse().unwrap(), 9);
        let knock =
            two.world.within(|| Ok(TcpStream::connect_timeout(&to, PATIENCE).unwrap_err().kind())).unwrap();
        assert_eq!(knock, ErrorKind::ConnectionRefused, "{unsolicited:?}");
    }
}

/// What comes of datagrams of this length that are sent from home at once: their numbers, in the order in which they came.
fn volley(two: &Two, server: &UdpSocket, count: u16, length: usize) -> Vec<u16> {
    let client = two.client();
    for number in 0..count {
        let mut datagram = vec![0; length];
        datagram[..2].copy_from_slice(&number.to_be_bytes());
        client.send_to(&datagram, server.local_addr().unwrap()).unwrap();
    }
    server.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let (mut came, mut buf) = (Vec::new(), [0; 2000]);
    while server.recv_from(&mut buf).is_ok() {
        came.push(u16::from_be_bytes([buf[0], buf[1]]));
    }
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    came
}

#[test]
fn the_line_is_what_it_is_said_to_be() {
    if require(&[Peer::Kernel]).is_none() {
        return;
    }
    const MS: Duration = Duration::from_millis(1);
    let (two, running) = Two::emulated();
    let [server, ..] = two.servers();
    let line = |link: Link| running.set_line(link.clone(), link, [4; 32]);

    line(Link::delay(40 * MS));
    let (client, start) = (two.client(), Instant::now());
    let at = seen(&client, &server);
    server.send_to(b"!", at).unwrap();
    client.recv(&mut [0]).unwrap();
    assert!(start.elapsed() >= 80 * MS, "{:?}", start.elapsed());

    line(Link { loss: 0.5, ..Link::delay(MS) });
    let came = volley(&two, &server, 200, 100);
    assert!((60..140).contains(&came.len()), "{}", came.len());
    assert!(came.is_sorted());

    line(Link { jitter: 30 * MS, reorder: true, duplicate: 0.2, ..Link::delay(MS) });
    let came = volley(&two, &server, 200, 100);
    assert!((220..260).contains(&came.len()) && !came.is_sorted(), "{came:?}");

    line(Link { mtu: 1300, ..Link::delay(MS) });
    assert_eq!(volley(&two, &server, 10, 1300 - 28).len(), 10);
    assert_eq!(volley(&two, &server, 10, 1300 - 27).len(), 0, "nobody says why");

    // A megabyte at two megabytes per second, but for what the queue has taken.
    line(Link { rate: Some(2_000_000), queue: 100_000, ..Link::delay(MS) });
    let listener = two.world.within(|| Ok(TcpListener::bind((WORLD[0], 80))?)).unwrap();
    let mut client = two.home.within(|| Ok(TcpStream::connect((WORLD[0], 80))?)).unwrap();
    let mut server_end = listener.accept().unwrap().0;
    let start = Instant::now();
    transfer(&mut client, &mut server_end);
    assert!(start.elapsed() >= 450 * MS, "{:?}", start.elapsed());

    line(Link::delay(MS));
    running.set_outage(true);
    assert_eq!(volley(&two, &server, 10, 100).len(), 0);
    running.set_outage(false);
    assert_eq!(volley(&two, &server, 10, 100).len(), 10);
    transfer(&mut server_end, &mut client);
}

/// What the kernel does with `masquerade`, which most homes have, is what our presets say.
#[test]
fn the_kernel_is_a_port_restricted_cone_or_symmetric() {
    if require(&[Peer::Kernel]).is_none() {
        return;
    }
    let kinds =
        [("masquerade", Config::port_restricted_cone()), ("masquerade fully-random", Config::symmetric())];
    for (rule, preset) in kinds {
        let two = Two::new();
        let files = tempfile::tempdir().unwrap();
        let router = Namespace::new("router", files.path()).unwrap();
        for (side, device, address) in
            [(&two.home, "home", "192.168.1.1/24"), (&two.world, "world", "198.51.100.254/24")]
        {
            side.ip("link add eth0 type veth peer name other").unwrap();
            side.give("other", &router, device).unwrap();
            router.ip(&format!("addr add {address} dev {device}")).unwrap();
            router.ip(&format!("link set {device} up")).unwrap();
        }
        two.addresses();
        two.home.ip("route add default via 192.168.1.1").unwrap();
        let commands = format!(
            "echo 1 > /proc/sys/net/ipv4/ip_forward; nft add table ip nat; \
             nft 'add chain ip nat post {{ type nat hook postrouting priority 100; }}'; \
             nft add rule ip nat post oifname world {rule}"
        );
        router.shell(&commands).unwrap();
        let servers = two.servers();
        let found = (mapping(&two, &servers), filtering(&two, &servers), allocation(&two, &servers));
        assert_eq!(found, (preset.mapping, preset.filtering, preset.allocation), "{rule}");
    }
}
