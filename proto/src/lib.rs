//! The vocabulary of Pocket: what its roles say to each other, and nothing that does I/O.
//!
//! Ids, units, status codes, credentials, the frame header, placement, and the messages generated
//! from the schemas in `schema/`. Every role depends on this crate; it depends on none of them.

mod acl;
mod credential;
mod fence;
mod frame;
mod grpc;
mod ids;
mod message;
mod placement;
mod span;
mod status;
mod storage_class;
mod units;
mod version;

pub use acl::{ACCESS_ACL, ACL_PREFIX, Acl, DEFAULT_ACL, Inherited};
pub use credential::{ClusterKey, Credential, CredentialError, Scope, SessionScope};
pub use fence::{Fence, VOUCH_BYTES, VOUCH_LASTS, Vouch};
pub use frame::{
    BLOCK_ADDRESS_BYTES, BODY_BYTES_MAX, BlockAddress, FrameError, HEADER_BYTES, Header, Operation,
    REPLY_FLAG_HOLE,
};
pub use ids::{BlockIndex, Epoch, Incarnation, InodeId, JobId, ServerId, SessionId};
pub use message::{control_v1 as control, session_v1 as session};
pub use placement::{Placement, PlacementError};
pub use span::{BLOCK_SPAN_BYTES, BlockSpan, Fill, HELD_BLOCKS_MAX, HeldBlock, HeldBlocks};
pub use status::{Failure, Status};
pub use units::{Bandwidth, BlockBytes, ByteCount, ParseUnitError};
pub use version::PROTOCOL_VERSION;
