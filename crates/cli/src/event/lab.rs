//! What `lab` shows: a scene, what moved in each step of time, what happened, and how it ended.

use serde::{Deserialize, Serialize};

use super::Weight;
use super::crowd::LabCrowd;
use super::matrix::{LabCell, LabMatrix};
use crate::text::bytes;

/// Widest bar, in characters.
const BAR: usize = 12;
/// Characters of a column: a bar and a number behind it.
const COLUMN: usize = BAR + 7;

/// Something about a simulated network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event")]
pub(crate) enum LabEvent {
    /// What `lab` can play.
    #[serde(rename = "lab_scenario")]
    Scenario { name: String, about: String },
    /// The stage is set.
    #[serde(rename = "lab_scene")]
    Scene { scenario: String, seed: u64, about: String, lines: Vec<LabLine> },
    /// What moved since the last of these.
    #[serde(rename = "lab_sample")]
    Sample(LabSample),
    /// Something happened, `at` seconds of virtual time after the connection stood.
    #[serde(rename = "lab_note")]
    Note { at: f64, text: String },
    /// The end.
    #[serde(rename = "lab_end")]
    End(LabEnd),
    /// Where `lab nat` can put devices.
    #[serde(rename = "lab_places")]
    Places { places: Vec<LabPlace> },
    /// What stands between two devices.
    #[serde(rename = "lab_network")]
    Network {
        seed: u64,
        /// What is going to happen.
        about: String,
        /// What is on the internet between them.
        internet: String,
        /// Where two devices are told about each other, if that is by one host.
        rendezvous: Option<String>,
        sides: Vec<LabSide>,
    },
    /// Whether they reached each other.
    #[serde(rename = "lab_punch")]
    Punch(LabPunch),
    /// What came of a dial.
    #[serde(rename = "lab_reach")]
    Reach(LabReach),
    /// A cell of `lab matrix` is complete.
    #[serde(rename = "lab_cell")]
    Cell(LabCell),
    /// All of them are.
    #[serde(rename = "lab_matrix")]
    Matrix(LabMatrix),
    /// The dials of a crowd are over.
    #[serde(rename = "lab_crowd")]
    Crowd(LabCrowd),
}

/// A place for a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LabPlace {
    pub(crate) name: String,
    pub(crate) about: String,
}

/// A device and the routers before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LabSide {
    pub(crate) name: String,
    pub(crate) place: String,
    pub(crate) addresses: Vec<String>,
    /// Nearest to the device first.
    pub(crate) gates: Vec<LabGate>,
}

/// A router.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LabGate {
    pub(crate) name: String,
    pub(crate) about: String,
    /// Outside.
    pub(crate) addresses: Vec<String>,
}

/// What came of a hole punch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LabPunch {
    pub(crate) through: bool,
    /// Where each of the two heard the other from.
    pub(crate) reached: Vec<Option<String>>,
    /// After both knew where to send to.
    pub(crate) ms: Option<f64>,
    pub(crate) why_not: Vec<String>,
    /// A hash over everything that moved: the same for the same seed.
    pub(crate) trace: String,
}

/// What came of a dial. Times are from its beginning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LabReach {
    /// Until words had gone there and back on a channel.
    pub(crate) connected_ms: Option<f64>,
    /// Until a path from device to device carried what both send.
    pub(crate) direct_ms: Option<f64>,
    /// What carried the first words.
    pub(crate) first: Option<String>,
    /// What carried data at the end.
    pub(crate) last: Option<String>,
    /// Why there is no connection, or none from device to device, as far as it is known.
    pub(crate) why_not: Option<String>,
    /// A hash over everything that moved: the same for the same seed.
    pub(crate) trace: String,
}

/// A way between the two devices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LabLine {
    pub(crate) name: String,
    pub(crate) about: String,
}

/// What moved in a step of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LabSample {
    /// Seconds of virtual time at the end of the step.
    pub(crate) at: f64,
    /// Megabits per second that arrived over each line, in the order of the scene.
    pub(crate) mbits: Vec<f64>,
    /// Megabits per second that the program read.
    pub(crate) program_mbits: f64,
    /// Longest delay of a small message on a channel of its own, in milliseconds; null if none arrived.
    pub(crate) delay_ms: Option<f64>,
    /// What a full bar stands for, in megabits per second.
    pub(crate) full_mbits: f64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LabEnd {
    /// Bytes that were read, all of them right and in order.
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    /// Longest time in which the program read nothing, in milliseconds.
    pub(crate) stall_ms: f64,
    /// Small messages sent and received.
    pub(crate) messages_sent: u64,
    pub(crate) messages_received: u64,
    /// Packets that the sender declared lost.
    pub(crate) packets_sent: u64,
    pub(crate) packets_lost: u64,
    /// A hash over everything that moved: the same for the same seed.
    pub(crate) trace: String,
}

impl LabEvent {
    /// The line for people.
    pub(super) fn text(&self) -> (Weight, String) {
        let text = match self {
            Self::Scenario { name, about } => format!("  {name:<12} {about}"),
            Self::Scene { scenario, seed, about, lines } => scene(scenario, *seed, about, lines),
            Self::Sample(sample) => sample.row(),
            Self::Note { at, text } => format!("{at:>8.3} s ├─ {text}"),
            Self::End(end) => end.summary(),
            Self::Places { places } => {
                let list = places.iter().map(|place| format!("    {:<22} {}", place.name, place.about));
                format!(
                    "  matrix       dials between all places, many times\n\
                     \u{20} crowd        many devices that dial each other\n\
                     \u{20} reach PLACE PLACE, a dial between two whole devices, and\n\
                     \u{20} nat PLACE [PLACE], a hole punch between two of:\n{}",
                    list.collect::<Vec<_>>().join("\n")
                )
            }
            Self::Network { seed, about, internet, sides, .. } => network(*seed, about, internet, sides),
            Self::Punch(punch) => punch.summary(),
            Self::Reach(reach) => reach.summary(),
            Self::Cell(cell) => cell.row(),
            Self::Matrix(matrix) => matrix.summary(),
            Self::Crowd(crowd) => crowd.summary(),
        };
        (Weight::Result, text)
    }
}

fn scene(scenario: &str, seed: u64, about: &str, lines: &[LabLine]) -> String {
    let drawn: Vec<String> =
        lines.iter().enumerate().map(|(index, line)| draw(line, index, lines.len())).collect();
    let columns = lines.iter().map(|line| line.name.as_str()).chain(["program"]);
    let columns: Vec<String> =
        columns.map(|name| format!("{:<COLUMN$}", format!("{name}, Mbit/s"))).collect();
    format!(
        "{scenario}, seed {seed}: {about}\n\n{}\n{:>8}   │ {} │ delay",
        drawn.concat(),
        "time",
        columns.join(" │ ")
    )
}

/// Two devices, the routers before them, and the internet between.
fn network(seed: u64, about: &str, internet: &str, sides: &[LabSide]) -> String {
    let places: Vec<_> = sides.iter().map(|side| side.place.as_str()).collect();
    let mut lines = vec![format!("{}, seed {seed}: {about}\n", places.join(" and "))];
    for (number, side) in sides.iter().enumerate() {
        let mut drawn = vec![format!("  {} {}", side.name, side.addresses.join(", "))];
        for (depth, gate) in side.gates.iter().enumerate() {
            let corner = if number == 0 { '└' } else { '┌' };
            let indent = " ".repeat(4 + 3 * depth);
            drawn.push(format!(
                "{indent}{corner}─ {} {}: {}",
                gate.name,
                gate.addresses.join(", "),
                gate.about
            ));
        }
        let indent = " ".repeat(4 + 3 * side.gates.len());
        if number == 0 {
            drawn.push(format!("{indent}╞═ internet, with {internet}"));
        } else {
            drawn.reverse();
        }
        lines.extend(drawn);
    }
    lines.push(String::new());
    lines.join("\n")
}

impl LabReach {
    fn summary(&self) -> String {
        let mut lines = vec![String::new()];
        let kind = |kind: &Option<String>| kind.clone().unwrap_or_else(|| "nothing".to_owned());
        let why = self.why_not.as_deref().unwrap_or("nothing is known of why");
        match (self.connected_ms, self.direct_ms) {
            (Some(connected), direct) => {
                lines
                    .push(format!("Connected {connected:.1} ms after the dial, over {}.", kind(&self.first)));
                lines.push(match direct {
                    Some(direct) => {
                        format!("Direct after {direct:.1} ms; at the end over {}.", kind(&self.last))
                    }
                    None => format!("Not direct within 10 s: {why}. At the end over {}.", kind(&self.last)),
                });
            }
            (None, _) => {
                lines.push(format!("Not connected: {why}."));
            }
        }
        lines.push(format!("Trace {}.", self.trace));
        lines.join("\n")
    }
}

impl LabPunch {
    fn summary(&self) -> String {
        let mut lines = vec![String::new()];
        match self.ms {
            Some(ms) => {
                let ends: Vec<_> = self.reached.iter().flatten().map(String::as_str).collect();
                lines.push(format!(
                    "They reach each other, {ms:.1} ms after both knew where: {}.",
                    ends.join(" ⇄ ")
                ));
            }
            None => lines.push("They do not reach each other:".to_owned()),
        }
        lines.extend(self.why_not.iter().map(|why| format!("  * {why}")));
        lines.push(format!("Trace {}.", self.trace));
        lines.join("\n")
    }
}

/// A line between the two, by its number of so many.
fn draw(line: &LabLine, index: usize, count: usize) -> String {
    let corner = match index {
        _ if count == 1 => ['─', '─'],
        0 => ['┬', '┬'],
        _ if index + 1 == count => ['└', '┘'],
        _ => ['├', '┤'],
    };
    let [left, right] = if index == 0 { ["  alice ", " bob\n"] } else { ["        ", "\n"] };
    let middle = format!(" {}: {} ", line.name, line.about);
    format!("{left}{}──{middle:─<58}──{}{right}", corner[0], corner[1])
}

impl LabSample {
    fn row(&self) -> String {
        let values = self.mbits.iter().copied().chain([self.program_mbits]);
        let columns: Vec<String> = values.map(|value| column(value, self.full_mbits)).collect();
        let delay = self.delay_ms.map_or_else(|| "─".to_owned(), |delay| format!("{delay:.1} ms"));
        format!("{:>8.1} s │ {} │ {delay}", self.at, columns.join(" │ "))
    }
}

impl LabEnd {
    fn summary(&self) -> String {
        let mbits = self.bytes as f64 * 8e-6 / self.seconds.max(1e-9);
        format!(
            "\n{} read in {:.2} s ({mbits:.1} Mbit/s), every byte once and in order; longest stall {:.0} ms.\n\
             {} of {} small messages arrived. {} packets sent, {} declared lost. Trace {}.",
            bytes(self.bytes),
            self.seconds,
            self.stall_ms,
            self.messages_received,
            self.messages_sent,
            self.packets_sent,
            self.packets_lost,
            self.trace
        )
    }
}

/// A bar in eighths of a character, and the number.
pub(super) fn column(value: f64, full: f64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (value / full.max(1e-9) * (BAR * 8) as f64).round().clamp(0.0, (BAR * 8) as f64) as usize;
    let mut bar = "█".repeat(eighths / 8);
    bar.push_str(EIGHTHS[eighths % 8]);
    // Padding counts characters, of which each is one place wide here.
    let number = if value == 0.0 { String::new() } else { format!("{value:.1}") };
    format!("{bar:<BAR$} {number:>6}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_numbers_say() {
        assert_eq!(column(0.0, 100.0), format!("{:<COLUMN$}", ""));
        assert_eq!(column(100.0, 100.0), format!("{}  100.0", "█".repeat(BAR)));
        assert_eq!(column(250.0, 100.0).chars().filter(|character| *character == '█').count(), BAR);
        assert_eq!(column(51.0, 96.0), format!("{}▍{}   51.0", "█".repeat(6), " ".repeat(BAR - 7)));
    }

    #[test]
    fn the_columns_of_scene_and_samples_stand_below_each_other() {
        let lines = ["wifi", "mobile"].map(|name| LabLine { name: name.into(), about: "20 ms".into() });
        let text = scene("two-links", 1, "both at once", &lines);
        let head = text.lines().last().unwrap_or_default();
        let sample = LabSample {
            at: 0.1,
            mbits: vec![50.0, 20.0],
            program_mbits: 68.0,
            delay_ms: Some(21.5),
            full_mbits: 50.0,
        };
        let places =
            |line: &str| line.chars().enumerate().filter(|(_, c)| *c == '│').map(|(at, _)| at).collect();
        let (head, row): (Vec<_>, Vec<_>) = (places(head), places(&sample.row()));
        assert_eq!(head, row, "{text}\n{}", sample.row());
    }
}
