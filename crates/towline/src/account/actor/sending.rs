//! The account's task: requests and answers that go out.

use std::time::Duration;

use tokio::task::{AbortHandle, Id, JoinError};
use towline_account::contacts::Contact;
use towline_dht::types::TrustRequest;
use towline_identity::AccountId;

use super::Actor;
use crate::account::event::AccountEvent;
use crate::eras::DeviceIds;

/// An answer to who announces no device yet is tried again after these pauses, in seconds: it has just asked.
const AGAIN_AFTER: [u64; 4] = [2, 5, 15, 45];

/// Messages to one account: one is on its way, and the latest of each kind waits.
#[derive(Debug, Default)]
pub(super) struct Sending {
    underway: Option<AbortHandle>,
    request: Option<TrustRequest>,
    /// With the device that asked.
    confirmation: Option<(TrustRequest, Option<DeviceIds>)>,
}

impl Sending {
    fn next(&mut self) -> Option<(TrustRequest, Option<DeviceIds>)> {
        self.confirmation.take().or_else(|| self.request.take().map(|request| (request, None)))
    }
}

impl Actor {
    /// Sends a message to each device of an account, after those that are on their way to it; and to the device `asked`,
    /// whether it is announced or not.
    pub(super) fn send(&mut self, account: AccountId, message: TrustRequest, asked: Option<DeviceIds>) {
        let sending = self.sending.entry(account).or_default();
        if message.confirm {
            sending.confirmation = Some((message, asked));
        } else {
            sending.request = Some(message);
        }
        self.send_next(account);
    }

    fn send_next(&mut self, account: AccountId) {
        let Some(sending) = self.sending.get_mut(&account).filter(|sending| sending.underway.is_none())
        else {
            return;
        };
        let Some((message, asked)) = sending.next() else {
            self.sending.remove(&account);
            return;
        };
        let (directory, places) = (self.directory.clone(), std::sync::Arc::clone(&self.places));
        let task = self.sent.spawn(async move {
            let confirmation = message.confirm;
            let pauses: &[u64] = if confirmation { &AGAIN_AFTER } else { &[] };
            let mut devices = 0;
            for pause in std::iter::once(&0).chain(pauses) {
                tokio::time::sleep(Duration::from_secs(*pause)).await;
                // Not held while nothing is done.
                let Ok(_place) = places.acquire().await else { break };
                devices = directory.send(account, &message, asked).await;
                if devices > 0 {
                    break;
                }
            }
            (account, confirmation, devices)
        });
        sending.underway = Some(task);
    }

    /// What is on its way to who is no contact any more does not go out.
    pub(super) fn stop_sending(&mut self) {
        let contacts = &self.contacts;
        self.sending.retain(|account, sending| {
            let active = contacts.get(*account).is_some_and(Contact::is_active);
            if let (false, Some(task)) = (active, &sending.underway) {
                task.abort();
            }
            active
        });
    }

    pub(super) fn handle_sent(&mut self, sent: Result<(Id, (AccountId, bool, usize)), JoinError>) {
        let id = match sent {
            Ok((id, (account, confirmation, devices))) => {
                self.tell(AccountEvent::Sent { account, confirmation, devices });
                id
            }
            Err(error) if error.is_cancelled() => error.id(),
            // A fault of this program; the other messages go out all the same.
            Err(error) => {
                tracing::error!(%error, "a message to a contact was not sent");
                error.id()
            }
        };
        let found = self
            .sending
            .iter_mut()
            .find(|(_, sending)| sending.underway.as_ref().is_some_and(|task| task.id() == id));
        if let Some((account, sending)) = found {
            sending.underway = None;
            let account = *account;
            self.send_next(account);
        }
    }
}
