//! Regular files that are open on this mount: their buffered data, what is read ahead, and how
//! both reach the storage servers.
//!
//! A write is buffered by block (`dirty.rs`), sent when its block is full, on flush, or under
//! memory pressure (`write_back.rs`), and becomes visible to others by a commit of the size
//! (`commit.rs`). A read is served from buffered data, from blocks fetched ahead
//! (`block_cache.rs`), or from the servers (`fetch.rs`). A file shared with other mounts while
//! someone writes goes *through*: nothing is buffered or kept.
//!
//! Lock order: a file's state, then the block cache. Neither is held across an await.

mod attributes;
mod block_cache;
mod commit;
mod contents;
mod counts;
mod dirty;
mod failures;
mod fetch;
mod held;
mod open_files;
mod pause;
mod read_ahead;
mod relocation;
mod reservation;
mod space;
mod state;
mod write_back;
mod write_data;

pub(crate) use block_cache::BlockCache;
pub(crate) use contents::Contents;
pub use fetch::ReadData;
pub(crate) use held::Gone;
pub(crate) use open_files::OpenFiles;
pub(crate) use read_ahead::{Pattern, ReadAhead};
pub(crate) use state::{Buffered, FILE_BYTES_MAX, File, NewData, Sharing, State, Touched, pieces};

pub use write_data::WriteData;

use pocket_proto::session::Time;
use std::time::{SystemTime, UNIX_EPOCH};

/// Now, as the wire spells it.
pub(crate) fn now() -> Time {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Time {
        seconds: since.as_secs() as i64,
        nanoseconds: since.subsec_nanos(),
    }
}
