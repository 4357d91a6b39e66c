//! Who begins handshakes and never completes one, from addresses of its own.

use std::{sync::Arc, time::Instant};

use towline_channeler::{Config, Endpoint, EndpointLimits, Handled, Peer, Route};

use crate::support::{
    program::UNIX_TIME,
    world::{endpoint, key},
};

fn home(number: u8) -> Route {
    Route::datagram(([198, 51, 100, number], 9).into())
}

/// Begins a handshake as whoever is at `home`, shows a cookie if asked for one, and says no more than the first packet. Whether
/// the server took it.
fn begin(server: &mut Endpoint, client: &mut Endpoint, home: Route, now: Instant) -> bool {
    let to = Route::datagram(([198, 51, 100, 200], 9).into());
    let (_, mut connection) = client.connect(now, UNIX_TIME, Peer::Key(key(1).public()), to).unwrap();
    let (mut sent, mut answer) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        sent.clear();
        connection.poll_transmit(now, 1, &mut sent).unwrap();
        match server.handle(now, UNIX_TIME, home, &mut sent, &mut answer) {
            Handled::New(..) => return true,
            Handled::Respond(_) => connection.handle(now, to, None, &mut answer),
            _ => return false,
        }
    }
    panic!("a cookie was not taken");
}

#[test]
fn nobody_takes_all_places_alone() {
    let (limits, now) = (EndpointLimits::default(), Instant::now());
    let config = Arc::new(Config::default());
    let mut server = endpoint(1, &config, 71);
    let mut client = endpoint(0, &config, 72);
    let taken = (0..2000).filter(|_| begin(&mut server, &mut client, home(1), now)).count();
    println!("2000 handshakes of one address: {taken} begun, {:?}", server.counters());
    let most = limits.half_open_without_cookie + limits.half_open_per_address;
    assert!((most - 10..=most).contains(&taken));
    assert!(begin(&mut server, &mut client, home(2), now), "there is room for another");
}

#[test]
fn a_few_addresses_do_not_take_all_places_either() {
    let (limits, now) = (EndpointLimits::default(), Instant::now());
    let config = Arc::new(Config::default());
    let mut server = endpoint(1, &config, 73);
    let mut client = endpoint(0, &config, 74);
    let mut taken = 0;
    for number in 1..=60 {
        while begin(&mut server, &mut client, home(number), now) {
            taken += 1;
        }
    }
    println!("60 addresses take {taken} of {} places", limits.half_open);
    assert!(taken < limits.half_open - 10);
    for number in 100..110 {
        assert!(begin(&mut server, &mut client, home(number), now), "there is room for {number}");
    }
}
