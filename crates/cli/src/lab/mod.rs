//! `towline lab`: scenes on a simulated network, in virtual time, drawn as text.

mod nat;
mod scenario;
mod stage;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ValueEnum as _;
use tokio::task::JoinHandle;

use crate::args::{Lab, LabNetwork};
use crate::event::LabEvent;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;
pub(crate) use scenario::Name;

pub(crate) async fn run(args: Lab, output: &Output, interrupt: Interrupt) -> Result<(), Failure> {
    if let Some(LabNetwork::Nat { alice, bob, seed }) = args.network {
        let Some(alice) = alice else {
            output.say(&nat::places().into());
            return Ok(());
        };
        let output = output.clone();
        let play =
            tokio::task::spawn_blocking(move || nat::play(alice, bob.unwrap_or(alice), seed.seed, &output));
        return interrupt.stops(ended(play)).await;
    }
    let Some(name) = args.scenario else {
        for name in Name::value_variants() {
            let word = name.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
            output.say(&LabEvent::Scenario { name: word, about: name.about().to_owned() }.into());
        }
        output.say(&nat::places().into());
        return Ok(());
    };
    let output = output.clone();
    let curtain = Curtain::default();
    let fallen = Arc::clone(&curtain.0);
    // A runtime of its own, with a clock of its own, and therefore a thread of its own.
    let play = tokio::task::spawn_blocking(move || stage::play(name, args.seed.seed, &output, fallen));
    interrupt.stops(ended(play)).await
}

async fn ended(play: JoinHandle<Result<(), Failure>>) -> Result<(), Failure> {
    play.await.unwrap_or_else(|error| Err(Failure::Internal(format!("the scene broke off: {error}"))))
}

/// Ends the scene when it is dropped: whoever waited for it waits no more.
#[derive(Debug, Default)]
struct Curtain(Arc<AtomicBool>);

impl Drop for Curtain {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
