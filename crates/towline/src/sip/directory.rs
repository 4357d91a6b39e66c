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
        let devices = looking.clone().await;
        let mut known = self.known();
        // A newer lookup, or what it found, stays.
        let is_ours = |entry: &Entry| matches!(&entry.known, Known::Looking(now) if now.ptr_eq(&looking));
        if known.get(&account).is_some_and(is_ours) {
            if devices.is_empty() {
                known.remove(&account);
            } else {
                known.insert(account, self.entry(Known::Found(devices.clone())));
            }
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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use tokio::sync::oneshot;

    use super::*;

    const ACCOUNT: AccountId = AccountId([1; 20]);

    #[test]
    fn an_old_lookup_leaves_a_newer_one_alone() {
        for found in [vec![], vec![DeviceId([2; 32])]] {
            let (answers, lookups): (Vec<_>, VecDeque<_>) =
                (0..2).map(|_| oneshot::channel::<Vec<DeviceId>>()).unzip();
            let lookups = Mutex::new(lookups);
            let lookup = move |_| {
                let answer = lookups.lock().unwrap().pop_front().unwrap();
                async move { answer.await.unwrap() }.boxed()
            };
            // What is known is out of date at once.
            let directory = Directory::new(Box::new(lookup), Duration::ZERO);
            let (mut old, mut new) = (directory.find(ACCOUNT).boxed(), directory.find(ACCOUNT).boxed());
            assert!((&mut old).now_or_never().is_none() && (&mut new).now_or_never().is_none());
            let [first, second] = <[_; 2]>::try_from(answers).unwrap();
            first.send(found.clone()).unwrap();
            assert_eq!(old.now_or_never(), Some(found));
            assert!(matches!(directory.known()[&ACCOUNT].known, Known::Looking(_)));
            second.send(vec![DeviceId([3; 32])]).unwrap();
            assert_eq!(new.now_or_never(), Some(vec![DeviceId([3; 32])]));
            assert!(
                matches!(&directory.known()[&ACCOUNT].known, Known::Found(devices) if devices[..] == [DeviceId([3; 32])])
            );
        }
    }
}
