//! Runs servers and asks clusters; see [`pocket_mounts::run_pocket`].

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What the allocator is told: one arena, so that memory freed by one thread serves the next
/// request of another, and back to the system within half a second. A process that holds blocks
/// then takes little more memory than it accounts for, at no cost that could be measured
/// (`cargo run --release -p pocket-storage --example transport`).
// SAFETY: the allocator reads this symbol, a pointer to text that ends in NUL, and nothing else
// has this name.
#[allow(unsafe_code)]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static ALLOCATOR_SETTINGS: &[u8; 29] = b"narenas:1,dirty_decay_ms:500\0";

fn main() -> ExitCode {
    pocket_mounts::run_pocket(std::env::args_os().collect())
}
