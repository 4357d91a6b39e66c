//! Which devices an account has, as far as is known without asking again.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use towline_identity::{AccountId, DeviceId};
use towline_net::now;

/// Accounts whose devices are remembered.
const MAX_ACCOUNTS: usize = 256;

/// Finds the devices of an account.
type Lookup = Box<dyn Fn(AccountId) -> BoxFuture<'static, Vec<DeviceId>> + Send + Sync>;

/// Looks devices up, and remembers them for a while.
pub(super) struct Directory {
    lookup: Lookup,
    lifetime: Duration,
    known: Mutex<BTreeMap<AccountId, Entry>>,
}

struct Entry {
    known: Known,
    until: Instant,
}

enum Known {
    /// Whoever asks meanwhile waits for the same; if all lose patience, the next one goes on with it.
    Looking(Shared<BoxFuture<'static, Vec<DeviceId>>>),
    Found(Vec<DeviceId>),
}

impl Directory {
    pub(super) fn new(lookup: Lookup, lifetime: Duration) -> Self {
        Self { lookup, lifetime, known: Mutex::default() }
    }

    /// The devices of `account`.
    pub(super) async fn find(&self, account: AccountId) -> Vec<DeviceId> {
        let looking = match self.look(account) {
            Known::Looking(looking) => looking,
            Known::Found(devices) => return devices,
        };
        let devices = looking.await;
        let mut known = self.known();
        if devices.is_empty() {
            known.remove(&account);
        } else if let Some(entry @ Entry { known: Known::Looking(_), .. }) = known.get_mut(&account) {
            *entry = self.entry(Known::Found(devices.clone()));
        }
        devices
    }

    /// What is known, or the lookup under way.
    fn look(&self, account: AccountId) -> Known {
        let mut known = self.known();
        match known.get(&account).filter(|entry| entry.until > now()) {
            Some(Entry { known: Known::Looking(looking), .. }) => return Known::Looking(looking.clone()),
            Some(Entry { known: Known::Found(devices), .. }) => return Known::Found(devices.clone()),
            None => {}
        }
        if known.len() >= MAX_ACCOUNTS && !known.contains_key(&account) {
            let first_to_end = known.iter().min_by_key(|(_, entry)| entry.until).map(|(account, _)| *account);
            first_to_end.and_then(|account| known.remove(&account));
        }
        let looking = (self.lookup)(account).shared();
        known.insert(account, self.entry(Known::Looking(looking.clone())));
        Known::Looking(looking)
    }

    /// A device could not be reached: it is not tried again before the next lookup, which follows at once if none is left.
    pub(super) fn unreachable(&self, account: AccountId, device: DeviceId) {
        let mut known = self.known();
        if let Some(Entry { known: Known::Found(devices), .. }) = known.get_mut(&account) {
            devices.retain(|known| *known != device);
            if devices.is_empty() {
                known.remove(&account);
            }
        }
    }

    fn entry(&self, known: Known) -> Entry {
        Entry { known, until: now() + self.lifetime }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<AccountId, Entry>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
