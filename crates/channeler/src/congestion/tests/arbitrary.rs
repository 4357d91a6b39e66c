//! Events in any order with any numbers: nothing panics, no window closes, nothing runs over.

use std::time::{Duration, Instant};

use proptest::{collection::vec, prelude::*};

use crate::congestion::{
    AckSample, Algorithm, Control, Controller, Ledbat, LossSample, MOST_BYTES, Pacer, RateSample,
    RttEstimator,
};

#[derive(Clone, Debug)]
enum Event {
    Wait(u64),
    Sent { bytes: u64, in_flight: u64, app_limited: bool },
    Ack { acked: u64, flight: (u64, u64), rtt: u64, rate: Option<RateSample>, sent: u64, ce: u64 },
    Loss { lost: u64, flight: (u64, u64, u64), persistent: bool, app_limited: bool, sent: u64 },
    Spurious { bytes: u64, sent: u64 },
    Mtu(u16),
}

/// Small numbers, ordinary ones, and the ends of the range.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 0..20_000_u64, 0..1_u64 << 31, Just(u64::MAX), any::<u64>()]
}

/// Nanoseconds up to hours.
fn time() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 0..1_000_u64, 0..100_000_000_u64, 0..20_000_000_000_000_u64]
}

fn rate() -> impl Strategy<Value = RateSample> {
    (number(), time(), any::<bool>(), number(), time(), number(), number()).prop_map(
        |(delivered, interval, app_limited, prior_delivered, rtt, in_flight_at_send, lost)| RateSample {
            delivered,
            interval: Duration::from_nanos(interval),
            app_limited,
            prior_delivered,
            rtt: Duration::from_nanos(rtt),
            in_flight_at_send,
            lost,
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        time().prop_map(Event::Wait),
        (number(), number(), any::<bool>()).prop_map(|(bytes, in_flight, app_limited)| Event::Sent {
            bytes,
            in_flight,
            app_limited
        }),
        (
            number(),
            (number(), number()),
            time(),
            proptest::option::of(rate()),
            time(),
            prop_oneof![Just(0), number()]
        )
            .prop_map(|(acked, flight, rtt, rate, sent, ce)| Event::Ack {
                acked,
                flight,
                rtt,
                rate,
                sent,
                ce
            }),
        (number(), (number(), number(), number()), any::<bool>(), any::<bool>(), time()).prop_map(
            |(lost, flight, persistent, app_limited, sent)| Event::Loss {
                lost,
                flight,
                persistent,
                app_limited,
                sent
            }
        ),
        (number(), time()).prop_map(|(bytes, sent)| Event::Spurious { bytes, sent }),
        any::<u16>().prop_map(Event::Mtu),
    ]
}

fn run(control: &mut dyn Control, start: Instant, mut mtu: u16, events: &[Event]) {
    let mut now = start;
    let mut rtt = RttEstimator::new();
    let mut pacer = Pacer::new(start);
    let mut delivered = 0_u64;
    for event in events {
        let ago = |time: u64| now.checked_sub(Duration::from_nanos(time)).unwrap_or(start);
        match *event {
            Event::Wait(time) => now += Duration::from_nanos(time),
            Event::Sent { bytes, in_flight, app_limited } => {
                control.on_sent(now, bytes, in_flight, app_limited);
                pacer.on_sent(bytes);
            }
            Event::Ack { acked, flight, rtt: time, rate, sent, ce } => {
                rtt.update(now, Duration::from_nanos(time), Duration::from_nanos(sent));
                delivered = delivered.saturating_add(acked);
                control.on_ack(&AckSample {
                    now,
                    acked,
                    in_flight: flight.0,
                    prior_in_flight: flight.1,
                    rtt: &rtt,
                    rate,
                    delivered,
                    largest_sent: ago(sent),
                    ecn_ce: ce,
                });
            }
            Event::Loss { lost, flight, persistent, app_limited, sent } => control.on_loss(&LossSample {
                now,
                lost,
                largest_sent: ago(sent),
                in_flight: flight.0,
                persistent,
                in_flight_at_send: flight.1,
                lost_since_sent: flight.2,
                app_limited,
            }),
            Event::Spurious { bytes, sent } => control.on_spurious_loss(now, bytes, ago(sent)),
            Event::Mtu(value) => {
                mtu = value;
                control.on_mtu(mtu);
            }
        }
        let window = control.window();
        assert!(window >= u64::from(mtu), "a packet always fits: {window} of {mtu}");
        assert!(window <= MOST_BYTES, "{window}");
        if let Some(rate) = control.pacing_rate() {
            assert!(rate > 0);
            if let Err(again) = pacer.allow(now, u64::from(mtu), rate, mtu) {
                assert!(again > now);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn controllers_stand_everything(events in vec(event(), 1..200), seed: u64, mtu: u16) {
        let start = Instant::now() + Duration::from_hours(1);
        let mtu = mtu.max(1);
        run(&mut Controller::new(Algorithm::Bbr, start, mtu, seed), start, mtu, &events);
        run(&mut Controller::new(Algorithm::Cubic, start, mtu, seed), start, mtu, &events);
        run(&mut Ledbat::new(start, mtu), start, mtu, &events);
    }
}
