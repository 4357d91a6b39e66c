//! What a device has around it: its network, the DHT, servers, its clock.

use super::ServerReport;
use super::dates::Span;
use super::servers::Asked;
use crate::dht::Vitals;
use crate::node::context::Context;
use crate::path::HostAddresses;

/// See the module. Empty once the node is gone.
#[derive(Debug, Clone, Default, PartialEq)]
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
    /// What is known of the servers that are configured.
    pub(super) servers: Vec<ServerReport>,
    /// And what that means.
    pub(super) asked: Vec<Asked>,
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
        let (now, known) = (towline_net::now(), ctx.means.servers());
        Self {
            addresses,
            dht: ctx.dht.vitals(),
            clock: i64::try_from(ctx.net.unix_time().as_secs()).unwrap_or(i64::MAX),
            span: chain.map(Span::of),
            revoked: chain.is_some_and(|chain| ctx.config.revocations.check(chain).is_err()),
            asked: known.iter().map(|server| Asked::of(server, now)).collect(),
            servers: known.iter().map(ServerReport::from).collect(),
        }
    }
}
