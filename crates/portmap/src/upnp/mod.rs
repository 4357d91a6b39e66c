//! UPnP Internet Gateway Device 1 and 2: what is said, and how the answers are read.
//!
//! Anybody on the local network can answer a search, and an answer names an address to be fetched. So a router is only
//! talked to at the very address that its answer came from, on ports that it names there; every message is bounded; names
//! are never resolved.

mod description;
mod http;
mod location;
mod soap;
mod ssdp;

pub use self::{
    description::{Description, DescriptionError, Service},
    http::{HttpError, MAX_BODY, Reader, Response, get, post},
    location::{Location, LocationError},
    soap::{Action, Outcome, SoapError, SoapFault},
    ssdp::{Answer, GROUP, SsdpError, TARGETS, search},
};
