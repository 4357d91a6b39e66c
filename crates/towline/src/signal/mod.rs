//! Signalling: how two devices exchange candidates before they are connected. Spec: `connection.md` 3.
//!
//! A request is a signed value, encrypted to the recipient and put at a key that the recipient listens on. Two such
//! keys are in use, made of the short and of the long device id; Towline listens on both, unless it is told otherwise
//! ([`Eras`]), and answers on the one a request came by, so it meets peers of both eras (`connection.md` 3.3).

mod later;
mod request;
mod treated;
mod treated_file;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use towline_dht::{InfoHash, Query, Value};
use towline_identity::{DeviceId, Identity, PublicKey};

use crate::dht::{CertificateKey, Dht, ListenEvent, PutError};
use crate::eras::Eras;

pub(crate) use later::Further;
pub use later::{LaterCandidates, Plight, Restart};
pub use request::{Extension, MAX_ID, PeerRequest, RefusalReason, RequestError, StaticKey, USER_TYPE};
pub(crate) use treated::Treated;
pub(crate) use treated_file::save as save_treated;

/// Requests waiting for the node. More stay in the DHT's own bounded queue.
const QUEUE: usize = 64;

/// A request or answer addressed to us.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// Who signed it.
    pub(crate) sender: PublicKey,
    pub(crate) request: PeerRequest,
    /// The kind of key it came by; an answer goes to the same kind.
    pub(crate) at: CertificateKey,
}

impl Incoming {
    /// Where an answer goes.
    pub(crate) fn answer_at(&self) -> Eras {
        Eras::Both.narrowed_to(Some(self.at))
    }
}

/// What is addressed to us.
#[derive(Debug)]
pub(crate) enum Signal {
    /// A request or an answer.
    Request(Incoming),
    /// Further candidates of this device.
    Later(DeviceId, LaterCandidates),
}

/// Sends requests and answers.
#[derive(Debug)]
pub(crate) struct Signalling {
    dht: Dht,
}

impl Signalling {
    /// Listens for what is addressed to `identity` at the keys of `eras`. The tasks end with the set, or when the receiver is gone.
    pub(crate) fn start(
        dht: &Dht,
        identity: &Identity,
        eras: Eras,
        tasks: &mut JoinSet<()>,
    ) -> (Self, mpsc::Receiver<Signal>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let key = identity.key().public();
        for &at in eras.keys() {
            tasks.spawn(listen(dht.clone(), request_key(key, at), at, sender.clone()));
        }
        (Self { dht: dht.clone() }, receiver)
    }

    /// Puts a request or answer where `to` listens, at the keys of `eras` at once. Returns how many nodes confirmed it,
    /// added up over the keys; an error if none did.
    pub(crate) async fn send(
        &self,
        to: &PublicKey,
        eras: Eras,
        request: &PeerRequest,
    ) -> Result<usize, PutError> {
        self.put(to, eras, request.encode(), USER_TYPE).await
    }

    /// Puts further candidates there.
    pub(crate) async fn send_later(
        &self,
        to: &PublicKey,
        eras: Eras,
        later: &LaterCandidates,
    ) -> Result<usize, PutError> {
        self.put(to, eras, later.encode(), LaterCandidates::USER_TYPE).await
    }

    async fn put(
        &self,
        to: &PublicKey,
        eras: Eras,
        bytes: Vec<u8>,
        user_type: &str,
    ) -> Result<usize, PutError> {
        // Id 0: the DHT draws one. Encrypted values hide type and user type, which only the recipient sees.
        let value = Value::new(0, 0, bytes).with_user_type(user_type);
        let puts =
            eras.keys().iter().map(|&at| self.dht.put_encrypted(request_key(to, at), to, value.clone()));
        let mut outcome = Err(PutError::NotStored);
        for put in futures_util::future::join_all(puts).await {
            outcome = match (outcome, put) {
                (Ok(before), Ok(put)) => Ok(before + put.stored_on),
                (Err(_), Ok(put)) => Ok(put.stored_on),
                (Ok(before), Err(_)) => Ok(before),
                (Err(_), Err(why)) => Err(why),
            };
        }
        outcome
    }
}

fn request_key(recipient: &PublicKey, at: CertificateKey) -> InfoHash {
    match at {
        CertificateKey::Long => InfoHash::of_peer_requests(&recipient.device_id()),
        CertificateKey::Short => InfoHash::of_peer_requests(&recipient.short_id()),
    }
}

async fn listen(dht: Dht, key: InfoHash, at: CertificateKey, sender: mpsc::Sender<Signal>) {
    let mut listening = dht.listen(key, Query::default());
    while let Some(event) = listening.next().await {
        let ListenEvent::New(values) = event else { continue };
        for value in values {
            let Some(signal) = read(&value, at) else { continue };
            if sender.send(signal).await.is_err() {
                return;
            }
        }
    }
}

/// A request must be encrypted to us and signed: anything else at the key is not one.
fn read(value: &crate::dht::SecureValue, at: CertificateKey) -> Option<Signal> {
    let from = value.from.clone()?;
    if !value.encrypted {
        return None;
    }
    if value.value.user_type() == LaterCandidates::USER_TYPE {
        return match LaterCandidates::decode(value.value.data()) {
            Ok(later) => Some(Signal::Later(from.device_id(), later)),
            Err(error) => {
                tracing::debug!(from = %from.device_id(), %error, "malformed further candidates");
                None
            }
        };
    }
    if value.value.user_type() != USER_TYPE {
        return None;
    }
    match PeerRequest::decode(value.value.data()) {
        Ok(request) => Some(Signal::Request(Incoming { sender: from, request, at })),
        Err(error) => {
            tracing::debug!(from = %from.device_id(), %error, "malformed connection request");
            None
        }
    }
}
