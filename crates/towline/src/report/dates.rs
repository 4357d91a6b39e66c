//! Whose clock is wrong, as far as certificates tell.
//!
//! No connection fails for a date: a device is known by its key. But a wrong clock makes relays refuse credentials that are limited
//! in time, and lists of what is revoked look old or not valid yet.

use towline_identity::Chain;

use super::Cause;

/// Clocks that are further apart than this, in seconds, do not show the same time.
const APART: i64 = 3600;

/// The time in which all certificates of a chain count, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    from: i64,
    to: i64,
}

/// What is known of both sides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Dates {
    /// Our clock.
    pub(super) now: i64,
    /// How far the peer's clock is ahead of ours, if it told.
    pub(super) ahead: Option<i64>,
    pub(super) ours: Option<Span>,
    pub(super) theirs: Option<Span>,
}

impl Span {
    #[cfg(test)]
    pub(super) const fn new(from: i64, to: i64) -> Self {
        Self { from, to }
    }

    pub(crate) fn of(chain: &Chain) -> Self {
        let validity = || chain.certificates().iter().map(towline_identity::Certificate::validity);
        Self {
            from: validity().map(|one| one.not_before).max().unwrap_or(i64::MIN),
            to: validity().map(|one| one.not_after).min().unwrap_or(i64::MAX),
        }
    }

    fn holds(self, at: i64) -> bool {
        (self.from..=self.to).contains(&at)
    }
}

impl Dates {
    /// The clock at which certificates do not count is wrong, if they do at the other. Where both clocks agree, a certificate is too
    /// old; what is not valid yet was not there yet to be shown, so the clock that says so is behind.
    pub(super) fn cause(&self) -> Option<Cause> {
        let spans = [self.ours, self.theirs];
        let all_hold = |at: i64| spans.iter().flatten().all(|span| span.holds(at));
        if all_hold(self.now) {
            let apart = self.ahead.filter(|ahead| ahead.abs() > APART)?;
            return (!all_hold(self.now.saturating_add(apart))).then_some(Cause::ClockThere);
        }
        if self.ahead.is_some_and(|ahead| ahead.abs() > APART && all_hold(self.now.saturating_add(ahead))) {
            return Some(Cause::ClockHere);
        }
        let early = spans.iter().flatten().any(|span| self.now < span.from);
        let expired = |span: Option<Span>| span.is_some_and(|span| self.now > span.to);
        Some(match (early, expired(self.ours)) {
            (true, _) => Cause::ClockHere,
            (false, true) => Cause::ExpiredHere,
            (false, false) => Cause::ExpiredThere,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: i64 = 365 * 86400;

    /// Certificates of 2027 to 2037; ours ends a year before theirs.
    fn at(now: i64, ahead: Option<i64>) -> Dates {
        let from = 1_800_000_000;
        let (ours, theirs) = (Span { from, to: from + 9 * YEAR }, Span { from, to: from + 10 * YEAR });
        Dates { now: from + now, ahead, ours: Some(ours), theirs: Some(theirs) }
    }

    #[test]
    fn right_clocks_and_those_that_nobody_can_tell_from_them() {
        assert_eq!(at(YEAR, None).cause(), None);
        assert_eq!(at(YEAR, Some(30)).cause(), None);
        assert_eq!(at(YEAR, Some(3 * YEAR)).cause(), None, "either may be right");
        assert_eq!(Dates::default().cause(), None);
    }

    #[test]
    fn the_clock_at_which_nothing_counts_is_wrong() {
        assert_eq!(at(-YEAR, None).cause(), Some(Cause::ClockHere));
        assert_eq!(at(-YEAR, Some(2 * YEAR)).cause(), Some(Cause::ClockHere));
        assert_eq!(at(20 * YEAR, Some(-19 * YEAR)).cause(), Some(Cause::ClockHere));
        assert_eq!(at(YEAR, Some(-40 * YEAR)).cause(), Some(Cause::ClockThere));
        assert_eq!(at(YEAR, Some(40 * YEAR)).cause(), Some(Cause::ClockThere));
    }

    #[test]
    fn a_certificate_is_too_old_if_both_clocks_say_so() {
        let late = 9 * YEAR + 86400;
        assert_eq!(at(late, Some(2)).cause(), Some(Cause::ExpiredHere));
        assert_eq!(at(late, None).cause(), Some(Cause::ExpiredHere));
        let theirs_only = Dates { ours: None, ..at(11 * YEAR, Some(-5)) };
        assert_eq!(theirs_only.cause(), Some(Cause::ExpiredThere));
    }
}
