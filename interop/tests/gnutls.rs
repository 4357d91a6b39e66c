//! TLS with GnuTLS's own programs, under the priority strings that dhtnet uses (`spec/connection.md` 5.1).

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use interop::{Peer, require};
use towline_identity::{CHAIN_FILE, GenerateOptions, Identity, KEY_FILE, KeySize, PrivateKey};
use towline_tls::{Config, Dialect, Group, Options, Session, TlsError, Version};

/// dhtnet's priorities, on both roles alike: first with anonymous suites (of TLS 1.2 and below), then without.
const FULL: &str = "SECURE192:-KX-ALL:+ANON-ECDH:+ANON-DH:+SECURE192:-RSA:-GROUP-FFDHE4096:-GROUP-FFDHE6144:\
                    -GROUP-FFDHE8192:+GROUP-X25519:%SERVER_PRECEDENCE:%SAFE_RENEGOTIATION";
const CERTIFICATES: &str = "SECURE192:-RSA:-GROUP-FFDHE4096:-GROUP-FFDHE6144:-GROUP-FFDHE8192:+GROUP-X25519:\
                            %SERVER_PRECEDENCE:%SAFE_RENEGOTIATION";

/// 2026-11-21, when the certificates begin.
const NOW: i64 = 1_795_000_000;

/// Longest wait for anything.
const LIMIT: Duration = Duration::from_secs(30);

const SIZES: [KeySize; 3] = [KeySize::Rsa2048, KeySize::Rsa3072, KeySize::Rsa4096];

fn identity(key_size: KeySize) -> Identity {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let born = NOW.min(now as i64);
    Identity::generate(&GenerateOptions { key_size, ..GenerateOptions::new(born) }).unwrap()
}

/// A program with what it printed, line by line; killed when dropped.
struct Program {
    child: Child,
    lines: Receiver<String>,
    printed: Vec<String>,
}

impl Program {
    fn start(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = mpsc::sync_channel(4096);
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in streams {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in std::io::BufRead::lines(std::io::BufReader::new(stream)) {
                    let Ok(line) = line else { return };
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Self { child, lines, printed: Vec::new() }
    }

    /// Waits for a line with `text` in it.
    fn expect(&mut self, text: &str) -> String {
        let deadline = Instant::now() + LIMIT;
        if let Some(line) = self.printed.iter().find(|line| line.contains(text)) {
            return line.clone();
        }
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.printed.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("`{text}` was not printed:\n{}", self.printed.join("\n"))
                }
            }
        }
    }

    fn say(&mut self, text: &str) {
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A session on a socket.
struct Link {
    session: Session,
    socket: TcpStream,
    buffer: Vec<u8>,
    received: Vec<u8>,
}

impl Link {
    fn new(session: Session, socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket.set_write_timeout(Some(LIMIT)).unwrap();
        Self { session, socket, buffer: Vec::new(), received: Vec::new() }
    }

    fn flush(&mut self) {
        let mut out = Vec::new();
        self.session.poll_transmit(&mut out);
        self.socket.write_all(&out).unwrap();
    }

    /// Reads once. Whether the peer is still there.
    fn read(&mut self) -> Result<bool, TlsError> {
        let mut chunk = vec![0; 4096];
        let len = match self.socket.read(&mut chunk) {
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("the peer is silent: {error}"),
        };
        if len == 0 {
            return self.session.receive_eof().map(|()| false);
        }
        self.buffer.extend_from_slice(&chunk[..len]);
        let received = &mut self.received;
        let used = self.session.receive(&mut self.buffer, &mut |data| received.extend_from_slice(data));
        self.flush();
        self.buffer.drain(..used?);
        Ok(true)
    }

    fn shake(&mut self) -> Result<(), TlsError> {
        self.flush();
        while !self.session.is_established() {
            self.read()?;
        }
        Ok(())
    }

    fn send(&mut self, data: &[u8]) {
        let mut out = Vec::new();
        self.session.send(data, &mut out).unwrap();
        self.socket.write_all(&out).unwrap();
    }

    fn wait_for(&mut self, data: &[u8]) {
        while self.received.len() < data.len() {
            assert!(self.read().unwrap(), "the peer closed early");
        }
        assert_eq!(self.received, data);
        self.received.clear();
    }

    fn check(&self, peer: &Identity) {
        let summary = self.session.summary().unwrap();
        assert_eq!((summary.version, summary.group), (Version::Tls13, Group::Secp384r1));
        assert_eq!(summary.dialect, Dialect::Jami);
        assert!(!summary.retried, "GnuTLS takes the first key share");
        assert_eq!(self.session.peer_chain(), Some(peer.chain()));
    }
}

fn config(identity: &Identity) -> Config {
    Config::new(identity, Options::default()).unwrap()
}

fn files(directory: &Path, identity: &Identity) -> [String; 2] {
    identity.save(directory, None).unwrap();
    [
        format!("--x509keyfile={}", directory.join(KEY_FILE).display()),
        format!("--x509certfile={}", directory.join(CHAIN_FILE).display()),
    ]
}

/// gnutls-serv, ready: it demands a client certificate and sends back what it gets, line by line.
fn gnutls_serv(directory: &Path, identity: &Identity, priority: &str) -> (Program, u16) {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let mut command = Command::new("gnutls-serv");
    command.arg("--echo").arg("--require-client-cert").arg("--nodb").args(files(directory, identity));
    command.arg(format!("--priority={priority}")).arg(format!("--port={port}"));
    let mut program = Program::start(&mut command);
    program.expect("listening on IPv4");
    (program, port)
}

#[test]
fn client_of_gnutls_serv() {
    let Some(_) = require(&[Peer::GnuTls]) else { return };
    for (size, priority) in SIZES.into_iter().flat_map(|size| [(size, FULL), (size, CERTIFICATES)]) {
        let directory = tempfile::tempdir().unwrap();
        let (ours, theirs) = (identity(size), identity(size));
        let (mut program, port) = gnutls_serv(directory.path(), &theirs, priority);
        let session = Session::client(&config(&ours), theirs.device_id()).unwrap();
        let mut link = Link::new(session, TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap());
        link.shake().unwrap();
        link.check(&theirs);
        link.send(b"echo, please\n");
        link.wait_for(b"echo, please\n");
        let line = [b"x".repeat(900), b"\n".to_vec()].concat();
        for _ in 0..40 {
            link.send(&line);
            link.wait_for(&line);
        }
        let description = program.expect("Description:");
        assert!(description.contains("TLS1.3") && description.contains("SECP384R1"), "{description}");
        let options = program.expect("Options:");
        assert!(options.contains("safe renegotiation"), "dhtnet would hang up: {options}");
        program.expect(&format!("UID={}", ours.short_id()));
    }
}

#[test]
fn server_of_gnutls_cli() {
    let Some(_) = require(&[Peer::GnuTls]) else { return };
    for (size, priority) in SIZES.into_iter().flat_map(|size| [(size, FULL), (size, CERTIFICATES)]) {
        let directory = tempfile::tempdir().unwrap();
        let (ours, theirs) = (identity(size), identity(size));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut command = Command::new("gnutls-cli");
        command.arg("--insecure").arg("--disable-sni").args(files(directory.path(), &theirs));
        command.arg(format!("--priority={priority}")).arg(format!("--port={port}")).arg("127.0.0.1");
        let mut program = Program::start(&mut command);
        let session = Session::server(&config(&ours), theirs.device_id()).unwrap();
        let mut link = Link::new(session, listener.accept().unwrap().0);
        link.shake().unwrap();
        link.check(&theirs);
        program.expect("Handshake was completed");
        program.say("hello from there\n");
        link.wait_for(b"hello from there\n");
        link.send(b"hello from here\n");
        program.expect("hello from here");
        let description = program.expect("Description:");
        assert!(description.contains("TLS1.3") && description.contains("SECP384R1"), "{description}");
        program.expect("Certificate[2]");
        let mut farewell = Vec::new();
        link.session.close(&mut farewell);
        link.socket.write_all(&farewell).unwrap();
        program.expect("Peer has closed the GnuTLS connection");
    }
}

#[test]
fn another_key_than_the_one_dialled() {
    let Some(_) = require(&[Peer::GnuTls]) else { return };
    let directory = tempfile::tempdir().unwrap();
    let (ours, theirs) = (identity(KeySize::Rsa2048), identity(KeySize::Rsa2048));
    let (mut program, port) = gnutls_serv(directory.path(), &theirs, CERTIFICATES);
    let session = Session::client(&config(&ours), ours.device_id()).unwrap();
    let mut link = Link::new(session, TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap());
    let wrong = TlsError::WrongKey { expected: ours.device_id(), found: theirs.device_id() };
    assert_eq!(link.shake(), Err(wrong));
    program.expect("alert");
}

#[test]
fn gnutls_cli_without_certificate_is_refused() {
    let Some(_) = require(&[Peer::GnuTls]) else { return };
    let ours = identity(KeySize::Rsa2048);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut command = Command::new("gnutls-cli");
    command.arg("--insecure").arg(format!("--port={port}")).arg("127.0.0.1");
    let _program = Program::start(&mut command);
    let session = Session::server(&config(&ours), ours.device_id()).unwrap();
    let mut link = Link::new(session, listener.accept().unwrap().0);
    assert_eq!(link.shake(), Err(TlsError::NoCertificate));
}

/// What certtool says about a chain that we made, and a key that we encrypted.
#[test]
fn certtool_accepts_what_we_make() {
    let Some(_) = require(&[Peer::GnuTls]) else { return };
    for size in SIZES {
        let directory = tempfile::tempdir().unwrap();
        let identity = identity(size);
        identity.save(directory.path(), Some("secret")).unwrap();
        let chain = directory.path().join(CHAIN_FILE);
        let run = |arguments: &[&str]| {
            let output = Command::new("certtool").args(arguments).output().unwrap();
            let text = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8_lossy(&text).into_owned())
        };
        let (ok, text) = run(&["--verify-chain", "--infile", chain.to_str().unwrap()]);
        assert!(ok && text.contains("Chain verification output: Verified."), "{text}");
        let (ok, text) = run(&["--certificate-info", "--infile", chain.to_str().unwrap()]);
        assert!(ok && text.contains(&format!("UID={}", identity.short_id())), "{text}");
        let key = directory.path().join(KEY_FILE);
        let key = key.to_str().unwrap();
        let (ok, text) = run(&["--key-info", "--password", "secret", "--infile", key]);
        assert!(ok && text.contains("RSA"), "{text}");
        let (ok, text) =
            run(&["--generate-privkey", "--pkcs8", "--password", "pass", "--rsa", "--bits", "2048"]);
        assert!(ok);
        let pem = &text[text.find("-----BEGIN").unwrap()..];
        fs::write(directory.path().join("theirs"), pem).unwrap();
        assert!(PrivateKey::from_pkcs8_pem(pem, Some("pass")).is_ok(), "we read what certtool makes");
    }
}
