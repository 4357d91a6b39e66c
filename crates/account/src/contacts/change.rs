//! What our user does with contacts and requests.

use towline_identity::{AccountId, DeviceId};

use super::{Contact, ContactEffect, ContactEvent, Contacts, limits};
use crate::vcard::VCard;

/// Why something cannot be done with a contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContactError {
    /// It is the account itself.
    #[error("this is the own account")]
    OwnAccount,
    /// It is banned; that has to be lifted first.
    #[error("the account is banned")]
    Banned,
    /// It is not banned.
    #[error("the account is not banned")]
    NotBanned,
    /// It is no contact.
    #[error("the account is no contact")]
    NotAContact,
    /// It has not asked.
    #[error("there is no request of this account")]
    NoRequest,
    /// There is no room for more.
    #[error("no more than {limit} are kept")]
    Full {
        /// The bound, of [`ContactLimits`](super::ContactLimits).
        limit: usize,
    },
    /// The id of a conversation has up to 64 hexadecimal digits.
    #[error("this is no id of a conversation")]
    ConversationId,
}

type Effects = Result<Vec<ContactEffect>, ContactError>;

impl Contacts {
    /// Takes an account as contact and asks it to do the same. One that has asked us is accepted; one that is a contact and has
    /// not answered is asked again. `conversation_id` names the conversation proposed to it; empty for none.
    pub fn add(&mut self, now: i64, own: AccountId, account: AccountId, conversation_id: &str) -> Effects {
        if account == own {
            return Err(ContactError::OwnAccount);
        }
        if !limits::is_conversation_id(conversation_id) {
            return Err(ContactError::ConversationId);
        }
        if self.is_banned(account) {
            return Err(ContactError::Banned);
        }
        if self.requests.contains_key(&account) {
            return self.accept(now, account);
        }
        if !self.make_room(account) {
            return Err(ContactError::Full { limit: self.limits.contacts });
        }
        let contact = self.known.entry(account).or_default();
        let mut effects = Vec::new();
        if !contact.is_active() {
            begin(contact, now, false, conversation_id);
            effects.push(ContactEffect::Event(ContactEvent::Added(account)));
        }
        if !contact.confirmed {
            effects.push(contact.ask_in_full(now, account));
        }
        self.refused.remove(&account);
        self.changed = true;
        Ok(effects)
    }

    /// Takes an account that has asked as contact, and tells it. It gets the name on its card, if it has none here.
    pub fn accept(&mut self, now: i64, account: AccountId) -> Effects {
        let request = self.requests.get(&account).ok_or(ContactError::NoRequest)?;
        if self.is_banned(account) {
            return Err(ContactError::Banned);
        }
        let (device, short_id) = (request.device, request.short_id);
        let conversation_id = request.conversation_id.clone();
        let mut name = VCard::parse(&request.payload).ok().map(|card| card.name);
        limits::shorten(&mut name);
        if !self.make_room(account) {
            return Err(ContactError::Full { limit: self.limits.contacts });
        }
        let contact = self.known.entry(account).or_default();
        // Who asks has us as a contact already.
        begin(contact, now, true, &conversation_id);
        // Until our user calls it something else.
        contact.name = contact.name.take().or(name);
        self.requests.remove(&account);
        self.refused.remove(&account);
        self.changed = true;
        Ok(vec![
            ContactEffect::Event(ContactEvent::Added(account)),
            ContactEffect::SendConfirmation { account, device, short_id, conversation_id },
        ])
    }

    /// Refuses a request. Nobody is told: for seven days the account is not heard if it asks again.
    pub fn refuse(&mut self, now: i64, account: AccountId) -> Effects {
        self.requests.remove(&account).ok_or(ContactError::NoRequest)?;
        limits::make_room(&mut self.refused, self.limits.refused, |since| *since);
        self.refused.insert(account, now);
        self.changed = true;
        Ok(vec![ContactEffect::Event(ContactEvent::Refused(account))])
    }

    /// Removes a contact. Nobody is told; its connections end unless strangers may connect.
    pub fn remove(&mut self, now: i64, account: AccountId) -> Effects {
        let contact = self.known.get_mut(&account).filter(|contact| contact.is_active());
        end(contact.ok_or(ContactError::NotAContact)?, now);
        self.online.remove(&account);
        self.changed = true;
        Ok(vec![ContactEffect::Event(ContactEvent::Removed(account)), ContactEffect::Enforce])
    }

    /// Bans an account, contact or not: its connections end, and what it sends is dropped.
    pub fn ban(&mut self, now: i64, own: AccountId, account: AccountId) -> Effects {
        if account == own {
            return Err(ContactError::OwnAccount);
        }
        if !self.make_room(account) {
            return Err(ContactError::Full { limit: self.limits.contacts });
        }
        let contact = self.known.entry(account).or_default();
        if contact.banned {
            return Ok(Vec::new());
        }
        end(contact, now);
        contact.banned = true;
        self.requests.remove(&account);
        self.refused.remove(&account);
        self.online.remove(&account);
        self.changed = true;
        Ok(vec![ContactEffect::Event(ContactEvent::Banned(account)), ContactEffect::Enforce])
    }

    /// Lifts a ban: the account is a stranger again.
    pub fn unban(&mut self, account: AccountId) -> Effects {
        let contact = self.known.get_mut(&account).filter(|contact| contact.banned);
        contact.ok_or(ContactError::NotBanned)?.banned = false;
        self.changed = true;
        Ok(vec![ContactEffect::Event(ContactEvent::Unbanned(account))])
    }

    /// Bans one device, whatever account it belongs to, or lifts that.
    pub fn set_device_banned(&mut self, device: DeviceId, banned: bool) -> Effects {
        let limit = self.limits.banned_devices;
        if banned && !self.banned_devices.contains(&device) && self.banned_devices.len() >= limit {
            return Err(ContactError::Full { limit });
        }
        let changed =
            if banned { self.banned_devices.insert(device) } else { self.banned_devices.remove(&device) };
        self.changed |= changed;
        Ok(if changed && banned { vec![ContactEffect::Enforce] } else { Vec::new() })
    }

    fn is_banned(&self, account: AccountId) -> bool {
        self.known.get(&account).is_some_and(|contact| contact.banned)
    }

    /// Names a contact. Long names are cut to [`MAX_NAME`](super::MAX_NAME) bytes.
    pub fn set_name(&mut self, account: AccountId, mut name: Option<String>) -> Result<(), ContactError> {
        let contact = self.known.get_mut(&account).ok_or(ContactError::NotAContact)?;
        limits::shorten(&mut name);
        contact.name = name;
        self.changed = true;
        Ok(())
    }
}

/// Times that are further ahead than clocks differ, in seconds, come from a damaged archive.
const CLOCKS_DIFFER: i64 = 24 * 60 * 60;

impl Contact {
    /// When it was removed last; 0 for never, or if that is in the future, where no clock has been.
    pub(super) fn removed_by(&self, now: i64) -> i64 {
        if self.removed > now.saturating_add(CLOCKS_DIFFER) { 0 } else { self.removed }
    }
}

/// Makes it a contact from now on.
fn begin(contact: &mut Contact, now: i64, confirmed: bool, conversation_id: &str) {
    contact.removed = contact.removed_by(now);
    contact.added = now.max(contact.removed.saturating_add(1));
    contact.confirmed = confirmed;
    contact.banned = false;
    conversation_id.clone_into(&mut contact.conversation_id);
    (contact.asked, contact.asked_at) = (0, 0);
}

/// Makes it none.
fn end(contact: &mut Contact, now: i64) {
    contact.added = contact.added.min(now.saturating_add(CLOCKS_DIFFER));
    contact.removed = now.max(contact.added);
    contact.confirmed = false;
    (contact.asked, contact.asked_at) = (0, 0);
}
