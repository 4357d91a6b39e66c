//! Fuzz targets, one for each thing that a stranger's bytes can reach, and an engine that runs them on stable.
//!
//! A target is a plain function over bytes. It fails by panicking: on its own (`assert!` that what was decoded
//! encodes to the same again, that a buffer stays below its bound), or because the code under test does.
//! The engine ([`run`]) replays the kept inputs of `corpus/NAME/`, then mutates them by a seeded generator for
//! as long as it is told; the same functions run under libFuzzer from `libfuzzer/`.
//!
//! ```text
//! cargo run -p towline-fuzz --bin fuzz-run -- --seconds 60 --target dht-message
//! cargo run -p towline-fuzz --bin fuzz-run -- --replay fuzz/failures/dht-message/5f…
//! ```

pub mod corpus;
mod engine;
mod mutate;
mod target;

pub use engine::{Budget, Failure, Fault, Report, replay, run};
pub use mutate::Mutator;
pub use target::{TARGETS, Target};

use std::path::PathBuf;

/// Runs one input on the target of that name; what the libFuzzer wrappers call.
///
/// # Panics
/// When the input breaks the target, or no target has the name.
pub fn run_one(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("the wrapper names a target");
    (target.run)(input);
}

/// The folder of this package, where the corpus lies.
#[must_use]
pub fn home() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
