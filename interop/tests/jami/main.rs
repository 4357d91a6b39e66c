//! Towline and Debian's Jami daemon, in networks of their own.
//!
//! Every test says what it does and how long each step took, beside what two daemons need for the same.

mod between_daemons;
mod channels;
mod ours;
mod side_by_side;
