//! Arguments of `why`.

use super::{Dial, HomeArg, Network};
use crate::ids::Remote;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  towline why 3b1f…64 digits…9e\n  towline why @anna.id --stun stun.example --timeout 10\n\n\
                  It connects, and tells how: candidates of both sides, what each pair of them did, which path is used and why \
                  not the others. If that fails, it names the cause, the side that it lies on, and what can be done."
)]
pub(crate) struct Why {
    /// Device to look at: 64 digits, 40 digits (a short id, or an account), or @FILE with an id or a certificate.
    pub(crate) device: Remote,
    #[command(flatten)]
    pub(crate) home: HomeArg,
    #[command(flatten)]
    pub(crate) network: Network,
    #[command(flatten)]
    pub(crate) dial: Dial,
}
