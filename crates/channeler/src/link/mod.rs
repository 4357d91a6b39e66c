//! One link: a way to the peer, with its own packet numbers, acknowledgements, loss detection and congestion control.
//!
//! The connection asks [`Link::can_send`], builds the packet with [`Link::next_pn`], and says [`Link::on_sent`] with what
//! the packet carried ([`Content`]). Acknowledgements ([`Link::on_ack`]) and timers ([`Link::on_timeout`]) give the contents
//! back, as arrived or lost. In the other direction [`Link::on_packet`] counts what arrives, and [`Link::write_ack`] says so.
//!
//! Loss detection follows RFC 9002, with bounds that adapt to reordering. A probe timeout counts from the oldest packet
//! that should have been acknowledged, and not from the newest that was sent, so that a link that died is noticed even
//! though the program goes on to write: it is suspect at the first probe timeout and dead at the second, after three times
//! as long (`spec/channeler.md` section 9.4).

mod acks;
mod content;
mod ecn;
mod keepalive;
mod loss_rate;
mod mtu;
mod paths;
mod permit;
mod received;
mod receiving;
mod reorder;
mod sending;
mod sent;
#[cfg(test)]
mod story;
mod timers;
mod validation;

use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng, rngs::StdRng};

pub(crate) use self::{
    content::{Content, Outcome},
    permit::{Arrival, Class, LinkTimeout, Permit},
};
use self::{
    ecn::EcnCheck, keepalive::KeepAlive, loss_rate::LossRate, mtu::MtuSearch, received::Received,
    reorder::Reorder, sent::SentRing, validation::Validation,
};
use crate::{
    Algorithm, Config, ConnectionId, LinkId, LinkReport, LinkStatus, Route, Side,
    congestion::{Control, Controller, Ledbat, Pacer, RateTracker, RttEstimator},
};

/// Packets that are remembered at once; beyond it nothing but acknowledgements and probes leaves. Acknowledgements of small packets may
/// take this many at 1 Gbit/s and 500 ms.
const MAX_SENT: u64 = 1 << 16;
/// The same for acknowledgements: that the peer acknowledges nothing does not mean that it needs none.
const MAX_SENT_ACKS: u64 = 2 * MAX_SENT;

/// One link of a connection.
#[derive(Debug)]
pub(crate) struct Link {
    id: LinkId,
    route: Route,
    our_cid: ConnectionId,
    peer_cid: ConnectionId,
    status: LinkStatus,
    /// Whether the driver takes packets.
    ready: bool,
    stream: bool,
    ecn_wanted: bool,
    algorithm: Algorithm,
    max_ack_delay: Duration,
    peer_max_ack_delay: Duration,
    rng: StdRng,

    // Sending.
    sent: SentRing,
    /// Every number below was acknowledged or is lost; those above may be in flight.
    first_flying: u64,
    largest_acked: Option<u64>,
    /// The number that is passed over next, the one that was last, and the bound of the next step.
    skip_at: u64,
    skipped: Option<u64>,
    skip_step: u64,
    /// Packets declared lost that are still remembered.
    lost_remembered: u32,
    /// Packets below were given up because the link was: their late arrival says nothing about reordering.
    abandoned_below: u64,
    /// Bytes, and packets, that want an acknowledgement and have neither that nor were declared lost.
    in_flight: u64,
    eliciting: u32,
    background_in_flight: u64,
    /// The acknowledgement that was written for the packet with this number told everything up to the second.
    ack_written: Option<(u64, u64)>,
    /// Whether the packet of the acknowledgement written last should elicit one, and when the next may.
    ack_wants_ack: bool,
    heard_at: Option<Instant>,

    // Timers.
    loss_time: Option<Instant>,
    /// The probe of a packet size that is on its way, and when it counts as lost though nothing else was acknowledged.
    mtu_probe: Option<(u64, Instant)>,
    /// When the oldest packet left that is owed an acknowledgement and later than all acknowledged ones.
    wait_since: Option<Instant>,
    progress_at: Option<Instant>,
    probed_at: Option<Instant>,
    pto_count: u32,
    probes_due: u8,
    /// Since when there are nothing but probes.
    dead_since: Option<Instant>,
    pace_at: Option<Instant>,

    // What is known about the path.
    rtt: RttEstimator,
    rate: RateTracker,
    control: Controller,
    /// The window of what gives way to everything, from the first time that it is asked for.
    background: Option<Box<Ledbat>>,
    pacer: Pacer,
    /// Bytes per second that the last acknowledgements showed.
    delivery_rate: u64,
    reorder: Reorder,
    loss_rate: LossRate,
    mtu: MtuSearch,
    ecn: EcnCheck,
    keepalive: KeepAlive,
    validation: Validation,

    // Receiving.
    received: Received,

    // Totals.
    bytes_sent: u64,
    bytes_received: u64,
}

impl Link {
    /// A link by `route`, which has to be validated unless [`Link::set_validated`] says that it is.
    #[expect(clippy::too_many_arguments, reason = "all of them are told apart by their types")]
    pub(crate) fn new(
        id: LinkId,
        route: Route,
        side: Side,
        our_cid: ConnectionId,
        peer_cid: ConnectionId,
        config: &Config,
        now: Instant,
        seed: [u8; 32],
    ) -> Self {
        let mut rng = StdRng::from_seed(seed);
        let stream = route.is_stream();
        let own = id.0.is_multiple_of(2) == (side == Side::Initiator);
        let mtu = if stream {
            MtuSearch::fixed(config.max_stream_packet)
        } else {
            MtuSearch::new(config.min_mtu, config.max_mtu)
        };
        let challenge = rng.random();
        let control = Controller::new(config.congestion, now, mtu.current(), rng.random());
        let skip_step = 64;
        let skip_at = if stream { u64::MAX } else { rng.random_range(2..skip_step) };
        Self {
            id,
            route,
            our_cid,
            peer_cid,
            status: LinkStatus::Validating,
            ready: true,
            stream,
            algorithm: config.congestion,
            ecn_wanted: config.ecn && !stream,
            max_ack_delay: config.max_ack_delay,
            peer_max_ack_delay: config.max_ack_delay,
            sent: SentRing::default(),
            first_flying: 0,
            largest_acked: None,
            skip_at,
            skipped: None,
            skip_step,
            lost_remembered: 0,
            abandoned_below: 0,
            in_flight: 0,
            eliciting: 0,
            background_in_flight: 0,
            ack_written: None,
            ack_wants_ack: false,
            heard_at: None,
            loss_time: None,
            mtu_probe: None,
            wait_since: None,
            progress_at: None,
            probed_at: None,
            pto_count: 0,
            probes_due: 0,
            dead_since: None,
            pace_at: None,
            rtt: RttEstimator::new(),
            rate: RateTracker::new(now),
            control,
            background: None,
            pacer: Pacer::new(now),
            delivery_rate: 0,
            reorder: Reorder::new(),
            loss_rate: LossRate::default(),
            mtu,
            ecn: EcnCheck::new(config.ecn && !stream),
            keepalive: KeepAlive::new(config.keep_alive, config.idle_timeout, side, now),
            validation: Validation::new(now, own, challenge),
            received: Received::new(stream),
            bytes_sent: 0,
            bytes_received: 0,
            rng,
        }
    }

    pub(crate) fn id(&self) -> LinkId {
        self.id
    }

    #[inline]
    pub(crate) fn route(&self) -> Route {
        self.route
    }

    /// By which packets of the peer name this link.
    pub(crate) fn our_cid(&self) -> ConnectionId {
        self.our_cid
    }

    /// By which packets to the peer name it.
    #[inline]
    pub(crate) fn peer_cid(&self) -> ConnectionId {
        self.peer_cid
    }

    #[inline]
    pub(crate) fn is_stream(&self) -> bool {
        self.stream
    }

    #[inline]
    pub(crate) fn status(&self) -> LinkStatus {
        self.status
    }

    /// Smoothed round trip.
    pub(crate) fn rtt(&self) -> Duration {
        self.rtt.smoothed()
    }

    /// Bytes on their way.
    #[inline]
    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// What the peer said of itself in the handshake: how long it holds acknowledgements back, and the largest datagram
    /// and stream packet that it takes.
    pub(crate) fn set_peer(&mut self, max_ack_delay: Duration, max_datagram: u16, max_stream_packet: u16) {
        self.peer_max_ack_delay = max_ack_delay;
        self.mtu.limit(if self.stream { max_stream_packet } else { max_datagram });
        self.resize();
    }

    /// Silence after which the connection ends.
    pub(crate) fn set_idle_timeout(&mut self, timeout: Duration) {
        self.keepalive.limit(timeout);
    }

    /// A round trip that was measured before the first packet of this link: that of the handshake.
    pub(crate) fn set_rtt(&mut self, now: Instant, rtt: Duration) {
        self.rtt.update(now, rtt, Duration::ZERO);
        self.control.on_first_rtt(rtt);
    }

    /// The driver takes packets, or takes no more.
    pub(crate) fn set_ready(&mut self, ready: bool) {
        self.ready = ready;
    }

    pub(crate) fn report(&self) -> LinkReport {
        LinkReport {
            link: self.id,
            route: self.route,
            status: self.status,
            window: self.window(),
            rate: self.send_rate(),
            rtt: self.rtt.smoothed(),
            queue_delay: self.rtt.smoothed().saturating_sub(self.rtt.min()),
            loss: self.loss_rate.thousandths(),
            mtu: self.mtu.current(),
            bytes_sent: self.bytes_sent,
            bytes_received: self.bytes_received,
        }
    }

    fn set_status(&mut self, status: LinkStatus, out: &mut Outcome) {
        out.status_changed |= self.status != status;
        self.status = status;
    }
}
