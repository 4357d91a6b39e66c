#![doc = include_str!("../README.md")]

mod addr;
mod agent;
pub mod blob;
pub mod candidate;
mod config;
mod credentials;
pub mod framing;
pub mod gather;
pub mod nat;
mod pacer;
mod policy;
mod preference;
pub mod punch;
mod report;
pub mod stun;
mod trickle;

pub use agent::{
    Action, Agent, CloseReason, Disposition, DropReason, Event, LossReason, PairId, Refused, Role,
    SelectedPath, SharedTargets, StreamId, ValidPair,
};
pub use blob::{BlobError, Description, ParsedBlob, SkipReason, SkippedLine};
pub use candidate::{Candidate, CandidateKind, Foundation, TcpType, Transport, host_candidates};
pub use config::{Config, Consent, Paths, TargetLimits};
pub use credentials::{Credentials, CredentialsError};
pub use policy::{CandidateRefused, RemotePolicy, WEB_PORT, network};
pub use preference::Preference;
pub use report::{ConnectError, FailureReason, FailureReport, PairError, PairReport, PairState, Report};
pub use trickle::{Trickle, TrickleError};
