#![doc = include_str!("../README.md")]

mod deliver;
mod fitted;
mod forward;
mod host;
mod ills;
mod link;
mod middlebox;
mod nat;
mod network;
mod node;
mod packet;
mod place;
mod prefix;
mod punch;
mod queue;
mod run;
mod shared;
mod sockets;
mod tcp;
mod trace;
mod udp;
mod world;

pub use crate::{
    fitted::Fitted,
    host::Host,
    ills::Names,
    link::Drop,
    middlebox::{Middlebox, Plain, Unanswered, Verdict},
    nat::{BoxEvent, FirewallBox, FirewallHandle, NatBox, NatHandle},
    network::{Network, Plan},
    node::NodeId,
    packet::{Kind, Packet},
    place::{Gate, Gateway, Pair, Place, Site, Surroundings, UnknownPlace},
    prefix::Prefix,
    punch::Punch,
    run::{Options, RunError, run},
    shared::World,
    trace::{Event, Record, Trace},
    world::Router,
};
pub use towline_link;
pub use towline_link::{Burst, Link};
pub use towline_nat;
pub use towline_nat::Way;
