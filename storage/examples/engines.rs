//! Measures engines in process, beside fio with the same pattern on the same file.
//!
//! `cargo run --release -p pocket-storage --example engines [DIRECTORY [MIB]]`
//!
//! For each engine: 1 MiB and 4 KiB blocks, written and read, at queue depths from 1 to 64; rate,
//! operations a second and processor time per gigabyte. Below each line of the disk engine the same
//! by fio (io_uring, O_DIRECT), and the ratio of the two. `copy` is a memory copy of 1 MiB.

use std::{
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use nix::sys::resource::{UsageWho, getrusage};
use pocket_proto::{BlockAddress, BlockIndex, ByteCount, InodeId, JobId, ServerId};
use pocket_storage::{BlockEngine, Doubt, DramEngine, LogConfig, LogEngine, Medium};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const JOB: JobId = JobId(1);
const LARGE: u32 = 1 << 20;
const SMALL: u32 = 4 << 10;
const DEPTHS: [usize; 4] = [1, 4, 16, 64];
/// How long each figure is measured.
const SPAN: Duration = Duration::from_secs(2);

/// What was measured.
#[derive(Clone, Copy)]
struct Figure {
    bytes_per_second: f64,
    cpu_seconds_per_gb: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pattern {
    Write,
    Read,
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().unwrap_or_else(|| "/tmp".to_owned());
    let mib: u64 = arguments.next().map_or(Ok(512), |text| text.parse())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let folder = tempfile::tempdir_in(&directory).context(directory)?;
    println!("{:<34}{:>12}{:>12}{:>10}", "", "MB/s", "ops/s", "CPU s/GB");
    show("copy 1 MiB", LARGE, copy());
    let dram: Arc<dyn BlockEngine> = Arc::new(DramEngine::new(ByteCount((2 * mib) << 20)));
    measure(&runtime, "dram", &dram, mib, None)?;
    drop(dram);
    let config = LogConfig {
        server: ServerId::random(),
        capacity: ByteCount((2 * mib) << 20),
        medium: Medium::Flash,
        recent_bytes: 0,
        doubt: Doubt::Drop,
    };
    let opened = LogEngine::open(folder.path(), &config)?;
    let log: Arc<dyn BlockEngine> = Arc::new(opened.engine);
    measure(&runtime, "log", &log, mib, Some(folder.path()))
}

fn measure(
    runtime: &tokio::runtime::Runtime,
    name: &str,
    engine: &Arc<dyn BlockEngine>,
    mib: u64,
    beside_fio_in: Option<&Path>,
) -> Result<()> {
    for block_bytes in [LARGE, SMALL] {
        for pattern in [Pattern::Write, Pattern::Read] {
            for depth in DEPTHS {
                let figure = runtime.block_on(run(engine, pattern, block_bytes, depth, mib))?;
                let what = match pattern {
                    Pattern::Write => "write",
                    Pattern::Read => "read",
                };
                let kib = block_bytes >> 10;
                let label = format!("{name} {what} {kib} KiB, depth {depth}");
                show(&label, block_bytes, figure);
                if let Some(folder) = beside_fio_in {
                    let other = fio(folder, pattern, block_bytes, depth, mib)?;
                    show("  fio", block_bytes, other);
                    println!(
                        "{:<34}{:>12.2}{:>22.2}",
                        "  ratio",
                        figure.bytes_per_second / other.bytes_per_second,
                        figure.cpu_seconds_per_gb / other.cpu_seconds_per_gb
                    );
                }
            }
        }
    }
    Ok(())
}

/// Blocks of one size, each operation on another at random; every task has one under way.
async fn run(
    engine: &Arc<dyn BlockEngine>,
    pattern: Pattern,
    block_bytes: u32,
    depth: usize,
    mib: u64,
) -> Result<Figure> {
    let inode = InodeId(u64::from(block_bytes));
    // Small blocks by the number of those that are read: an eighth of the room.
    let blocks = match block_bytes {
        LARGE => mib,
        _ => (mib << 17) / u64::from(block_bytes),
    };
    let data: Bytes = (0..block_bytes).map(|at| (at * 7) as u8).collect();
    if pattern == Pattern::Write && depth == DEPTHS[0] {
        for block in 0..blocks {
            let written = engine.write(JOB, inode, BlockIndex(block), 0, data.clone());
            written.finished().await?;
        }
    }
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let moved = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..depth)
        .map(|task| {
            let (engine, moved, data) = (Arc::clone(engine), Arc::clone(&moved), data.clone());
            tokio::spawn(async move {
                let mut place = task as u64 * 7_919 + 1;
                while start.elapsed() < SPAN {
                    // A generator with a period of 2^64 (Knuth, MMIX).
                    place = place
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    let block = BlockIndex((place >> 33) % blocks);
                    match pattern {
                        Pattern::Write => {
                            // As the transport hands data over: in a buffer of their own.
                            let data = Bytes::copy_from_slice(&data);
                            engine.write(JOB, inode, block, 0, data).finished().await?;
                        }
                        Pattern::Read => {
                            let address = BlockAddress {
                                inode,
                                block,
                                offset_bytes: 0,
                                length_bytes: block_bytes,
                            };
                            let read = engine.read(JOB, address).finished().await?;
                            ensure!(read.bytes.len() == block_bytes as usize, "a short read");
                        }
                    }
                    moved.fetch_add(u64::from(block_bytes), Ordering::Relaxed);
                    // An engine that answers at once must not keep the thread.
                    tokio::task::consume_budget().await;
                }
                Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let bytes = moved.load(Ordering::Relaxed) as f64;
    Ok(Figure {
        bytes_per_second: bytes / start.elapsed().as_secs_f64(),
        cpu_seconds_per_gb: (cpu_seconds() - cpu) * 1e9 / bytes,
    })
}

fn copy() -> Figure {
    let from = vec![1_u8; 256 << 20];
    let mut to = vec![0_u8; 256 << 20];
    let (start, cpu, mut bytes) = (Instant::now(), cpu_seconds(), 0.0);
    while start.elapsed() < SPAN {
        for (to, from) in to.chunks_mut(1 << 20).zip(from.chunks(1 << 20)) {
            to.copy_from_slice(std::hint::black_box(from));
        }
        bytes += from.len() as f64;
    }
    std::hint::black_box(&to);
    Figure {
        bytes_per_second: bytes / start.elapsed().as_secs_f64(),
        cpu_seconds_per_gb: (cpu_seconds() - cpu) * 1e9 / bytes,
    }
}

fn fio(
    folder: &Path,
    pattern: Pattern,
    block_bytes: u32,
    depth: usize,
    mib: u64,
) -> Result<Figure> {
    let what = match pattern {
        Pattern::Write => "randwrite",
        Pattern::Read => "randread",
    };
    let file = folder.join("fio");
    let output = Command::new("fio")
        .args([
            "--name=beside",
            "--ioengine=io_uring",
            "--direct=1",
            "--minimal",
        ])
        .args([
            "--time_based",
            "--thread",
            &format!("--runtime={}", SPAN.as_secs()),
        ])
        .arg(format!("--filename={}", file.display()))
        .args([format!("--size={mib}m"), format!("--rw={what}")])
        .args([format!("--bs={block_bytes}"), format!("--iodepth={depth}")])
        .output()
        .context("fio cannot be run: install it to compare")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let fields: Vec<_> = text.trim().split(';').collect();
    let number = |at: usize| -> Result<f64> {
        let field = fields
            .get(at)
            .context("fio says less than version 3 does")?;
        Ok(field.trim_end_matches('%').parse()?)
    };
    // Terse format, version 3: KiB moved and KiB/s, of reads and of writes; user and system time in
    // percent.
    let (total, rate) = match pattern {
        Pattern::Read => (number(5)?, number(6)?),
        Pattern::Write => (number(46)?, number(47)?),
    };
    let percent = number(87)? + number(88)?;
    Ok(Figure {
        bytes_per_second: rate * 1024.0,
        cpu_seconds_per_gb: percent / 100.0 * (total / rate) * 1e9 / (total * 1024.0),
    })
}

fn show(label: &str, block_bytes: u32, figure: Figure) {
    println!(
        "{label:<34}{:>12.0}{:>12.0}{:>10.3}",
        figure.bytes_per_second / 1e6,
        figure.bytes_per_second / f64::from(block_bytes),
        figure.cpu_seconds_per_gb
    );
}

/// Of this process, all threads.
fn cpu_seconds() -> f64 {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return 0.0;
    };
    let seconds =
        |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}
