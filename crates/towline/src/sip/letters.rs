//! Messages that lie in the inbox of this device on the DHT (`files-and-calls.md` 3.2).
//!
//! The daemon of 2023 puts a text there when it has no channel to the device, while it asks for a connection that the next
//! text can use. It takes the text for sent when the device puts an empty message with the same id, encrypted to it, into
//! the same inbox.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use towline_account::inbox;
use towline_dht::types::{IM_MESSAGE, ImMessage, Payload as _};
use towline_dht::{Query, Value};
use towline_identity::{DeviceId, PublicKey};
use towline_sip::Status;

use super::receiver::Text;
use super::texts::Inner;
use super::treated::Treated;
use crate::account::Account;
use crate::dht::{ListenEvent, SecureValue};
use crate::policy::Peer;

/// How long before a listen that ended is begun anew.
const PAUSE: Duration = Duration::from_secs(5);
/// Senders looked up at once; while there are so many, further messages wait in the DHT's bounded queues.
const AT_ONCE: usize = 8;
/// Seconds that such a message is valid before and after its date: anybody can put an old value again.
const MAX_AGE: u64 = 10 * 60;

#[derive(Debug)]
struct Letter {
    sender: PublicKey,
    message: ImMessage,
}

/// Which messages need nothing more: anybody can put a value again under another id, and each would cost a lookup, a
/// signature and a put.
#[derive(Debug)]
struct Answered {
    acknowledged: Treated<DeviceId>,
    under_way: BTreeSet<(DeviceId, u64)>,
}

impl Answered {
    fn new(max: usize) -> Self {
        Self { acknowledged: Treated::new(max), under_way: BTreeSet::new() }
    }
}

/// The work on one message; it may be taken up again when this is dropped, unless it was acknowledged.
#[derive(Debug)]
struct Turn {
    answered: Arc<Mutex<Answered>>,
    sender: DeviceId,
    id: u64,
}

impl Turn {
    /// None if the message was acknowledged, or will be.
    fn begin(answered: &Arc<Mutex<Answered>>, sender: DeviceId, id: u64) -> Option<Self> {
        let mut state = answered.lock().unwrap_or_else(PoisonError::into_inner);
        let new = !state.acknowledged.contains(sender, &name(id)) && state.under_way.insert((sender, id));
        drop(state);
        new.then(|| Self { answered: Arc::clone(answered), sender, id })
    }

    fn acknowledged(&self) {
        let mut state = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        state.acknowledged.insert(self.sender, &name(self.id));
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        state.under_way.remove(&(self.sender, self.id));
    }
}

/// What a message is called on a channel.
fn name(id: u64) -> String {
    format!("{id:016x}")
}

/// Takes messages out of the inbox for as long as the texts exist. `treated` of those acknowledged are remembered.
pub(super) async fn listen(account: Account, texts: Weak<Inner>, treated: usize) {
    let key = inbox::key(account.node().identity().short_id());
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let answered = Arc::new(Mutex::new(Answered::new(treated)));
    let mut reading = JoinSet::new();
    loop {
        let mut listening = account.node().dht().listen(key, Query::all());
        while let Some(event) = listening.next().await {
            let values = match event {
                ListenEvent::New(values) => values,
                ListenEvent::Missed(_) => break,
                ListenEvent::Expired(_) => continue,
            };
            let now = account.node().net().unix_time().as_secs() as i64;
            for letter in values.iter().filter_map(|value| read(value, now)) {
                let Some(turn) = Turn::begin(&answered, letter.sender.device_id(), letter.message.id) else {
                    continue;
                };
                let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                while reading.try_join_next().is_some() {}
                let (account, texts) = (account.clone(), Weak::clone(&texts));
                reading.spawn(async move {
                    if take(&account, letter, &texts).await {
                        turn.acknowledged();
                    }
                    drop(place);
                });
            }
        }
        tokio::select! {
            biased;
            () = account.node().closed() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// A message is encrypted to us, signed, says what it is, and is fresh. An empty one acknowledges one of ours, and we
/// send none.
fn read(value: &SecureValue, now: i64) -> Option<Letter> {
    let sender = value.from.clone()?;
    if !value.encrypted || value.value.value_type() != IM_MESSAGE {
        return None;
    }
    let message = ImMessage::decode(value.value.data()).ok()?;
    let fresh = message.date.abs_diff(now) <= MAX_AGE;
    (fresh && !message.message.is_empty()).then_some(Letter { sender, message })
}

/// Tells the text if its sender may send any, and acknowledges it. What is not taken is sent again. Whether it was
/// acknowledged.
async fn take(account: &Account, letter: Letter, texts: &Weak<Inner>) -> bool {
    let Letter { sender, message } = letter;
    let chain = match account.node().find_writer(&sender).await {
        Ok(chain) => chain,
        Err(error) => {
            tracing::debug!(device = %sender.device_id(), %error, "the sender of a message was not found");
            return false;
        }
    };
    let Some(texts) = texts.upgrade() else { return false };
    let Some(of) = chain.account_id() else { return false };
    if !texts.admits(account.kind_of(&chain)) {
        return false;
    }
    let peer = Arc::new(Peer { device: chain.device_id(), account: of, chain });
    let content_type =
        if message.datatype.is_empty() { super::media::TEXT.to_owned() } else { message.datatype };
    let message_id = Some(name(message.id));
    let text = Text { peer, content_type, body: message.message.into_bytes(), message_id };
    if texts.tell(text) != Status::OK {
        return false;
    }
    let taken = ImMessage { id: message.id, date: message.date, ..ImMessage::default() };
    let value = Value::new(0, IM_MESSAGE, taken.encode());
    let key = inbox::key(account.node().identity().short_id());
    match account.node().dht().put_encrypted(key, &sender, value).await {
        Ok(_) => true,
        Err(error) => {
            tracing::debug!(device = %sender.device_id(), %error, "a message could not be acknowledged");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_worked_on_until_it_is_acknowledged() {
        let answered = Arc::new(Mutex::new(Answered::new(8)));
        let (one, other) = (DeviceId([1; 32]), DeviceId([2; 32]));
        let failed = Turn::begin(&answered, one, 7).unwrap();
        assert!(Turn::begin(&answered, one, 7).is_none(), "it is under way");
        drop(failed);
        let turn = Turn::begin(&answered, one, 7).unwrap();
        turn.acknowledged();
        drop(turn);
        assert!(Turn::begin(&answered, one, 7).is_none(), "it is acknowledged");
        assert!(Turn::begin(&answered, other, 7).is_some() && Turn::begin(&answered, one, 8).is_some());
        assert!(answered.lock().unwrap().under_way.is_empty());
    }
}
