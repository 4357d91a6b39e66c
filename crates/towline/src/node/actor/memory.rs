//! Which requests were treated, in memory and on disk.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use towline_identity::DeviceId;

use crate::node::context::Context;
use crate::signal::{Treated, save_treated};

/// A request is on disk this long after it came. Every write takes the whole file, so this bounds what strangers can
/// have us write; what came later than that before a crash is treated again.
const SAVE_AFTER: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Memory {
    treated: Treated,
    /// When what has changed is to be on disk.
    save_at: Option<Instant>,
    /// One write at most.
    saving: JoinSet<()>,
}

impl Memory {
    pub(super) fn new(treated: Treated) -> Self {
        Self { treated, save_at: None, saving: JoinSet::new() }
    }

    pub(super) fn contains(&self, sender: DeviceId, id: u64, is_answer: bool) -> bool {
        self.treated.contains(sender, id, is_answer)
    }

    pub(super) fn insert(&mut self, now: Instant, sender: DeviceId, id: u64, is_answer: bool) {
        self.treated.insert(now, sender, id, is_answer);
        if !is_answer {
            self.save_at.get_or_insert(now + SAVE_AFTER);
        }
    }

    /// Ready when it is time to save. Cancel safe.
    pub(super) async fn due(&mut self) {
        while self.saving.join_next().await.is_some() {}
        match self.save_at {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
    }

    /// Begins to save.
    pub(super) fn save(&mut self, ctx: &Context) {
        self.save_at = None;
        let Some(path) = ctx.config.treated_path.clone() else { return };
        let content = self.treated.encode(towline_net::now(), ctx.net.unix_time());
        self.saving.spawn(ctx.net.offload(move || save_treated(&path, &content)));
    }

    /// Saves what has not been.
    pub(super) async fn finish(&mut self, ctx: &Context) {
        while self.saving.join_next().await.is_some() {}
        if self.save_at.is_some() {
            self.save(ctx);
        }
        while self.saving.join_next().await.is_some() {}
    }
}
