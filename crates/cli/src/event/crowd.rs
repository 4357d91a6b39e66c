//! What `lab crowd` shows: how long dials took, and over what they went.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::lab::column;
use super::matrix::{LabSpread, percent, seconds};

/// Upper ends of the steps in which times are counted, in milliseconds. What took longer comes behind them.
pub(crate) const STEPS: [f64; 7] = [500.0, 1000.0, 1500.0, 2000.0, 3000.0, 5000.0, 10_000.0];

/// What came of the dials.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LabCrowd {
    pub(crate) seed: u64,
    /// Of a hundred devices so many served the DHT wherever they were.
    pub(crate) stubborn: u8,
    /// Where the devices are.
    pub(crate) places: BTreeMap<String, usize>,
    /// Devices that got into the DHT.
    pub(crate) joined: usize,
    pub(crate) dials: usize,
    /// From the dial until words had gone there and back on a channel.
    pub(crate) connected: Option<LabSpread>,
    /// Dials that took up to 0.5 s, 1 s, 1.5 s, 2 s, 3 s, 5 s, 10 s, and longer.
    pub(crate) steps: Vec<usize>,
    /// From the dial until a path from device to device carried what both send, within 10 s.
    pub(crate) direct: Option<LabSpread>,
    /// What carried data at the end, and for how many dials.
    pub(crate) kinds: BTreeMap<String, u64>,
    /// Why dials led to no connection, and how many.
    pub(crate) failures: BTreeMap<String, usize>,
    /// Packets sent by all of them.
    pub(crate) packets: u64,
    /// Virtual time.
    pub(crate) world_seconds: f64,
    /// Time of the machine.
    pub(crate) seconds: f64,
    /// A hash over everything that moved: the same for the same seed.
    pub(crate) trace: String,
}

impl LabCrowd {
    /// The lines for people.
    pub(super) fn summary(&self) -> String {
        let devices: usize = self.places.values().sum();
        let mut text = format!("{devices} devices, seed {}:\n\n", self.seed);
        // Writing to a text does not fail.
        for (place, count) in &self.places {
            let _ = writeln!(text, "  {place:<22} {count:>5}");
        }
        let _ = writeln!(text, "\n{} joined the DHT. {} dials, until connected:\n", self.joined, self.dials);
        let most = self.steps.iter().max().copied().unwrap_or_default();
        for (number, count) in self.steps.iter().enumerate() {
            let step =
                STEPS.get(number).map_or_else(|| "longer".to_owned(), |ms| format!("to {}", seconds(*ms)));
            let _ = writeln!(text, "  {step:>10} │ {}", column(*count as f64, most as f64).trim_end());
        }
        let mut spread = |what: &str, spread: &Option<LabSpread>| {
            if let Some(LabSpread { count, p50_ms, p95_ms, p99_ms }) = spread {
                let [p50, p95, p99] = [p50_ms, p95_ms, p99_ms].map(|ms| seconds(*ms));
                let share = percent(*count, self.dials);
                let _ = writeln!(text, "  {what:<10} {share:>6}: p50 {p50}, p95 {p95}, p99 {p99}");
            }
        };
        spread("connected", &self.connected);
        spread("direct", &self.direct);
        text.push_str("\nData goes by:\n\n");
        for (kind, count) in &self.kinds {
            let _ = writeln!(text, "  {kind:<14} {count:>5}  {:>6}", percent(*count as usize, self.dials));
        }
        for (why, count) in &self.failures {
            let _ = writeln!(text, "  {count} × no connection: {why}");
        }
        let _ = write!(
            text,
            "\n{} packets in {:.0} s of virtual time, played in {:.0} s. Trace {}.",
            self.packets, self.world_seconds, self.seconds, self.trace
        );
        text
    }
}
