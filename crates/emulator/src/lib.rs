#![doc = include_str!("../README.md")]

#[cfg(target_os = "linux")]
mod batch;
#[cfg(any(target_os = "linux", test))]
mod crossing;
mod ip;
mod router;
#[cfg(target_os = "linux")]
mod wire;

pub use crate::router::{Fate, Router};
#[cfg(target_os = "linux")]
pub use crate::wire::{Running, Wire};
pub use towline_link;
pub use towline_nat;
