//! The window over all channels, in both directions.

/// New offsets, summed over all channels: how many may be sent, and how many may come.
#[derive(Debug)]
pub(super) struct Credit {
    /// What the peer allows, and what of it was used.
    allowed: u64,
    sent: u64,
    /// What the rest of messages takes that were begun: they can be read only when they are whole, so nothing else may use that up.
    promised: u64,
    /// What was allowed to the peer, what it used, and how much of that holds no memory any more.
    told: u64,
    received: u64,
    consumed: u64,
    budget: u64,
}

impl Credit {
    /// Before the peer's parameters are known: nothing may be sent.
    pub(super) fn new(budget: u64) -> Self {
        Self { allowed: 0, sent: 0, promised: 0, told: budget, received: 0, consumed: 0, budget }
    }

    /// How much more may be sent by a channel that has begun a message of which so much is left.
    #[inline]
    pub(super) fn room(&self, begun: u64) -> u64 {
        (self.allowed - self.sent).saturating_sub(self.promised - begun)
    }

    /// The rest of a channel's message that was begun is another one. Whether that makes room for others.
    #[inline]
    pub(super) fn promise(&mut self, begun: &mut u64, rest: u64) -> bool {
        let before = std::mem::replace(begun, rest);
        self.promised = self.promised - before + rest;
        rest < before
    }

    /// The peer allows so much. Whether that is news.
    pub(super) fn allow(&mut self, max: u64) -> bool {
        let news = max > self.allowed;
        self.allowed = self.allowed.max(max);
        news
    }

    /// So much was used.
    #[inline]
    pub(super) fn on_sent(&mut self, offsets: u64) {
        self.sent += offsets;
        debug_assert!(self.sent <= self.allowed, "no more was sent than the peer allows");
    }

    /// The peer used so much, and so much of what it used before is free again. False if that is more than it may.
    #[inline]
    pub(super) fn on_received(&mut self, received: u64, consumed: u64) -> bool {
        self.received += received;
        self.consumed += consumed;
        self.received <= self.told
    }

    /// Whether the peer should hear of a larger bound: a quarter of the budget is free beyond what it knows.
    #[inline]
    pub(super) fn is_due(&self) -> bool {
        self.consumed + self.budget - self.told >= (self.budget / 4).max(1)
    }

    /// The bound to tell now.
    pub(super) fn tell(&mut self) -> u64 {
        self.told = self.told.max(self.consumed + self.budget);
        self.told
    }
}
