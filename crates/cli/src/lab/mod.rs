//! `towline lab`: scenes on a simulated network, in virtual time, drawn as text.

mod scenario;
mod stage;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ValueEnum as _;

use crate::args::Lab;
use crate::event::LabEvent;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;
pub(crate) use scenario::Name;

pub(crate) async fn run(args: Lab, output: &Output, interrupt: Interrupt) -> Result<(), Failure> {
    let Some(name) = args.scenario else {
        for name in Name::value_variants() {
            let word = name.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
            output.say(&LabEvent::Scenario { name: word, about: name.about().to_owned() }.into());
        }
        return Ok(());
    };
    let output = output.clone();
    let curtain = Curtain::default();
    let fallen = Arc::clone(&curtain.0);
    // A runtime of its own, with a clock of its own, and therefore a thread of its own.
    let play = tokio::task::spawn_blocking(move || stage::play(name, args.seed, &output, fallen));
    interrupt
        .stops(async {
            play.await.unwrap_or_else(|error| Err(Failure::Internal(format!("the scene broke off: {error}"))))
        })
        .await
}

/// Ends the scene when it is dropped: whoever waited for it waits no more.
#[derive(Debug, Default)]
struct Curtain(Arc<AtomicBool>);

impl Drop for Curtain {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
