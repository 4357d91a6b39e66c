//! One channel: how far its opening is, and what waits in both directions.

use std::{collections::VecDeque, net::SocketAddr, time::Instant};

use super::Cookie;

/// What a message costs its queue beside its bytes.
const MESSAGE_COST: usize = 32;

/// Who opened a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Opener {
    Own,
    Peer,
}

#[derive(Debug)]
pub(super) struct Channel {
    /// Who opened it, and the half that the opener chose: together unique.
    pub name: (Opener, u16),
    pub capabilities: u16,
    /// Whether its first data may share a packet with the proof.
    pub early_data: bool,
    pub remote: SocketAddr,
    pub state: State,
    pub outgoing: Queue,
    pub incoming: Queue,
    /// Of the next packet.
    pub sequence: u16,
    /// When something last came or went.
    pub active: Instant,
    /// What the endpoint's timers have for it.
    pub timer: Option<Instant>,
    /// Whether it waits for its turn to send.
    pub queued: bool,
    /// Whether the program was told that there is no room.
    pub blocked: bool,
}

#[derive(Debug)]
pub(super) enum State {
    /// NEW was or will be sent.
    Pending {
        /// When to give up.
        end: Instant,
        again: Again,
    },
    /// Both halves are known.
    Open {
        id: u32,
        /// What the peer may still have to be told.
        proof: Option<Proof>,
    },
}

/// FINALIZE, or COOKIE in its place.
#[derive(Debug)]
pub(super) struct Proof {
    pub cookie: Cookie,
    /// How often it may be said again.
    pub repeats: u8,
    pub again: Again,
}

/// Something to be said at least once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Again {
    /// Whether now.
    pub send: bool,
    /// When next.
    pub due: Instant,
    /// How often it was due.
    pub times: u32,
}

impl Channel {
    /// Whether there is something to send.
    pub(super) fn wants(&self) -> bool {
        match &self.state {
            State::Pending { again, .. } => again.send,
            State::Open { proof, .. } => {
                proof.as_ref().is_some_and(|proof| proof.again.send) || !self.outgoing.is_empty()
            }
        }
    }
}

/// Messages that wait, and their size.
#[derive(Debug, Default)]
pub(super) struct Queue {
    messages: VecDeque<Box<[u8]>>,
    cost: usize,
}

impl Queue {
    /// Takes a message if the queue stays within `limit`, or if it is the only one.
    pub(super) fn push(&mut self, message: &[u8], limit: usize) -> bool {
        let cost = self.cost + message.len() + MESSAGE_COST;
        if cost > limit && !self.messages.is_empty() {
            return false;
        }
        self.cost = cost;
        self.messages.push_back(message.into());
        true
    }

    pub(super) fn front(&self) -> Option<&[u8]> {
        self.messages.front().map(|message| &**message)
    }

    pub(super) fn pop(&mut self) {
        if let Some(message) = self.messages.pop_front() {
            self.cost -= message.len() + MESSAGE_COST;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(super) fn cost(&self) -> usize {
        self.cost
    }
}
