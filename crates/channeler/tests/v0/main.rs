//! The profile of 2021 against recorded vectors, and two of it against each other.

mod pair;
mod responder;
mod support;
mod vectors;
