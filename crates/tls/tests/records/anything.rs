//! Any order of everything that two ends may do, in pieces of any size, in every version, suite and role.

use proptest::collection::vec;
use proptest::prelude::*;
use rustls::Connection;
use towline_tls::Session;

use super::hear_in_steps;
use super::peer::{self, Role, Speaks, said, tell, write};

#[derive(Debug, Clone)]
enum Act {
    /// Our session sends so many bytes: appended, or into a slice.
    Send(usize, bool),
    /// The peer does.
    Write(usize),
    /// The peer changes its key, and asks for ours.
    Refresh,
    /// What our session has to send by itself gets on its way.
    Flush,
    /// All that was sent arrives, to us in pieces of so many bytes.
    Deliver(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let size = || prop_oneof![0_usize..100, 16_300_usize..16_500, 0_usize..70_000];
    prop_oneof![
        3 => (size(), any::<bool>()).prop_map(|(len, slice)| Act::Send(len, slice)),
        3 => size().prop_map(Act::Write),
        2 => Just(Act::Refresh),
        1 => Just(Act::Flush),
        2 => prop_oneof![1_usize..50, 1000_usize..40_000].prop_map(Act::Deliver),
    ]
}

/// Two ends, what is on its way between them, and what should and did arrive.
struct Link {
    session: Session,
    peer: Connection,
    to_peer: Vec<u8>,
    sent: Vec<u8>,
    written: Vec<u8>,
    heard: Vec<u8>,
    heard_by_peer: Vec<u8>,
}

impl Link {
    fn data(&self, len: usize) -> Vec<u8> {
        let start = self.sent.len() + self.written.len();
        (start..start + len).map(|index| (index / 7) as u8).collect()
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Send(len, slice) => {
                let data = self.data(len);
                if slice {
                    let mut wire = vec![0; self.session.sealed_len(len)];
                    let written = self.session.seal(&data, &mut wire).unwrap();
                    self.to_peer.extend_from_slice(&wire[..written]);
                } else {
                    self.session.send(&data, &mut self.to_peer).unwrap();
                }
                self.sent.extend(data);
            }
            Act::Write(len) => {
                let data = self.data(len);
                write(&mut self.peer, &data);
                self.written.extend(data);
            }
            Act::Refresh => self.peer.refresh_traffic_keys().unwrap(),
            Act::Flush => {
                self.session.poll_transmit(&mut self.to_peer);
            }
            Act::Deliver(step) => {
                self.heard_by_peer.extend(tell(&mut self.peer, &self.to_peer).unwrap());
                self.to_peer.clear();
                let wire = said(&mut self.peer);
                hear_in_steps(&mut self.session, &wire, step, &mut self.heard).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn everything_arrives(
        client in any::<bool>(),
        speaks in prop_oneof![Just(Speaks::Aes256), Just(Speaks::ChaCha20), Just(Speaks::Tls12)],
        acts in vec(act(), 0..30),
    ) {
        let (session, peer) = peer::pair(if client { Role::Client } else { Role::Server }, speaks);
        let mut link = Link {
            session,
            peer,
            to_peer: Vec::new(),
            sent: Vec::new(),
            written: Vec::new(),
            heard: Vec::new(),
            heard_by_peer: Vec::new(),
        };
        for act in &acts {
            // Older keys are not changed.
            if !(speaks == Speaks::Tls12 && matches!(act, Act::Refresh)) {
                link.act(act);
            }
        }
        link.session.close(&mut link.to_peer);
        link.peer.send_close_notify();
        link.act(&Act::Deliver(10_000));
        prop_assert!(link.session.peer_closed());
        prop_assert!(link.sent == link.heard_by_peer && link.written == link.heard);
    }
}
