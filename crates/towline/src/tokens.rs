//! How often something may be done: some times at once, and then once after each pause.

use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tokens {
    most: u32,
    pause: Duration,
    left: u32,
    /// When the last one was added.
    added: Instant,
}

impl Tokens {
    pub(crate) fn new(most: u32, pause: Duration, now: Instant) -> Self {
        Self { most, pause, left: most, added: now }
    }

    /// When the next may be taken; `None` if at once.
    pub(crate) fn next(&self) -> Option<Instant> {
        (self.left == 0).then(|| self.added + self.pause)
    }

    /// Takes one. False if there is none.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        while self.left < self.most && now.saturating_duration_since(self.added) >= self.pause {
            self.left += 1;
            self.added += self.pause;
        }
        if self.left == self.most {
            self.added = now;
        }
        let there = self.left > 0;
        self.left -= u32::from(there);
        there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_at_once_and_then_one_after_each_pause() {
        let (start, pause) = (Instant::now(), Duration::from_secs(4));
        let mut tokens = Tokens::new(3, pause, start);
        let taken = |tokens: &mut Tokens, at| (0..10).filter(|_| tokens.take(start + pause * at)).count();
        assert_eq!((taken(&mut tokens, 0), tokens.next()), (3, Some(start + pause)));
        assert_eq!(taken(&mut tokens, 1), 1);
        assert_eq!(taken(&mut tokens, 3), 2);
        assert_eq!(taken(&mut tokens, 1000), 3, "they do not pile up");
    }
}
