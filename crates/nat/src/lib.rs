#![doc = include_str!("../README.md")]

mod config;
mod firewall;
mod header;
mod lease;
mod ports;
mod session;
mod table;

pub use crate::{
    config::{
        Allocation, Config, Exhausted, Filtering, Limits, Mapping, Midstream, Pooling, Taken, Timeouts,
    },
    firewall::{Families, Firewall, Refused, Rules},
    header::{Flags, Header, Reason, Refusal, Reply, Transport, Verdict, Way},
    lease::{Lease, MapError, Request},
    table::{Ended, Event, Mapped, Nat, Scope},
};
