#![doc = include_str!("../README.md")]

mod discover;
mod exchange;
mod mapper;
pub mod natpmp;
pub mod pcp;
mod request;
mod service;
pub mod upnp;

pub use crate::{
    mapper::{Options, PortMapper, PortMapping},
    request::{Failure, Found, Granted, MappingState, Protocol, Transport},
    service::ServiceError,
};
