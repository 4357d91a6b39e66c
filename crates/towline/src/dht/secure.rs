//! Opening what comes out of the DHT: decrypt what is for us, hide what is for others (`dht.md` 3.3, 3.7).

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use futures_util::FutureExt as _;
use towline_dht::Value;
use towline_identity::{Identity, PublicKey};
use towline_net::{BoxFuture, Net};

/// A value from the DHT and what is certain about it.
#[derive(Debug, Clone, PartialEq)]
pub struct SecureValue {
    /// The value, readable.
    pub value: Arc<Value>,
    /// Who signed it; `None` if nobody did: then anybody may have written it.
    ///
    /// A signature binds the content, not the key or id it is stored under (`dht.md` 3.2): an old value can come
    /// again, and elsewhere.
    pub from: Option<PublicKey>,
    /// It was encrypted, and is for us: nobody else has read it.
    pub encrypted: bool,
}

/// Opens values in order. Expensive work runs away from the tasks; a caller that stops waiting loses nothing.
pub(super) struct Opener {
    net: Arc<dyn Net>,
    identity: Option<Arc<Identity>>,
    closed: VecDeque<Arc<Value>>,
    opening: Option<BoxFuture<'static, Vec<SecureValue>>>,
}

/// Encrypted values opened in one go. A decryption takes milliseconds: junk at a key must not hold up for long what
/// follows it.
const AT_ONCE: usize = 8;

impl Opener {
    pub(super) fn new(net: Arc<dyn Net>, identity: Option<Arc<Identity>>) -> Self {
        Self { net, identity, closed: VecDeque::new(), opening: None }
    }

    pub(super) fn push(&mut self, values: impl IntoIterator<Item = Arc<Value>>) {
        self.closed.extend(values);
    }

    /// The next readable values; empty when there are none left. Cancel safe.
    pub(super) async fn opened(&mut self) -> Vec<SecureValue> {
        loop {
            if let Some(opening) = &mut self.opening {
                let opened = opening.await;
                self.opening = None;
                if !opened.is_empty() {
                    return opened;
                }
            }
            if self.closed.is_empty() {
                return Vec::new();
            }
            let mut expensive = 0;
            let batch = self.closed.iter().take_while(|value| {
                expensive += usize::from(value.is_encrypted());
                expensive <= AT_ONCE
            });
            let batch: Vec<_> = self.closed.drain(..batch.count()).collect();
            match &self.identity {
                Some(identity) if expensive > 0 => {
                    let identity = Arc::clone(identity);
                    let work =
                        move || batch.into_iter().filter_map(|value| open(value, Some(&identity))).collect();
                    self.opening = Some(self.net.offload(work).boxed());
                }
                _ => {
                    let opened: Vec<_> = batch.into_iter().filter_map(|value| open(value, None)).collect();
                    if !opened.is_empty() {
                        return opened;
                    }
                }
            }
        }
    }
}

/// What the program may see of a value. The engine has checked the signatures of plain ones.
fn open(value: Arc<Value>, identity: Option<&Identity>) -> Option<SecureValue> {
    if !value.is_encrypted() {
        let from = value.owner().cloned();
        return Some(SecureValue { value, from, encrypted: false });
    }
    match value.decrypt(identity?.key()) {
        Ok(opened) => {
            let from = opened.owner().cloned();
            Some(SecureValue { value: Arc::new(opened), from, encrypted: true })
        }
        Err(why) => {
            tracing::trace!(id = value.id, %why, "an encrypted value is not for us");
            None
        }
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let opening = self.opening.is_some();
        f.debug_struct("Opener")
            .field("closed", &self.closed.len())
            .field("opening", &opening)
            .finish_non_exhaustive()
    }
}
