//! What this node shows in handshakes of the channeler transport: a static key, and the device's word that it is its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use towline_channeler::{Certified, Credentials as _, StaticKey};
use towline_identity::Identity;
use towline_net::Net;

/// A key is used for new connections for this long. The word costs a signature of the device.
const RENEWED_AFTER: Duration = Duration::from_hours(24);
/// How long the word counts: connections are not affected by its end, and clocks of peers may be wrong by weeks.
const VALID_FOR: Duration = Duration::from_hours(60 * 24);
/// What the transport takes of credentials, in bytes. A device with a longer chain is reached by TLS.
const MAX_CREDENTIALS: usize = 8192;

/// A key and the word for it.
#[derive(Debug, Clone)]
pub(super) struct Passport {
    pub(super) key: StaticKey,
    pub(super) credentials: Certified,
    made: Instant,
}

/// Issues passports.
#[derive(Debug)]
pub(super) struct Passports {
    identity: Arc<Identity>,
    current: Mutex<Option<Passport>>,
}

impl Passports {
    pub(super) fn new(identity: Arc<Identity>) -> Self {
        Self { identity, current: Mutex::default() }
    }

    /// The one to show now. `None` if the device has a chain that is too long for it.
    pub(super) async fn get(&self, net: &dyn Net) -> Option<Passport> {
        let mut current = self.current.lock().await;
        let now = towline_net::now();
        if let Some(passport) = current.as_ref()
            && now.saturating_duration_since(passport.made) < RENEWED_AFTER
        {
            return Some(passport.clone());
        }
        let key = StaticKey::from_bytes(net.seed());
        let not_after = i64::try_from((net.unix_time() + VALID_FOR).as_secs()).unwrap_or(i64::MAX);
        let (identity, own) = (Arc::clone(&self.identity), key.clone());
        let credentials = net.offload(move || Certified::new(&identity, &own, not_after)).await;
        if credentials.payload().len() > MAX_CREDENTIALS {
            return None;
        }
        let passport = Passport { key, credentials, made: now };
        *current = Some(passport.clone());
        Some(passport)
    }
}
