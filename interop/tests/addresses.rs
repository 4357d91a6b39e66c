//! What the kernel says of its interfaces, and who hears it.

use std::net::IpAddr;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use interop::jami::Namespace;
use interop::{Peer, require};
use tokio::task::{spawn_blocking, yield_now};
use tokio::time::{advance, timeout};
use towline_net::{Net as _, Os};

/// Longest wait, by the clock on the wall.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time that interfaces are given to settle, and much less than passes before they are looked at without a word from the kernel.
const SETTLED: Duration = Duration::from_millis(100);
/// How often the runtime looks whether the kernel has said something.
const GLANCES: usize = 100;

#[test]
fn an_address_that_comes_or_goes_is_told_by_the_kernel() -> Result<()> {
    let Some(_) = require(&[Peer::Kernel]) else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let space = Namespace::new("addresses", folder.path())?;
    space.within(|| {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
        runtime.block_on(heard(&space))
    })
}

/// Time passes only where it is told to: nothing is found by looking again after some time.
async fn heard(space: &Namespace) -> Result<()> {
    // It stands still while something is under way elsewhere; after that it runs to the end of what is waited for.
    let (done, wait) = sync_channel::<()>(1);
    spawn_blocking(move || wait.recv_timeout(PATIENCE));
    let mut changes = Os.changes();
    let address = IpAddr::from([192, 0, 2, 7]);
    for (verb, due) in [("add", true), ("del", false)] {
        space.ip(&format!("addr {verb} {address}/24 dev lo"))?;
        for _ in 0..GLANCES {
            yield_now().await;
        }
        advance(SETTLED).await;
        timeout(SETTLED, changes.changed())
            .await
            .with_context(|| format!("addr {verb}: nothing is heard"))?;
        let interfaces = Os.interfaces()?;
        let mut addresses = interfaces.iter().flat_map(|interface| &interface.addresses);
        ensure!(addresses.any(|known| known.addr == address) == due, "addr {verb}: {interfaces:?}");
    }
    drop(done);
    Ok(())
}
