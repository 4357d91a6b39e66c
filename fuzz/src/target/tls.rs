//! What the other end of a path sends before it has proved its key, and what breaks into a session after.

use std::sync::LazyLock;

use towline_identity::{Identity, PrivateKey, Validity};
use towline_tls::{Config, Options, Session};

use super::chunks;

/// Record headers, and handshake messages by their first bytes.
pub(super) const WORDS: &[&[u8]] = &[
    &[0x16, 0x03, 0x01],
    &[0x16, 0x03, 0x03],
    &[0x17, 0x03, 0x03],
    &[0x14, 0x03, 0x03, 0x00, 0x01, 0x01],
    &[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x28],
    &[0x15, 0x03, 0x03, 0x00, 0x02, 0x01, 0x00],
    &[0x01, 0x00],
    &[0x02, 0x00],
    &[0x0b, 0x00],
    &[0x40, 0x00],
    &[0x40, 0x01],
    &[0x00, 0x2b],
    &[0x00, 0x33],
    &[0x00, 0x10],
    &[0x00, 0xff],
];

struct Ends {
    client: (Identity, Config),
    server: (Identity, Config),
}

/// Two devices with the public test keys of the corpus; making keys would cost more than all inputs.
static ENDS: LazyLock<Ends> = LazyLock::new(|| {
    let end = |pem: &str, name: &str| {
        let key = PrivateKey::from_pkcs8_pem(pem, None).expect("a valid key");
        let identity = Identity::self_signed(key, name, Validity::ten_years_from(1_800_000_000))
            .expect("a valid identity");
        let config = Config::new(&identity, Options::default()).expect("the key is small");
        (identity, config)
    };
    Ends {
        client: end(include_str!("../../corpus/identity-private-key/alice"), "client"),
        server: end(include_str!("../../corpus/identity-private-key/bob"), "server"),
    }
});

fn client() -> Session {
    Session::client(&ENDS.client.1, ENDS.server.0.device_id()).expect("a client can always start")
}

fn server() -> Session {
    Session::server(&ENDS.server.1, ENDS.client.0.device_id()).expect("a server can always start")
}

/// The server's first flight, from anybody.
pub(super) fn to_client(input: &[u8]) {
    feed(client(), input);
}

/// The client's first flight, from anybody.
pub(super) fn to_server(input: &[u8]) {
    feed(server(), input);
}

/// Nobody who does not hold the key gets a byte of plaintext through, and what waits is bounded.
fn feed(mut session: Session, input: &[u8]) {
    let mut waiting = Vec::new();
    let mut out = Vec::new();
    for chunk in chunks(input) {
        waiting.extend_from_slice(chunk);
        let result = session.receive(&mut waiting, &mut |_| panic!("plaintext from a stranger"));
        session.poll_transmit(&mut out);
        let Ok(used) = result else {
            assert!(session.error().is_some(), "an error is final");
            break;
        };
        waiting.drain(..used);
        assert!(waiting.len() <= 17 << 10, "{} bytes wait for one record", waiting.len());
    }
    assert!(!session.is_established());
    let _ = session.receive_eof();
    assert!(out.len() <= 64 << 10, "{} bytes answered", out.len());
}

/// Bytes put into an established session by somebody between: none of them comes out as plaintext.
pub(super) fn established(input: &[u8]) {
    let (mut client, mut server) = (client(), server());
    let mut heard = Vec::new();
    for _ in 0..8 {
        pass(&mut client, &mut server, &mut heard);
        pass(&mut server, &mut client, &mut heard);
    }
    assert!(client.is_established() && server.is_established(), "the two know each other");
    let mut wire = Vec::new();
    server.send(b"before", &mut wire).expect("the session is open");
    wire.extend_from_slice(input);
    let mut sent = wire.clone();
    let result = client.receive(&mut sent, &mut |plain| heard.extend_from_slice(plain));
    assert_eq!(heard, b"before");
    if let Err(error) = result {
        assert_eq!(client.error(), Some(&error));
    }
}

fn pass(from: &mut Session, to: &mut Session, heard: &mut Vec<u8>) {
    let mut wire = Vec::new();
    if from.poll_transmit(&mut wire) {
        let used = to.receive(&mut wire, &mut |plain| heard.extend_from_slice(plain));
        assert_eq!(used, Ok(wire.len()), "an honest flight is whole records");
    }
}
