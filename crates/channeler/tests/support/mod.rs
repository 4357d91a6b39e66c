//! A pair of endpoints on a network in virtual time, and programs on both that write, read and check.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses another part of it")]
#![allow(clippy::unwrap_used, reason = "in a test, a failure is to be loud")]

pub mod course;
pub mod courses;
pub mod figures;
pub mod network;
pub mod pattern;
pub mod program;
pub mod reader;
pub mod way;
pub mod world;
pub mod writer;
