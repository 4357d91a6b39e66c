//! What attempts have met with that came to nothing, for whoever asks why.

use std::collections::VecDeque;
use std::sync::Arc;

use towline_identity::DeviceId;

use crate::report::Journal;

/// Devices of which the last failure is remembered; each takes a few kilobytes.
const MAX: usize = 32;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Past {
    journals: VecDeque<(DeviceId, Arc<Journal>)>,
}

impl Past {
    /// An attempt has failed.
    pub(super) fn keep(&mut self, device: DeviceId, journal: Arc<Journal>) {
        self.journals.retain(|(of, _)| *of != device);
        if self.journals.len() == MAX {
            self.journals.pop_front();
        }
        self.journals.push_back((device, journal));
    }

    /// The last attempt at this device that failed.
    pub(super) fn of(&self, device: DeviceId) -> Option<&Journal> {
        self.journals.iter().find(|(of, _)| *of == device).map(|(_, journal)| &**journal)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use super::*;
    use crate::info::{ConnectionId, Origin};

    #[test]
    fn the_last_failure_of_each_of_the_last_devices_is_remembered() {
        let mut past = Past::default();
        let keep = |past: &mut Past, number: u8, id: u64| {
            let device = DeviceId::from([number; 32]);
            let journal = Journal::new(device, ConnectionId(id), Origin::Dialled, Weak::new());
            past.keep(device, Arc::new(journal));
        };
        for number in 0..=MAX as u8 {
            keep(&mut past, number, 1);
        }
        keep(&mut past, 7, 2);
        assert_eq!(past.journals.len(), MAX);
        assert!(past.of(DeviceId::from([0; 32])).is_none(), "the oldest is forgotten");
        let kept = past.of(DeviceId::from([7; 32])).unwrap().report(towline_net::now(), None, Vec::new());
        assert_eq!(kept.connection, ConnectionId(2));
    }
}
