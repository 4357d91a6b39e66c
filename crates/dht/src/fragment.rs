//! Values too long for one datagram: announced by size, sent in parts, put together again (`dht.md` 1.10).

mod assemble;
mod session;
mod split;

pub use assemble::{Assembler, AssemblerLimits, FragmentError};
pub use split::{INLINE_MAX_BYTES, INLINE_MAX_VALUES, PART_BYTES, UPDATE_BYTES, batches, datagrams};
