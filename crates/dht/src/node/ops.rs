//! The operations of the program, and their cancelling.

use std::time::Instant;

use super::Node;
use super::event::OpId;
use super::family::Family;
use super::get::Get;
use super::listen::{HERE, Listen};
use super::put::Put;
use super::search::SearchKey;
use super::timers::Timer;
use crate::InfoHash;

/// An operation under way.
#[derive(Debug)]
pub(super) enum Op {
    Get(Get),
    Put(Put),
    Listen(Listen),
}

impl Op {
    fn key(&self) -> InfoHash {
        match self {
            Self::Get(get) => get.key,
            Self::Put(put) => put.key,
            Self::Listen(listen) => listen.key,
        }
    }
}

impl Node {
    pub(super) fn draw_op(&mut self) -> OpId {
        let op = OpId(self.next_op);
        self.next_op += 1;
        op
    }

    /// Ends an operation; no more events come for it. A cancelled permanent put is not renewed and its copy here is
    /// removed, but copies elsewhere live until they expire: the protocol has no delete. Unknown ids do nothing.
    pub fn cancel(&mut self, now: Instant, op: OpId) {
        let Some(ended) = self.ops.remove(&op) else { return };
        let key = ended.key();
        match ended {
            Op::Get(_) => {}
            Op::Put(put) => {
                if put.permanent {
                    self.store.remove_local(&key, put.value.id);
                }
            }
            Op::Listen(listen) => {
                let (socket, name) = listen.local;
                self.sockets.remove(&socket);
                self.store.drop_listeners_of(&name, HERE);
                self.timers.cancel(Timer::Listen(op));
            }
        }
        for family in Family::ALL {
            let key = SearchKey { key, family };
            let Some(search) = self.searches.get_mut(&key) else { continue };
            search.lookups.remove(&op);
            search.puts.retain(|_, put| put.op != op);
            for subscription in search.subscriptions.values_mut() {
                subscription.ops.remove(&op);
            }
            let over: Vec<u32> =
                search.subscriptions.iter().filter(|(_, it)| it.ops.is_empty()).map(|(id, _)| *id).collect();
            for id in over {
                search.subscriptions.remove(&id);
                for member in &mut search.members {
                    if let Some(listening) = member.listens.remove(&id) {
                        self.sockets.remove(&listening.socket);
                    }
                }
            }
            self.dirty.insert(key);
        }
        self.settle(now);
    }

    /// [`Node::cancel`] under the name that says what it is mostly used for.
    pub fn cancel_put(&mut self, now: Instant, op: OpId) {
        self.cancel(now, op);
    }
}
