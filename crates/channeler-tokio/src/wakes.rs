//! Tasks to wake when no lock is held any more.

use std::{
    pin::pin,
    task::{Context, Waker},
};

/// Wakes a task when those that are ready now have run, or at once outside of a runtime.
pub(crate) fn wake_last(waker: &Waker) {
    // Whoever yields is woken then; here it is another who does.
    let _ = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(waker));
}

/// Places for the wakers of a common batch.
const FEW: usize = 4;

/// Tasks to wake. Few of them take no memory.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    few: [Option<Waker>; FEW],
    more: Vec<Waker>,
    len: usize,
}

impl Wakes {
    pub(crate) fn wake(&mut self) {
        let few = self.few.iter_mut().take(self.len).filter_map(Option::take);
        few.chain(self.more.drain(..)).for_each(Waker::wake);
        self.len = 0;
    }
}

impl Extend<Waker> for Wakes {
    fn extend<T: IntoIterator<Item = Waker>>(&mut self, wakers: T) {
        for waker in wakers {
            match self.few.get_mut(self.len) {
                Some(place) => {
                    *place = Some(waker);
                    self.len += 1;
                }
                None => self.more.push(waker),
            }
        }
    }
}
