//! Time per GiB, in memory: a pair of [`Session`]s, the TLS library's buffered API beside it, and the bare AEAD.
//!
//! Medians of many writes, so that what else runs on the machine counts little.
//!
//! `cargo run --release -p towline-tls --example record_cost`

#![allow(clippy::print_stdout, reason = "printing is what it is for")]
#![allow(clippy::unwrap_used, reason = "an example")]

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, Tag, UnboundKey};
use rustls::crypto::aws_lc_rs::{default_provider, sign};
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use towline_identity::{GenerateOptions, Identity, KeySize};
use towline_tls::{Config, Options, Session};

/// Plaintext of one write.
const WRITE: usize = 64 * 1024;
const WRITES: usize = 1 << 14; // 1 GiB
/// Plaintext of one record.
const RECORD: usize = 16 * 1024;

fn main() {
    let generate = || {
        let options = GenerateOptions { key_size: KeySize::Rsa2048, ..GenerateOptions::new(1_800_000_000) };
        Identity::generate(&options).unwrap()
    };
    let (alice, bob) = (generate(), generate());
    let data = vec![7; WRITE];
    bare(&data);
    sessions("send", &alice, &bob, |client, wire| {
        wire.clear();
        client.send(&data, wire).unwrap();
        wire.len()
    });
    sessions("seal", &alice, &bob, |client, wire| {
        wire.resize(client.sealed_len(WRITE), 0);
        client.seal(&data, wire).unwrap()
    });
    buffered(&bob, &data);
}

/// How long the writes of one kind took, in nanoseconds each.
#[derive(Default)]
struct Times(Vec<u128>);

impl Times {
    fn add<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.0.push(start.elapsed().as_nanos());
        result
    }

    fn per_gib(mut self) -> f64 {
        assert_eq!(self.0.len(), WRITES);
        self.0.sort_unstable();
        (self.0[WRITES / 2] * WRITES as u128) as f64 / 1e9
    }
}

fn report(name: &str, sending: Times, receiving: Times) {
    println!("{name:10} {:.3} s sending, {:.3} s receiving, per GiB", sending.per_gib(), receiving.per_gib());
}

fn bare(data: &[u8]) {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[1; 32]).unwrap());
    let nonce = |number: usize| {
        let mut nonce = [0; NONCE_LEN];
        nonce[..8].copy_from_slice(&number.to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    };
    let (mut sending, mut receiving) = (Times::default(), Times::default());
    let mut buffer = data.to_vec();
    for write in 0..WRITES {
        let nonce = |record: usize| nonce(write * 4 + record);
        let tags: [Tag; 4] = sending.add(|| {
            std::array::from_fn(|record| {
                let content = &mut buffer[record * RECORD..][..RECORD];
                key.seal_in_place_separate_tag(nonce(record), Aad::empty(), content).unwrap()
            })
        });
        receiving.add(|| {
            for (record, tag) in tags.iter().enumerate() {
                let content = &mut buffer[record * RECORD..][..RECORD];
                key.open_in_place_separate_tag(nonce(record), Aad::empty(), tag.as_ref(), content).unwrap();
            }
        });
    }
    report("AEAD alone", sending, receiving);
}

fn sessions(
    name: &str,
    alice: &Identity,
    bob: &Identity,
    mut write: impl FnMut(&mut Session, &mut Vec<u8>) -> usize,
) {
    let config = |identity| Config::new(identity, Options::default()).unwrap();
    let mut client = Session::client(&config(alice), bob.device_id()).unwrap();
    let mut server = Session::server(&config(bob), alice.device_id()).unwrap();
    let mut wire = Vec::new();
    while !(client.is_established() && server.is_established()) {
        client.poll_transmit(&mut wire);
        server.receive(&mut wire, &mut |_| {}).unwrap();
        wire.clear();
        server.poll_transmit(&mut wire);
        client.receive(&mut wire, &mut |_| {}).unwrap();
        wire.clear();
    }
    let (mut sending, mut receiving, mut received) = (Times::default(), Times::default(), 0);
    for _ in 0..WRITES {
        let len = sending.add(|| write(&mut client, &mut wire));
        let mut sink = |plaintext: &[u8]| received += plaintext.len();
        receiving.add(|| server.receive(&mut wire[..len], &mut sink).unwrap());
    }
    assert_eq!(received, WRITE * WRITES);
    report(name, sending, receiving);
}

fn buffered(bob: &Identity, data: &[u8]) {
    let provider = Arc::new(default_provider());
    let key = bob.key().to_pkcs8_der();
    let key = sign::any_supported_type(&PrivatePkcs8KeyDer::from(&key[..]).into()).unwrap();
    let certified = Arc::new(SingleCertAndKey::from(CertifiedKey::new(bob.chain().ders(), key)));
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(certified);
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    client.dangerous().set_certificate_verifier(Arc::new(anyone::Anyone));
    let name = ServerName::try_from("x.invalid").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let mut wire = Vec::with_capacity(2 * WRITE);
    while client.is_handshaking() || server.is_handshaking() {
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut &wire[..]).unwrap();
        server.process_new_packets().unwrap();
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut &wire[..]).unwrap();
        client.process_new_packets().unwrap();
        wire.clear();
    }
    client.set_buffer_limit(None);
    let (mut sending, mut receiving, mut received) = (Times::default(), Times::default(), 0);
    let mut plaintext = vec![0; WRITE];
    for _ in 0..WRITES {
        sending.add(|| {
            wire.clear();
            client.writer().write_all(data).unwrap();
            while client.wants_write() {
                client.write_tls(&mut wire).unwrap();
            }
        });
        receiving.add(|| {
            let mut input = &wire[..];
            while !input.is_empty() {
                server.read_tls(&mut input).unwrap();
                let available = server.process_new_packets().unwrap().plaintext_bytes_to_read();
                server.reader().read_exact(&mut plaintext[..available]).unwrap();
                received += available;
            }
        });
    }
    assert_eq!(received, WRITE * WRITES);
    report("buffered", sending, receiving);
}

mod anyone {
    use rustls::client::danger::{HandshakeSignatureValid as Valid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    /// Believes everything: only the records are measured.
    #[derive(Debug)]
    pub(super) struct Anyone;

    impl ServerCertVerifier for Anyone {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<Valid, Error> {
            Ok(Valid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<Valid, Error> {
            Ok(Valid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::RSA_PSS_SHA512]
        }
    }
}
