//! A question in a datagram, until it is answered.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use towline_net::{Net, UdpBind};

/// Waits after each transmission: 3.75 s in all. RFC 6886 section 3.1 begins with 250 ms, too, and RFC 6887 section 8.1.1 lets
/// a client that has other ways give up early.
const WAITS: [Duration; 4] =
    [Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// Longest answer that is read: PCP's limit is the greatest.
const MAX_ANSWER: usize = crate::pcp::MAX_LEN + 4;

/// Asks `server` from the address `local` of ours. Datagrams of others, and those that do not answer the question, are passed
/// over. `None`: there was no answer. Cancel safe.
pub(crate) async fn ask(
    net: &dyn Net,
    local: IpAddr,
    server: SocketAddr,
    question: &[u8],
    answers: impl Fn(&[u8]) -> bool,
) -> io::Result<Option<Vec<u8>>> {
    let socket = net.bind_udp(&UdpBind::new(SocketAddr::new(local, 0)))?;
    let mut buffer = vec![0; MAX_ANSWER];
    for wait in WAITS {
        socket.send(question, server).await?;
        let answer = async {
            loop {
                let received = socket.recv(&mut buffer).await?;
                if received.from == server && answers(&buffer[..received.len]) {
                    return io::Result::Ok(received.len);
                }
            }
        };
        if let Ok(len) = tokio::time::timeout(wait, answer).await {
            let len = len?;
            buffer.truncate(len);
            return Ok(Some(buffer));
        }
    }
    Ok(None)
}
