//! Where candidates go that come after a request or its answer.

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use towline_identity::DeviceId;

use crate::info::ConnectionId;
use crate::node::underway::{AttemptKey, OriginKey};
use crate::signal::{Further, LaterCandidates};

/// Values that wait for one attempt or connection; more are dropped.
const QUEUE: usize = 8;
/// Values kept that came before the request they belong to: the DHT does not keep an order.
const MAX_EARLY: usize = 32;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Trickling {
    /// Attempts, and what has become of them.
    open: BTreeMap<AttemptKey, mpsc::Sender<Box<Further>>>,
    early: Vec<(AttemptKey, Box<Further>)>,
}

impl Trickling {
    /// Where an attempt hears of further candidates.
    pub(super) fn open(&mut self, key: AttemptKey) -> mpsc::Receiver<Box<Further>> {
        self.open.retain(|_, sender| !sender.is_closed());
        let (sender, receiver) = mpsc::channel(QUEUE);
        for (_, further) in self.early.extract_if(.., |(of, _)| *of == key) {
            let _ = sender.try_send(further);
        }
        self.open.insert(key, sender);
        receiver
    }

    /// A device has further candidates.
    pub(super) fn take(&mut self, device: DeviceId, later: LaterCandidates) {
        let LaterCandidates { id, by_dialler, trickle, restart, party, plight } = later;
        // In a box, as queues reserve room for many.
        let further = Box::new(Further { trickle, restart, party, plight });
        let origin = if by_dialler { OriginKey::Answered } else { OriginKey::Dialled };
        let key = (device, ConnectionId(id), origin);
        match self.open.get(&key) {
            // One that is over, or was told too much already, does without.
            Some(sender) => drop(sender.try_send(further)),
            None if by_dialler => {
                if self.early.len() == MAX_EARLY {
                    self.early.remove(0);
                }
                self.early.push((key, further));
            }
            // We ask before anybody can answer.
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use towline_ice::Trickle;

    use super::*;

    fn later(id: u64, by_dialler: bool) -> LaterCandidates {
        let trickle = Trickle { ufrag: format!("of {id}"), candidates: Vec::new(), end: true };
        LaterCandidates { id, by_dialler, trickle, restart: None, party: None, plight: None }
    }

    #[test]
    fn what_comes_before_its_request_waits_within_bounds() {
        let mut trickling = Trickling::default();
        let device = DeviceId::from([1; 32]);
        for id in 1..=100 {
            trickling.take(device, later(id, true));
            trickling.take(device, later(id, false));
        }
        assert_eq!(trickling.early.len(), MAX_EARLY);
        let mut newest = trickling.open((device, ConnectionId(100), OriginKey::Answered));
        assert_eq!(newest.try_recv().unwrap().trickle.ufrag, "of 100");
        assert!(trickling.open((device, ConnectionId(1), OriginKey::Answered)).try_recv().is_err());
        assert!(trickling.open((device, ConnectionId(99), OriginKey::Dialled)).try_recv().is_err());
        trickling.take(device, later(100, true));
        assert!(newest.try_recv().is_ok());
    }
}
