//! The recorded set of paths that congestion control is measured on. What it is tuned by is the seeds [`TUNING`]; what it
//! is judged by, [`HELD_OUT`].

use std::time::Duration;

use towline_channeler::Algorithm::{Bbr, Cubic};

use super::{
    course::{Change, Course, Flow},
    way::{Burst, Fades, Path, Reorder},
};

pub const TUNING: [u64; 3] = [101, 102, 103];
pub const HELD_OUT: [u64; 3] = [904, 905, 906];

const MS: Duration = Duration::from_millis(1);

/// With a queue of so many percent of bandwidth times round trip.
fn queued(megabits: u64, rtt: u64, percent: u64) -> Path {
    let queue = usize::try_from(megabits * 125 * rtt * percent / 100).unwrap();
    Path { queue: queue.max(8000), ..Path::bottleneck(megabits, rtt) }
}

fn policed(megabits: u64, rtt: u64, bucket: usize) -> Path {
    Path { policed: true, queue: bucket, ..Path::bottleneck(megabits, rtt) }
}

/// Nothing but a rate, a round trip and a queue.
pub fn clean() -> Vec<Course> {
    vec![
        Course::new("100 Mbit/s 50 ms", queued(100, 50, 100)).floor(92, 0.1, 25),
        Course::new("gigabit 100 ms from cold", queued(1000, 100, 100)).floor(86, 0.1, 85).span(0, 10_000),
        Course::new("gigabit 2 ms", queued(1000, 2, 200)).floor(92, 0.1, 3).span(500, 2500),
        Course::new("2 Mbit/s 80 ms, 4 BDP", queued(2, 80, 400)).floor(92, 0.1, 60),
        Course::new("20 Mbit/s 300 ms", queued(20, 300, 100)).floor(92, 1.2, 310),
        Course::new("queue of 0.1 BDP", queued(100, 50, 10)).floor(86, 0.6, 6),
        Course::new("queue of 4 BDP", queued(100, 50, 400)).floor(92, 0.1, 25),
        Course::new("lumps of 20 ms", Path { lumps: 20 * MS, ..queued(50, 30, 200) }).floor(89, 0.2, 40),
        Course::new("acks in lumps of 20 ms", queued(50, 30, 200))
            .floor(91, 0.2, 40)
            .back(|back| back.lumps = 20 * MS),
    ]
}

/// Losses that nobody's rate causes.
pub fn losses() -> Vec<Course> {
    let burst = |share, length| Path { burst: Some(Burst::of(share, length)), ..queued(50, 50, 100) };
    let fades = Fades { every: 400 * MS, length: 12 * MS };
    let faded = Path { fades: Some(fades), ..queued(50, 50, 100) };
    vec![
        Course::new("loss 1 %", queued(100, 50, 100).with_loss(0.01)).floor(90, 0.2, 25),
        Course::new("loss 5 %", queued(100, 50, 100).with_loss(0.05)).floor(82, 0.2, 25),
        Course::new("loss 10 %", queued(50, 50, 100).with_loss(0.1)).floor(72, 0.5, 25),
        Course::new("loss 2 %, queue of 0.05 BDP", queued(50, 100, 5).with_loss(0.02)).floor(80, 1.5, 7),
        Course::new("bursts of 8, 1.6 %", burst(0.016, 8.0)).floor(66, 0.2, 30),
        Course::new("fades of 12 ms, 3 %", faded).floor(50, 0.5, 30),
        Course::new("loss 2 % both ways, 5 Mbit/s", queued(5, 60, 200).with_loss(0.02))
            .floor(88, 0.5, 60)
            .back(|back| back.loss = 0.02),
    ]
}

/// Packets that come late or early.
pub fn order() -> Vec<Course> {
    let reorder = |share, by| Path { reorder: Some(Reorder { share, by: by * MS }), ..queued(50, 50, 100) };
    let jitter = Path { jitter: 20 * MS, ..queued(50, 50, 100) };
    vec![
        Course::new("reorder 5 % by 10 ms", reorder(0.05, 10)).floor(90, 0.5, 60),
        Course::new("reorder 30 % by 40 ms", reorder(0.3, 40)).floor(85, 1.0, 60),
        Course::new("jitter 20 ms", jitter.clone()).floor(84, 0.5, 50),
        Course::new("jitter 20 ms, loss 2 %", jitter.with_loss(0.02)).floor(68, 0.5, 30),
    ]
}

/// What exceeds the rate is dropped at once.
pub fn policers() -> Vec<Course> {
    vec![
        Course::new("policer, 60 kB", policed(20, 40, 60_000)).floor(86, 4.0, 1).span(2000, 12_000),
        Course::new("policer, 400 kB", policed(20, 40, 400_000)).floor(90, 4.0, 1).span(2000, 12_000),
        Course::new("policer, 2.5 MB", policed(20, 40, 2_500_000)).floor(90, 3.5, 1).span(2000, 12_000),
        Course::new("policer, 60 kB, loss 2 %", policed(20, 40, 60_000).with_loss(0.02))
            .floor(80, 6.5, 1)
            .span(2000, 12_000),
    ]
}

/// Paths that become others.
pub fn changes() -> Vec<Course> {
    vec![
        Course::new("25 -> 100 Mbit/s", queued(25, 50, 400))
            .floor(57, 0.5, 30)
            .changes(&[(4000, Change::Rate(100))])
            .span(4000, 10_000),
        Course::new("100 -> 25 Mbit/s", queued(100, 50, 100))
            .floor(91, 4.0, 210)
            .changes(&[(4000, Change::Rate(25))])
            .span(4000, 10_000),
        Course::new("MTU 1500 -> 1300", queued(50, 50, 100))
            .floor(89, 0.2, 35)
            .changes(&[(4000, Change::Mtu(1300))])
            .span(5000, 8000),
        Course::new("nothing for 300 ms", queued(50, 50, 100))
            .floor(84, 0.5, 35)
            .changes(&[(4000, Change::Up(false)), (4300, Change::Up(true))])
            .span(4000, 8000),
    ]
}

/// Several flows in one queue.
pub fn sharing() -> Vec<Course> {
    let span = |course: Course| course.span(10_000, 20_000);
    vec![
        span(
            Course::new("two of 40 ms", queued(40, 40, 100))
                .floor(90, 1.0, 45)
                .poorest(45)
                .flows(&[Flow::new(Bbr, 0), Flow::new(Bbr, 3000)]),
        ),
        span(
            Course::new("20 and 100 ms", queued(40, 50, 100))
                .floor(90, 1.0, 55)
                .poorest(65)
                .flows(&[Flow::new(Bbr, 0).rtt(20), Flow::new(Bbr, 0).rtt(100)]),
        ),
        span(
            Course::new("20 and 100 ms, 4 BDP", queued(40, 50, 400))
                .floor(90, 1.0, 130)
                .poorest(18)
                .flows(&[Flow::new(Bbr, 0).rtt(20), Flow::new(Bbr, 2000).rtt(100)]),
        ),
        span(Course::new("four, one by one", queued(40, 40, 100)).floor(90, 3.0, 45).poorest(30).flows(&[
            Flow::new(Bbr, 0),
            Flow::new(Bbr, 1000),
            Flow::new(Bbr, 2000),
            Flow::new(Bbr, 3000),
        ])),
        span(
            Course::new("BBR, then CUBIC", queued(40, 40, 100))
                .floor(91, 1.0, 45)
                .poorest(45)
                .flows(&[Flow::new(Bbr, 0), Flow::new(Cubic, 2000)]),
        ),
        span(
            Course::new("CUBIC, then BBR", queued(40, 40, 100))
                .floor(91, 1.0, 45)
                .poorest(40)
                .flows(&[Flow::new(Cubic, 0), Flow::new(Bbr, 2000)]),
        ),
        span(
            Course::new("BBR and CUBIC, 4 BDP", queued(40, 40, 400))
                .floor(91, 1.0, 170)
                .poorest(14)
                .flows(&[Flow::new(Bbr, 0), Flow::new(Cubic, 0)]),
        ),
    ]
}

/// All of them.
pub fn all() -> Vec<Course> {
    [clean(), losses(), order(), policers(), changes(), sharing()].concat()
}
