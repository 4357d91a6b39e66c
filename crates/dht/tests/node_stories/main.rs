//! What a network of nodes does, told as stories in virtual time.

mod basics;
mod faults;
mod listening;
mod permanent;
mod sim;
