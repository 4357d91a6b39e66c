//! Requests and answers of other devices.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use towline_identity::DeviceId;

use super::Actor;
use crate::info::{ConnectionId, Origin};
use crate::node::attempt;
use crate::node::progress::Progress;
use crate::node::underway::{OriginKey, Underway};
use crate::policy::ConnectionPolicy;
use crate::report::Journal;
use crate::signal::Incoming;

impl Actor {
    pub(super) fn handle_signal(&mut self, incoming: Incoming) {
        let device = incoming.sender.device_id();
        let request = &incoming.request;
        if device == self.ctx.device || self.memory.contains(device, request.id, request.is_answer) {
            return;
        }
        if request.is_answer {
            self.treat(&incoming);
            // Only the device that was asked may answer, once, and only while it is waited for.
            if let Some(dial) = self.dials.get_mut(&device)
                && dial.id.0 == request.id
                && let Some(answer) = dial.answer.take()
            {
                let _ = answer.send(incoming);
            } else {
                tracing::debug!(%device, id = request.id, "answer that nobody waits for");
            }
            return;
        }
        if matches!(self.ctx.config.policy, ConnectionPolicy::RefuseAll) {
            return;
        }
        let stranger = !self.known.contains(device);
        let strangers = self.answers.values().filter(|underway| underway.stranger).count();
        let full = self.answers.len() >= self.limits.answers
            || self.answers_to(device).count() >= self.limits.answers_per_device
            || (stranger && strangers >= self.limits.answers_to_strangers)
            || self.connections_to_be() >= self.limits.connections;
        if full {
            // One that is dropped is not treated: it may come again when there is room.
            if self.chores.len() < self.limits.answers {
                self.treat(&incoming);
                self.chores.spawn(attempt::refuse_busy(Arc::clone(&self.ctx), incoming));
            }
            return;
        }
        self.treat(&incoming);
        self.start_answer(incoming, stranger);
    }

    fn treat(&mut self, incoming: &Incoming) {
        let (sender, request) = (incoming.sender.device_id(), &incoming.request);
        self.memory.insert(towline_net::now(), sender, request.id, request.is_answer);
    }

    fn start_answer(&mut self, incoming: Incoming, stranger: bool) {
        let device = incoming.sender.device_id();
        let id = ConnectionId(incoming.request.id);
        let yields = incoming.request.extension.is_none();
        let known = self.known.get(device).cloned();
        let (over, _) = watch::channel(());
        let stop = CancellationToken::new();
        let journal = Journal::new(device, id, Origin::Answered, Arc::downgrade(&self.ctx));
        let progress = Arc::new(Progress::new(journal));
        let (ctx, seen, stopped) = (Arc::clone(&self.ctx), Arc::clone(&progress), stop.clone());
        let later = self.trickling.open((device, id, OriginKey::Answered));
        let task = self.attempts.spawn(async move {
            let result = attempt::answer(ctx, incoming, known, later, seen, stopped).await;
            ((device, id, OriginKey::Answered), result)
        });
        self.answers.insert((device, id), Underway { task, stop, progress, stranger, yields, over });
        if yields {
            self.give_way(device);
        }
    }

    /// A request of a peer that is no Towline meets a dial of ours to the same device. If ours is not out yet, it waits,
    /// once: a device that asks again and again does not keep us from asking. If it is out, the damage is done, and
    /// answering is what helps most: the device gets a connection by its own request whatever becomes of ours, both may
    /// stand, and ours is not repeated.
    fn give_way(&mut self, device: DeviceId) {
        let Some(dial) = self.dials.remove(&device) else { return };
        if dial.attempt.progress.has_asked() || dial.attempt.yields {
            dial.attempt.progress.cross();
            self.dials.insert(device, dial);
        } else {
            dial.attempt.end();
            self.start_dial(device, dial.waiters);
        }
    }
}
