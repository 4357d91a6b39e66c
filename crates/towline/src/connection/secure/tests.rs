//! A device that negotiated a path with us and then misbehaves on it (`connection.md` 4.6, 5, 9.1 no. 19).

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::Context;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use towline_ice::Description;
use towline_ice::framing::{PayloadKind, classify};
use towline_ice::stun::{BINDING, Class, Encoder, RoleClaim, TransactionId};
use towline_identity::{Identity, KeySize, PrivateKey, Validity};
use towline_lab::{Link, Network, World};
use towline_net::TcpStream;
use towline_tls::{Options, Session, TlsError};

use super::*;
use crate::info::{ConnectionId, Origin};
use crate::path::{Gathered, PathOptions};
use crate::report::Journal;

const LIMIT: Duration = Duration::from_secs(20);
/// What the peer says as soon as it can.
const WORDS: &[u8] = b"said as soon as it could be said";

/// Two devices, made once.
fn identities() -> &'static [Identity; 2] {
    static MADE: OnceLock<[Identity; 2]> = OnceLock::new();
    let key = || PrivateKey::generate(KeySize::Rsa2048).unwrap();
    let validity = Validity::ten_years_from(1_800_000_000);
    MADE.get_or_init(|| {
        let account = Identity::self_signed(key(), "account", validity).unwrap();
        [(); 2].map(|()| account.issue_device(key(), "device", validity).unwrap())
    })
}

fn config(number: usize) -> Config {
    Config::new(&identities()[number], Options::default()).unwrap()
}

fn device(number: usize) -> DeviceId {
    identities()[number].chain().device_id()
}

/// The device under test is the first; the second is played by hand.
struct Scene {
    ours: Selected,
    peer: Peer,
}

struct Peer {
    stream: Box<dyn TcpStream>,
    session: Session,
    /// Framed bytes that were read.
    input: Vec<u8>,
    /// TLS bytes of which no whole record is there.
    records: Vec<u8>,
    plaintext: Vec<u8>,
    /// What our credentials are; the peer knows them.
    ours: Description,
    our_role: Role,
}

fn journal() -> Arc<Journal> {
    Arc::new(Journal::new(device(0), ConnectionId(1), Origin::Dialled, Weak::new()))
}

impl Scene {
    async fn new(world: &World, role: Role) -> Self {
        let internet = world.internet();
        let peer_role = if role == Role::Controlling { Role::Controlled } else { Role::Controlling };
        let ours = gathered(world, internet, "ours", role);
        let theirs = gathered(world, internet, "theirs", peer_role);
        let (our_description, their_description) = (ours.description(), theirs.description());
        let journal = journal();
        let (ours, theirs) = tokio::join!(
            ours.negotiate(their_description, &journal, LIMIT),
            theirs.negotiate(our_description.clone(), &journal, LIMIT)
        );
        let (ours, mut theirs) = (ours.unwrap(), theirs.unwrap());
        theirs.stream.write_all(&theirs.unsent).await.unwrap();
        let session = match theirs.role {
            Role::Controlling => Session::client(&config(1), device(0)),
            Role::Controlled => Session::server(&config(1), device(0)),
        };
        let peer = Peer {
            stream: theirs.stream,
            session: session.unwrap(),
            input: theirs.unread.to_vec(),
            records: theirs.early.concat(),
            plaintext: Vec::new(),
            ours: our_description,
            our_role: ours.role,
        };
        Self { ours, peer }
    }
}

fn gathered(world: &World, internet: Network, name: &str, role: Role) -> Gathered {
    let host = world.host(name);
    host.attach(internet, Link::delay(Duration::from_millis(5)));
    Gathered::new(Arc::new(host), &PathOptions::default(), role, false).unwrap()
}

/// Our side of it.
async fn ours(selected: Selected) -> Result<Secured, ConnectError> {
    secure(selected, &config(0), towline_mux::Config::default(), device(1), LIMIT, &CancellationToken::new())
        .await
}

impl Peer {
    /// One frame.
    async fn say(&mut self, payload: &[u8]) {
        let mut frame = u16::try_from(payload.len()).unwrap().to_be_bytes().to_vec();
        frame.extend_from_slice(payload);
        // We may have hung up already, which is then what the test looks at.
        let _ = self.stream.write_all(&frame).await;
    }

    /// A check as the peer may send it at any time, which we answer.
    async fn check(&mut self) {
        let ours = &self.ours.credentials;
        let role = match self.our_role {
            Role::Controlling => RoleClaim::Controlled(7),
            Role::Controlled => RoleClaim::Controlling(7),
        };
        let check = Encoder::new(Class::Request, BINDING, TransactionId([7; 12])).priority(1_862_270_975);
        let check = check.role(role).username(format!("{}:peer", ours.ufrag()).as_bytes());
        let check = check.finish(Some(ours.password().as_bytes()));
        self.say(&check).await;
    }

    /// What its TLS session has to say.
    fn flight(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.session.poll_transmit(&mut out);
        out
    }

    /// Reads once. `false` at the end of the stream.
    async fn hear(&mut self) -> bool {
        let mut buffer = vec![0; 64 * 1024];
        let Ok(read @ 1..) = self.stream.read(&mut buffer).await else { return false };
        self.input.extend_from_slice(&buffer[..read]);
        self.take_in();
        true
    }

    fn take_in(&mut self) {
        while let Some(header) = self.input.first_chunk::<2>() {
            let len = usize::from(u16::from_be_bytes(*header));
            if self.input.len() < 2 + len {
                break;
            }
            let frame: Vec<u8> = self.input.drain(..2 + len).skip(2).collect();
            if classify(&frame) != PayloadKind::Stun {
                self.records.extend_from_slice(&frame);
            }
        }
        let plaintext = &mut self.plaintext;
        let used = self.session.receive(&mut self.records, &mut |bytes| plaintext.extend_from_slice(bytes));
        self.records.drain(..used.unwrap_or(0));
    }

    /// Goes through the handshake, cutting what it says into frames of `cut` bytes. `false` if we hung up.
    async fn shake_hands(&mut self, cut: usize) -> bool {
        self.take_in();
        loop {
            let flight = self.flight();
            for piece in flight.chunks(cut) {
                self.say(piece).await;
            }
            if self.session.is_established() {
                return true;
            }
            if !self.hear().await {
                return false;
            }
        }
    }

    fn sealed(&mut self, plaintext: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.session.send(plaintext, &mut out).unwrap();
        out
    }
}

fn story<F: Future>(tell: impl FnOnce(World) -> F) -> F::Output {
    let options = towline_lab::Options { limit: Duration::from_mins(10), ..towline_lab::Options::new(1) };
    options.run(tell).unwrap()
}

fn session(secured: &mut Secured) -> &mut crate::connection::session::Session {
    match &mut secured.carrier {
        Carrier::Session(session) => session,
        Carrier::Bundle(_) => panic!("no TLS"),
    }
}

/// Plaintext until there is so much of it.
async fn read(secured: &mut Secured, len: usize) -> Vec<u8> {
    let secured = session(secured);
    let mut all = std::mem::take(&mut secured.plaintext);
    while all.len() < len {
        poll_fn(|cx| secured.transport.poll_read(cx, &mut |bytes| all.extend_from_slice(bytes)))
            .await
            .unwrap();
    }
    all
}

#[test]
fn records_may_be_cut_anywhere_and_several_share_a_frame() {
    for role in [Role::Controlling, Role::Controlled] {
        for cut in [1, 3, 500, 60_000] {
            story(async |world| {
                let Scene { ours: selected, mut peer } = Scene::new(&world, role).await;
                let speaking = async {
                    assert!(peer.shake_hands(cut).await);
                    // Records of all sizes in one stream, cut without regard to them; between them what belongs to ICE,
                    // a forged check, and frames of nothing.
                    let mut stream = Vec::new();
                    for len in [1, 2, 100, 16_000, 16_384, 5, 0, 7000] {
                        stream.extend(peer.sealed(&vec![len as u8; len]));
                    }
                    for (number, piece) in stream.chunks(cut.max(20)).enumerate() {
                        match number % 4 {
                            0 => peer.check().await,
                            1 => peer.say(&[&[0, 1, 0, 0][..], &[7; 16]].concat()).await,
                            2 => peer.say(&[]).await,
                            _ => {}
                        }
                        peer.say(piece).await;
                    }
                    peer
                };
                let hearing = async {
                    let mut secured = ours(selected).await.unwrap();
                    let sum = 1 + 2 + 100 + 16_000 + 16_384 + 5 + 7000;
                    let mut expected = Vec::new();
                    for len in [1_usize, 2, 100, 16_000, 16_384, 5, 7000] {
                        expected.extend(std::iter::repeat_n(len as u8, len));
                    }
                    assert!(read(&mut secured, sum).await == expected, "{role:?}, cut {cut}");
                };
                tokio::join!(speaking, hearing);
            });
        }
    }
}

#[test]
fn what_is_no_tls_ends_the_attempt_with_the_rule_that_was_broken() {
    let long = [0xff; 3000];
    for (role, junk, error) in [
        (Role::Controlled, &b"GET / HTTP/1.1\r\n\r\n"[..], TlsError::Garbage),
        (Role::Controlling, &[0x92, 0xcd, 0xff, 0xff, 0xc4, 4], TlsError::Garbage),
        (Role::Controlled, &long, TlsError::Garbage),
        // A record that is longer than records may be, and one of a handshake that has not begun.
        (Role::Controlling, &[0x16, 3, 3, 0xff, 0xff, 0], TlsError::Garbage),
        (Role::Controlled, &[0x17, 3, 3, 0, 5, 1, 2, 3, 4, 5], TlsError::Misbehaved),
    ] {
        story(async |world| {
            let Scene { ours: selected, mut peer } = Scene::new(&world, role).await;
            let begun = towline_net::now();
            let (outcome, ()) = tokio::join!(ours(selected), peer.say(junk));
            assert_eq!(outcome.err(), Some(ConnectError::Tls(error)), "{role:?} {junk:x?}");
            assert!(towline_net::now() - begun < Duration::from_secs(2), "it is not waited for");
        });
    }
}

#[test]
fn a_handshake_without_end_is_bounded_in_bytes_and_in_time() {
    story(async |world| {
        // The head of a record, and never the rest.
        let Scene { ours: selected, mut peer } = Scene::new(&world, Role::Controlled).await;
        let (outcome, ()) = tokio::join!(ours(selected), peer.say(&[0x16, 3, 1, 0x3f, 0xff, 1, 0, 0x3f]));
        let error = outcome.err();
        assert_eq!(error, Some(ConnectError::TimedOut { step: Step::Tls, waited: LIMIT }));
    });
    story(async |world| {
        // A message of the handshake that goes on from record to record.
        let Scene { ours: selected, mut peer } = Scene::new(&world, Role::Controlled).await;
        let flooding = async {
            let mut sent = 0;
            peer.say(&[0x16, 3, 1, 0x3f, 0xff, 1, 0xff, 0xff, 0xff]).await;
            let rest = vec![0; 0x3fff - 4];
            peer.say(&rest).await;
            let record = [&[0x16, 3, 3, 0x3f, 0xff][..], &vec![0; 0x3fff]].concat();
            while tokio::time::timeout(Duration::from_secs(1), peer.stream.write_all(&frame(&record)))
                .await
                .is_ok_and(|written| written.is_ok())
            {
                sent += record.len();
                assert!(sent < 4 << 20, "a handshake of {sent} bytes");
            }
        };
        let (outcome, ()) = tokio::join!(ours(selected), flooding);
        assert!(matches!(outcome.err(), Some(ConnectError::Tls(_))));
    });
}

fn frame(payload: &[u8]) -> Vec<u8> {
    [&u16::try_from(payload.len()).unwrap().to_be_bytes()[..], payload].concat()
}

#[test]
fn an_end_in_the_handshake_is_no_proper_end() {
    for role in [Role::Controlling, Role::Controlled] {
        story(async |world| {
            let Scene { ours: selected, mut peer } = Scene::new(&world, role).await;
            let leaving = async {
                let flight = peer.flight();
                peer.say(&flight[..flight.len() / 2]).await;
                drop(peer);
            };
            let (outcome, ()) = tokio::join!(ours(selected), leaving);
            let error = outcome.err();
            // The end is a reset where something was not read.
            assert!(
                matches!(
                    error,
                    Some(ConnectError::TlsTransport(
                        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
                    ))
                ),
                "{role:?}: {error:?}"
            );
        });
    }
}

#[test]
fn an_end_without_farewell_is_told_from_one_with_it() {
    for farewell in [true, false] {
        story(async |world| {
            let Scene { ours: selected, mut peer } = Scene::new(&world, Role::Controlled).await;
            let leaving = async {
                assert!(peer.shake_hands(usize::MAX).await);
                let mut last = peer.sealed(WORDS);
                if farewell {
                    peer.session.close(&mut last);
                }
                peer.say(&last).await;
                peer.stream.shutdown().await.unwrap();
            };
            let (secured, ()) = tokio::join!(ours(selected), leaving);
            let mut secured = secured.unwrap();
            let secured = session(&mut secured);
            let mut all = std::mem::take(&mut secured.plaintext);
            let end = loop {
                let sink = &mut |bytes: &[u8]| all.extend_from_slice(bytes);
                match poll_fn(|cx| secured.transport.poll_read(cx, sink)).await {
                    Ok(ReadOutcome::Progress) => {}
                    end => break end,
                }
            };
            assert_eq!(all, WORDS, "what came before counts");
            let expected = if farewell { Ok(ReadOutcome::Closed) } else { Err(TransportError::Truncated) };
            assert_eq!(end, expected);
        });
    }
}

/// A stream that takes nothing more once it is shut.
#[derive(Debug)]
struct Valve {
    stream: Box<dyn TcpStream>,
    shut: Arc<AtomicBool>,
}

impl AsyncRead for Valve {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Valve {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if self.shut.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        Pin::new(&mut *self.stream).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}

impl TcpStream for Valve {
    fn local_addr(&self) -> SocketAddr {
        self.stream.local_addr()
    }

    fn peer_addr(&self) -> SocketAddr {
        self.stream.peer_addr()
    }
}

/// A peer that reads nothing from the moment it has our part of the handshake, and goes on talking: how it ends for us,
/// and what it could say.
fn talks_without_listening(most: usize) -> (Result<Secured, ConnectError>, usize) {
    story(async |world| {
        let Scene { ours: mut selected, mut peer } = Scene::new(&world, Role::Controlled).await;
        let shut = Arc::new(AtomicBool::new(false));
        selected.stream = Box::new(Valve { stream: selected.stream, shut: Arc::clone(&shut) });
        let talking = async {
            peer.say(&[]).await;
            let hello = peer.flight();
            peer.say(&hello).await;
            while !peer.session.is_established() {
                assert!(peer.hear().await);
            }
            // The answer to the check cannot leave, so that the handshake is not over for us.
            shut.store(true, Ordering::Relaxed);
            peer.check().await;
            let finished = peer.flight();
            peer.say(&finished).await;
            let mut said = 0;
            while said < most {
                let record = peer.sealed(&[7; 16_000]);
                let saying = peer.stream.write_all(&frame(&record)).await;
                if saying.is_err() {
                    break;
                }
                said += 16_000;
            }
            said
        };
        tokio::join!(ours(selected), talking)
    })
}

#[test]
fn plaintext_before_the_end_of_the_handshake_is_bounded() {
    let (outcome, _) = talks_without_listening(4 << 20);
    assert_eq!(outcome.err(), Some(ConnectError::Tls(TlsError::Misbehaved)));
    // Below the bound it is waited for as long as handshakes are.
    let (outcome, said) = talks_without_listening(MAX_EARLY_PLAINTEXT - 16_000);
    assert_eq!(outcome.err(), Some(ConnectError::TimedOut { step: Step::Tls, waited: LIMIT }));
    assert!(said >= MAX_EARLY_PLAINTEXT - 16_000);
}

#[test]
fn another_device_on_the_path_is_refused_by_its_key() {
    story(async |world| {
        let Scene { ours: selected, mut peer } = Scene::new(&world, Role::Controlled).await;
        // It expects ourselves at the other end.
        let (config, stop) = (config(0), CancellationToken::new());
        let wrong = secure(selected, &config, towline_mux::Config::default(), device(0), LIMIT, &stop);
        let (outcome, _) = tokio::join!(wrong, peer.shake_hands(usize::MAX));
        assert!(matches!(outcome.err(), Some(ConnectError::Tls(TlsError::WrongKey { .. }))));
    });
}
