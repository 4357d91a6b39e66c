//! Many connections and channels in a row leave nothing behind.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use interop::eventually;
use interop::jami::{Lab, Steps};
use tokio::runtime::Handle;

use crate::ours::{LIMIT, Ours, Setup, account_of};

const CONNECTS: u32 = 100;
const CHANNELS: u32 = 1000;
/// For all the channels: a few hundred milliseconds are enough for a daemon that does not nap.
const PATIENCE: Duration = Duration::from_mins(1);

/// What our process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Holdings {
    files: usize,
    tasks: usize,
    /// Resident memory in KiB.
    memory: usize,
}

impl Holdings {
    fn now() -> Result<Self> {
        let files = std::fs::read_dir("/proc/self/fd")?.count();
        let status = std::fs::read_to_string("/proc/self/status")?;
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        let memory = memory.trim().trim_end_matches(" kB").parse()?;
        Ok(Self { files, tasks: Handle::current().metrics().num_alive_tasks(), memory })
    }
}

#[test]
fn a_hundred_connects_and_a_thousand_channels() -> Result<()> {
    Lab::run(|lab| {
        Box::pin(async move {
            let steps = Steps::default();
            let mut daemon = lab.jamid("a").await?;
            daemon.add_account(&[]).await?;
            let us = Ours::start(lab, Setup::default()).await?;
            us.befriend(&daemon).await?;
            let node = us.account.node();
            let theirs = us.device_of(account_of(&daemon)?).await?;

            let mut times = Vec::new();
            let mut before = None;
            for round in 0..=CONNECTS {
                let begun = Instant::now();
                let connection = tokio::time::timeout(LIMIT, node.dial(theirs)).await??;
                times.push(begun.elapsed());
                drop(connection);
                node.close_with(theirs).await;
                if round == 0 {
                    // What is made once is there now.
                    settled(&us).await?;
                    before = Some(Holdings::now()?);
                }
            }
            let before = before.context("there was a first round")?;
            times.remove(0);
            times.sort_unstable();
            let total: Duration = times.iter().sum();
            steps.say(format_args!(
                "{CONNECTS} connects: {} ms in the middle, {} ms the slowest, {:.1} s in all",
                times[times.len() / 2].as_millis(),
                times[times.len() - 1].as_millis(),
                total.as_secs_f64()
            ));
            check(&steps, &us, before).await?;

            let begun = Instant::now();
            node.dial(theirs).await?;
            for _ in 0..CHANNELS {
                ensure!(
                    !us.try_channel(theirs, "nc://localhost:22").await?,
                    "the daemon has no such channel"
                );
            }
            steps.say(format_args!("{CHANNELS} channels refused in {} ms", begun.elapsed().as_millis()));
            ensure!(begun.elapsed() < PATIENCE, "the daemon naps between channels");
            let begun = Instant::now();
            for _ in 0..CHANNELS {
                ensure!(us.try_channel(theirs, "sip").await?, "the daemon takes this one");
            }
            steps.say(format_args!("{CHANNELS} channels accepted in {} ms", begun.elapsed().as_millis()));
            let stats = node.established();
            ensure!(stats.len() == 1, "one connection for all of them: {}", stats.len());
            node.close_with(theirs).await;
            check(&steps, &us, before).await?;

            // The daemon is as it was, too.
            us.texts.send(account_of(&daemon)?, "text/plain", "still there?").await?;
            us.account.shutdown().await;
            Ok(())
        })
    })
}

/// Waits until the connections have ended; the daemon may come back by itself, as contacts do.
async fn settled(us: &Ours) -> Result<()> {
    eventually("no connections", async || {
        let connections = us.account.node().connections().await;
        ensure!(connections.is_empty(), "{connections:?}");
        Ok(())
    })
    .await
}

async fn check(steps: &Steps, us: &Ours, before: Holdings) -> Result<()> {
    settled(us).await?;
    let after = eventually("as much as before", async || {
        let after = Holdings::now()?;
        ensure!(after.files <= before.files && after.tasks <= before.tasks, "{before:?}, then {after:?}");
        Ok(after)
    });
    let after = after.await?;
    steps.say(format_args!("before: {before:?}, after: {after:?}"));
    // The allocator keeps some; a leak of a connection's buffers would be tens of MiB.
    ensure!(after.memory < before.memory + 16 * 1024, "memory: {before:?}, then {after:?}");
    Ok(())
}
