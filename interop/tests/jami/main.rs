//! Towline and Debian's Jami daemon, in networks of their own.
//!
//! Every test says what it does and how long each step took, beside what two daemons need for the same.

mod banned;
mod between_daemons;
mod channels;
mod deaths;
mod devices;
mod endurance;
mod eras;
mod lost_confirmation;
mod offline;
mod ours;
mod program;
mod requests;
mod side_by_side;
mod texts;
