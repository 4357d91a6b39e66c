//! Devices the node knows the certificate of.

use std::collections::BTreeMap;

use towline_identity::{Chain, DeviceId};

use crate::dht::{CertificateKey, FoundCertificate};
use crate::eras::DeviceIds;

/// Devices remembered.
const MOST: usize = 1024;

/// A device's chain, and by which kind of key it can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) chain: Chain,
    /// The kind of key it uses; `None` if that is not known, as for a chain that the program gave.
    pub(super) at: Option<CertificateKey>,
}

impl From<FoundCertificate> for Known {
    fn from(found: FoundCertificate) -> Self {
        Self { chain: found.chain, at: Some(found.at) }
    }
}

impl From<Chain> for Known {
    fn from(chain: Chain) -> Self {
        Self { chain, at: None }
    }
}

/// A bounded memory of devices.
#[derive(Debug, Default)]
pub(super) struct Acquaintances(BTreeMap<DeviceId, Known>);

impl Acquaintances {
    pub(super) fn get(&self, device: DeviceId) -> Option<&Known> {
        self.0.get(&device)
    }

    pub(super) fn contains(&self, device: DeviceId) -> bool {
        self.0.contains_key(&device)
    }

    pub(super) fn find(&self, ids: DeviceIds) -> Option<&Known> {
        let known = match ids.long() {
            Some(long) => self.0.get(&long),
            None => self.0.values().find(|known| Some(known.chain.short_id()) == ids.short()),
        };
        known.filter(|known| ids.short().is_none_or(|short| known.chain.short_id() == short))
    }

    pub(super) fn remember(&mut self, mut known: Known) {
        let device = known.chain.device_id();
        match self.0.get(&device) {
            // A chain given by the program says nothing about where the device listens.
            Some(before) => known.at = known.at.or(before.at),
            // Any will do: it is looked up again when needed.
            None if self.0.len() >= MOST => drop(self.0.pop_first()),
            None => {}
        }
        self.0.insert(device, known);
    }

    pub(super) fn forget(&mut self, device: DeviceId) {
        self.0.remove(&device);
    }

    /// The device did not answer where it was asked: another time it is asked wherever it may listen.
    pub(super) fn doubt(&mut self, device: DeviceId) {
        if let Some(known) = self.0.get_mut(&device) {
            known.at = None;
        }
    }
}
