//! Requests and answers that come (`spec/files-and-calls.md` 2.2).

use towline_dht::types::TrustRequest;
use towline_identity::{AccountId, Chain, DeviceId, ShortId};

use super::{ContactEffect, ContactEvent, Contacts, MAX_PAYLOAD, PendingRequest, REQUEST_LIFE, limits};
use crate::PeerKind;

/// What a request says it is for; others are not for us.
pub(crate) const SERVICE: &str = "cx.ring";

/// Why a request changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Ignored {
    /// The sender belongs to no account.
    #[error("the sender belongs to no account")]
    NoAccount,
    /// The sender is another device of the own account.
    #[error("it comes from the own account")]
    OwnAccount,
    /// The sender, or its account, is banned.
    #[error("the sender is banned")]
    Banned,
    /// It is for another program than Jami.
    #[error("it is for another service")]
    Service,
    /// Its payload is longer than [`MAX_PAYLOAD`].
    #[error("its payload is longer than {MAX_PAYLOAD} bytes")]
    Payload,
    /// The conversation has an impossible id.
    #[error("it names an impossible conversation")]
    ConversationId,
    /// This very value was treated before, maybe in an earlier run.
    #[error("it was treated before")]
    Duplicate,
    /// Our user refused this account in the last seven days.
    #[error("the account was refused")]
    Refused,
    /// It was made before our user removed the contact.
    #[error("it was made before the contact was removed")]
    Outdated,
    /// An answer of somebody who was not asked. (Jami of 2023 keeps it as a request without saying so.)
    #[error("it confirms what was never asked")]
    Unasked,
    /// Too many requests wait for our user.
    #[error("too many requests are waiting")]
    Full,
}

impl Contacts {
    /// A request or an answer came: the value `value_id` in the inbox, signed by `sender` and encrypted to us.
    ///
    /// `sender` is the verified chain of the device that signed it. `now` is in Unix seconds.
    pub fn handle_request(
        &mut self,
        now: i64,
        own: AccountId,
        sender: &Chain,
        value_id: u64,
        request: TrustRequest,
    ) -> Result<Vec<ContactEffect>, Ignored> {
        let account = sender.account_id().ok_or(Ignored::NoAccount)?;
        let kind = self.kind_of(sender, own);
        match kind {
            PeerKind::Banned => return Err(Ignored::Banned),
            PeerKind::OwnDevice => return Err(Ignored::OwnAccount),
            PeerKind::Contact | PeerKind::Stranger => {}
        }
        check(&request)?;
        if self.seen.contains_key(&(sender.device_id(), value_id)) {
            return Err(Ignored::Duplicate);
        }
        let effects = match (kind, request.confirm) {
            (PeerKind::Contact, _) => self.confirmed(account, sender, &request),
            (_, true) => return Err(Ignored::Unasked),
            (_, false) => self.asked(now, account, sender, request)?,
        };
        limits::make_room(&mut self.seen, self.limits.seen, |at| *at);
        self.seen.insert((sender.device_id(), value_id), now);
        self.changed = true;
        Ok(effects)
    }

    /// Whether this value was treated already: spares looking for its sender.
    pub fn has_treated(&self, sender: DeviceId, value_id: u64) -> bool {
        self.seen.contains_key(&(sender, value_id))
    }

    /// A contact says that we are its contact, as a request of it says too.
    fn confirmed(
        &mut self,
        account: AccountId,
        sender: &Chain,
        request: &TrustRequest,
    ) -> Vec<ContactEffect> {
        let contact = self.known.get_mut(&account).expect("it was found to be a contact");
        let mut effects = Vec::new();
        if !contact.confirmed {
            contact.confirmed = true;
            effects.push(ContactEffect::Event(ContactEvent::Confirmed(account)));
        }
        if contact.conversation_id.is_empty() {
            contact.conversation_id.clone_from(&request.conversation_id);
        }
        if !request.confirm {
            // Always, though it may have been told: it would not ask if it knew.
            let conversation_id = contact.conversation_id.clone();
            let (device, short_id) = (sender.device_id(), Some(sender.short_id()));
            effects.push(ContactEffect::SendConfirmation { account, device, short_id, conversation_id });
        }
        effects
    }

    fn asked(
        &mut self,
        now: i64,
        account: AccountId,
        sender: &Chain,
        request: TrustRequest,
    ) -> Result<Vec<ContactEffect>, Ignored> {
        if self.refused.get(&account).is_some_and(|at| now < at.saturating_add(REQUEST_LIFE)) {
            return Err(Ignored::Refused);
        }
        let removed = self.known.get(&account).map_or(0, |contact| contact.removed_by(now));
        if removed > 0 && request.invited_ms.is_some_and(|invited| invited / 1000 < removed) {
            return Err(Ignored::Outdated);
        }
        let known = self.requests.get_mut(&account);
        if let Some(pending) = known {
            // A repetition that names no conversation is a question whether the first one was answered.
            if !request.conversation_id.is_empty() {
                pending.conversation_id = request.conversation_id;
            }
            if !request.payload.is_empty() {
                pending.payload = request.payload.into();
            }
            pending.device = sender.device_id();
            pending.short_id = Some(sender.short_id());
            return Ok(Vec::new());
        }
        if self.requests.len() >= self.limits.requests {
            let oldest = self.requests.iter().min_by_key(|(_, pending)| pending.received);
            let oldest = oldest.filter(|(_, pending)| now > pending.received.saturating_add(REQUEST_LIFE));
            let oldest = oldest.map(|(id, _)| *id).ok_or(Ignored::Full)?;
            self.requests.remove(&oldest);
        }
        let pending = PendingRequest {
            device: sender.device_id(),
            short_id: Some(sender.short_id()),
            conversation_id: request.conversation_id,
            payload: request.payload.into(),
            received: now,
        };
        self.requests.insert(account, pending);
        self.refused.remove(&account);
        Ok(vec![ContactEffect::Event(ContactEvent::Requested(account))])
    }
}

fn check(request: &TrustRequest) -> Result<(), Ignored> {
    if request.service != SERVICE {
        return Err(Ignored::Service);
    }
    if request.payload.len() > MAX_PAYLOAD {
        return Err(Ignored::Payload);
    }
    if !limits::is_conversation_id(&request.conversation_id) {
        return Err(Ignored::ConversationId);
    }
    Ok(())
}

impl ContactEffect {
    /// The message an effect asks to be sent, and to which account; `card` travels with requests.
    pub fn message(&self, card: &[u8]) -> Option<(AccountId, TrustRequest)> {
        match self {
            Self::SendRequest { account, conversation_id, invited_ms } => Some((
                *account,
                TrustRequest {
                    service: SERVICE.to_owned(),
                    conversation_id: conversation_id.clone(),
                    payload: card.to_vec(),
                    confirm: false,
                    invited_ms: Some(*invited_ms),
                },
            )),
            Self::SendConfirmation { account, conversation_id, .. } => Some((
                *account,
                TrustRequest {
                    service: SERVICE.to_owned(),
                    conversation_id: conversation_id.clone(),
                    payload: Vec::new(),
                    confirm: true,
                    invited_ms: None,
                },
            )),
            Self::Enforce | Self::Event(_) => None,
        }
    }

    /// The device that gets the message even if its account does not announce it now, and its short id, if that is known.
    pub fn device(&self) -> Option<(DeviceId, Option<ShortId>)> {
        match self {
            Self::SendConfirmation { device, short_id, .. } => Some((*device, *short_id)),
            Self::SendRequest { .. } | Self::Enforce | Self::Event(_) => None,
        }
    }
}
