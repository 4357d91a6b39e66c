//! What `lab matrix` shows: a line for each cell, and the table.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// Dials between two places.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LabCell {
    pub(crate) places: [String; 2],
    /// TCP ports that both devices are told to listen on, beside others.
    pub(crate) tcp_ports: Vec<u16>,
    pub(crate) trials: usize,
    /// From the dial until words had gone there and back on a channel.
    pub(crate) connected: Option<LabSpread>,
    /// From the dial until a path from device to device carried what both send, within 10 s.
    pub(crate) direct: Option<LabSpread>,
    /// Trials in which only a relay carried data at the end.
    pub(crate) relayed: usize,
    /// What carried data at the end, and in how many trials.
    pub(crate) kinds: BTreeMap<String, u64>,
    /// Why no direct path is expected; null if one is.
    pub(crate) barrier: Option<String>,
    /// The first trials without a direct path; one, if none has one.
    pub(crate) misses: Vec<LabMiss>,
}

/// How long something took, in milliseconds: not exceeded by half of the trials, by 95 % and by 99 %.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LabSpread {
    pub(crate) count: usize,
    pub(crate) p50_ms: f64,
    pub(crate) p95_ms: f64,
    pub(crate) p99_ms: f64,
}

/// A trial without a direct path: `towline lab reach DIALLER ANSWERER --seed SEED` plays it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LabMiss {
    pub(crate) seed: u64,
    pub(crate) dialler: String,
    pub(crate) answerer: String,
    /// False if not even a relay helped.
    pub(crate) connected: bool,
    /// Why there is no connection, or none from device to device; null if the device that dialled does not know.
    pub(crate) why: Option<String>,
}

/// The whole table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LabMatrix {
    /// Rows and columns; empty if only some cells were asked for.
    pub(crate) places: Vec<String>,
    /// Trials of each cell.
    pub(crate) seeds: u64,
    /// Time of the machine, not of the simulated world.
    pub(crate) seconds: f64,
    pub(crate) cells: Vec<LabCell>,
}

pub(super) fn percent(part: usize, whole: usize) -> String {
    let share = part as f64 * 100.0 / whole.max(1) as f64;
    // Only all is 100 %.
    let shown = if part < whole { share.floor() } else { share };
    format!("{shown:.0} %")
}

pub(super) fn seconds(ms: f64) -> String {
    format!("{:.2} s", ms / 1000.0)
}

impl LabCell {
    /// The share of direct paths and their usual kind, or what there is instead.
    fn brief(&self) -> String {
        let direct = self.direct.as_ref().map_or(0, |direct| direct.count);
        match (&self.direct, &self.connected) {
            (Some(spread), _) if direct * 2 >= self.trials => {
                format!("{} {}", percent(direct, self.trials), seconds(spread.p50_ms))
            }
            (_, Some(spread)) if self.relayed * 2 >= self.trials => {
                format!("relay {}", seconds(spread.p50_ms))
            }
            (_, connected) => {
                format!("{} connect", percent(connected.as_ref().map_or(0, |all| all.count), self.trials))
            }
        }
    }

    /// What carried data, most frequent first.
    fn kinds(&self) -> String {
        let mut kinds: Vec<_> = self.kinds.iter().collect();
        kinds.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let words = kinds.into_iter().map(|(kind, count)| {
            let all = *count == self.trials as u64;
            if all { kind.clone() } else { format!("{kind} {}", percent(*count as usize, self.trials)) }
        });
        words.collect::<Vec<_>>().join(", ")
    }

    /// Two places, then: direct, its median and 95th percentile, connected, its median and 95th percentile, relayed, kinds.
    fn columns(&self) -> [String; 8] {
        let count = |spread: &Option<LabSpread>| spread.as_ref().map_or(0, |spread| spread.count);
        let times = |spread: &Option<LabSpread>| {
            spread.as_ref().map_or_else(
                || "─".to_owned(),
                |spread| format!("{} / {}", seconds(spread.p50_ms), seconds(spread.p95_ms)),
            )
        };
        [
            self.places[0].clone(),
            self.places[1].clone(),
            percent(count(&self.direct), self.trials),
            times(&self.direct),
            percent(count(&self.connected), self.trials),
            times(&self.connected),
            percent(self.relayed, self.trials),
            self.kinds(),
        ]
    }

    /// The line for people.
    pub(super) fn row(&self) -> String {
        let [a, b, direct, direct_times, connected, connected_times, relayed, kinds] = self.columns();
        let mut row = format!(
            "{a:<20} {b:<20} direct {direct:>5} {direct_times:<15}  connected {connected:>5} \
             {connected_times:<15}  relayed {relayed:>5}  {kinds}"
        );
        for LabMiss { seed, dialler, answerer, connected, why } in &self.misses {
            let what = if *connected { "no direct path" } else { "no connection" };
            let why = why.as_deref().unwrap_or("nothing is known of why");
            // Writing to a text does not fail.
            let _ = write!(row, "\n    lab reach {dialler} {answerer} --seed {seed}: {what}: {why}");
        }
        row
    }
}

impl LabMatrix {
    fn cell(&self, row: &str, column: &str) -> Option<&LabCell> {
        let fits = |cell: &&LabCell| {
            let [a, b] = &cell.places;
            (a == row && b == column) || (a == column && b == row)
        };
        self.cells.iter().find(fits)
    }

    /// What else is to be known, if it matters in these cells.
    fn legend(&self) -> Option<String> {
        let cell = self.cells.iter().find(|cell| !cell.tcp_ports.is_empty())?;
        let ports: Vec<_> = cell.tcp_ports.iter().map(ToString::to_string).collect();
        let port = ports.join(", ");
        Some(format!("With web-only, both devices listen on TCP port {port}, too (`--tcp-port {port}`)."))
    }

    /// The line for people.
    pub(super) fn summary(&self) -> String {
        let mut lines = vec![String::new()];
        if !self.places.is_empty() {
            let head: Vec<_> = self.places.iter().map(|place| format!("{place:<13.13}")).collect();
            lines.push(format!("{:<20} {}", "", head.join(" ")));
            for (number, row) in self.places.iter().enumerate() {
                let cells = self.places[..=number].iter().map(|column| {
                    let cell = self.cell(row, column).map(LabCell::brief).unwrap_or_default();
                    format!("{cell:<13}")
                });
                lines.push(format!("{row:<20} {}", cells.collect::<Vec<_>>().join(" ").trim_end()));
            }
            lines.push(String::new());
        }
        lines.extend(self.legend());
        let trials: usize = self.cells.iter().map(|cell| cell.trials).sum();
        lines.push(format!("{trials} dials, {} seeds a cell, in {:.0} s.", self.seeds, self.seconds));
        lines.join("\n")
    }

    /// The table as it stands in a README: at a glance, and in full.
    pub(crate) fn markdown(&self) -> String {
        let mut lines = Vec::new();
        let row = |cells: &[String]| format!("| {} |", cells.join(" | "));
        if !self.places.is_empty() {
            let head = std::iter::once(String::new()).chain(self.places.iter().cloned());
            lines.push(row(&head.collect::<Vec<_>>()));
            lines.push(format!("|{}", "---|".repeat(self.places.len() + 1)));
            for place in &self.places {
                let cells = self
                    .places
                    .iter()
                    .map(|column| self.cell(place, column).map(LabCell::brief).unwrap_or_default());
                lines.push(row(&std::iter::once(place.clone()).chain(cells).collect::<Vec<_>>()));
            }
            lines.push(String::new());
        }
        let head = [
            "",
            "",
            "direct",
            "median / p95",
            "connected",
            "median / p95",
            "relayed",
            "data at the end goes by",
            "why not directly",
        ];
        lines.push(row(&head.map(str::to_owned)));
        lines.push(format!("|{}", "---|".repeat(head.len())));
        lines.extend(self.cells.iter().map(|cell| {
            let columns = cell.columns().into_iter().chain([cell.barrier.clone().unwrap_or_default()]);
            row(&columns.collect::<Vec<_>>())
        }));
        lines.extend(self.legend().into_iter().flat_map(|legend| [String::new(), legend]));
        lines.join("\n")
    }
}
