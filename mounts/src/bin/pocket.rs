//! Runs servers and asks clusters; see [`pocket_mounts::run_pocket`].

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    pocket_mounts::run_pocket(std::env::args_os().collect())
}
