//! What `towline why` tells.

use serde::{Deserialize, Serialize};
use towline::ice::PairState;
use towline::{CandidateReport, Cause, LinkInfo, PairReport, Report, ServerReport};

use super::{Reached, Weight, from_ms};
use crate::text::milliseconds;

/// How a device is reached, or why it is not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum WhyEvent {
    /// What an attempt looks like that goes on.
    SoFar { device: String, ms: f64, causes: Vec<Reason> },
    /// All that is known.
    Report(Box<Shown>),
}

/// A cause.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reason {
    pub(crate) cause: String,
    pub(crate) side: String,
    pub(crate) text: String,
    pub(crate) advice: String,
}

/// A report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Shown {
    pub(crate) device: String,
    pub(crate) connection: String,
    pub(crate) connected: bool,
    /// The step that failed.
    pub(crate) step: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) ms: f64,
    pub(crate) causes: Vec<Reason>,
    pub(crate) steps: Vec<Stage>,
    pub(crate) here: Vec<Candidate>,
    pub(crate) there: Vec<Candidate>,
    /// The NAT here, as servers see it.
    pub(crate) nat: String,
    /// Servers of STUN, and relays.
    pub(crate) servers: Vec<Asked>,
    /// How the nodes of the DHT reach this device.
    pub(crate) reached: Reached,
    pub(crate) pairs: Vec<Pair>,
    pub(crate) links: Vec<Link>,
    /// The same for people.
    pub(crate) text: String,
}

/// A step of an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stage {
    pub(crate) step: String,
    pub(crate) at: f64,
    pub(crate) ms: f64,
}

/// A candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Candidate {
    pub(crate) kind: String,
    pub(crate) transport: String,
    pub(crate) address: String,
    pub(crate) at: f64,
    pub(crate) told_by: Vec<String>,
}

/// A STUN server or a relay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) server: String,
    /// Null as long as nobody knows.
    pub(crate) works: Option<bool>,
    /// How long ago that became known, in milliseconds; null as long as nothing is.
    pub(crate) age_ms: Option<f64>,
    pub(crate) text: String,
}

/// A pair of candidates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pair {
    pub(crate) transport: String,
    pub(crate) local: String,
    pub(crate) local_kind: String,
    pub(crate) remote: String,
    pub(crate) remote_kind: String,
    pub(crate) state: String,
    /// Why it failed, if it has.
    pub(crate) why: Option<String>,
    pub(crate) since: f64,
    pub(crate) rtt_ms: Option<f64>,
    pub(crate) sent: u32,
    pub(crate) received: u32,
    pub(crate) nominated: bool,
}

/// A path of a connection that stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Link {
    pub(crate) path: String,
    pub(crate) purpose: String,
    pub(crate) rtt_ms: f64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

impl WhyEvent {
    pub(crate) fn so_far(report: &Report) -> Self {
        Self::SoFar {
            device: report.device.to_string(),
            ms: milliseconds(report.elapsed),
            causes: report.causes.iter().map(Reason::from).collect(),
        }
    }

    pub(crate) fn report(report: &Report) -> Self {
        let steps = report.steps.iter().map(|step| Stage {
            step: step.step.to_string(),
            at: milliseconds(step.at),
            ms: milliseconds(step.took),
        });
        Self::Report(Box::new(Shown {
            device: report.device.to_string(),
            connection: report.connection.to_string(),
            connected: report.state == towline::ConnectionState::Established,
            step: report.error.as_ref().map(|error| error.step().to_string()),
            error: report.error.as_ref().map(ToString::to_string),
            ms: milliseconds(report.elapsed),
            causes: report.causes.iter().map(Reason::from).collect(),
            steps: steps.collect(),
            here: report.here.iter().map(Candidate::from).collect(),
            there: report.there.iter().map(Candidate::from).collect(),
            nat: report.nat.to_string(),
            servers: report.servers.iter().map(Asked::from).collect(),
            reached: report.reachability.into(),
            pairs: report.pairs.iter().map(Pair::from).collect(),
            links: report.links.iter().map(Link::from).collect(),
            text: report.to_string(),
        }))
    }

    pub(crate) fn text(&self) -> (Weight, String) {
        match self {
            Self::SoFar { causes, ms, .. } => {
                let told = match causes.first() {
                    Some(reason) => format!("it seems that {}", reason.text),
                    None => "nothing is wrong any more".to_owned(),
                };
                (Weight::Notice, format!("So far, after {}: {told}", from_ms(*ms)))
            }
            Self::Report(shown) => (Weight::Result, shown.text.trim_end().to_owned()),
        }
    }
}

impl From<&Cause> for Reason {
    fn from(cause: &Cause) -> Self {
        Self {
            cause: cause.word().to_owned(),
            side: cause.side().to_string(),
            text: cause.to_string(),
            advice: cause.advice().to_owned(),
        }
    }
}

impl From<&CandidateReport> for Candidate {
    fn from(candidate: &CandidateReport) -> Self {
        Self {
            kind: candidate.kind.as_str().to_owned(),
            transport: candidate.transport.to_string(),
            address: candidate.address.to_string(),
            at: milliseconds(candidate.at),
            told_by: candidate.told_by.iter().map(ToString::to_string).collect(),
        }
    }
}

impl From<&ServerReport> for Asked {
    fn from(report: &ServerReport) -> Self {
        Self {
            server: report.server.clone(),
            works: report.works,
            age_ms: report.age.map(milliseconds),
            text: report.text.clone(),
        }
    }
}

impl From<&PairReport> for Pair {
    fn from(pair: &PairReport) -> Self {
        let (state, why) = match pair.state {
            PairState::Waiting => ("waiting", None),
            PairState::Connecting => ("connecting", None),
            PairState::Retrying => ("retrying", None),
            PairState::Checking => ("checking", None),
            PairState::Valid => ("valid", None),
            PairState::Failed(error) => ("failed", Some(error.to_string())),
        };
        Self {
            transport: pair.transport.to_string(),
            local: pair.local.to_string(),
            local_kind: pair.kind.as_str().to_owned(),
            remote: pair.remote.to_string(),
            remote_kind: pair.remote_kind.as_str().to_owned(),
            state: state.to_owned(),
            why,
            since: milliseconds(pair.since),
            rtt_ms: pair.rtt.map(milliseconds),
            sent: pair.sent,
            received: pair.received,
            nominated: pair.nominated,
        }
    }
}

impl From<&LinkInfo> for Link {
    fn from(link: &LinkInfo) -> Self {
        Self {
            path: link.path.to_string(),
            purpose: link.purpose.to_string(),
            rtt_ms: milliseconds(link.rtt),
            sent: link.sent,
            received: link.received,
        }
    }
}
