//! What the lab can play: lines, a transfer over them, and what happens to the lines meanwhile.

use std::time::Duration;

use clap::ValueEnum;
use towline_lab::{Burst, Link};

/// A scene by its name on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    /// Packets are lost one by one.
    Loss,
    /// Packets are lost many at a time.
    Burst,
    /// Packets overtake each other.
    Reorder,
    /// Packets arrive twice.
    Duplicate,
    /// The path loses all large packets from one moment on.
    MtuHole,
    /// A router forgets its mappings while data flows.
    Rebinding,
    /// The better of two links falls silent.
    LinkDeath,
    /// Two unequal links carry one channel.
    TwoLinks,
    /// A channel moves from UDP to TCP and back.
    Move,
}

/// A way between the two devices.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) link: Link,
    /// A TCP connection instead of datagrams.
    pub(super) tcp: bool,
    /// The dialling device is behind a router that translates addresses.
    pub(super) nat: bool,
}

/// What happens to a line, by its number.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    /// It swallows everything.
    Silence(usize),
    /// It works again.
    Heal(usize),
    /// It carries IP packets of this many bytes at most.
    Narrow(usize, usize),
    /// The router forgets its mappings.
    Forget,
    /// The channel is to take it.
    Prefer(usize),
}

/// A scene.
#[derive(Debug, Clone)]
pub(super) struct Scenario {
    pub(super) about: &'static str,
    pub(super) lines: Vec<Line>,
    /// Bytes to transfer.
    pub(super) bytes: u64,
    /// The line that the channel takes while it works; none: all of them.
    pub(super) prefer: Option<usize>,
    /// What happens, and how long after the connection stands.
    pub(super) acts: Vec<(Duration, Act)>,
    /// Virtual time that a row of the timeline stands for.
    pub(super) step: Duration,
}

const MIB: u64 = 1 << 20;

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// One way of a line: latency, megabits per second.
fn link(latency: u64, mbits: u64) -> Link {
    let rate = mbits * 125_000;
    // As much as arrives in 100 ms waits before it is dropped.
    Link { rate: Some(rate), queue: rate as usize / 10, ..Link::delay(ms(latency)) }
}

fn udp(name: &'static str, link: Link) -> Line {
    Line { name, link, tcp: false, nat: false }
}

impl Name {
    /// One line about it.
    pub(super) fn about(self) -> &'static str {
        self.scenario().about
    }

    pub(super) fn scenario(self) -> Scenario {
        let plain = |about, link| Scenario {
            about,
            lines: vec![udp("line", link)],
            bytes: 16 * MIB,
            prefer: None,
            acts: Vec::new(),
            step: ms(200),
        };
        let line = link(25, 50);
        match self {
            Self::Loss => plain("2 % of all packets are lost", Link { loss: 0.02, ..line }),
            Self::Burst => plain(
                "losses of 8 packets in a row",
                Link { burst: Some(Burst { begins: 0.002, length: 8.0 }), ..line },
            ),
            Self::Reorder => plain(
                "packets overtake each other by up to 10 ms",
                Link { jitter: ms(10), reorder: true, ..line },
            ),
            Self::Duplicate => plain("every fifth packet arrives twice", Link { duplicate: 0.2, ..line }),
            Self::MtuHole => Scenario {
                acts: vec![(ms(1000), Act::Narrow(0, 1300))],
                ..plain("after 1 s packets of more than 1300 bytes vanish", line)
            },
            Self::Rebinding => Scenario {
                lines: vec![Line { nat: true, ..udp("line", line.clone()) }],
                acts: vec![(ms(1000), Act::Forget), (ms(2000), Act::Forget)],
                ..plain("after 1 s and 2 s a router forgets its mappings", line)
            },
            Self::LinkDeath => Scenario {
                lines: vec![udp("wifi", link(10, 50)), udp("mobile", link(15, 20))],
                prefer: Some(0),
                acts: vec![(ms(1000), Act::Silence(0)), (ms(3000), Act::Heal(0))],
                ..plain("wifi falls silent after 1 s, and is back after 3 s", line)
            },
            Self::TwoLinks => Scenario {
                lines: vec![udp("wifi", link(10, 50)), udp("mobile", link(30, 20))],
                bytes: 32 * MIB,
                ..plain("one channel over two unequal links at once", line)
            },
            Self::Move => Scenario {
                lines: vec![udp("udp", link(20, 50)), Line { tcp: true, ..udp("tcp", link(20, 50)) }],
                prefer: Some(0),
                acts: vec![(ms(1000), Act::Prefer(1)), (ms(2000), Act::Prefer(0))],
                ..plain("a channel moves from UDP to TCP after 1 s and back after 2 s", line)
            },
        }
    }
}

impl Line {
    /// What it is like.
    pub(super) fn about(&self) -> String {
        let Link { latency, jitter, loss, burst, duplicate, rate, reorder, .. } = &self.link;
        let mut parts = vec![
            format!("{} ms each way", latency.as_millis()),
            format!("{} Mbit/s", rate.unwrap_or_default() / 125_000),
        ];
        if self.tcp {
            parts.push("TCP".to_owned());
        }
        if self.nat {
            parts.push("behind a router".to_owned());
        }
        if *loss > 0.0 {
            parts.push(format!("{} % loss", loss * 100.0));
        }
        if let Some(Burst { length, .. }) = burst {
            parts.push(format!("bursts of {length} losses"));
        }
        if *duplicate > 0.0 {
            parts.push(format!("{} % twice", duplicate * 100.0));
        }
        if !jitter.is_zero() {
            let what = if *reorder { "overtaking" } else { "jitter" };
            parts.push(format!("{} ms {what}", jitter.as_millis()));
        }
        parts.join(", ")
    }
}
