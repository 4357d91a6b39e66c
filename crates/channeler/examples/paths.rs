//! Measures congestion control on the recorded set of paths, in virtual time: a line each, seeds side by side.
//!
//! `cargo run -p towline-channeler --example paths [-- PART OF A NAME]`
#![allow(clippy::unwrap_used, reason = "a failure is to be loud")]
#![allow(clippy::print_stdout, reason = "it prints a table")]
#![allow(clippy::unchecked_time_subtraction, reason = "time runs forward in a world")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use support::{
    course::Figures,
    courses::{HELD_OUT, TUNING, all},
};

fn line(name: &str, figures: &[Figures]) {
    let (tuning, held_out) = figures.split_at(TUNING.len());
    let percent = |value: f64| format!("{:5.1}", value * 100.0);
    let goodput = |of: &[Figures]| of.iter().map(|run| percent(run.goodput)).collect::<Vec<_>>().join(" ");
    let mean = figures.iter().map(|run| run.goodput).sum::<f64>() / figures.len() as f64;
    let dropped = figures.iter().map(|run| run.dropped).fold(0.0, f64::max);
    let queue = figures.iter().map(|run| run.queue).max().unwrap_or_default();
    let poorest = figures.iter().map(Figures::poorest).fold(f64::INFINITY, f64::min);
    println!(
        "{name:<30} {} | {} | {} | {} | {:7.1} | {}",
        goodput(tuning),
        goodput(held_out),
        percent(mean),
        percent(dropped),
        queue.as_secs_f64() * 1e3,
        percent(poorest),
    );
}

fn main() {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let courses: Vec<_> = all().into_iter().filter(|course| course.name.contains(&wanted)).collect();
    println!(
        "{:<30} {:<17} | {:<17} | {:<5} | {:<5} | {:<7} | poorest",
        "path", "goodput, tuning", "held out", "mean", "drop%", "queue95"
    );
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some(course) = courses.get(next.fetch_add(1, Ordering::Relaxed)) {
            let figures: Vec<_> = TUNING.iter().chain(&HELD_OUT).map(|seed| course.run(*seed)).collect();
            done.push((course.name, figures));
        }
        done
    };
    let mut rows: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    rows.sort_by_key(|(name, _)| courses.iter().position(|course| course.name == *name));
    for (name, figures) in rows {
        line(name, &figures);
    }
}
