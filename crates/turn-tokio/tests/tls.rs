//! The relay on TLS, and who comes to its port and does not speak it.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use towline_lab::{Host, Link, World, run};
use towline_net::{Net, TcpConnect, TcpStream, UdpBind, UdpSocket, now};
use towline_turn_tokio::proto::{Config, Credentials, PeerPolicy, ServerConfig, ServerTransport, Users};
use towline_turn_tokio::{
    AllocateError, Options, RelayServer, RelaySocket, Roots, ServerOptions, server_tls,
};

const PORT: u16 = 5349;
/// Streams that the relay has at one time.
const STREAMS: usize = 4;

struct Scene {
    relay: Host,
    alice: Host,
    /// What the server shows.
    certificate: Vec<u8>,
    server: RelayServer,
}

/// A relay whose certificate is for this name, and somebody who may use it.
fn scene(world: &World, name: &str) -> Scene {
    let internet = world.internet();
    let host = |name| {
        let host = world.host(name);
        host.attach(internet, Link::delay(Duration::from_millis(10)));
        host
    };
    let (relay, alice) = (host("relay"), host("alice"));
    let IpAddr::V4(ip) = relay.ipv4() else { unreachable!("it is one of IPv4") };
    // As the README says that one is made without an authority.
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let names = [name.replace("ITSELF", &ip.to_string())];
    let mut parameters = rcgen::CertificateParams::new(names).unwrap();
    parameters.is_ca = rcgen::IsCa::ExplicitNoCa;
    let made = parameters.self_signed(&key).unwrap();
    let tls = server_tls(made.pem().as_bytes(), key.serialize_pem().as_bytes(), relay.unix_time()).unwrap();
    let config = ServerConfig {
        users: Users { fixed: BTreeMap::from([("ann".into(), "secret".into())]), secret: None },
        peers: PeerPolicy::DangerouslyAll,
        streams: STREAMS,
        ..ServerConfig::default()
    };
    let options = ServerOptions {
        config,
        listen: vec![(ip, 3478).into()],
        tls: Some((vec![(ip, PORT).into()], tls)),
        relay_v4: Some(ip),
        relay_v6: None,
        external_v4: None,
    };
    let server = RelayServer::start(Arc::new(relay.clone()), options).unwrap();
    Scene { relay, alice, certificate: made.der().to_vec(), server }
}

impl Scene {
    fn port(&self) -> SocketAddr {
        self.server.tls_addresses()[0]
    }

    /// Asks as a node does: by the relay's address, with whom the system trusts and this.
    async fn allocate(&self, trusted: &[Vec<u8>]) -> Result<RelaySocket, AllocateError> {
        let mut config = Config::new(self.port(), ServerTransport::Tls);
        config.credentials = Some(Credentials::new("ann", "secret"));
        let mut options = Options::new(config);
        options.tls = Some(Roots::of_the_system(trusted).server(&self.relay.ipv4().to_string())?);
        RelaySocket::allocate(Arc::new(self.alice.clone()), &options).await
    }

    async fn connect(&self, to: SocketAddr) -> Box<dyn TcpStream> {
        self.alice.connect_tcp(to, TcpConnect::default()).await.unwrap()
    }
}

/// Ready when the server has ended the connection. What it said before does not matter.
async fn ended(mut stream: Box<dyn TcpStream>) {
    let mut buffer = [0; 1000];
    while let Ok(1..) = stream.read(&mut buffer).await {}
}

#[test]
fn datagrams_are_relayed_for_who_speaks_tls() {
    run(1, async |world| {
        let scene = scene(&world, "ITSELF");
        assert_eq!(scene.port().port(), PORT);
        let relayed = scene.allocate(std::slice::from_ref(&scene.certificate)).await.unwrap();
        let peer = scene.relay.bind_udp(&UdpBind::new((scene.relay.ipv4(), 0).into())).unwrap();
        let (relayed, peer): (&dyn UdpSocket, &dyn UdpSocket) = (&relayed, &*peer);
        let mut buffer = [0; 100];
        for text in [&b"there"[..], b"and there again"] {
            relayed.send(text, peer.local_addr()).await.unwrap();
            let there = peer.recv(&mut buffer).await.unwrap();
            assert_eq!((there.from, &buffer[..there.len]), (relayed.local_addr(), text));
            peer.send(b"back", there.from).await.unwrap();
            let back = relayed.recv(&mut buffer).await.unwrap();
            assert_eq!((back.from, &buffer[..back.len]), (peer.local_addr(), &b"back"[..]));
        }
    });
}

#[test]
fn a_certificate_that_nobody_vouches_for_or_of_another_name_is_refused() {
    run(2, async |world| {
        let refused = |outcome: Result<RelaySocket, AllocateError>| match outcome {
            Err(AllocateError::Tls(rustls::Error::InvalidCertificate(fault))) => fault,
            other => panic!("{:?}", other.map(|_| ())),
        };
        let scene = scene(&world, "relay.example");
        let unknown = refused(scene.allocate(&[]).await);
        assert!(matches!(unknown, rustls::CertificateError::UnknownIssuer), "{unknown:?}");
        let other = refused(scene.allocate(std::slice::from_ref(&scene.certificate)).await);
        assert!(matches!(other, rustls::CertificateError::NotValidForNameContext { .. }), "{other:?}");
        assert_eq!(scene.server.allocations(), 0);
    });
}

#[test]
fn garbage_ends_at_once_and_silence_after_ten_seconds() {
    run(3, async |world| {
        let scene = scene(&world, "ITSELF");
        // TURN without TLS, the web, noise, a handshake that promises more than there may be.
        for garbage in [
            &[0, 3, 0, 0, 0x21, 0x12, 0xa4, 0x42][..],
            b"GET / HTTP/1.1\r\n\r\n",
            &[0xff; 600],
            &[22, 3, 1, 0xff, 0xff, 1, 0, 0, 0],
        ] {
            let begun = now();
            let mut stream = scene.connect(scene.port()).await;
            stream.write_all(garbage).await.unwrap();
            ended(stream).await;
            assert!(now() - begun < Duration::from_secs(1), "{garbage:?} for {:?}", now() - begun);
        }
        // All places are taken by those who say nothing, or who stop in the middle of the first words.
        let begun = now();
        let mut stalled = Vec::new();
        for number in 0..STREAMS {
            let mut stream = scene.connect(scene.port()).await;
            stream.write_all(&[22, 3, 1, 0, 200, 1, 0][..number]).await.unwrap();
            stalled.push(stream);
        }
        let trusted = [scene.certificate.clone()];
        // Who comes then has the place of the one that has waited longest.
        let relayed = scene.allocate(&trusted).await.unwrap();
        ended(stalled.remove(0)).await;
        assert!(now() - begun < Duration::from_secs(1), "{:?}", now() - begun);
        for stream in stalled {
            ended(stream).await;
        }
        let waited = now() - begun;
        assert!(waited >= Duration::from_secs(10) && waited < Duration::from_secs(11), "{waited:?}");
        assert_eq!(scene.server.allocations(), 1);
        drop(relayed);
    });
}

#[test]
fn who_speaks_tls_and_nothing_else_is_let_go() {
    run(4, async |world| {
        let scene = scene(&world, "ITSELF");
        let tls = Roots::of_the_system(std::slice::from_ref(&scene.certificate));
        let tls = tls.server(&scene.relay.ipv4().to_string()).unwrap();
        let connector = tokio_rustls::TlsConnector::from(tls.config);
        let (begun, tcp) = (now(), scene.connect(scene.port()).await);
        let mut silent = connector.connect(tls.name.clone(), tcp).await.unwrap();
        let mut rest = Vec::new();
        // Without a proper end, perhaps.
        let _ = silent.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
        assert_eq!((now() - begun).as_secs(), ServerConfig::default().stream_patience.as_secs());
    });
}
