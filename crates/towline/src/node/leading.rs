//! The DHT by a relay, where no datagram leaves the network or none comes back: the nodes of the DHT speak nothing but UDP, and
//! without them nobody is found.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use towline_dht::node::{PerFamily, Status};

use super::context::Context;

/// Silence of the DHT that is waited for: its nodes answer within a second.
const PATIENCE: Duration = Duration::from_secs(3);
/// Time before relays are asked again, if that did not help. Another network ends it.
const AGAIN: Duration = Duration::from_secs(30);

/// Has the DHT take the way by a relay whenever nothing is heard of it otherwise. Ends with the DHT.
pub(super) async fn lead(ctx: Arc<Context>) {
    let mut status = ctx.dht.watch_status();
    let mut changes = ctx.net.changes();
    while status.wait_for(|status| !heard(*status)).await.is_ok() {
        match timeout(PATIENCE, status.wait_for(|status| heard(*status))).await {
            Ok(Ok(_)) => continue,
            Ok(Err(_)) => return,
            Err(_) => {}
        }
        if let Some(socket) = ctx.means.relayed_socket().await {
            let led = ctx.dht.detour(Box::new(socket)).await;
            if led.is_err() || timeout(PATIENCE, status.wait_for(|status| heard(*status))).await.is_ok() {
                continue;
            }
        }
        // Nothing is to be done if it is over before: then it is another network.
        let _ = timeout(AGAIN, changes.changed()).await;
    }
}

/// Whether a node of the DHT has answered.
fn heard(status: PerFamily<Status>) -> bool {
    status.v4.max(status.v6) == Status::Connected
}
