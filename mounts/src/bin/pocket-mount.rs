//! Mounts a job; see [`pocket_mounts::run_mount`].

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    pocket_mounts::run_mount(std::env::args_os().collect())
}
