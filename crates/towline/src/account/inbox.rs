//! Requests that come: what lies in the inbox of this device, and who put it there.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use towline_account::contacts::Contacts;
use towline_account::inbox;
use towline_dht::Query;
use towline_dht::types::{Payload as _, TRUST_REQUEST, TrustRequest};
use towline_identity::{DeviceId, PublicKey};

use super::actor::News;
use crate::dht::{ListenEvent, SecureValue};
use crate::node::Node;

/// How long before a listen that ended is begun anew.
const PAUSE: std::time::Duration = std::time::Duration::from_secs(5);
/// A sender that publishes its certificate only now is looked for again after these pauses, in seconds.
const AGAIN_AFTER: [u64; 3] = [1, 5, 25];
/// Senders looked for at once; the others wait, also for their next try.
const LOOKUPS: usize = 16;

/// Letters noted to have been looked into: more than a key holds on the DHT.
const MOST_LOOKED_FOR: usize = 4096;

/// What came.
#[derive(Debug)]
struct Letter {
    sender: PublicKey,
    value_id: u64,
    request: TrustRequest,
}

/// Letters whose sender was or is looked for: those that are shown again are not looked into again, so that there is room
/// for others.
#[derive(Debug, Default)]
struct LookedFor {
    letters: BTreeSet<(DeviceId, u64)>,
    order: VecDeque<(DeviceId, u64)>,
}

impl LookedFor {
    fn contains(&self, letter: (DeviceId, u64)) -> bool {
        self.letters.contains(&letter)
    }

    /// Notes a letter; of too many the oldest is forgotten.
    fn insert(&mut self, letter: (DeviceId, u64)) {
        if self.order.len() >= MOST_LOOKED_FOR
            && let Some(oldest) = self.order.pop_front()
        {
            self.letters.remove(&oldest);
        }
        self.letters.insert(letter);
        self.order.push_back(letter);
    }
}

/// Listens in the inbox until the account is gone.
pub(super) async fn listen(
    node: Node,
    contacts: watch::Receiver<Arc<Contacts>>,
    waiting: usize,
    news: mpsc::Sender<News>,
) {
    let key = inbox::key(node.identity().short_id());
    let lookups = Arc::new(Semaphore::new(LOOKUPS));
    let mut looking = JoinSet::new();
    let mut looked_for = LookedFor::default();
    let mut missed = false;
    loop {
        let mut listening = node.dht().listen(key, Query::all());
        loop {
            let event = tokio::select! {
                biased;
                Some(_) = looking.join_next() => {
                    if missed && looking.len() <= waiting / 2 {
                        // There is room again: all that is there is shown anew.
                        missed = false;
                        break;
                    }
                    continue;
                }
                event = listening.next() => event,
            };
            // Values last for minutes; what has expired was treated or is sent again.
            let values = match event {
                Some(ListenEvent::New(values)) => values,
                Some(ListenEvent::Expired(_)) => continue,
                Some(ListenEvent::Missed(_)) | None => break,
            };
            for letter in values.iter().filter_map(read) {
                let id = (letter.sender.device_id(), letter.value_id);
                if contacts.borrow().has_treated(id.0, id.1) || looked_for.contains(id) {
                    continue;
                }
                // Who is known waits for nobody: anybody can write under keys that belong to no one.
                if let Some(sender) = node.recall_writer(&letter.sender).await {
                    let (value_id, request) = (letter.value_id, Box::new(letter.request));
                    // Without anybody to tell, nothing is left to do.
                    let _ = news.send(News::Request { sender, value_id, request }).await;
                } else if looking.len() < waiting.max(1) {
                    looked_for.insert(id);
                    let (node, news, lookups) = (node.clone(), news.clone(), Arc::clone(&lookups));
                    looking.spawn(async move { look_up(&node, letter, &lookups, &news).await });
                } else {
                    missed = true;
                }
            }
        }
        if news.is_closed() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A request is encrypted to us, signed, and says what it is.
fn read(value: &SecureValue) -> Option<Letter> {
    let sender = value.from.clone()?;
    if !value.encrypted || value.value.value_type() != TRUST_REQUEST {
        return None;
    }
    match TrustRequest::decode(value.value.data()) {
        Ok(request) => Some(Letter { sender, value_id: value.value.id, request }),
        Err(error) => {
            tracing::debug!(from = %sender.device_id(), %error, "malformed request to become a contact");
            None
        }
    }
}

/// Whose device the sender is: the account in its verified chain. A chain of somebody known is preferred to others that
/// strangers may have published for its key.
async fn look_up(node: &Node, letter: Letter, lookups: &Semaphore, news: &mpsc::Sender<News>) {
    let Letter { sender, value_id, request } = letter;
    for pause in AGAIN_AFTER.iter().map(Some).chain([None]) {
        let found = {
            let _place = lookups.acquire().await;
            node.find_writer(&sender).await
        };
        match found {
            Ok(chain) => {
                // Without anybody to tell, nothing is left to do.
                let _ =
                    news.send(News::Request { sender: chain, value_id, request: Box::new(request) }).await;
                return;
            }
            Err(error) => {
                tracing::debug!(device = %sender.device_id(), %error, "the sender of a request was not found");
            }
        }
        if let Some(pause) = pause {
            tokio::time::sleep(std::time::Duration::from_secs(*pause)).await;
        }
    }
}
