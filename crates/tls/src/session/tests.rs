//! What can be seen or set from inside only.

use towline_identity::{GenerateOptions, Identity, KeySize};

use super::*;
use crate::Options;

fn pair() -> [Session; 2] {
    let generate = || {
        let options = GenerateOptions { key_size: KeySize::Rsa2048, ..GenerateOptions::new(1_800_000_000) };
        Identity::generate(&options).unwrap()
    };
    let (alice, bob) = (generate(), generate());
    let config = |identity| Config::new(identity, Options::default()).unwrap();
    let mut client = Session::client(&config(&alice), bob.device_id()).unwrap();
    let mut server = Session::server(&config(&bob), alice.device_id()).unwrap();
    for _ in 0..3 {
        pass(&mut client, &mut server);
        pass(&mut server, &mut client);
    }
    assert!(client.is_established() && server.is_established());
    [client, server]
}

fn pass(from: &mut Session, to: &mut Session) {
    let mut wire = Vec::new();
    from.poll_transmit(&mut wire);
    let used = to.receive(&mut wire, &mut |_| panic!("no data yet")).unwrap();
    assert_eq!(used, wire.len());
}

fn wear_out_after(session: &mut Session, uses: u64) {
    let State::Established(Records::Tls13(traffic), _) = &mut session.state else {
        panic!("TLS 1.3 is what two sessions speak")
    };
    traffic.set_key_uses(uses);
}

#[test]
fn worn_out_keys_are_changed() {
    for uses in [1, 2, 3, 7] {
        let [mut client, mut server] = pair();
        wear_out_after(&mut client, uses);
        wear_out_after(&mut server, uses);
        let (mut data_records, mut updates) = (0, 0);
        for len in [1, 16_384, 100_000, 5, 200_000, 49_152] {
            let data: Vec<u8> = (0..len).map(|index| (index / 3) as u8).collect();
            for slice in [true, false] {
                for server_sends in [false, true] {
                    let (from, to) =
                        if server_sends { (&mut server, &mut client) } else { (&mut client, &mut server) };
                    let mut wire = vec![0; from.sealed_len(len)];
                    if slice {
                        let written = from.seal(&data, &mut wire).unwrap();
                        wire.truncate(written);
                    } else {
                        wire.clear();
                        from.send(&data, &mut wire).unwrap();
                    }
                    let records = len.div_ceil(MAX_FRAGMENT_LEN);
                    data_records += records as u64;
                    let beside = wire.len() - len - 22 * records;
                    assert_eq!(beside % 27, 0, "key updates are 27 bytes");
                    updates += beside as u64 / 27;
                    let mut heard = Vec::new();
                    let used = to.receive(&mut wire, &mut |data| heard.extend_from_slice(data));
                    assert_eq!(used, Ok(wire.len()));
                    assert_eq!(heard, data);
                }
            }
        }
        // Each end's last key may have some uses left; a client's key served nothing before.
        assert!((data_records / uses - 2..=data_records / uses).contains(&updates), "{updates} updates");
    }
}

#[test]
fn an_established_session_keeps_no_buffers() {
    for session in pair() {
        assert_eq!((session.pending.capacity(), session.held.capacity()), (0, 0));
    }
}
