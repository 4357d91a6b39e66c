//! The agent.

mod io;

use std::net::SocketAddr;
use std::time::Instant;

pub use io::{
    Action, CloseReason, Disposition, DropReason, Event, LossReason, PairId, Refused, Role, SelectedPath,
    StreamId,
};

use crate::blob::Description;
use crate::candidate::Candidate;
use crate::config::Config;
use crate::policy::CandidateRefused;
use crate::report::{ConnectError, Report};

/// One side of one ICE session with one component.
#[derive(Debug)]
pub struct Agent {}

#[allow(unused_variables, missing_docs)]
impl Agent {
    pub fn new(config: Config, role: Role, now: Instant, seed: [u8; 32]) -> Self {
        unimplemented!()
    }
    /// False when it duplicates another, or there are too many, or it is of another component.
    pub fn add_local(&mut self, now: Instant, candidate: Candidate) -> bool {
        unimplemented!()
    }
    pub fn local_description(&self) -> Description {
        unimplemented!()
    }
    /// Candidates refused by the policy, in order, with the reason.
    pub fn set_remote(&mut self, now: Instant, remote: Description) -> Vec<(Candidate, CandidateRefused)> {
        unimplemented!()
    }
    pub fn add_remote_candidate(
        &mut self,
        now: Instant,
        candidate: Candidate,
    ) -> Result<(), CandidateRefused> {
        unimplemented!()
    }
    pub fn end_of_remote_candidates(&mut self, now: Instant) {
        unimplemented!()
    }
    pub fn handle_udp(
        &mut self,
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
        packet: &[u8],
    ) -> Disposition {
        unimplemented!()
    }
    pub fn handle_tcp_accepted(
        &mut self,
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<StreamId, Refused> {
        unimplemented!()
    }
    pub fn handle_tcp_connected(&mut self, now: Instant, stream: StreamId, local: SocketAddr) {
        unimplemented!()
    }
    pub fn handle_tcp_failed(&mut self, now: Instant, stream: StreamId, error: ConnectError) {
        unimplemented!()
    }
    pub fn handle_tcp_closed(&mut self, now: Instant, stream: StreamId) {
        unimplemented!()
    }
    /// One RFC 4571 payload.
    pub fn handle_tcp_frame(&mut self, now: Instant, stream: StreamId, payload: &[u8]) -> Disposition {
        unimplemented!()
    }
    /// The limit for the decoder of a stream: small until the peer has authenticated.
    pub fn frame_limit(&self, stream: StreamId) -> usize {
        unimplemented!()
    }
    pub fn poll_action(&mut self) -> Option<Action> {
        unimplemented!()
    }
    pub fn poll_event(&mut self) -> Option<Event> {
        unimplemented!()
    }
    pub fn poll_timeout(&self) -> Option<Instant> {
        unimplemented!()
    }
    pub fn handle_timeout(&mut self, now: Instant) {
        unimplemented!()
    }
    pub fn report(&self) -> Report {
        unimplemented!()
    }
    pub fn role(&self) -> Role {
        unimplemented!()
    }
    pub fn selected(&self) -> Option<SelectedPath> {
        unimplemented!()
    }
}
