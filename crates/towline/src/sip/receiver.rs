//! Texts that come.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use towline_identity::AccountId;
use towline_sip::{HeaderName, Request, Status};

use super::treated::Treated;
use crate::policy::Peer;

/// A text, or anything else, from a device of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// The device, as its certificate has it.
    pub peer: Arc<Peer>,
    /// Its media type as the peer wrote it, such as `text/plain;charset=utf-8`. See [`media`](super::media).
    pub content_type: String,
    /// The content.
    pub body: Vec<u8>,
    /// What the sender calls it, if it does: 16 hex digits in Jami.
    pub message_id: Option<String>,
}

/// Where received texts go.
#[derive(Debug, Clone)]
pub(super) struct Receiver {
    texts: mpsc::Sender<Text>,
    treated: Arc<Mutex<Treated<AccountId>>>,
}

impl Receiver {
    pub(super) fn new(texts: mpsc::Sender<Text>, treated: usize) -> Self {
        Self { texts, treated: Arc::new(Mutex::new(Treated::new(treated))) }
    }

    /// Takes a MESSAGE, and says how to answer it.
    pub(super) fn take(&self, peer: &Arc<Peer>, request: Request) -> Status {
        let Some(content_type) = request.content_type().map(str::to_owned) else {
            // An empty message of no type says nothing; any other needs a type (RFC 3261 20.15).
            return if request.body.is_empty() { Status::OK } else { Status::UNSUPPORTED_MEDIA_TYPE };
        };
        let message_id = request.headers.get(&HeaderName::MessageId).map(str::to_owned);
        self.tell(Text { peer: Arc::clone(peer), content_type, body: request.body, message_id })
    }

    /// Hands a text over, unless it came already, and says how to answer it.
    pub(super) fn tell(&self, text: Text) -> Status {
        let mut treated = self.treated.lock().unwrap_or_else(PoisonError::into_inner);
        let account = text.peer.account;
        if text.message_id.as_deref().is_some_and(|id| treated.contains(account, id)) {
            return Status::OK;
        }
        let Ok(place) = self.texts.try_reserve() else { return Status::SERVICE_UNAVAILABLE };
        if let Some(id) = &text.message_id {
            treated.insert(account, id);
        }
        place.send(text);
        Status::OK
    }
}
