#![doc = include_str!("../README.md")]

mod auth;
mod client;
mod credentials;
mod refusal;
mod server;
mod timers;
mod wire;

pub use auth::ChallengeError;
pub use client::{
    Allocation, BadAnswer, Client, Config, ConfigError, DataConnection, DataConnectionError, DropReason,
    Event, Failure, Input, PeerError, Progress, Relay, SendError, ServerTransport, Transmit,
};
pub use credentials::Credentials;
pub use refusal::Refusal;
pub use server::{
    PeerPolicy, RelayId, Server, ServerAction, ServerConfig, ServerEvent, StreamId, ToPeer, Users, Via,
};
pub use wire::{Family, HEADROOM};
