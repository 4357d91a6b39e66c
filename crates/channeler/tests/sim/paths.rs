//! The floors of the recorded set of paths. `cargo run -p towline-channeler --example paths` shows the whole table.

use crate::support::{
    course::Course,
    courses::{self, HELD_OUT, TUNING},
};

/// One seed that the controller was tuned by and one that it was not.
fn hold(courses: &[Course]) {
    let mut broken = Vec::new();
    for course in courses {
        for seed in [TUNING[0], HELD_OUT[0]] {
            let seen = course.run(seed);
            println!(
                "{}, seed {seed}: {:.1} % goodput, {:.1} % dropped, queue {:.1} ms, poorest {:.0} %",
                course.name,
                seen.goodput * 100.0,
                seen.dropped * 100.0,
                seen.queue.as_secs_f64() * 1e3,
                seen.poorest() * 100.0,
            );
            broken.extend(
                course.floor.broken(&seen).into_iter().map(|what| format!("{}, {seed}: {what}", course.name)),
            );
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn clean_paths_are_filled() {
    hold(&courses::clean());
}

#[test]
fn losses_by_chance_cost_little() {
    hold(&courses::losses());
}

#[test]
fn late_and_early_packets_cost_little() {
    hold(&courses::order());
}

#[test]
fn policers_are_not_overrun() {
    hold(&courses::policers());
}

#[test]
fn changed_paths_are_used_as_they_are() {
    hold(&courses::changes());
}

#[test]
fn nobody_starves_in_a_shared_queue() {
    hold(&courses::sharing());
}
