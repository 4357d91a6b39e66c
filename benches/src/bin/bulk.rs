//! Bulk data over loopback: what the connection costs beside bare TLS.
//!
//! Subjects: `rustls` (tokio-rustls on TCP, the floor), `native` and `native-100` (one and a hundred channels, native
//! dialect), `jami` (one channel, Jami dialect). Both ends in one process; CPU-seconds are those of both.
#![allow(clippy::print_stdout, reason = "the figures are the product")]

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::rustls;
use towline::identity::KeySize;
use towline_benches::{Pair, Stopwatch, identity, median, memory, run_subject};

#[derive(Parser)]
struct Arguments {
    /// Bytes to move, in MiB.
    #[arg(long, default_value_t = 1024)]
    mib: usize,
    /// Rounds; each runs every subject once.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Run one subject in this process and print its figures.
    #[arg(long)]
    subject: Option<String>,
}

const SUBJECTS: [&str; 4] = ["rustls", "native", "native-100", "jami"];
/// Size of the buffers given to write and read.
const BUFFER: usize = 64 * 1024;
/// What is sent. All writers share it: a hundred buffers of their own would measure the cache, not the connection.
static SOURCE: [u8; BUFFER] = [7; BUFFER];

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let bytes = arguments.mib << 20;
    if let Some(subject) = arguments.subject {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let (wall, cpu) = runtime.block_on(async {
            match subject.as_str() {
                "rustls" => bare(bytes).await,
                "native" => towline(bytes, 1, true).await,
                "native-100" => towline(bytes, 100, true).await,
                "jami" => towline(bytes, 1, false).await,
                other => bail!("no subject {other}"),
            }
        })?;
        println!("{wall} {cpu} {}", memory()?.1 as f64 / 1_048_576.0);
        return Ok(());
    }
    let gib = arguments.mib as f64 / 1024.0;
    let mut figures: Vec<Vec<Vec<f64>>> = vec![Vec::new(); SUBJECTS.len()];
    for _ in 0..arguments.rounds {
        for (subject, runs) in SUBJECTS.iter().zip(&mut figures) {
            runs.push(run_subject(&["--subject", subject, "--mib", &arguments.mib.to_string()])?);
        }
    }
    println!("{:<12} {:>12} {:>8} {:>10} {:>10}", "subject", "CPU s/GiB", "ratio", "MiB/s", "peak MiB");
    for (index, subject) in SUBJECTS.iter().enumerate() {
        let runs = &figures[index];
        let mut cpu: Vec<f64> = runs.iter().map(|run| run[1] / gib).collect();
        let mut ratio: Vec<f64> =
            runs.iter().zip(&figures[0]).map(|(run, floor)| run[1] / floor[1]).collect();
        let mut rate: Vec<f64> = runs.iter().map(|run| arguments.mib as f64 / run[0]).collect();
        let mut peak: Vec<f64> = runs.iter().map(|run| run[2]).collect();
        println!(
            "{subject:<12} {:>12.3} {:>8.2} {:>10.0} {:>10.1}",
            median(&mut cpu),
            median(&mut ratio),
            median(&mut rate),
            median(&mut peak)
        );
    }
    Ok(())
}

async fn send(mut to: impl AsyncWrite + Unpin, bytes: usize) -> Result<()> {
    let mut left = bytes;
    while left > 0 {
        let now = left.min(BUFFER);
        to.write_all(&SOURCE[..now]).await?;
        left -= now;
    }
    to.shutdown().await?;
    Ok(())
}

async fn receive(mut from: impl AsyncRead + Unpin) -> Result<usize> {
    let mut buffer = vec![0u8; BUFFER];
    let mut received = 0;
    loop {
        match from.read(&mut buffer).await? {
            0 => return Ok(received),
            more => received += more,
        }
    }
}

async fn towline(bytes: usize, channels: usize, native: bool) -> Result<(f64, f64)> {
    let pair = Pair::start(KeySize::Rsa2048, |config| config.native_dialect = native).await?;
    let device = pair.bob.device();
    pair.alice.dial(device).await?;
    let stopwatch = Stopwatch::start()?;
    let share = bytes / channels;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..channels {
        let alice = pair.alice.clone();
        tasks
            .spawn(async move { send(alice.connect(device, &format!("bulk-{number}")).await?, share).await });
    }
    let mut receivers = tokio::task::JoinSet::new();
    for _ in 0..channels {
        let incoming = pair.bob.incoming().await.context("the node was shut down")?;
        receivers.spawn(async move { receive(incoming.accept().await?).await });
    }
    let mut received = 0;
    while let Some(done) = receivers.join_next().await {
        received += done??;
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    anyhow::ensure!(received == share * channels, "{received} bytes came");
    stopwatch.read()
}

/// The same bytes through tokio-rustls on TCP, TLS 1.3 with AES-256-GCM as the connections negotiate it.
async fn bare(bytes: usize) -> Result<(f64, f64)> {
    let identity = identity(KeySize::Rsa2048)?;
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites = vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384];
    let provider = Arc::new(provider);
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(identity.key().to_pkcs8_der().to_vec());
    let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(identity.chain().ders(), key.into())?;
    // Nobody reads tickets here, and unread bytes turn the client's close into a reset.
    server.send_tls13_tickets = 0;
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(any::AnyCertificate))
        .with_no_client_auth();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let to = listener.local_addr()?;
    let accept = tokio::spawn(async move {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio_rustls::TlsAcceptor::from(Arc::new(server)).accept(stream).await
    });
    let stream = tokio::net::TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let client =
        tokio_rustls::TlsConnector::from(Arc::new(client)).connect("peer".try_into()?, stream).await?;
    let server = accept.await??;
    let stopwatch = Stopwatch::start()?;
    let sender = tokio::spawn(send(client, bytes));
    let receiver = tokio::spawn(receive(server));
    let received = receiver.await??;
    sender.await??;
    anyhow::ensure!(received == bytes, "{received} bytes came");
    stopwatch.read()
}

/// The floor needs no authentication to be the floor.
mod any {
    use tokio_rustls::rustls::client::danger::{
        HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
    };
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use tokio_rustls::rustls::{DigitallySignedStruct, Error, SignatureScheme};

    #[derive(Debug)]
    pub(super) struct AnyCertificate;

    impl ServerCertVerifier for AnyCertificate {
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
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![
                SignatureScheme::RSA_PSS_SHA512,
                SignatureScheme::RSA_PSS_SHA384,
                SignatureScheme::RSA_PSS_SHA256,
            ]
        }
    }
}
