//! The account's task: answers that come before it is known here that anybody asked, because another process of this
//! device did.

use std::collections::VecDeque;

use towline_dht::types::TrustRequest;
use towline_identity::{AccountId, Chain};

/// Most answers that are kept; the oldest makes room. Anybody can send some.
const MOST: usize = 64;

/// Answers of those this process has not asked.
#[derive(Debug, Default)]
pub(super) struct EarlyAnswers(VecDeque<(Chain, u64, TrustRequest)>);

impl EarlyAnswers {
    /// Keeps an answer. What it holds besides its yes is of no use.
    pub(super) fn keep(&mut self, sender: Chain, value_id: u64, answer: TrustRequest) {
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back((sender, value_id, answer));
    }

    /// The answers of an account that turns out to have been asked.
    pub(super) fn take(&mut self, account: AccountId) -> Vec<(Chain, u64, TrustRequest)> {
        let of_account = |(sender, ..): &(Chain, u64, TrustRequest)| sender.account_id() == Some(account);
        let (taken, kept) = std::mem::take(&mut self.0).into_iter().partition(of_account);
        self.0 = kept;
        Vec::from_iter::<VecDeque<_>>(taken)
    }
}
