//! The highest delivery rate of this cycle of probing and of the one before.

/// Bytes per second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bandwidth {
    current: u64,
    previous: u64,
}

impl Bandwidth {
    pub(super) fn max(self) -> u64 {
        self.current.max(self.previous)
    }

    pub(super) fn update(&mut self, rate: u64) {
        self.current = self.current.max(rate);
    }

    /// A cycle ended. One without a measurement forgets nothing.
    pub(super) fn advance(&mut self) {
        if self.current > 0 {
            self.previous = std::mem::take(&mut self.current);
        }
    }

    /// The path is another one now.
    pub(super) fn reset(&mut self, rate: u64) {
        *self = Self { current: rate, previous: 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_two_cycles() {
        let mut bandwidth = Bandwidth::default();
        bandwidth.update(100);
        bandwidth.advance();
        bandwidth.advance();
        assert_eq!(bandwidth.max(), 100, "cycles without a sample do not count");
        bandwidth.update(40);
        assert_eq!(bandwidth.max(), 100);
        bandwidth.advance();
        assert_eq!(bandwidth.max(), 40);
        bandwidth.reset(7);
        assert_eq!(bandwidth.max(), 7);
    }
}
