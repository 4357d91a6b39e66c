//! A steady flow of 100 packets a second under random loss, against what is possible.

use std::time::Duration;

use towline_channeler::{Capabilities, Resend};

use crate::support::{
    figures::{milliseconds, percentile},
    way::Path,
    world::World,
    writer::Plan,
};

const MS: Duration = Duration::from_millis(1);

fn latencies(loss: f64, capabilities: Capabilities) -> Vec<Duration> {
    let mut all = Vec::new();
    for seed in 51..54 {
        let mut world = World::on(seed, &Path::rtt(50));
        world.network.each_way(0, |path| path.loss = loss);
        let now = world.now;
        let plan = Plan::Records { count: 2000, every: 10 * MS, sizes: 100..=300 };
        let channel = world.hosts[0].start(now, capabilities, plan);
        world.run(Duration::from_secs(25));
        let records = &world.hosts[1].readers[&channel].records;
        assert_eq!(records.len(), 2000);
        all.extend(records.iter().map(|record| record.latency()));
    }
    all
}

/// One way takes 25 ms. A repair costs a round trip and the time until three later packets are acknowledged: 80 ms. So a share
/// `loss^n` of packets takes `25 + 80 n` ms. At most a quarter more.
fn check(name: &str, loss: f64, capabilities: Capabilities, bounds: &[(f64, Duration)]) {
    let latencies = latencies(loss, capabilities);
    for (share, theory) in bounds {
        let measured = percentile(&latencies, *share);
        println!(
            "{name}, {} % loss: p{} {} ms, in theory {} ms",
            loss * 100.0,
            share * 100.0,
            milliseconds(measured),
            milliseconds(*theory)
        );
        assert!(measured <= theory.mul_f64(1.25), "p{}: {measured:?}", share * 100.0);
    }
}

#[test]
fn a_stream() {
    let stream = Capabilities::stream();
    check("stream", 0.0, stream, &[(0.5, 25 * MS), (1.0, 25 * MS)]);
    check("stream", 0.01, stream, &[(0.5, 25 * MS), (0.99, 105 * MS)]);
    check("stream", 0.05, stream, &[(0.99, 105 * MS), (0.999, 185 * MS)]);
}

#[test]
fn messages_without_order() {
    let messages = Capabilities { ordered: false, resend: Resend::Forever, close_on_loss: false };
    check("messages", 0.01, messages, &[(0.5, 25 * MS), (0.98, 25 * MS), (0.999, 105 * MS)]);
    check("messages", 0.05, messages, &[(0.9, 25 * MS), (0.99, 105 * MS), (0.999, 185 * MS)]);
}
