//! Asking again those who have not answered. See [the module](super) for why, and for the two kinds of repetition.

use towline_identity::AccountId;

use super::{Contact, ContactEffect, Contacts, REQUEST_LIFE};

/// A contact that comes and goes is asked no more often than this, in seconds.
const AT_LEAST: i64 = 30;
/// While a contact stays online, the pause after the first request, in seconds; each further one is twice as long.
const FIRST_PAUSE: i64 = 2 * 60;
/// The longest pause, in seconds: a day.
const LONGEST_PAUSE: i64 = 24 * 60 * 60;

impl Contact {
    fn awaits_answer(&self) -> bool {
        self.is_active() && !self.confirmed
    }

    /// The next request. See [the module](super) for which of them name the conversation.
    fn ask(&mut self, now: i64, account: AccountId) -> ContactEffect {
        let without = self.asked >= 2 && self.asked.is_multiple_of(2);
        let mut effect = self.ask_in_full(now, account);
        if let ContactEffect::SendRequest { conversation_id, .. } = &mut effect
            && without
        {
            conversation_id.clear();
        }
        effect
    }

    /// A request that names the conversation.
    pub(super) fn ask_in_full(&mut self, now: i64, account: AccountId) -> ContactEffect {
        self.asked = self.asked.saturating_add(1);
        self.asked_at = now;
        let conversation_id = self.conversation_id.clone();
        ContactEffect::SendRequest { account, conversation_id, invited_ms: self.added.saturating_mul(1000) }
    }

    /// When it is asked again while it is online.
    fn due(&self) -> Option<i64> {
        let doublings = self.asked.saturating_sub(1).min(16);
        let due = self.asked_at.saturating_add((FIRST_PAUSE << doublings).min(LONGEST_PAUSE));
        (self.awaits_answer() && due < self.added.saturating_add(REQUEST_LIFE)).then_some(due)
    }
}

impl Contacts {
    /// An account came online: if it is a contact that has not answered, it is asked again.
    pub fn handle_online(&mut self, now: i64, account: AccountId) -> Vec<ContactEffect> {
        let Some(contact) = self.known.get_mut(&account).filter(|contact| contact.is_active()) else {
            return Vec::new();
        };
        self.online.insert(account);
        // A clock that was set back is no reason to wait.
        let since = now.saturating_sub(contact.asked_at);
        if !contact.awaits_answer() || (0..AT_LEAST).contains(&since) {
            return Vec::new();
        }
        self.changed = true;
        vec![contact.ask(now, account)]
    }

    /// An account went offline.
    pub fn handle_offline(&mut self, account: AccountId) {
        self.online.remove(&account);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due, Unix seconds.
    pub fn poll_timeout(&self) -> Option<i64> {
        self.online.iter().filter_map(|account| self.known.get(account)?.due()).min()
    }

    /// Time has come: asks those again who are online and have not answered.
    pub fn handle_timeout(&mut self, now: i64) -> Vec<ContactEffect> {
        let mut effects = Vec::new();
        for account in &self.online {
            if let Some(contact) = self.known.get_mut(account)
                && contact.due().is_some_and(|due| due <= now)
            {
                effects.push(contact.ask(now, *account));
                self.changed = true;
            }
        }
        effects
    }
}
