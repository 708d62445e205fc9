//! statfs: the job's allocation.

use pocket_proto::Failure;
use pocket_proto::session::{FileSystemStatusReply, reply};

use super::{Context, Step};
use crate::limits::INODES_MAX;

pub(super) fn file_system_status(context: &mut Context<'_>) -> Result<Step, Failure> {
    let state = &*context.state;
    let used_bytes = state.namespace.allocated_bytes() + state.space.granted_bytes();
    let reply = FileSystemStatusReply {
        capacity_bytes: state.space.capacity_bytes(),
        used_bytes,
        inodes: state.namespace.inode_count(),
        block_bytes: state.layouts.block_bytes(),
        inodes_max: INODES_MAX,
    };
    Ok(Step::Done(reply::Result::FileSystemStatus(reply)))
}
