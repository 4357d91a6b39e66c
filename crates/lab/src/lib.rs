#![doc = include_str!("../README.md")]

mod deliver;
mod forward;
mod host;
mod link;
mod masquerade;
mod middlebox;
mod network;
mod node;
mod packet;
mod prefix;
mod queue;
mod run;
mod shared;
mod sockets;
mod tcp;
mod trace;
mod udp;
mod world;

pub use crate::{
    host::Host,
    link::{Burst, Drop, Link},
    masquerade::{Mappings, Masquerade},
    middlebox::{Middlebox, Plain, Verdict, Way},
    network::{Network, Plan},
    node::NodeId,
    packet::{Kind, Packet},
    prefix::Prefix,
    run::{Options, RunError, run},
    shared::World,
    trace::{Event, Record, Trace},
    world::Router,
};
