//! The account's task: requests and answers that go out.

use std::time::Duration;

use tokio::task::JoinError;
use towline_dht::types::TrustRequest;
use towline_identity::AccountId;

use super::Actor;
use crate::account::event::AccountEvent;

/// An answer to who announces no device yet is tried again after these pauses, in seconds: it has just asked.
const AGAIN_AFTER: [u64; 4] = [2, 5, 15, 45];

/// Messages to one account: one is on its way, and the latest of each kind waits.
#[derive(Debug, Default)]
pub(super) struct Sending {
    underway: bool,
    request: Option<TrustRequest>,
    confirmation: Option<TrustRequest>,
}

impl Sending {
    fn next(&mut self) -> Option<TrustRequest> {
        self.confirmation.take().or_else(|| self.request.take())
    }
}

impl Actor {
    /// Sends a message to each device of an account, after those that are on their way to it.
    pub(super) fn send(&mut self, account: AccountId, message: TrustRequest) {
        let sending = self.sending.entry(account).or_default();
        if message.confirm {
            sending.confirmation = Some(message);
        } else {
            sending.request = Some(message);
        }
        self.send_next(account);
    }

    fn send_next(&mut self, account: AccountId) {
        let Some(sending) = self.sending.get_mut(&account).filter(|sending| !sending.underway) else {
            return;
        };
        let Some(message) = sending.next() else {
            self.sending.remove(&account);
            return;
        };
        sending.underway = true;
        let (directory, places) = (self.directory.clone(), std::sync::Arc::clone(&self.places));
        self.sent.spawn(async move {
            let confirmation = message.confirm;
            let pauses: &[u64] = if confirmation { &AGAIN_AFTER } else { &[] };
            let mut devices = 0;
            for pause in std::iter::once(&0).chain(pauses) {
                tokio::time::sleep(Duration::from_secs(*pause)).await;
                // Not held while nothing is done.
                let Ok(_place) = places.acquire().await else { break };
                devices = directory.send(account, &message).await;
                if devices > 0 {
                    break;
                }
            }
            (account, confirmation, devices)
        });
    }

    pub(super) fn handle_sent(&mut self, sent: Result<(AccountId, bool, usize), JoinError>) {
        let (account, confirmation, devices) =
            sent.expect("nothing in these tasks panics, and nobody ends them before this one");
        self.tell(AccountEvent::Sent { account, confirmation, devices });
        if let Some(sending) = self.sending.get_mut(&account) {
            sending.underway = false;
        }
        self.send_next(account);
    }
}
