//! CPU time per GiB, in memory: a pair of [`Session`]s, and the TLS library's buffered API beside it.
//!
//! `cargo run --release -p towline-tls --example throughput`

#![allow(clippy::print_stdout, reason = "printing is what it is for")]
#![allow(clippy::unwrap_used, reason = "an example")]

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::Instant;

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

fn main() {
    let generate = || {
        let options = GenerateOptions { key_size: KeySize::Rsa2048, ..GenerateOptions::new(1_800_000_000) };
        Identity::generate(&options).unwrap()
    };
    let (alice, bob) = (generate(), generate());
    let data = vec![7; WRITE];
    sessions(&alice, &bob, &data);
    buffered(&bob, &data);
}

fn report(name: &str, sending: f64, receiving: f64) {
    println!("{name:10} {sending:.3} s sending, {receiving:.3} s receiving, per GiB");
}

fn sessions(alice: &Identity, bob: &Identity, data: &[u8]) {
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
    let mut wire = vec![0; client.sealed_len(data.len())];
    let (mut sending, mut receiving, mut received) = (0.0, 0.0, 0);
    for _ in 0..WRITES {
        let start = Instant::now();
        let len = client.seal(data, &mut wire).unwrap();
        let middle = Instant::now();
        server.receive(&mut wire[..len], &mut |plaintext| received += plaintext.len()).unwrap();
        sending += (middle - start).as_secs_f64();
        receiving += middle.elapsed().as_secs_f64();
    }
    assert_eq!(received, WRITE * WRITES);
    report("session", sending, receiving);
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
    let (mut sending, mut receiving, mut received) = (0.0, 0.0, 0);
    let mut plaintext = vec![0; WRITE];
    for _ in 0..WRITES {
        let start = Instant::now();
        wire.clear();
        client.writer().write_all(data).unwrap();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let middle = Instant::now();
        let mut input = &wire[..];
        while !input.is_empty() {
            server.read_tls(&mut input).unwrap();
            let available = server.process_new_packets().unwrap().plaintext_bytes_to_read();
            server.reader().read_exact(&mut plaintext[..available]).unwrap();
            received += available;
        }
        sending += (middle - start).as_secs_f64();
        receiving += middle.elapsed().as_secs_f64();
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
