//! Puts that stay: a value kept alive on the nodes near its key.

use tokio::sync::watch;

use super::error::PutError;
use super::subscription::{Refused, Standing};

/// What a put achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PutOutcome {
    /// The id of the value: the one it had, or the one drawn for it.
    pub id: u64,
    /// Nodes that say they store it, at least one. They may say so and drop it (`dht.md` 1.5); with
    /// [`PutOptions::read_back`](towline_dht::node::PutOptions::read_back) each was asked for it again.
    pub stored_on: usize,
}

/// How far a put has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnnouncementState {
    Pending,
    Stored { on: usize },
    NotStored,
}

/// A permanent put: the value is renewed on whichever nodes are nearest to its key until this is dropped. Then our own
/// copy is removed, but copies elsewhere live until they expire: the protocol has no delete.
#[derive(Debug)]
#[must_use = "dropping an announcement ends it"]
pub struct Announcement {
    id: u64,
    put: Result<(Standing, watch::Receiver<AnnouncementState>), PutError>,
}

impl Announcement {
    pub(super) fn new(
        id: u64,
        started: Result<(Standing, watch::Receiver<AnnouncementState>), Refused>,
    ) -> Self {
        let put = started.map_err(|refused| match refused {
            Refused::Busy => PutError::Busy,
            Refused::Closed => PutError::Closed,
        });
        Self { id, put }
    }

    pub(super) fn impossible(id: u64, why: PutError) -> Self {
        Self { id, put: Err(why) }
    }

    /// The id of the value.
    pub fn value_id(&self) -> u64 {
        self.id
    }

    /// Waits until a node has stored the value for the first time. Cancel safe.
    ///
    /// There is no limit of time: while the DHT is not connected the announcement waits with it, and it goes out
    /// again each time the connection comes back.
    pub async fn announced(&self) -> Result<PutOutcome, PutError> {
        self.state(|state| matches!(state, AnnouncementState::Stored { .. })).await
    }

    /// Waits until the nodes have stored the value, or there were none that would. Cancel safe.
    pub(super) async fn settled(&self) -> Result<PutOutcome, PutError> {
        self.state(|state| *state != AnnouncementState::Pending).await
    }

    async fn state(&self, wanted: impl FnMut(&AnnouncementState) -> bool) -> Result<PutOutcome, PutError> {
        let (_, state) = self.put.as_ref().map_err(|why| *why)?;
        let mut state = state.clone();
        let state = *state.wait_for(wanted).await.map_err(|_| PutError::Closed)?;
        match state {
            AnnouncementState::Stored { on } => Ok(PutOutcome { id: self.id, stored_on: on }),
            AnnouncementState::Pending | AnnouncementState::NotStored => Err(PutError::NotStored),
        }
    }
}
