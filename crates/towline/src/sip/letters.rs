//! Messages that lie in the inbox of this device on the DHT (`files-and-calls.md` 3.2).
//!
//! The daemon of 2023 puts a text there when it has no channel to the device, while it asks for a connection that the next
//! text can use. It takes the text for sent when the device puts an empty message with the same id, encrypted to it, into
//! the same inbox.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use towline_account::inbox;
use towline_dht::types::{IM_MESSAGE, ImMessage, Payload as _};
use towline_dht::{Query, Value};
use towline_identity::PublicKey;
use towline_sip::Status;

use super::receiver::Text;
use super::texts::Inner;
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

/// Takes messages out of the inbox for as long as the texts exist.
pub(super) async fn listen(account: Account, texts: Weak<Inner>) {
    let key = inbox::key(account.node().identity().short_id());
    let places = Arc::new(Semaphore::new(AT_ONCE));
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
                let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                while reading.try_join_next().is_some() {}
                let (account, texts) = (account.clone(), Weak::clone(&texts));
                reading.spawn(async move {
                    take(&account, letter, &texts).await;
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

/// Tells the text if its sender may send any, and acknowledges it. What is not taken is sent again.
async fn take(account: &Account, letter: Letter, texts: &Weak<Inner>) {
    let Letter { sender, message } = letter;
    let chain = match account.node().find_writer(&sender).await {
        Ok(chain) => chain,
        Err(error) => {
            tracing::debug!(device = %sender.device_id(), %error, "the sender of a message was not found");
            return;
        }
    };
    let Some(texts) = texts.upgrade() else { return };
    let Some(of) = chain.account_id() else { return };
    if !texts.admits(account.kind_of(&chain)) {
        return;
    }
    let peer = Arc::new(Peer { device: chain.device_id(), account: of, chain });
    let content_type =
        if message.datatype.is_empty() { super::media::TEXT.to_owned() } else { message.datatype };
    let message_id = Some(format!("{:016x}", message.id));
    let text = Text { peer, content_type, body: message.message.into_bytes(), message_id };
    if texts.tell(text) != Status::OK {
        return;
    }
    let taken = ImMessage { id: message.id, date: message.date, ..ImMessage::default() };
    let value = Value::new(0, IM_MESSAGE, taken.encode());
    let key = inbox::key(account.node().identity().short_id());
    if let Err(error) = account.node().dht().put_encrypted(key, &sender, value).await {
        tracing::debug!(device = %sender.device_id(), %error, "a message could not be acknowledged");
    }
}
