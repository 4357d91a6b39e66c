//! Many datagrams with one call, on the machine.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::{
    io::IoSliceMut,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::time::timeout;
use towline_net::{Arrival, Burst, Ecn, Net, Os, UdpBind, UdpSocket};

const PATIENCE: Duration = Duration::from_secs(10);

fn bind(local: IpAddr, dont_fragment: bool) -> Box<dyn UdpSocket> {
    Os.bind_udp(&UdpBind { dont_fragment, ..UdpBind::new((local, 0).into()) }).unwrap()
}

/// Datagrams of 1200 bytes and a shorter one, each with bytes of its own.
fn payload() -> Vec<u8> {
    (0..20 * 1200 + 300_u32).map(|at| (at / 1200) as u8).collect()
}

/// Receives until `count` datagrams have come.
async fn receive(socket: &dyn UdpSocket, count: usize) -> Vec<(Arrival, Vec<u8>)> {
    let mut buffers = vec![vec![0; 65_535]; 4];
    let mut received = Vec::new();
    while received.len() < count {
        let mut bufs: Vec<_> = buffers.iter_mut().map(|buf| IoSliceMut::new(buf)).collect();
        let mut arrivals = [Arrival::none(); 4];
        let filled = timeout(PATIENCE, socket.recv_batch(&mut bufs, &mut arrivals)).await.unwrap().unwrap();
        for (arrival, buf) in arrivals.iter().zip(&mut buffers).take(filled) {
            received.extend(arrival.datagrams(buf).map(|datagram| (*arrival, datagram.to_vec())));
        }
    }
    received
}

/// From every kind of socket to every kind, over both families.
#[tokio::test]
async fn a_burst_arrives_as_datagrams() {
    for local in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        for (sends, receives) in [(true, true), (true, false), (false, true), (false, false)] {
            let (from, to) = (bind(local, sends), bind(local, receives));
            let payload = payload();
            let burst = Burst {
                payload: &payload,
                segment: Some(1200),
                to: to.local_addr(),
                from: None,
                ecn: Some(Ecn::Ect0),
            };
            if from.max_segments() >= 21 {
                from.send_batch(&burst).await.unwrap();
            } else {
                for payload in payload.chunks(1200) {
                    from.send_batch(&Burst { payload, segment: None, ..burst }).await.unwrap();
                }
            }
            let received = receive(&*to, 21).await;
            for (datagram, (arrival, bytes)) in payload.chunks(1200).zip(&received) {
                assert_eq!(bytes, datagram);
                assert_eq!(arrival.from, from.local_addr());
                if sends && receives && cfg!(target_os = "linux") {
                    assert_eq!((arrival.to, arrival.ecn), (Some(local), Some(Ecn::Ect0)));
                }
            }
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn marks_and_addresses_are_those_that_were_asked_for() {
    let any = Os
        .bind_udp(&UdpBind { dont_fragment: true, ..UdpBind::new((Ipv4Addr::UNSPECIFIED, 0).into()) })
        .unwrap();
    let to = bind(Ipv4Addr::LOCALHOST.into(), true);
    let source = IpAddr::from([127, 0, 0, 9]);
    for ecn in [Some(Ecn::Ce), Some(Ecn::Ect1), None] {
        let burst = Burst { payload: b"x", segment: None, to: to.local_addr(), from: Some(source), ecn };
        any.send_batch(&burst).await.unwrap();
        let (arrival, _) = receive(&*to, 1).await[0];
        assert_eq!((arrival.ecn, arrival.from.ip()), (ecn, source));
    }
}

#[tokio::test]
async fn joined_datagrams_can_be_had_one_by_one() {
    let local = Ipv4Addr::LOCALHOST.into();
    let (from, to) = (bind(local, true), bind(local, true));
    for payload in payload().chunks(1200) {
        from.send(payload, to.local_addr()).await.unwrap();
    }
    let mut buf = [0; 2000];
    for datagram in payload().chunks(1200) {
        let received = timeout(PATIENCE, to.recv(&mut buf)).await.unwrap().unwrap();
        assert_eq!((&buf[..received.len], received.from), (datagram, from.local_addr()));
    }
    // What is longer than the buffer is cut off, as ever.
    from.try_send(&[1; 100], to.local_addr()).unwrap();
    assert_eq!(timeout(PATIENCE, to.recv(&mut buf[..10])).await.unwrap().unwrap().len, 10);
}

#[tokio::test]
async fn refusals_and_excess_are_losses() {
    let local = Ipv4Addr::LOCALHOST.into();
    let (socket, gone) = (bind(local, true), bind(local, true));
    let nobody = gone.local_addr();
    drop(gone);
    let burst = |payload, to| Burst { payload, segment: None, to, from: None, ecn: None };
    let (long, nowhere) = (vec![0; 70_000], SocketAddr::from((Ipv6Addr::LOCALHOST, 9)));
    socket.send_batch(&burst(b"hello?", nobody)).await.unwrap();
    socket.send_batch(&burst(&long, nobody)).await.unwrap();
    socket.send_batch(&burst(b"hello?", nowhere)).await.unwrap();
    socket.send_batch(&burst(b"me", socket.local_addr())).await.unwrap();
    assert_eq!(receive(&*socket, 1).await[0].1, b"me");
}
