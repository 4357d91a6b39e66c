//! What a device has around it: its network, the DHT, servers, its clock.

use super::dates::Span;
use crate::dht::Vitals;
use crate::node::context::Context;
use crate::path::HostAddresses;

/// See the module. Empty once the node is gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Surroundings {
    /// Addresses that others may reach this host at; `None` if that is not known.
    pub(super) addresses: Option<usize>,
    pub(super) dht: Vitals,
    /// Our clock, in seconds since 1970.
    pub(super) clock: i64,
    /// When our own certificates count.
    pub(super) span: Option<Span>,
    /// Our own certificate is revoked, as far as we know.
    pub(super) revoked: bool,
    /// STUN servers and relays are configured.
    pub(super) servers: bool,
}

impl Surroundings {
    pub(crate) fn look(ctx: &Context) -> Self {
        let chain = ctx.dht.identity().map(|identity| identity.chain());
        let addresses = ctx.net.interfaces().ok().map(|interfaces| {
            let up = interfaces.iter().filter(|interface| interface.up);
            let addresses = up.flat_map(|interface| &interface.addresses);
            let on_loopback = ctx.config.addresses == HostAddresses::Loopback;
            addresses.filter(|address| address.addr.is_loopback() == on_loopback).count()
        });
        let reach = &ctx.config.reach;
        Self {
            addresses,
            dht: ctx.dht.vitals(),
            clock: i64::try_from(ctx.net.unix_time().as_secs()).unwrap_or(i64::MAX),
            span: chain.map(Span::of),
            revoked: chain.is_some_and(|chain| ctx.config.revocations.check(chain).is_err()),
            servers: !reach.stun.is_empty() || !reach.relays.is_empty(),
        }
    }
}
