//! How much may be on the way at once, and how fast it leaves.

/// Congestion control of a datagram link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Algorithm {
    /// A model of the path's rate and round trip (draft-ietf-ccwg-bbr, BBRv3): random loss does not slow it.
    #[default]
    Bbr,
    /// Loss as the sign of congestion (RFC 9438).
    Cubic,
}
