use towline_lab::{Link, World, run};

use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Tries that take so long and succeed or not, each with its time alone. What came of them, and when.
async fn raced(tries: &[(u64, u64, bool)]) -> (Option<Result<usize, usize>>, u64) {
    let begun = towline_net::now();
    let futures = tries.iter().enumerate().map(|(number, &(alone, takes, works))| {
        let outcome = async move {
            tokio::time::sleep(ms(takes)).await;
            if works { Ok(number) } else { Err(number) }
        };
        (ms(alone), outcome)
    });
    let outcome = first_of(futures.collect()).await;
    (outcome, (towline_net::now() - begun).as_millis() as u64)
}

#[test]
fn who_has_a_head_start_is_alone_for_it_and_no_longer() {
    run(1, async |_: World| {
        assert_eq!(raced(&[]).await, (None, 0));
        // In time; too late; failed, and the next begins at once.
        assert_eq!(raced(&[(100, 80, true), (0, 1, true)]).await, (Some(Ok(0)), 80));
        assert_eq!(raced(&[(100, 300, true), (0, 50, true)]).await, (Some(Ok(1)), 150));
        assert_eq!(raced(&[(100, 20, false), (0, 50, true)]).await, (Some(Ok(1)), 70));
        // Nobody has one: all begin at once, but not more than four.
        assert_eq!(raced(&[(0, 90, true), (0, 30, false), (0, 40, true)]).await, (Some(Ok(2)), 40));
        let slow = [(0, 100, false), (0, 100, false), (0, 100, false), (0, 70, false), (0, 5, true)];
        assert_eq!(raced(&slow).await, (Some(Ok(4)), 75));
        assert_eq!(raced(&[(0, 10, false), (50, 20, false), (0, 5, false)]).await, (Some(Err(1)), 20));
    });
}

#[test]
fn addresses_of_both_families_are_tried_by_turns() {
    let list = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
    let found = list(&["[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3]:1", "192.0.2.1:1"]);
    let tried = list(&["[2001:db8::1]:1", "192.0.2.1:1", "[2001:db8::2]:1", "[2001:db8::3]:1"]);
    assert_eq!(alternating(found), tried);
    assert_eq!(alternating(Vec::new()), []);
}

#[test]
fn a_relay_is_not_believed_to_be_where_no_other_could_be_reached() {
    run(2, async |world: World| {
        let host = world.host("alice");
        host.attach(world.internet(), Link::ethernet());
        let own = host.ipv4();
        let relays = Relays::new(Arc::new(host), &[], Vec::new());
        let possible = |server: &str, relayed: &str| {
            relays.is_possible(server.parse().unwrap(), relayed.parse().unwrap())
        };
        assert!(possible("46.0.0.1", "46.0.0.9") && possible("46.0.0.1", "2a00::9"));
        assert!(possible("192.168.1.2", "192.168.1.2") && possible("10.0.0.1", "46.0.0.9"));
        assert!(possible("127.0.0.1", "127.0.0.1") && possible("127.0.0.1", &own.to_string()));
        for lie in
            ["192.168.1.2", "10.0.0.1", "100.64.0.1", "169.254.0.1", "127.0.0.1", "fd00::1", "fe80::1", "::1"]
        {
            assert!(!possible("46.0.0.1", lie), "{lie}");
        }
        assert!(!possible("46.0.0.1", &own.to_string()), "our own address");
        assert!(possible(&own.to_string(), &own.to_string()), "a relay on the same host");
    });
}
