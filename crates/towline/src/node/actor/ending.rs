//! Ends that are asked for: of some connections, or of all.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::oneshot;
use towline_identity::DeviceId;

use super::Actor;
use crate::connection::Connection;
use crate::error::{CloseReason, ConnectError};
use crate::node::target::Target;

/// What attempts get for saying goodbye to a peer they are in a handshake with.
const GOODBYE: Duration = Duration::from_secs(2);

impl Actor {
    pub(super) fn close_with(&mut self, target: Target, done: oneshot::Sender<()>) {
        let dials: Vec<DeviceId> = self
            .dials
            .iter()
            .filter(|(device, dial)| target.matches(**device, dial.id, dial.attempt.progress.account()))
            .map(|(device, _)| *device)
            .collect();
        for device in dials {
            if let Some(dial) = self.dials.remove(&device) {
                dial.attempt.end();
                for waiter in dial.waiters {
                    let _ = waiter.send(Err(ConnectError::Cancelled));
                }
            }
        }
        let answers: Vec<_> = self
            .answers
            .iter()
            .filter(|((device, id), answer)| target.matches(*device, *id, answer.progress.account()))
            .map(|(key, _)| *key)
            .collect();
        for key in answers {
            if let Some(answer) = self.answers.remove(&key) {
                answer.end();
            }
        }
        let closing: Vec<Connection> = self
            .table
            .all()
            .into_iter()
            .filter(|connection| {
                let peer = connection.peer();
                target.matches(peer.device, connection.id(), Some(peer.account))
            })
            .collect();
        self.chores.spawn(async move {
            join_all(closing.iter().map(Connection::close)).await;
            let _ = done.send(());
        });
    }

    /// Ends what the policy or a revocation list does not allow any more. Attempts under way are judged by themselves
    /// when they come to their end.
    pub(super) fn enforce_policy(&mut self, done: oneshot::Sender<()>) {
        self.ctx.renew_policy();
        let enforced = Arc::clone(&self.ctx).enforce_on(self.table.all());
        self.chores.spawn(async move {
            enforced.await;
            let _ = done.send(());
        });
    }

    pub(super) async fn shutdown(&mut self) {
        for (_, dial) in std::mem::take(&mut self.dials) {
            dial.attempt.end();
            for waiter in dial.waiters {
                let _ = waiter.send(Err(ConnectError::NodeClosed));
            }
        }
        for (_, answer) in std::mem::take(&mut self.answers) {
            answer.end();
        }
        let attempts = async {
            while let Some(done) = self.attempts.join_next().await {
                if let Ok((_, Ok(mut attempted))) = done {
                    attempted.secured.carrier.end(&CloseReason::Here).await;
                }
            }
        };
        let connections = self.table.all();
        let closing = join_all(connections.iter().map(Connection::close));
        // Each connection bounds its own farewell; this bounds them all.
        let bound = self.limits.close_timeout + Duration::from_secs(2);
        let _ = tokio::join!(tokio::time::timeout(GOODBYE, attempts), tokio::time::timeout(bound, closing));
        self.attempts.shutdown().await;
        self.chores.shutdown().await;
        while let Some(done) = self.connections.try_join_next() {
            self.handle_closed(done);
        }
        self.connections.shutdown().await;
        self.memory.finish(&self.ctx).await;
    }
}
