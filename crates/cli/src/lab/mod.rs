//! `towline lab`: scenes on a simulated network, in virtual time, drawn as text.

mod crowd;
mod keys;
mod matrix;
mod nat;
mod reach;
mod scenario;
mod stage;
mod tally;
mod town;
mod trial;
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
    // A runtime of its own, with a clock of its own, and therefore a thread of its own.
    let curtain = Curtain::default();
    let (fallen, own) = (Arc::clone(&curtain.0), output.clone());
    match args.network {
        None => {}
        Some(LabNetwork::Nat { alice: None, .. }) => {
            output.say(&nat::places().into());
            return Ok(());
        }
        Some(LabNetwork::Nat { alice: Some(alice), bob, seed }) => {
            let play = move || nat::play(alice, bob.unwrap_or(alice), seed.seed, &own);
            return interrupt.stops(ended(tokio::task::spawn_blocking(play))).await;
        }
        Some(LabNetwork::Reach { alice, bob, seed }) => {
            let play = move || reach::play([alice, bob], seed.seed, &own);
            return interrupt.stops(ended(tokio::task::spawn_blocking(play))).await;
        }
        Some(LabNetwork::Crowd { nodes, dials, stubborn, seed }) => {
            let request = crowd::Request { nodes, dials, stubborn, seed: seed.seed };
            let play = move || crowd::play(request, &own, fallen);
            return interrupt.stops(ended(tokio::task::spawn_blocking(play))).await;
        }
        Some(LabNetwork::Matrix { seeds, cells, markdown }) => {
            let request = matrix::Request { seeds, cells, markdown };
            let play = move || matrix::play(&request, &own, &fallen);
            return interrupt.stops(ended(tokio::task::spawn_blocking(play))).await;
        }
    }
    let Some(name) = args.scenario else {
        for name in Name::value_variants() {
            let word = name.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
            output.say(&LabEvent::Scenario { name: word, about: name.about().to_owned() }.into());
        }
        output.say(&nat::places().into());
        return Ok(());
    };
    let play = tokio::task::spawn_blocking(move || stage::play(name, args.seed.seed, &own, fallen));
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
