//! Settings of a mount, all with defaults that suit a container of a few hundred MiB.

/// How a mount uses memory and the network.
#[derive(Clone, Debug)]
pub struct FileSystemConfig {
    /// Hard bound on data held in memory, bytes: half for written data on their way to the
    /// servers, half for data read ahead or again. At least [`FileSystemConfig::MEMORY_BYTES_MIN`].
    pub memory_bytes: u64,
    /// Blocks read ahead of a sequential reader, at most.
    pub read_ahead_blocks_max: u32,
    /// Nothing may be changed through this mount.
    pub read_only: bool,
}

impl FileSystemConfig {
    /// Two blocks of the largest size each way would not fit in less.
    pub const MEMORY_BYTES_MIN: u64 = 64 << 20;
}

impl Default for FileSystemConfig {
    fn default() -> Self {
        FileSystemConfig {
            memory_bytes: 256 << 20,
            read_ahead_blocks_max: 8,
            read_only: false,
        }
    }
}
