//! Packets on their way: a ring indexed by packet number, with one bit per packet for those in flight and one for those
//! declared lost.

use std::time::Instant;

use super::Content;
use crate::congestion::RateStamp;

/// What is remembered of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) time: Instant,
    pub(super) stamp: RateStamp,
    pub(super) content: Content,
    /// Low half of the largest number whose acknowledgement it carried, if `carries_ack`.
    pub(super) ack: u32,
    pub(super) bytes: u16,
    /// Whether the peer owes an acknowledgement.
    pub(super) eliciting: bool,
    pub(super) carries_ack: bool,
    /// Whether it left with ECT(0).
    pub(super) marked: bool,
}

/// The ring. Every number from `base` to `next - 1` has a slot, whose two bits tell its state:
/// in flight, lost, or neither (acknowledged, or skipped).
#[derive(Debug, Default)]
pub(super) struct SentRing {
    /// A power of two of them, at least [`LEAST`], or none.
    slots: Vec<Sent>,
    flying: Vec<u64>,
    lost: Vec<u64>,
    base: u64,
    next: u64,
}

/// Slots that an idle link needs now and then.
const LEAST: usize = 4;

/// Which of the two bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Flying,
    Lost,
}

impl SentRing {
    /// The number of the next packet.
    #[inline]
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The oldest number that has a slot.
    #[inline]
    pub(super) fn base(&self) -> u64 {
        self.base
    }

    /// Slots in use.
    #[inline]
    pub(super) fn len(&self) -> u64 {
        self.next - self.base
    }

    #[inline]
    fn index(&self, pn: u64) -> usize {
        pn as usize & (self.slots.len() - 1)
    }

    /// Takes the packet with the next number.
    #[inline]
    pub(super) fn push(&mut self, sent: Sent) {
        if self.len() == self.slots.len() as u64 {
            self.grow(sent);
        }
        let index = self.index(self.next);
        self.slots[index] = sent;
        self.flying[index / 64] |= 1 << (index % 64);
        self.lost[index / 64] &= !(1 << (index % 64));
        self.next += 1;
    }

    /// Passes a number over: an acknowledgement of it is a lie.
    pub(super) fn skip(&mut self, like: Sent) {
        self.push(like);
        let index = self.index(self.next - 1);
        self.flying[index / 64] &= !(1 << (index % 64));
    }

    #[cold]
    fn grow(&mut self, fill: Sent) {
        let old = self.slots.len();
        let new = (old * 2).max(LEAST);
        let mut slots = vec![fill; new];
        let mut flying = vec![0_u64; new.div_ceil(64)];
        let mut lost = vec![0_u64; new.div_ceil(64)];
        for pn in self.base..self.next {
            let (from, to) = (pn as usize & (old - 1), pn as usize & (new - 1));
            slots[to] = self.slots[from];
            flying[to / 64] |= (self.flying[from / 64] >> (from % 64) & 1) << (to % 64);
            lost[to / 64] |= (self.lost[from / 64] >> (from % 64) & 1) << (to % 64);
        }
        (self.slots, self.flying, self.lost) = (slots, flying, lost);
    }

    /// Gives memory back, if nothing is in the ring.
    pub(super) fn release(&mut self) {
        if self.len() == 0 {
            (self.slots, self.flying, self.lost) = (Vec::new(), Vec::new(), Vec::new());
        }
    }

    /// The packet with this number, which must have a slot.
    #[inline]
    pub(super) fn get(&self, pn: u64) -> &Sent {
        debug_assert!((self.base..self.next).contains(&pn), "packet has a slot");
        &self.slots[self.index(pn)]
    }

    #[inline]
    fn words(&self, state: State) -> &[u64] {
        match state {
            State::Flying => &self.flying,
            State::Lost => &self.lost,
        }
    }

    /// Whether the packet is in this state; never for one without a slot.
    #[inline]
    pub(super) fn is(&self, state: State, pn: u64) -> bool {
        if !(self.base..self.next).contains(&pn) {
            return false;
        }
        let index = self.index(pn);
        self.words(state)[index / 64] >> (index % 64) & 1 == 1
    }

    /// The packet left this state: it was acknowledged or forgotten.
    #[inline]
    pub(super) fn clear(&mut self, state: State, pn: u64) {
        let index = self.index(pn);
        let words = match state {
            State::Flying => &mut self.flying,
            State::Lost => &mut self.lost,
        };
        words[index / 64] &= !(1 << (index % 64));
    }

    /// From in flight to lost.
    #[inline]
    pub(super) fn lose(&mut self, pn: u64) {
        let index = self.index(pn);
        self.flying[index / 64] &= !(1 << (index % 64));
        self.lost[index / 64] |= 1 << (index % 64);
    }

    /// The smallest number in `from..=to` in this state. Looks at 64 packets at a time.
    #[inline]
    pub(super) fn first(&self, state: State, from: u64, to: u64) -> Option<u64> {
        let mut pn = from.max(self.base);
        let end = to.checked_add(1)?.min(self.next);
        let words = self.words(state);
        let bits = self.slots.len().min(64);
        while pn < end {
            let index = self.index(pn);
            let word = words[index / 64] >> (index % 64);
            if word != 0 {
                let found = pn + u64::from(word.trailing_zeros());
                return (found < end).then_some(found);
            }
            pn += (bits - index % 64) as u64;
        }
        None
    }

    /// The numbers in this range that were passed over or are acknowledged already are skipped; the others in this state, ascending.
    #[cfg(test)]
    pub(super) fn iter(
        &self,
        state: State,
        range: std::ops::RangeInclusive<u64>,
    ) -> impl Iterator<Item = u64> + '_ {
        let (mut from, to) = range.into_inner();
        std::iter::from_fn(move || {
            let found = self.first(state, from, to)?;
            from = found + 1;
            Some(found)
        })
    }

    /// Forgets from the oldest on what is acknowledged, and what `forget` says of the rest, up to the first that it keeps.
    #[inline]
    pub(super) fn trim(&mut self, mut forget: impl FnMut(State, &Sent) -> bool) {
        while self.base < self.next {
            let index = self.index(self.base);
            let bit = 1 << (index % 64);
            if self.flying[index / 64] & bit != 0 {
                if !forget(State::Flying, &self.slots[index]) {
                    return;
                }
                self.flying[index / 64] &= !bit;
            } else if self.lost[index / 64] & bit != 0 {
                if !forget(State::Lost, &self.slots[index]) {
                    return;
                }
                self.lost[index / 64] &= !bit;
            }
            self.base += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::congestion::RateTracker;

    fn packet(now: Instant, number: u64) -> Sent {
        Sent {
            time: now,
            stamp: RateTracker::new(now).on_sent(now, 0, 0),
            content: Content { start: number, ..Content::EMPTY },
            ack: 0,
            bytes: 1200,
            eliciting: true,
            carries_ack: false,
            marked: false,
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(u8),
        Skip,
        Ack(u16, u8),
        Lose(u16),
        Forget(u16),
        Release,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (1..80_u8).prop_map(Step::Push),
            1 => Just(Step::Skip),
            4 => (any::<u16>(), any::<u8>()).prop_map(|(at, run)| Step::Ack(at, run)),
            2 => any::<u16>().prop_map(Step::Lose),
            1 => any::<u16>().prop_map(Step::Forget),
            1 => Just(Step::Release),
        ]
    }

    proptest! {
        /// Against a map from number to state.
        #[test]
        fn behaves_as_a_map(steps in proptest::collection::vec(step(), 1..120)) {
            let now = Instant::now();
            let mut ring = SentRing::default();
            let mut model = BTreeMap::new();
            for step in steps {
                let next = ring.next();
                match step {
                    Step::Push(count) => for _ in 0..count {
                        model.insert(ring.next(), State::Flying);
                        ring.push(packet(now, ring.next()));
                    },
                    Step::Skip => ring.skip(packet(now, u64::MAX)),
                    Step::Ack(at, run) if next > 0 => {
                        let low = u64::from(at) % next;
                        let high = low + u64::from(run);
                        for state in [State::Flying, State::Lost] {
                            let found: Vec<_> = ring.iter(state, low..=high).collect();
                            let expected: Vec<_> = model.range(low..=high).filter(|(_, s)| **s == state).map(|(pn, _)| *pn).collect();
                            prop_assert_eq!(&found, &expected);
                            for pn in found {
                                prop_assert_eq!(ring.get(pn).content.start, pn);
                                ring.clear(state, pn);
                                model.remove(&pn);
                            }
                        }
                        ring.trim(|_, _| false);
                    }
                    Step::Lose(at) if next > 0 => {
                        let pn = u64::from(at) % next;
                        if ring.is(State::Flying, pn) {
                            ring.lose(pn);
                            prop_assert_eq!(model.insert(pn, State::Lost), Some(State::Flying));
                        }
                    }
                    Step::Forget(at) if next > 0 => {
                        let below = u64::from(at) % next;
                        ring.trim(|state, sent| state == State::Lost && sent.content.start < below);
                        let first_flying = model.iter().find(|(_, s)| **s == State::Flying).map_or(u64::MAX, |(pn, _)| *pn);
                        model.retain(|pn, state| *state == State::Flying || *pn >= below || *pn > first_flying);
                    }
                    Step::Release => ring.release(),
                    _ => {}
                }
                prop_assert_eq!(ring.first(State::Flying, 0, u64::MAX - 1), model.iter().find(|(_, s)| **s == State::Flying).map(|(pn, _)| *pn));
                if let Some((oldest, _)) = model.first_key_value() {
                    prop_assert!(ring.base() <= *oldest);
                }
            }
        }
    }

    #[test]
    fn small() {
        assert!(size_of::<Content>() <= 32, "{}", size_of::<Content>());
        assert!(size_of::<Sent>() <= 88, "{}", size_of::<Sent>());
    }
}
