//! What a peer can say that has the keys and breaks the rules.

use std::time::Instant;

use super::{
    Connection,
    packet::{begin, seal},
};
use crate::{ChannelId, crypto::ChannelSeal, link::Content};

impl Connection {
    /// Seals this plaintext as the next packet of a channel on the first link; `None` before there are keys. Whatever the
    /// peer answers concerns a channel that this side knows nothing of.
    pub(crate) fn forge(&mut self, now: Instant, channel: ChannelId, plaintext: &[u8]) -> Option<Vec<u8>> {
        let protection = self.protection.as_mut()?;
        let place = self.links.iter().map(|(place, _)| place).next()?;
        let link = self.links.at(place);
        let mut packet = Vec::new();
        let start = begin(&mut packet, false);
        packet.extend_from_slice(plaintext);
        let mut own = ChannelSeal::new(channel);
        let keys = if channel == ChannelId::CONTROL { &mut protection.seal } else { &mut own };
        let length = seal(now, &protection.sealer, keys, channel, link, &mut packet, start, &[]).ok()?;
        link.on_sent(now, length as u32, false, Content::EMPTY);
        Some(packet)
    }
}
