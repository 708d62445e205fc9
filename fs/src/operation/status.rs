//! statfs(2): the job's allocation.

use pocket_proto::session::{FileSystemStatus, reply, request};

use crate::filesystem::unexpected;
use crate::{Errno, FileSystem};

/// What `df` shows: the job's allocation, not the cluster's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatFs {
    /// What the job was given, bytes.
    pub capacity_bytes: u64,
    /// Committed and granted, bytes.
    pub used_bytes: u64,
    /// Inodes in use.
    pub inodes: u64,
    /// Inodes the job may have.
    pub inodes_max: u64,
    /// The job's block size, bytes.
    pub block_bytes: u32,
}

impl FileSystem {
    /// The job's allocation and use.
    pub async fn stat_fs(&self) -> Result<StatFs, Errno> {
        let request = request::Operation::FileSystemStatus(FileSystemStatus {});
        match self.call(request).await?.value {
            reply::Result::FileSystemStatus(status) => {
                // What this mount was granted and has not used is free to its own writers.
                let granted = self.space.free_bytes().max(0) as u64;
                Ok(StatFs {
                    capacity_bytes: status.capacity_bytes,
                    used_bytes: status.used_bytes.saturating_sub(granted),
                    inodes: status.inodes,
                    inodes_max: status.inodes_max,
                    block_bytes: status.block_bytes,
                })
            }
            _ => Err(unexpected().into()),
        }
    }
}
