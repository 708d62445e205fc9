//! Mounts a job; see [`pocket_mounts::run_mount`].

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What the allocator is told: one arena, so that memory freed by one thread serves the next
/// request of another, and back to the system within ten seconds. A process that holds blocks then
/// takes little more memory than it accounts for; memory that went back sooner would have to be
/// cleared by the kernel, page by page, for the next file, which was half of a server's time.
// SAFETY: the allocator reads this symbol, a pointer to text that ends in NUL, and nothing else
// has this name.
#[allow(unsafe_code)]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static ALLOCATOR_SETTINGS: &[u8; 31] = b"narenas:1,dirty_decay_ms:10000\0";

fn main() -> ExitCode {
    pocket_mounts::run_mount(std::env::args_os().collect())
}
