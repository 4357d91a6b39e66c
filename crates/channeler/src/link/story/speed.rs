//! What a packet costs.

use std::time::Instant;

use super::*;

/// Run with `--run-ignored all --no-capture` and an optimised profile: nanoseconds per packet.
#[test]
#[ignore = "a measurement"]
fn nanoseconds_per_packet() {
    let mut now = Instant::now();
    let [mut a, mut b] = Story::new(&Config::default()).ends.map(|end| end.link);
    let mut out = Outcome::default();
    let (mut sending, mut receiving, mut acking, mut packets) =
        (Duration::ZERO, Duration::ZERO, Duration::ZERO, 0);
    let mut buffer = Vec::with_capacity(2000);
    for _ in 0..100_000 {
        now += Duration::from_micros(200);
        let mut pns = [0; 16];
        let start = Instant::now();
        for pn in &mut pns {
            *pn = a.next_pn();
            let _ = std::hint::black_box(a.can_send(now, 1452, Class::Normal));
            a.on_sent(now, 1452, true, Content { channel: 1, len: 1400, ..Content::EMPTY });
        }
        sending += start.elapsed();
        let start = Instant::now();
        for pn in pns {
            let _ = std::hint::black_box(b.on_packet(now, pn, true, Some(Ecn::Ect0), 1452));
        }
        receiving += start.elapsed();
        buffer.clear();
        let start = Instant::now();
        b.write_ack(now, &mut buffer, 100, LinkId(0));
        b.on_sent(now, 60, false, Content::EMPTY);
        let Some(Ok(Message::Ack(ack))) = Messages(&buffer).next() else { panic!("an ACK") };
        a.on_ack(now, &ack, &mut out).unwrap();
        out.clear();
        let _ = std::hint::black_box(a.poll_timeout());
        acking += start.elapsed();
        packets += 16;
    }
    let per = |time: Duration| time.as_nanos() as f64 / f64::from(packets);
    println!(
        "link is {} bytes; per packet: can_send + on_sent {:.1} ns, on_packet {:.1} ns, write_ack + on_ack {:.1} ns",
        size_of::<Link>(),
        per(sending),
        per(receiving),
        per(acking)
    );
}
