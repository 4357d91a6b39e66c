//! Accepts connections at the common ports, and finds out by their first bytes whom they are for.
//!
//! Anybody may connect, and port 443 is looked at by scanners all day. So a stranger has [`FIRST`] and [`MAX_FRAME`] bytes for a
//! check, and whatever is none closes his connection. Not more than [`MAX_STRANGERS`] wait, [`MAX_PER_ADDRESS`] of them from one
//! address; one more takes the place of the one that has waited longest. A peer has its check on the way when it connects, so it
//! gets by even while others hold every place: nobody is kept out by those who came before.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BufMut as _;
use tokio_util::io::poll_read_buf;
use towline_ice::stun::{BINDING, Class, Message};
use towline_ice::{framing, network};
use towline_net::{TcpListener, TcpStream};

use super::view::View;
use super::{Caller, Shared, lock};
use crate::alarm::is_past;

/// How long a stranger has for his first check.
const FIRST: Duration = Duration::from_secs(5);
/// The longest first check, in bytes; ours have about 120.
const MAX_FRAME: usize = 1024;
/// Connections that have not said yet whom they are for.
const MAX_STRANGERS: usize = 64;
/// Of these, those from one address, or one network of IPv6.
const MAX_PER_ADDRESS: usize = 8;
/// After a failure to accept, which may be a lack of resources.
const PAUSE: Duration = Duration::from_millis(100);
/// Rounds before others get their turn.
const TURN: usize = 16;

/// See the module.
pub(super) struct Reception {
    listeners: Vec<Box<dyn TcpListener>>,
    shared: Shared,
    view: View,
    /// In the order of their coming.
    strangers: Vec<Stranger>,
    /// No more is accepted before this.
    rests: Option<Instant>,
}

struct Stranger {
    io: Box<dyn TcpStream>,
    /// Where he came from, as far as that tells one from another.
    from: IpAddr,
    until: Instant,
    read: Vec<u8>,
}

/// What became of a stranger.
enum Outcome {
    /// He has said whom he wants.
    Asks(Vec<u8>),
    /// He is none of ours, or gone.
    Leaves,
}

impl Reception {
    pub(super) fn new(listeners: Vec<Box<dyn TcpListener>>, shared: Shared, view: View) -> Self {
        Self { listeners, shared, view, strangers: Vec::new(), rests: None }
    }

    /// Never ends.
    pub(super) async fn run(mut self) {
        let timer = tokio::time::sleep_until(towline_net::now().into());
        tokio::pin!(timer);
        poll_fn(|cx| {
            lock(&self.shared).reception = Some(cx.waker().clone());
            for _ in 0..TURN {
                let now = towline_net::now();
                let mut moved = self.view.poll(cx, now, &self.shared);
                moved |= self.accept(cx, now);
                moved |= self.listen_to_strangers(cx);
                match self.poll_timeout() {
                    Some(at) if at <= now => {
                        self.handle_timeout(now);
                        moved = true;
                    }
                    Some(at) => moved |= is_past(timer.as_mut(), cx, at),
                    None => {}
                }
                if !moved {
                    return Poll::Pending::<()>;
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let strangers = self.strangers.iter().map(|stranger| stranger.until).min();
        strangers.into_iter().chain(self.rests).chain(self.view.poll_timeout()).min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.strangers.retain(|stranger| stranger.until > now);
        self.rests = self.rests.filter(|until| *until > now);
        self.view.handle_timeout(now);
    }

    /// One of each listener. True if there was any.
    fn accept(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut accepted = false;
        for listener in &mut self.listeners {
            if self.rests.is_some() {
                break;
            }
            match listener.poll_accept(cx) {
                Poll::Ready(Ok(io)) => {
                    accepted = true;
                    let from = network(io.peer_addr().ip());
                    make_room(&mut self.strangers, from);
                    self.strangers.push(Stranger { io, from, until: now + FIRST, read: Vec::new() });
                }
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "no connection accepted");
                    self.rests = Some(now + PAUSE);
                }
                Poll::Pending => {}
            }
        }
        accepted
    }

    /// True if anybody said anything.
    fn listen_to_strangers(&mut self, cx: &mut Context<'_>) -> bool {
        let (mut moved, mut index) = (false, 0);
        while let Some(stranger) = self.strangers.get_mut(index) {
            let Poll::Ready(outcome) = stranger.poll(cx) else {
                index += 1;
                continue;
            };
            moved = true;
            let Stranger { io, read, .. } = self.strangers.remove(index);
            let remote = io.peer_addr();
            match outcome {
                Outcome::Asks(ufrag) => {
                    if !lock(&self.shared).hand_over(&ufrag, Caller { io, first: read }) {
                        tracing::debug!(%remote, "a check for nobody here");
                    }
                }
                Outcome::Leaves => tracing::debug!(%remote, "no check: the connection is closed"),
            }
        }
        moved
    }
}

impl Stranger {
    /// Reads until there is a whole frame.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        loop {
            if let Some(outcome) = judge(&self.read) {
                return Poll::Ready(outcome);
            }
            let room = framing::HEADER_LEN + MAX_FRAME - self.read.len();
            let mut into = (&mut self.read).limit(room);
            match poll_read_buf(Pin::new(&mut *self.io), cx, &mut into) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) => return Poll::Ready(Outcome::Leaves),
            }
        }
    }
}

/// What the first bytes say; nothing as long as the first frame is not whole.
fn judge(read: &[u8]) -> Option<Outcome> {
    let len = usize::from(u16::from_be_bytes(*read.first_chunk()?));
    if len > MAX_FRAME {
        return Some(Outcome::Leaves);
    }
    let frame = read.get(framing::HEADER_LEN..)?.get(..len)?;
    let check = Message::decode(frame).ok();
    let check = check.filter(|message| (message.class, message.method) == (Class::Request, BINDING));
    // Whether he knows the password, too, is for the agent to see.
    let ufrag = check.and_then(|check| check.username?.split(|byte| *byte == b':').next());
    Some(ufrag.map_or(Outcome::Leaves, |ufrag| Outcome::Asks(ufrag.to_vec())))
}

/// So that one more may come from there.
fn make_room(strangers: &mut Vec<Stranger>, from: IpAddr) {
    let of_address = strangers.iter().filter(|stranger| stranger.from == from).count();
    let oldest = if of_address >= MAX_PER_ADDRESS {
        strangers.iter().position(|stranger| stranger.from == from)
    } else {
        (strangers.len() >= MAX_STRANGERS).then_some(0)
    };
    if let Some(oldest) = oldest {
        strangers.remove(oldest);
    }
}

#[cfg(test)]
mod tests {
    use towline_ice::stun::{Encoder, TransactionId};

    use super::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        framing::frame(payload).unwrap().to_vec()
    }

    fn check(class: Class, method: u16, user: &[u8]) -> Vec<u8> {
        let message = Encoder::new(class, method, TransactionId([7; 12])).username(user);
        frame(&message.finish(Some(b"whatever")))
    }

    #[test]
    fn only_a_check_says_whom_it_is_for() {
        let good = check(Class::Request, BINDING, b"ours:theirs");
        for len in 0..good.len() {
            assert!(judge(&good[..len]).is_none(), "{len} bytes");
        }
        let asks = |bytes: &[u8]| match judge(bytes) {
            Some(Outcome::Asks(ufrag)) => String::from_utf8(ufrag).ok(),
            _ => None,
        };
        assert_eq!(asks(&good).as_deref(), Some("ours"));
        let more = [&good[..], b"and more"].concat();
        assert_eq!(asks(&more).as_deref(), Some("ours"));
        let long = frame(&[0; MAX_FRAME]);
        for bad in [
            &check(Class::Success, BINDING, b"ours:theirs")[..],
            &check(Class::Request, 3, b"ours:theirs"),
            &frame(&Encoder::new(Class::Request, BINDING, TransactionId([7; 12])).finish(None)),
            // A browser, with TLS and without.
            b"\x16\x03\x01",
            b"GET / HTTP/1.1\r\n",
            b"\0\0",
            &long,
        ] {
            assert!(matches!(judge(bad), Some(Outcome::Leaves)), "{bad:?}");
        }
    }
}
