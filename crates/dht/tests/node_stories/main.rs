//! What a network of nodes does, told as stories in virtual time.

mod anything;
mod basics;
#[path = "../common/mod.rs"]
mod common;
mod faults;
mod growing;
mod keeping;
mod listening;
mod permanent;
mod reach;
mod recorded;
mod serving;
mod sim;
mod slow;
