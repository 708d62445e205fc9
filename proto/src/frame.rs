//! The frame: a fixed header of 32 bytes and a body.
//!
//! Block data and metadata sessions travel in frames; control travels in gRPC. All integers are
//! little-endian. A frame is a request (client to server), the reply with the same id, or a push
//! (server to client, [`Operation::Recall`]).
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0..4 | body_bytes | length of the body behind the header |
//! | 4 | magic | `P` |
//! | 5 | wire version | [`WIRE_VERSION`] |
//! | 6..8 | operation | [`Operation`] |
//! | 8..16 | id | names a request within its connection; 0: no reply wanted, or a push |
//! | 16..24 | job | the job spoken of |
//! | 24..26 | status | replies: [`Status`]; requests: 0 |
//! | 26..28 | flags | replies to reads: [`REPLY_FLAG_HOLE`] |
//! | 28..32 | pushes | replies: pushes sent on this connection when the request was taken up, modulo 2^32; else 0 |
//!
//! Bodies: `Hello`, `Welcome`, `Request`, `Reply` and `Recall` messages of `session.proto`;
//! one or two [`BlockAddress`]es or a [`BlockSpan`](crate::BlockSpan) and, for writes, the data; a
//! reply to a read is the data, to a write and to whatever makes or frees blocks the change of
//! allocated bytes (i64). A failed reply's body is a sentence in UTF-8.

use thiserror::Error;

use crate::{BlockIndex, InodeId, JobId, Status};

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 32;
/// Bytes of a [`BlockAddress`] on the wire.
pub const BLOCK_ADDRESS_BYTES: usize = 24;
/// A body is never longer: the largest block (16 MiB) and its address, with room for messages.
pub const BODY_BYTES_MAX: u32 = (16 << 20) + 4096;
/// Reply to a read: the block does not exist on this (living) server, so it reads as zeros.
pub const REPLY_FLAG_HOLE: u16 = 1;

const MAGIC: u8 = b'P';
const WIRE_VERSION: u8 = 1;

/// What a frame asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Operation {
    /// First frame of a connection: `Hello`, answered by `Welcome`.
    Hello = 1,
    /// Answered at once with an empty body.
    Ping = 2,
    /// Storage: read from a block.
    ReadBlock = 16,
    /// Storage: write into a block, which grows as needed; a gap becomes zeros.
    WriteBlock = 17,
    /// Storage: drop an inode's blocks behind `block`, and of `block` all but the first `offset`
    /// bytes (the whole block if `offset` is 0).
    TruncateBlocks = 18,
    /// Storage: drop all of a job's blocks. Cluster credential only.
    DropJob = 19,
    /// Storage: drop all blocks of the inodes listed (u64 each). Cluster credential only.
    RemoveInodes = 20,
    /// Storage: have a block reach at least to the end of the range; what it lacks becomes zeros.
    AllocateBlock = 21,
    /// Storage: have the range of a block be zeros, and the block reach at least to its end.
    ZeroBlock = 22,
    /// Storage: have the range of a block read as zeros, and free what that allows.
    PunchBlock = 23,
    /// Storage: drop the blocks of a [`BlockSpan`](crate::BlockSpan).
    DropBlocks = 24,
    /// Storage: tell which blocks of a [`BlockSpan`](crate::BlockSpan) are held, answered by
    /// [`HeldBlocks`](crate::HeldBlocks).
    ListBlocks = 25,
    /// Storage: copy between two blocks, the address of the source and that of the destination.
    CopyBlock = 26,
    /// Storage: a [`Vouch`](crate::Vouch), answered by the server's clock (u64). Cluster credential
    /// only.
    Vouch = 27,
    /// Storage: a [`Fence`](crate::Fence) of a job's sessions; when it is answered, nothing that a
    /// fenced one asked for changes blocks any more. Cluster credential only.
    FenceSessions = 28,
    /// Storage: tell which inodes of a job have blocks here, a u64 each in order, behind the one
    /// given (u64). Cluster credential only.
    ListInodes = 29,
    /// Metadata: `Request`, answered by `Reply`.
    Metadata = 32,
    /// Metadata: pushed by the server, `Recall`.
    Recall = 33,
}

impl Operation {
    fn from_code(code: u16) -> Option<Self> {
        Some(match code {
            1 => Operation::Hello,
            2 => Operation::Ping,
            16 => Operation::ReadBlock,
            17 => Operation::WriteBlock,
            18 => Operation::TruncateBlocks,
            19 => Operation::DropJob,
            20 => Operation::RemoveInodes,
            21 => Operation::AllocateBlock,
            22 => Operation::ZeroBlock,
            23 => Operation::PunchBlock,
            24 => Operation::DropBlocks,
            25 => Operation::ListBlocks,
            26 => Operation::CopyBlock,
            27 => Operation::Vouch,
            28 => Operation::FenceSessions,
            29 => Operation::ListInodes,
            32 => Operation::Metadata,
            33 => Operation::Recall,
            _ => return None,
        })
    }
}

/// Why bytes are not a frame. The connection they came on cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// Not Pocket, or out of step.
    #[error("not a pocket frame (first byte {0:#04x})")]
    Magic(u8),
    /// Another wire version.
    #[error("wire version {0}, this side speaks {WIRE_VERSION}")]
    Version(u8),
    /// An operation this side does not know.
    #[error("unknown operation {0}")]
    Operation(u16),
    /// Longer than any frame may be.
    #[error("body of {0} bytes, the limit is {BODY_BYTES_MAX}")]
    TooLong(u32),
    /// Shorter than its operation needs.
    #[error("body too short")]
    TooShort,
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes that follow the header.
    pub body_bytes: u32,
    /// What is asked for; a reply repeats it.
    pub operation: Operation,
    /// Names the request; a reply repeats it. 0: no reply wanted.
    pub id: u64,
    /// The job spoken of.
    pub job: JobId,
    /// Replies: what came of it.
    pub status: Status,
    /// See the module's table.
    pub flags: u16,
    /// Replies: how many pushes the server had sent on this connection when it took the request
    /// up (modulo 2^32), so that a reply which a later push overtook is known as such.
    pub pushes: u32,
}

impl Header {
    /// Header of a request.
    pub fn request(operation: Operation, id: u64, job: JobId, body_bytes: u32) -> Self {
        Header {
            body_bytes,
            operation,
            id,
            job,
            status: Status::Ok,
            flags: 0,
            pushes: 0,
        }
    }

    /// Header of the reply to `self`.
    pub fn reply(&self, status: Status, body_bytes: u32) -> Self {
        Header {
            body_bytes,
            status,
            flags: 0,
            pushes: 0,
            ..*self
        }
    }

    /// The header as bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[4] = MAGIC;
        bytes[5] = WIRE_VERSION;
        bytes[6..8].copy_from_slice(&(self.operation as u16).to_le_bytes());
        bytes[8..16].copy_from_slice(&self.id.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.job.0.to_le_bytes());
        bytes[24..26].copy_from_slice(&self.status.code().to_le_bytes());
        bytes[26..28].copy_from_slice(&self.flags.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.pushes.to_le_bytes());
        bytes
    }

    /// Reads a header; refuses what is not a frame or could not be held.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        if bytes[4] != MAGIC {
            return Err(FrameError::Magic(bytes[4]));
        }
        if bytes[5] != WIRE_VERSION {
            return Err(FrameError::Version(bytes[5]));
        }
        let operation = u16_at(bytes, 6);
        let operation = Operation::from_code(operation).ok_or(FrameError::Operation(operation))?;
        let body_bytes = u32_at(bytes, 0);
        if body_bytes > BODY_BYTES_MAX {
            return Err(FrameError::TooLong(body_bytes));
        }
        Ok(Header {
            body_bytes,
            operation,
            id: u64_at(bytes, 8),
            job: JobId(u64_at(bytes, 16)),
            status: Status::from_code(u16_at(bytes, 24)),
            flags: u16_at(bytes, 26),
            pushes: u32_at(bytes, 28),
        })
    }
}

/// Which bytes of which block: the head of every storage request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockAddress {
    /// The file.
    pub inode: InodeId,
    /// The block within the file.
    pub block: BlockIndex,
    /// First byte within the block.
    pub offset_bytes: u32,
    /// Number of bytes.
    pub length_bytes: u32,
}

impl BlockAddress {
    /// The address as bytes.
    pub fn encode(&self) -> [u8; BLOCK_ADDRESS_BYTES] {
        let mut bytes = [0; BLOCK_ADDRESS_BYTES];
        bytes[0..8].copy_from_slice(&self.inode.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.block.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.offset_bytes.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.length_bytes.to_le_bytes());
        bytes
    }

    /// Reads an address from the head of a body.
    pub fn decode(body: &[u8]) -> Result<Self, FrameError> {
        let bytes: &[u8; BLOCK_ADDRESS_BYTES] = body.first_chunk().ok_or(FrameError::TooShort)?;
        Ok(BlockAddress {
            inode: InodeId(u64_at(bytes, 0)),
            block: BlockIndex(u64_at(bytes, 8)),
            offset_bytes: u32_at(bytes, 16),
            length_bytes: u32_at(bytes, 20),
        })
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_a_header_or_an_error(bytes in any::<[u8; HEADER_BYTES]>()) {
            if let Ok(header) = Header::decode(&bytes) {
                prop_assert_eq!(Header::decode(&header.encode()), Ok(header));
            }
        }

        #[test]
        fn header_survives_the_wire(body_bytes in 0..=BODY_BYTES_MAX, id: u64, job: u64, flags: u16, pushes: u32) {
            let header = Header {
                body_bytes, operation: Operation::WriteBlock, id, job: JobId(job),
                status: Status::NoSpace, flags, pushes,
            };
            prop_assert_eq!(Header::decode(&header.encode()), Ok(header));
        }

        #[test]
        fn address_survives_the_wire(inode: u64, block: u64, offset_bytes: u32, length_bytes: u32) {
            let address = BlockAddress {
                inode: InodeId(inode), block: BlockIndex(block), offset_bytes, length_bytes,
            };
            prop_assert_eq!(BlockAddress::decode(&address.encode()), Ok(address));
        }
    }

    #[test]
    fn oversized_body_is_refused() {
        let mut bytes = Header::request(Operation::Ping, 1, JobId(1), 0).encode();
        bytes[0..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Header::decode(&bytes), Err(FrameError::TooLong(u32::MAX)));
    }
}
