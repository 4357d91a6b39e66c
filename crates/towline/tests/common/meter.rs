//! Counts what passes into a network.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use std::net::SocketAddr;

use towline_lab::{Kind, Middlebox, Packet, Verdict, Way};

/// A packet that went in.
#[derive(Debug, Clone, Copy)]
pub struct Metered {
    pub at: Duration,
    pub kind: Kind,
    pub to: SocketAddr,
    /// Bytes of payload.
    pub len: usize,
}

/// A router that lets everything through and keeps a list.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Mutex<Vec<Metered>>>);

impl Middlebox for Meter {
    fn pass(&mut self, now: Duration, way: Way, packet: &mut Packet) -> Verdict {
        if way == Way::In {
            let metered = Metered { at: now, kind: packet.kind(), to: packet.to, len: packet.payload_len() };
            self.0.lock().unwrap().push(metered);
        }
        Verdict::Forward
    }
}

impl Meter {
    pub fn packets(&self) -> Vec<Metered> {
        self.0.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// The most within any second.
    pub fn peak(&self) -> usize {
        let packets = self.packets();
        let within = |first: usize| {
            let end = packets[first].at + Duration::from_secs(1);
            packets[first..].iter().take_while(|packet| packet.at < end).count()
        };
        (0..packets.len()).map(within).max().unwrap_or_default()
    }

    /// The longest payload in bytes.
    pub fn longest(&self) -> usize {
        self.packets().iter().map(|packet| packet.len).max().unwrap_or_default()
    }
}
