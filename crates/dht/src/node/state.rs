//! What survives a restart (`dht.md` 2.13).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::Node;
use super::address::canonical;
use super::family::Family;
use crate::persist::{State, StoredValue};
use crate::store::Origin;
use crate::{InfoHash, NodeEntry, Value, types};

impl Node {
    /// Our id, the good nodes (our neighbours first), and the values stored here.
    pub fn export_state(&self, now: Instant) -> State {
        let mut nodes = Vec::new();
        for family in Family::ALL {
            let net = &self.nets[family];
            let mut ids: Vec<InfoHash> = net.table.nodes().copied().collect();
            ids.sort_unstable_by(|a, b| self.id.compare_distance(a, b));
            let good = ids.into_iter().filter_map(|id| Some((id, net.peers.get(&id)?)));
            let good = good.filter(|(_, peer)| peer.is_good(now));
            nodes.extend(good.map(|(id, peer)| NodeEntry { id, address: peer.address }));
        }
        let unix = self.unix_seconds(now);
        let values = self.store.iter().map(|(key, stored)| {
            let left = stored.expires.saturating_duration_since(now).as_secs();
            let expires = unix.saturating_add(left.try_into().unwrap_or(i64::MAX));
            let life = types::expiry(stored.value.value_type()).as_secs();
            let created = expires.saturating_sub(life.try_into().unwrap_or(i64::MAX));
            let storer: Option<SocketAddr> = match stored.origin {
                Origin::Local => None,
                Origin::Remote(address) => Some(address),
            };
            let value = Arc::clone(&stored.value);
            StoredValue { key, value, created: Some(created), expires: Some(expires), storer }
        });
        State { id: self.id, nodes, values: values.collect() }
    }

    /// A value stored here.
    pub fn stored(&self, key: &InfoHash, id: u64) -> Option<Arc<Value>> {
        self.store.value(key, id)
    }

    /// Takes nodes and values of an earlier run in. The id in the state is not taken: give it as
    /// [`Config::node_id`](super::Config::node_id) if it should live on.
    pub fn import_state(&mut self, now: Instant, state: &State) {
        for &NodeEntry { id, address } in &state.nodes {
            // Their answers of the last run may still be let in.
            self.reach.contact(canonical(address).ip(), now);
            self.insert_node(now, id, address);
        }
        let unix = self.unix_seconds(now);
        for stored in &state.values {
            let value = Arc::clone(&stored.value);
            let life: i64 = types::expiry(value.value_type()).as_secs().try_into().unwrap_or(i64::MAX);
            // Of an old file only the order of things is known: such a value gets half a life.
            let created = stored.created.or(stored.expires.map(|at| at.saturating_sub(life)));
            let created = created.unwrap_or(unix.saturating_sub(life / 2));
            let origin = stored.storer.map_or(Origin::Local, Origin::Remote);
            if let Err(refusal) = self.store.put(now, unix, stored.key, value, Some(created), origin) {
                tracing::debug!(key = %stored.key, id = stored.value.id, %refusal, "not restored");
            }
        }
        self.settle(now);
    }
}
