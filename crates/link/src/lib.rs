#![doc = include_str!("../README.md")]

mod direction;
mod link;

pub use crate::{
    direction::{Direction, Load, Lost},
    link::{Burst, Link},
};
