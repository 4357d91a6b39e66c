//! Which devices of an account are online (`files-and-calls.md` 1.3): by what they announce on the DHT, and by the
//! connections with them.
//!
//! A device keeps its announcement alive at the key of its account while it runs; the value goes ten minutes after
//! it stopped. A device that was restarted has two for a while. So for each device the set of its live values counts,
//! not how many came and went: it is announced while the set is not empty.
//!
//! The machine draws no conclusions from silence of its own: a listen that had to be renewed says so
//! ([`Presence::listen_renewed`]), and what it does not show again within [`Limits::renewal`] has gone.
//!
//! Anybody can store an announcement again and again. Where that exceeds a bound, values are passed over, and when those that
//! were noted are gone, nothing is known: then the machine asks for a renewal ([`Presence::poll_renewal`]) before it tells
//! anybody that the device has gone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use towline_identity::{AccountId, ShortId};

/// How present a device is, or an account: as much as the most present of its devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PresenceState {
    /// It does not announce itself. Jami's state 0.
    #[default]
    Offline,
    /// It announces itself on the DHT. Jami's state 1.
    Announced,
    /// There is a connection with it, announced or not. Jami's state 2.
    Connected,
}

impl PresenceState {
    /// Whether it is there at all.
    pub const fn is_online(self) -> bool {
        !matches!(self, Self::Offline)
    }
}

/// A change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PresenceEvent {
    /// Of a device. Told before that of its account.
    Device {
        /// The account that announced it, or signed its certificate.
        account: AccountId,
        /// The device.
        device: ShortId,
        /// What it is now.
        state: PresenceState,
    },
    /// Of an account.
    Account {
        /// The account.
        account: AccountId,
        /// What it is now.
        state: PresenceState,
    },
}

/// Bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Accounts watched at once. Default: 2048.
    pub accounts: usize,
    /// Devices of one account. Only the account itself can announce devices. Default: 64.
    pub devices: usize,
    /// Live announcements of one device. A device has one, and one more for each restart in ten minutes; anybody can
    /// store it again under other ids. Default: 32.
    pub values: usize,
    /// How long after a renewed listen what was known before it still counts. Default: 30 s.
    pub renewal: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { accounts: 2048, devices: 64, values: 32, renewal: Duration::from_secs(30) }
    }
}

/// A bound that does not let an account be watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no more than {limit} accounts are watched at once")]
pub struct TooManyAccounts {
    /// The bound: [`Limits::accounts`].
    pub limit: usize,
}

/// The presence of the accounts that are watched.
#[derive(Debug)]
pub struct Presence {
    limits: Limits,
    accounts: BTreeMap<AccountId, Account>,
    events: VecDeque<PresenceEvent>,
    /// Accounts whose listen is to be begun anew.
    renewals: BTreeSet<AccountId>,
}

#[derive(Debug, Default)]
struct Account {
    devices: BTreeMap<ShortId, Device>,
    /// Devices that do not count whatever they announce: revoked ones.
    excluded: BTreeSet<ShortId>,
    /// What was told last.
    state: PresenceState,
    /// When values of before the last renewal stop to count.
    stale_until: Option<Instant>,
    /// Only devices whose certificate was found count by what they announce.
    strict: bool,
    /// A renewal was asked for.
    renewing: bool,
}

#[derive(Debug, Default)]
struct Device {
    /// Live values, and whether the listen has shown them since it was last renewed.
    values: BTreeMap<u64, Seen>,
    /// Other values were passed over, and when.
    passed_over: Option<Seen>,
    /// Its certificate was found.
    proven: bool,
    connected: bool,
    state: PresenceState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Now,
    BeforeRenewal,
}

impl Device {
    fn is_announced(&self) -> bool {
        !self.values.is_empty() || self.passed_over.is_some()
    }

    fn current(&self, strict: bool) -> PresenceState {
        if self.connected {
            PresenceState::Connected
        } else if self.is_announced() && (self.proven || !strict) {
            PresenceState::Announced
        } else {
            PresenceState::Offline
        }
    }
}

impl Presence {
    /// Watches nobody yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, accounts: BTreeMap::new(), events: VecDeque::new(), renewals: BTreeSet::new() }
    }

    /// Begins to watch an account. Does nothing if it is watched already.
    pub fn watch(&mut self, account: AccountId) -> Result<(), TooManyAccounts> {
        if !self.accounts.contains_key(&account) {
            if self.accounts.len() >= self.limits.accounts {
                return Err(TooManyAccounts { limit: self.limits.accounts });
            }
            self.accounts.insert(account, Account::default());
        }
        Ok(())
    }

    /// Stops to watch an account and forgets what was known. No event tells of it.
    pub fn unwatch(&mut self, account: AccountId) {
        self.accounts.remove(&account);
        self.renewals.remove(&account);
    }

    /// Accounts that are watched.
    pub fn watched(&self) -> impl Iterator<Item = AccountId> {
        self.accounts.keys().copied()
    }

    /// How present an account is; offline, if it is not watched.
    pub fn state(&self, account: AccountId) -> PresenceState {
        self.accounts.get(&account).map_or(PresenceState::Offline, |account| account.state)
    }

    /// The devices of an account that are there.
    pub fn devices(&self, account: AccountId) -> impl Iterator<Item = (ShortId, PresenceState)> {
        let devices = self.accounts.get(&account).into_iter().flat_map(|account| &account.devices);
        devices.filter(|(_, device)| device.state.is_online()).map(|(id, device)| (*id, device.state))
    }

    /// A value of the listen at an account: the verified announcement of `device` under this id. Values of accounts
    /// that are not watched, and what exceeds a bound, are passed over.
    pub fn handle_value(&mut self, account: AccountId, value_id: u64, device: ShortId) {
        let limits = &self.limits;
        let Some(known) = self.accounts.get_mut(&account) else { return };
        if known.excluded.contains(&device)
            || (!known.devices.contains_key(&device) && known.devices.len() >= limits.devices)
        {
            return;
        }
        let device = known.devices.entry(device).or_default();
        if device.values.contains_key(&value_id) || device.values.len() < limits.values {
            device.values.insert(value_id, Seen::Now);
        } else {
            device.passed_over = Some(Seen::Now);
        }
        self.settle(account);
    }

    /// Values of the listen at an account are gone. Ids that were never announcements are passed over.
    pub fn handle_expired(&mut self, account: AccountId, value_ids: &[u64]) {
        let Some(known) = self.accounts.get_mut(&account) else { return };
        for device in known.devices.values_mut() {
            for id in value_ids {
                device.values.remove(id);
            }
        }
        self.settle(account);
    }

    /// The listen at an account was begun anew, as after a restart of the DHT node: what it has shown so far counts
    /// until it has had time to show it again. Nobody goes offline by that alone.
    pub fn listen_renewed(&mut self, now: Instant, account: AccountId) {
        let Some(known) = self.accounts.get_mut(&account) else { return };
        for device in known.devices.values_mut() {
            let seen = device.values.values_mut().chain(&mut device.passed_over);
            seen.for_each(|seen| *seen = Seen::BeforeRenewal);
        }
        self.renewals.remove(&account);
        known.renewing = false;
        known.stale_until = Some(now + self.limits.renewal);
    }

    /// There is a connection with a device, or several.
    pub fn connected(&mut self, account: AccountId, device: ShortId) {
        let Some(known) = self.accounts.get_mut(&account) else { return };
        // Connections have a bound of their own.
        known.devices.entry(device).or_default().connected = true;
        self.settle(account);
    }

    /// There is none any more.
    pub fn disconnected(&mut self, account: AccountId, device: ShortId) {
        let Some(known) = self.accounts.get_mut(&account) else { return };
        if let Some(device) = known.devices.get_mut(&device) {
            device.connected = false;
        }
        self.settle(account);
    }

    /// A device was revoked by its account: its announcements, which live on and are renewed by whoever has the
    /// device, count no longer. Connections are not touched.
    pub fn exclude(&mut self, account: AccountId, device: ShortId) {
        let limit = self.limits.devices;
        let Some(known) = self.accounts.get_mut(&account) else { return };
        if known.excluded.len() < limit {
            known.excluded.insert(device);
        }
        if let Some(device) = known.devices.get_mut(&device) {
            device.values.clear();
            device.passed_over = None;
        }
        self.settle(account);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.accounts.values().filter_map(|account| account.stale_until).min()
    }

    /// Time has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due = |account: &Account| account.stale_until.is_some_and(|until| until <= now);
        let due: Vec<AccountId> =
            self.accounts.iter().filter(|(_, account)| due(account)).map(|(id, _)| *id).collect();
        for id in due {
            if let Some(account) = self.accounts.get_mut(&id) {
                account.stale_until = None;
                for device in account.devices.values_mut() {
                    device.values.retain(|_, seen| *seen == Seen::Now);
                    device.passed_over = device.passed_over.filter(|seen| *seen == Seen::Now);
                }
            }
            self.settle(id);
        }
    }

    /// The account revokes devices, by their certificates: from now on those whose certificate was not
    /// [found](Self::prove) may be revoked, too, and do not count by what they announce.
    pub fn require_proof(&mut self, account: AccountId) {
        if let Some(known) = self.accounts.get_mut(&account) {
            known.strict = true;
        }
        self.settle(account);
    }

    /// The certificate of a device was found. To be told again for a device that is announced after it was gone.
    pub fn prove(&mut self, account: AccountId, device: ShortId) {
        let known = self.accounts.get_mut(&account).and_then(|known| known.devices.get_mut(&device));
        if let Some(device) = known {
            device.proven = true;
        }
        self.settle(account);
    }

    /// The next account whose listen is to be begun anew, which [`listen_renewed`](Self::listen_renewed) then tells.
    pub fn poll_renewal(&mut self) -> Option<AccountId> {
        self.renewals.pop_first()
    }

    /// The next change.
    pub fn poll_event(&mut self) -> Option<PresenceEvent> {
        self.events.pop_front()
    }

    /// Tells what changed, forgets devices of which nothing is left.
    fn settle(&mut self, id: AccountId) {
        let Some(account) = self.accounts.get_mut(&id) else { return };
        for (device, known) in &mut account.devices {
            let state = known.current(account.strict);
            if state != known.state {
                known.state = state;
                self.events.push_back(PresenceEvent::Device { account: id, device: *device, state });
            }
        }
        account.devices.retain(|_, device| device.state.is_online() || device.is_announced());
        let unknown = |device: &Device| device.values.is_empty() && device.passed_over == Some(Seen::Now);
        if !account.renewing && account.devices.values().any(unknown) {
            account.renewing = true;
            self.renewals.insert(id);
        }
        let state = account.devices.values().map(|device| device.state).max().unwrap_or_default();
        if state != account.state {
            account.state = state;
            self.events.push_back(PresenceEvent::Account { account: id, state });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use PresenceState::{Announced, Connected, Offline};

    const ALICE: AccountId = AccountId([1; 20]);
    const PHONE: ShortId = ShortId([11; 20]);
    const LAPTOP: ShortId = ShortId([12; 20]);

    fn watching() -> Presence {
        let mut presence = Presence::new(Limits::default());
        presence.watch(ALICE).unwrap();
        presence
    }

    fn device(device: ShortId, state: PresenceState) -> PresenceEvent {
        PresenceEvent::Device { account: ALICE, device, state }
    }

    fn account(state: PresenceState) -> PresenceEvent {
        PresenceEvent::Account { account: ALICE, state }
    }

    fn events(presence: &mut Presence) -> Vec<PresenceEvent> {
        std::iter::from_fn(|| presence.poll_event()).collect()
    }

    #[test]
    fn a_restarted_device_does_not_flap() {
        let mut presence = watching();
        presence.handle_value(ALICE, 1, PHONE);
        assert_eq!(events(&mut presence), [device(PHONE, Announced), account(Announced)]);
        // Restarted: a second value; ten minutes later the first one goes.
        presence.handle_value(ALICE, 2, PHONE);
        presence.handle_value(ALICE, 2, PHONE);
        presence.handle_expired(ALICE, &[1]);
        assert_eq!(events(&mut presence), []);
        presence.handle_expired(ALICE, &[2, 77]);
        assert_eq!(events(&mut presence), [device(PHONE, Offline), account(Offline)]);
    }

    #[test]
    fn each_device_counts_for_itself_and_one_keeps_the_account_online() {
        let mut presence = watching();
        presence.handle_value(ALICE, 1, PHONE);
        presence.handle_value(ALICE, 2, LAPTOP);
        events(&mut presence);
        presence.handle_expired(ALICE, &[1]);
        assert_eq!(events(&mut presence), [device(PHONE, Offline)]);
        assert_eq!(presence.devices(ALICE).collect::<Vec<_>>(), [(LAPTOP, Announced)]);
        assert_eq!(presence.state(ALICE), Announced);
    }

    #[test]
    fn who_is_connected_stays_online_when_its_announcement_expires() {
        let mut presence = watching();
        presence.handle_value(ALICE, 1, PHONE);
        presence.connected(ALICE, PHONE);
        presence.handle_expired(ALICE, &[1]);
        let seen = events(&mut presence);
        assert_eq!(
            seen,
            [device(PHONE, Announced), account(Announced), device(PHONE, Connected), account(Connected)]
        );
        presence.disconnected(ALICE, PHONE);
        presence.disconnected(ALICE, PHONE);
        assert_eq!(events(&mut presence), [device(PHONE, Offline), account(Offline)]);
    }

    #[test]
    fn a_renewed_listen_drops_only_what_it_does_not_see_again() {
        let mut presence = watching();
        presence.handle_value(ALICE, 1, PHONE);
        presence.handle_value(ALICE, 2, LAPTOP);
        events(&mut presence);
        let now = Instant::now();
        presence.listen_renewed(now, ALICE);
        assert_eq!(presence.poll_timeout(), Some(now + Limits::default().renewal));
        presence.handle_value(ALICE, 1, PHONE);
        presence.handle_timeout(now + Duration::from_secs(29));
        assert_eq!(events(&mut presence), [], "too early");
        presence.handle_timeout(now + Duration::from_secs(30));
        assert_eq!(events(&mut presence), [device(LAPTOP, Offline)]);
        assert_eq!(presence.poll_timeout(), None);
    }

    #[test]
    fn a_revoked_device_is_offline_whatever_it_announces() {
        let mut presence = watching();
        presence.handle_value(ALICE, 1, PHONE);
        presence.exclude(ALICE, PHONE);
        presence.handle_value(ALICE, 2, PHONE);
        assert_eq!(
            events(&mut presence),
            [device(PHONE, Announced), account(Announced), device(PHONE, Offline), account(Offline)]
        );
    }

    #[test]
    fn replayed_announcements_do_not_hide_the_genuine_one() {
        let mut presence = Presence::new(Limits { values: 2, ..Limits::default() });
        presence.watch(ALICE).unwrap();
        // Two replays, then the genuine one; the replays expire.
        for id in 1..=3 {
            presence.handle_value(ALICE, id, PHONE);
        }
        events(&mut presence);
        assert_eq!(presence.poll_renewal(), None);
        presence.handle_expired(ALICE, &[1, 2]);
        assert_eq!(events(&mut presence), []);
        assert_eq!(presence.poll_renewal(), Some(ALICE));
        assert_eq!(presence.poll_renewal(), None, "once");
        let now = Instant::now();
        let later = now + Limits::default().renewal;
        presence.listen_renewed(now, ALICE);
        presence.handle_value(ALICE, 3, PHONE);
        presence.handle_timeout(later);
        assert_eq!((events(&mut presence), presence.poll_renewal()), (vec![], None), "seen at last");
        presence.handle_expired(ALICE, &[3]);
        assert_eq!(events(&mut presence), [device(PHONE, Offline), account(Offline)]);
        // And when the genuine one is gone, the renewal shows that.
        for id in 4..=6 {
            presence.handle_value(ALICE, id, PHONE);
        }
        presence.handle_expired(ALICE, &[4, 5, 6]);
        assert_eq!(presence.poll_renewal(), Some(ALICE));
        events(&mut presence);
        presence.listen_renewed(later, ALICE);
        assert_eq!(events(&mut presence), []);
        presence.handle_timeout(later + Limits::default().renewal);
        assert_eq!(events(&mut presence), [device(PHONE, Offline), account(Offline)]);
        assert_eq!(presence.poll_renewal(), None);
    }

    #[test]
    fn where_devices_are_revoked_those_without_a_certificate_do_not_count() {
        let mut presence = watching();
        presence.handle_value(ALICE, 1, PHONE);
        presence.handle_value(ALICE, 2, LAPTOP);
        presence.prove(ALICE, LAPTOP);
        events(&mut presence);
        presence.require_proof(ALICE);
        assert_eq!(events(&mut presence), [device(PHONE, Offline)]);
        presence.connected(ALICE, PHONE);
        presence.disconnected(ALICE, PHONE);
        let flash =
            [device(PHONE, Connected), account(Connected), device(PHONE, Offline), account(Announced)];
        assert_eq!(events(&mut presence), flash);
        presence.prove(ALICE, PHONE);
        assert_eq!(events(&mut presence), [device(PHONE, Announced)]);
        presence.prove(AccountId([2; 20]), PHONE);
        presence.require_proof(AccountId([2; 20]));
        assert_eq!(events(&mut presence), []);
    }

    #[test]
    fn everything_is_bounded() {
        let limits = Limits { accounts: 1, devices: 2, values: 3, ..Limits::default() };
        let mut presence = Presence::new(limits);
        presence.watch(ALICE).unwrap();
        presence.watch(ALICE).unwrap();
        assert_eq!(presence.watch(AccountId([2; 20])), Err(TooManyAccounts { limit: 1 }));
        for id in 0..100 {
            presence.handle_value(ALICE, id.into(), PHONE);
            presence.handle_value(ALICE, id.into(), ShortId([id; 20]));
            presence.exclude(ALICE, ShortId([100 + id; 20]));
        }
        let known = &presence.accounts[&ALICE];
        assert_eq!(
            (known.devices.len(), known.devices[&PHONE].values.len(), known.excluded.len()),
            (2, 3, 2)
        );
        presence.handle_value(AccountId([2; 20]), 1, PHONE);
        presence.unwatch(ALICE);
        assert_eq!(presence.state(ALICE), Offline);
        assert_eq!(presence.watched().count(), 0);
    }
}
