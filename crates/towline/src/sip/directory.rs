//! Which devices an account has, as far as is known without asking again.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
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
    known: Mutex<BTreeMap<AccountId, Known>>,
}

#[derive(Debug)]
struct Known {
    devices: Vec<DeviceId>,
    until: Instant,
}

impl Directory {
    pub(super) fn new(lookup: Lookup, lifetime: Duration) -> Self {
        Self { lookup, lifetime, known: Mutex::default() }
    }

    /// The devices of `account`.
    pub(super) async fn find(&self, account: AccountId) -> Vec<DeviceId> {
        let remembered = {
            let known = self.known();
            known.get(&account).filter(|known| known.until > now()).map(|known| known.devices.clone())
        };
        if let Some(devices) = remembered {
            return devices;
        }
        let devices = (self.lookup)(account).await;
        if !devices.is_empty() {
            let mut known = self.known();
            if known.len() >= MAX_ACCOUNTS && !known.contains_key(&account) {
                let first_to_end =
                    known.iter().min_by_key(|(_, known)| known.until).map(|(account, _)| *account);
                first_to_end.and_then(|account| known.remove(&account));
            }
            known.insert(account, Known { devices: devices.clone(), until: now() + self.lifetime });
        }
        devices
    }

    /// A device could not be reached: it is not tried again before the next lookup, which follows at once if none is left.
    pub(super) fn unreachable(&self, account: AccountId, device: DeviceId) {
        let mut known = self.known();
        if let Some(entry) = known.get_mut(&account) {
            entry.devices.retain(|known| *known != device);
            if entry.devices.is_empty() {
                known.remove(&account);
            }
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<AccountId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
