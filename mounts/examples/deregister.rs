//! How long the end of a large job takes, and what others notice of it.
//!
//! On a running cluster, one job is filled with files of 1 KiB and deregistered, while another job's
//! session asks the same metadata server one question after the other:
//!
//! ```text
//! target/release/pocket up --storage-servers 2 --capacity 4GiB &
//! cargo run --release -p pocket-mounts --example deregister -- 127.0.0.1:7300 1000000
//! ```

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use bytes::Bytes;
use pocket_controller_client::ControllerClient;
use pocket_fs::{Caller, CreateRequest, Errno, FileSystem, FileSystemConfig, WriteRequest};
use pocket_mounts::{JobConnection, JobTerms, Presentation};
use pocket_proto::{
    InodeId,
    control::{DeregisterJobRequest, Hints},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Directories that are filled at the same time.
const MAKERS: u64 = 16;
/// Files of a directory.
const DIRECTORY_FILES: u64 = 10_000;
const FILE_BYTES: u64 = 1024;
/// Allocation that a file may take with all that goes with it.
const ROOM_BYTES: u64 = 2048;
/// How long others are watched before and after, for comparison.
const WATCH: Duration = Duration::from_secs(3);
/// Between two looks at what the storage servers hold.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: deregister CONTROLLER FILES";
    let address = arguments.next().context(usage)?;
    let files: u64 = arguments.next().context(usage)?.parse().context(usage)?;
    let controller = ControllerClient::connect(&address)?;

    let other = open(&address, "deregister-other", 1 << 20).await?;
    let before = held(&controller).await?;
    let large = open(&address, "deregister-large", files * ROOM_BYTES).await?;
    let start = Instant::now();
    fill(large.fs(), files).await?;
    println!("{files} files made in {:.1?}", start.elapsed());
    let full = wait_until(&controller, |held| held.used_bytes >= files * FILE_BYTES).await?;
    println!("storage servers hold {} MiB for it", full.used_bytes >> 20);

    let stop = CancellationToken::new();
    let asking = tokio::spawn(ask(Arc::clone(other.fs()), stop.clone()));
    tokio::time::sleep(WATCH).await;
    stop.cancel();
    report("others before", asking.await??);

    let stop = CancellationToken::new();
    let asking = tokio::spawn(ask(Arc::clone(other.fs()), stop.clone()));
    let start = Instant::now();
    deregister(&controller, &large).await?;
    println!("deregistered in {:.3?}", start.elapsed());
    wait_until(&controller, |held| {
        held.reserved_bytes <= before.reserved_bytes
    })
    .await?;
    println!(
        "its capacity was free for others after {:.3?}",
        start.elapsed()
    );
    wait_until(&controller, |held| held.used_bytes <= before.used_bytes).await?;
    println!(
        "storage servers held nothing of it after {:.3?}",
        start.elapsed()
    );
    tokio::time::sleep(WATCH).await;
    stop.cancel();
    report("others meanwhile", asking.await??);
    deregister(&controller, &other).await
}

async fn open(address: &str, name: &str, bytes: u64) -> anyhow::Result<JobConnection> {
    let terms = JobTerms {
        name: name.to_owned(),
        hints: Hints {
            capacity_bytes: Some(bytes),
            ..Hints::default()
        },
        ..JobTerms::default()
    };
    let config = FileSystemConfig::default();
    let connection =
        JobConnection::open(address, &terms, config, Presentation::default(), |_| {}).await?;
    if !connection.registration().created {
        bail!("there is a job '{name}' already: pocket job deregister {name}");
    }
    Ok(connection)
}

async fn deregister(controller: &ControllerClient, job: &JobConnection) -> anyhow::Result<()> {
    let request = DeregisterJobRequest {
        name: String::new(),
        job: job.registration().job,
    };
    controller.deregister_job(request).await?;
    Ok(())
}

/// Of all storage servers, as they last reported.
struct Held {
    used_bytes: u64,
    /// What is promised to jobs.
    reserved_bytes: u64,
}

async fn held(controller: &ControllerClient) -> anyhow::Result<Held> {
    let servers = controller.list_servers().await?.servers;
    let used = servers.iter().filter_map(|server| server.usage.as_ref());
    Ok(Held {
        used_bytes: used.map(|usage| usage.used_bytes).sum(),
        reserved_bytes: servers.iter().map(|server| server.reserved_bytes).sum(),
    })
}

async fn wait_until(
    controller: &ControllerClient,
    is_so: impl Fn(&Held) -> bool,
) -> anyhow::Result<Held> {
    loop {
        let held = held(controller).await?;
        if is_so(&held) {
            return Ok(held);
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

async fn fill(fs: &Arc<FileSystem>, files: u64) -> anyhow::Result<()> {
    let mut makers = JoinSet::new();
    for number in 0..files.div_ceil(DIRECTORY_FILES) {
        if makers.len() as u64 == MAKERS
            && let Some(made) = makers.join_next().await
        {
            made??;
        }
        let count = DIRECTORY_FILES.min(files - number * DIRECTORY_FILES);
        makers.spawn(fill_directory(Arc::clone(fs), number, count));
    }
    while let Some(made) = makers.join_next().await {
        made??;
    }
    Ok(())
}

async fn fill_directory(fs: Arc<FileSystem>, number: u64, count: u64) -> Result<(), Errno> {
    let caller = Caller { uid: 0, gid: 0 };
    let name = number.to_string().into_bytes();
    let path = [&name[..], b"/x"].concat();
    let (parent, _) = fs.walk_to_parent(&path, caller).await?;
    for file in 0..count {
        let name = file.to_string().into_bytes();
        let create = CreateRequest {
            parent,
            name: &name,
            mode: 0o644,
            umask: 0,
            flags: libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL,
            caller,
            clear_set_id: false,
        };
        let (_, opened) = fs.create(create).await?.value;
        let data = Bytes::from(vec![1; FILE_BYTES as usize]);
        fs.write(opened.handle, WriteRequest::default(), data)
            .await?;
        fs.flush(opened.handle).await?;
        fs.release(opened.handle).await;
    }
    Ok(())
}

/// Asks one question after the other, each a round trip, and notes how long the answers took.
async fn ask(fs: Arc<FileSystem>, stop: CancellationToken) -> anyhow::Result<Vec<Duration>> {
    let mut waits = Vec::new();
    while !stop.is_cancelled() {
        let start = Instant::now();
        match fs.get_xattr(InodeId::ROOT, b"user.none").await {
            Ok(_) | Err(Errno(libc::ENODATA)) => waits.push(start.elapsed()),
            Err(errno) => bail!("the metadata server answers {errno}"),
        }
    }
    Ok(waits)
}

fn report(what: &str, mut waits: Vec<Duration>) {
    waits.sort_unstable();
    let at = |per_mille: usize| waits[(waits.len() - 1) * per_mille / 1000];
    println!(
        "{what}: {} answers, p50 {:.0?}, p99 {:.0?}, p99.9 {:.0?}, longest {:.1?}",
        waits.len(),
        at(500),
        at(990),
        at(999),
        at(1000)
    );
}
