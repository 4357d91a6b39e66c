//! Connections that stand, until their end.

use std::sync::Arc;

use tokio::sync::mpsc;
use towline_identity::DeviceId;

use super::Actor;
use crate::connection::Connection;
use crate::connection::channels::Setting;
use crate::connection::command::Line;
use crate::connection::flow::{SendShare, Sweep};
use crate::connection::handle::Shared;
use crate::connection::task::{Counters, Task};
use crate::error::CloseReason;
use crate::event::Event;
use crate::info::{ConnectionId, EstablishedInfo};
use crate::node::attempt::Attempted;
use crate::node::table::superseded;

/// Commands to one connection that may wait, beside one for each half of a channel: a half that was cancelled while
/// it waited may keep a place, and must not keep it from others. What they hold is bounded by their channels.
const CONNECTION_QUEUE: usize = 1024 + 2 * 65_536;

impl Actor {
    /// Starts the task of a connection that stands and puts it on the table.
    pub(super) fn establish(&mut self, attempted: Attempted) -> Connection {
        let Attempted { id, origin, secured, peer, known, path, timeline, journal, admitted, judged } =
            attempted;
        let device = peer.device;
        self.known.remember(known);
        let dialect = secured.dialect;
        let security = secured.security;
        let kind = secured.carrier.kind();
        journal.stand(towline_net::now(), kind == crate::info::Carrier::Channeler);
        let carrier = secured.carrier.with_pool(self.pool.clone());
        let (sender, commands) = mpsc::channel(CONNECTION_QUEUE);
        let share = Arc::new(SendShare::new(self.limits.channel_send_buffer / 2));
        let line = Line { commands: sender, sweep: Arc::new(Sweep::default()), share };
        let peer = Arc::new(peer);
        let counters = Arc::new(Counters::default());
        let setting = Setting {
            connection: id,
            peer: Arc::clone(&peer),
            line: line.clone(),
            limits: Arc::clone(&self.limits),
            incoming: self.incoming.clone(),
            pool: self.pool.clone(),
        };
        let task = Task::new(carrier, setting, commands, Arc::clone(&counters));
        self.connections.spawn(async move { (device, id, task.run().await) });

        let first = !self.table.knows(device);
        let info = EstablishedInfo {
            path: path.clone(),
            dialect,
            carrier: kind,
            security,
            created: self.ctx.net.unix_time(),
            timeline,
            sent: 0,
            received: 0,
            channels: 0,
        };
        let connection = Connection {
            shared: Arc::new(Shared { id, peer, origin, admitted, info, counters, journal, line }),
        };
        let all = self.table.insert(connection.clone());
        for other in all.iter().filter(|other| other.id() != id) {
            // An older connection that is dead is found out now, not when somebody needs it.
            other.probe();
        }
        for loser in superseded(&all) {
            // Only for a preferred one that lives: the device may have dialled because it lost that one.
            let (winner, loser) = (all[0].clone(), loser.clone());
            let bound = self.limits.close_timeout;
            self.chores.spawn(async move {
                if let Ok(Some(_)) = tokio::time::timeout(bound, winner.ping()).await {
                    loser.retire();
                }
            });
        }
        self.serve_waiters(device, &all[0]);
        if judged != self.ctx.policy_age() {
            // The policy was enforced between the judgement and now.
            self.chores.spawn(Arc::clone(&self.ctx).enforce_on(vec![connection.clone()]));
        }
        self.ctx.emit(Event::Connected { connection: id, device, first, path, timeline });
        connection
    }

    /// Whoever waits for this device need not wait for its own dial any more.
    fn serve_waiters(&mut self, device: DeviceId, preferred: &Connection) {
        let Some(dial) = self.dials.get_mut(&device) else { return };
        for waiter in dial.waiters.drain(..) {
            let _ = waiter.send(Ok(preferred.clone()));
        }
        // One that gave way, and that the device has not heard of, is not needed any more. Any other runs to its end:
        // the device may see that connection stand first.
        if dial.attempt.yields && !dial.attempt.progress.has_asked() {
            dial.attempt.end();
            self.dials.remove(&device);
        }
    }

    pub(super) fn handle_closed(
        &mut self,
        done: Result<(DeviceId, ConnectionId, CloseReason), tokio::task::JoinError>,
    ) {
        let Ok((device, connection, reason)) = done else {
            // A task that panicked says not which it was; its queue is closed.
            for connection in self.table.all().iter().filter(|connection| connection.is_closed()) {
                let (device, connection) = (connection.peer().device, connection.id());
                self.table.remove(device, connection);
                self.ctx.emit(Event::Disconnected { connection, device, reason: CloseReason::Internal });
            }
            return;
        };
        self.table.remove(device, connection);
        tracing::debug!(%device, %connection, %reason, "connection ended");
        self.ctx.emit(Event::Disconnected { connection, device, reason });
    }
}
