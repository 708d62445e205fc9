//! Measures the path of block data: a storage server in a process of its own, over TCP loopback.
//!
//! `cargo run --release -p pocket-storage --example transport [GIGABYTES]`
//!
//! Prints the round trip of 64 bytes, small requests in a pipeline, the round trips of writes of 4 KiB
//! and 1 MiB, and for whole blocks of 1 MiB
//! the rate and the processor time per gigabyte of both sides together, which is the figure to
//! trust on a busy machine. At the end the most
//! memory that the server took beside its capacity.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use bytes::Bytes;
use nix::sys::resource::{UsageWho, getrusage};
use pocket_proto::{
    BlockAddress, BlockIndex, ByteCount, ClusterKey, Credential, Incarnation, InodeId, JobId,
    Scope, ServerId, SessionId, SessionScope, VOUCH_LASTS, Vouch, control::StorageClass,
    session::StorageServer as ServerAddress,
};
use pocket_storage::{StorageConfig, StorageServer, Store, StoreBandwidth};
use pocket_storage_client::{BlockStore, ClusterStorage, StorageClient, StorageClientOptions};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// As in the binaries (`mounts/src/bin`).
// SAFETY: the allocator reads this symbol, a pointer to text that ends in NUL, and nothing else
// has this name.
#[allow(unsafe_code)]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static ALLOCATOR_SETTINGS: &[u8; 29] = b"narenas:1,dirty_decay_ms:500\0";

/// What the server holds.
const CAPACITY: u64 = 1 << 30;
const JOB: JobId = JobId(7);
/// The life of the metadata server that keeps the sessions.
const ISSUER: Incarnation = Incarnation(9);
const FILE: InodeId = InodeId(2);
const SMALL_FILE: InodeId = InodeId(3);
const BLOCK_BYTES: u32 = 1 << 20;
/// Blocks of the file that is read and written over and over: 256 MiB.
const BLOCKS: u64 = 256;
const IN_FLIGHT: u64 = 8;
const SMALL_BYTES: u32 = 64;
const SMALL_REQUESTS: u64 = 50_000;
const SMALL_IN_FLIGHT: u64 = 64;

fn main() -> Result<()> {
    let argument = std::env::args().nth(1);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    if argument.as_deref() == Some("serve") {
        return runtime.block_on(serve());
    }
    let gigabytes: u64 = argument.map_or(Ok(4), |text| text.parse())?;
    let server = ServerProcess::start()?;
    let server = Arc::new(server);
    let measured = Arc::clone(&server);
    runtime.block_on(async move { tokio::spawn(measure(measured, gigabytes)).await? })?;
    Arc::into_inner(server)
        .context("the measurement is over")?
        .stop()
}

async fn serve() -> Result<()> {
    let server = StorageServer::start(StorageConfig {
        listen: "127.0.0.1:0".to_owned(),
        server: ServerId::random(),
        capacity: ByteCount(CAPACITY),
        store: Store::Dram,
        bandwidth: StoreBandwidth::Unknown,
        class: StorageClass::Regular,
        cluster_key: ClusterKey::open(),
        controller: None,
        advertise: None,
    })
    .await?;
    println!(
        "{} {} {}",
        server.endpoint(),
        server.server_id().0,
        server.incarnation().0
    );
    // The parent closes this pipe when it has measured.
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    server.stop().await;
    Ok(())
}

async fn measure(server: Arc<ServerProcess>, gigabytes: u64) -> Result<()> {
    tokio::spawn(vouch(server.address.clone()));
    let options = StorageClientOptions::default();
    let store: Arc<dyn BlockStore> = Arc::new(StorageClient::new(JOB, credential(JOB), options));
    round_trips(&server, &store).await?;
    pipeline(&server, &store).await?;
    for (block_bytes, requests) in [(4 << 10, 20_000), (BLOCK_BYTES, 3_000)] {
        writes(&server, &store, block_bytes, requests).await?;
    }
    let blocks = gigabytes * (1_000_000_000 / u64::from(BLOCK_BYTES));
    for _ in 0..3 {
        transfer("put", &server, &store, blocks, Direction::Put).await?;
        transfer("get", &server, &store, blocks, Direction::Get).await?;
    }
    ClusterStorage::new(&ClusterKey::open(), StorageClientOptions::default())
        .drop_job(&server.address, JOB)
        .await?;
    for block_bytes in [BLOCK_BYTES, 100 << 10, 1 << 10] {
        fill(&server, block_bytes).await?;
    }
    Ok(())
}

/// Of a session of the job.
fn credential(job: JobId) -> Vec<u8> {
    let scope = SessionScope {
        job,
        session: SessionId(1),
        issuer: ISSUER,
    };
    let credential = Credential::issue(&ClusterKey::open(), Scope::Session(scope));
    credential.as_bytes().to_vec()
}

/// Vouches for the sessions, as their metadata server would.
async fn vouch(server: ServerAddress) -> Result<()> {
    let cluster = ClusterStorage::new(&ClusterKey::open(), StorageClientOptions::default());
    let mut heard = 0;
    loop {
        let is_first = heard == 0;
        let issuer = ISSUER;
        heard = cluster.vouch(&server, Vouch { issuer, heard }).await?;
        if !is_first {
            tokio::time::sleep(VOUCH_LASTS / 5).await;
        }
    }
}

/// Fills the server with blocks of a length, each in a file of its own, and writes half of them
/// over, as another job; then says what memory that took.
async fn fill(server: &Arc<ServerProcess>, block_bytes: u32) -> Result<()> {
    let job = JobId(1000 + u64::from(block_bytes));
    let options = StorageClientOptions::default();
    let store = StorageClient::new(job, credential(job), options.clone());
    let store = Arc::new(store);
    let blocks = CAPACITY / u64::from(block_bytes);
    server.forget_memory_peak()?;
    let tasks = (0..IN_FLIGHT).map(|first| {
        let (store, server) = (Arc::clone(&store), Arc::clone(server));
        tokio::spawn(async move {
            let data = Bytes::from(vec![3; block_bytes as usize]);
            for file in (first..blocks)
                .chain(first..blocks / 2)
                .step_by(IN_FLIGHT as usize)
            {
                let file = InodeId(file);
                store
                    .write(&server.address, file, BlockIndex(0), 0, data.clone().into())
                    .await?;
            }
            anyhow::Ok(())
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await??;
    }
    println!(
        "memory        {:.3} of the capacity of {}, full of blocks of {}",
        server.memory_peak_bytes()? as f64 / CAPACITY as f64,
        ByteCount(CAPACITY),
        ByteCount(u64::from(block_bytes))
    );
    let cluster = ClusterStorage::new(&ClusterKey::open(), options);
    cluster.drop_job(&server.address, job).await?;
    Ok(())
}

async fn round_trips(server: &ServerProcess, store: &Arc<dyn BlockStore>) -> Result<()> {
    let data = Bytes::from(vec![1; SMALL_BYTES as usize]);
    store
        .write(&server.address, SMALL_FILE, BlockIndex(0), 0, data.into())
        .await?;
    let cpu = server.cpu_with_own()?;
    let mut times = Vec::new();
    for _ in 0..SMALL_REQUESTS {
        let start = Instant::now();
        store.read(&server.address, small_block()).await?;
        times.push(start.elapsed());
    }
    let cpu = server.cpu_with_own()? - cpu;
    times.sort_unstable();
    let at = |share: f64| times[(times.len() as f64 * share) as usize].as_secs_f64() * 1e6;
    println!(
        "64 B read     p50 {:.1} us   p99 {:.1} us   {:.1} CPU us",
        at(0.5),
        at(0.99),
        cpu.as_secs_f64() * 1e6 / SMALL_REQUESTS as f64
    );
    Ok(())
}

/// Writes of a length over one another, each when the one before is answered.
async fn writes(
    server: &ServerProcess,
    store: &Arc<dyn BlockStore>,
    bytes: u32,
    requests: u64,
) -> Result<()> {
    let data = Bytes::from(vec![1; bytes as usize]);
    let cpu = server.cpu_with_own()?;
    let mut times = Vec::new();
    for _ in 0..requests {
        let start = Instant::now();
        store
            .write(
                &server.address,
                SMALL_FILE,
                BlockIndex(1),
                0,
                data.clone().into(),
            )
            .await?;
        times.push(start.elapsed());
    }
    let cpu = server.cpu_with_own()? - cpu;
    times.sort_unstable();
    let at = |share: f64| times[(times.len() as f64 * share) as usize].as_secs_f64() * 1e6;
    println!(
        "{:>4} KiB write p50 {:.1} us   p99 {:.1} us   {:.1} CPU us",
        bytes >> 10,
        at(0.5),
        at(0.99),
        cpu.as_secs_f64() * 1e6 / requests as f64
    );
    Ok(())
}

async fn pipeline(server: &ServerProcess, store: &Arc<dyn BlockStore>) -> Result<()> {
    let (start, cpu) = (Instant::now(), server.cpu_with_own()?);
    let tasks = (0..SMALL_IN_FLIGHT).map(|_| {
        let (store, address) = (Arc::clone(store), server.address.clone());
        tokio::spawn(async move {
            for _ in 0..SMALL_REQUESTS / SMALL_IN_FLIGHT {
                store.read(&address, small_block()).await?;
            }
            anyhow::Ok(())
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await??;
    }
    let cpu = server.cpu_with_own()? - cpu;
    println!(
        "64 B pipeline {:.0} requests/s with {SMALL_IN_FLIGHT} in flight   {:.1} CPU us each",
        SMALL_REQUESTS as f64 / start.elapsed().as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / SMALL_REQUESTS as f64
    );
    Ok(())
}

#[derive(Clone, Copy)]
enum Direction {
    Put,
    Get,
}

async fn transfer(
    name: &str,
    server: &ServerProcess,
    store: &Arc<dyn BlockStore>,
    blocks: u64,
    direction: Direction,
) -> Result<()> {
    let (start, cpu) = (Instant::now(), server.cpu_with_own()?);
    let tasks = (0..IN_FLIGHT).map(|first| {
        let (store, server) = (Arc::clone(store), server.address.clone());
        tokio::spawn(async move {
            let data = Bytes::from(vec![2; BLOCK_BYTES as usize]);
            for block in (first..blocks).step_by(IN_FLIGHT as usize) {
                let block = BlockIndex(block % BLOCKS);
                match direction {
                    Direction::Put => {
                        store
                            .write(&server, FILE, block, 0, data.clone().into())
                            .await?;
                    }
                    Direction::Get => {
                        let address = BlockAddress {
                            inode: FILE,
                            block,
                            offset_bytes: 0,
                            length_bytes: BLOCK_BYTES,
                        };
                        let read = store.read(&server, address).await?;
                        anyhow::ensure!(read.bytes.len() == BLOCK_BYTES as usize, "short read");
                    }
                }
            }
            anyhow::Ok(())
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await??;
    }
    let (elapsed, cpu) = (start.elapsed(), server.cpu_with_own()? - cpu);
    let gigabytes = (blocks * u64::from(BLOCK_BYTES)) as f64 / 1e9;
    println!(
        "1 MiB {name}     {:.2} GB/s   {:.3} CPU s/GB",
        gigabytes / elapsed.as_secs_f64(),
        cpu.as_secs_f64() / gigabytes
    );
    Ok(())
}

fn small_block() -> BlockAddress {
    BlockAddress {
        inode: SMALL_FILE,
        block: BlockIndex(0),
        offset_bytes: 0,
        length_bytes: SMALL_BYTES,
    }
}

/// The server's process, and how it is reached.
struct ServerProcess {
    child: Child,
    address: ServerAddress,
}

impl ServerProcess {
    fn start() -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("stdout is a pipe")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let mut words = line.split_whitespace();
        let mut word = || words.next().context("the server did not start");
        let address = ServerAddress {
            endpoint: word()?.to_owned(),
            server: word()?.parse()?,
            incarnation: word()?.parse()?,
            tier: "dram".to_owned(),
        };
        Ok(ServerProcess { child, address })
    }

    /// Processor time of this process and the server's so far.
    fn cpu_with_own(&self) -> Result<Duration> {
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        let own = [usage.user_time(), usage.system_time()]
            .map(|time| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000));
        // Fields behind the name in parentheses; user and system time in hundredths of a second.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields = stat.rsplit_once(')').context("no name in stat")?.1;
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.map(|field| field.parse().unwrap_or(0)).sum();
        Ok(own.iter().sum::<Duration>() + Duration::from_millis(ticks * 10))
    }

    fn forget_memory_peak(&self) -> Result<()> {
        Ok(std::fs::write(
            format!("/proc/{}/clear_refs", self.child.id()),
            "5",
        )?)
    }

    fn memory_peak_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmHWM"));
        let kibibytes = line
            .and_then(|line| line.split_whitespace().nth(1))
            .context("no VmHWM")?;
        Ok(kibibytes.parse::<u64>()? << 10)
    }

    fn stop(mut self) -> Result<()> {
        if let Some(mut stdin) = self.child.stdin.take() {
            stdin.flush()?;
        }
        self.child.wait()?;
        Ok(())
    }
}
