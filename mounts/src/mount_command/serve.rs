//! Mounts a job, with a cluster inside this process if need be, and serves until it is unmounted
//! or a signal ends it.

use anyhow::{Context, anyhow};
use pocket_fs::FileSystemConfig;
use pocket_fuse::{MountSettings, Readers};
use pocket_proto::ByteCount;
use tracing::info;

use super::{Audience, MountFailure};
use crate::{
    arguments::MountRequest,
    connection::JobTerms,
    embedded::{Cluster, ClusterConfig},
    guard::Guard,
    job_mount::{JobMount, JobMountConfig},
    logging::Log,
    machine,
    options::MountOptions,
    runtime,
    signals::Signals,
};

/// Runs the mount from beginning to end.
pub(super) fn run(
    request: &MountRequest,
    log: &Log,
    audience: &mut dyn Audience,
) -> Result<(), MountFailure> {
    let guard = Guard::start().context("cannot start the mount's guard");
    let guard = guard.map_err(MountFailure::system)?;
    let mut outcome = Ok(());
    runtime::block_on(async {
        outcome = run_async(request, guard, log, audience).await;
        Ok(())
    })
    .map_err(MountFailure::system)?;
    outcome
}

async fn run_async(
    request: &MountRequest,
    guard: Guard,
    log: &Log,
    audience: &mut dyn Audience,
) -> Result<(), MountFailure> {
    let mut signals = Signals::listen().map_err(MountFailure::system)?;
    let cluster = tokio::select! {
        cluster = embedded(request) => cluster?,
        signal = signals.end.received() => return Err(interrupted(signal)),
    };
    let controller = match (&cluster, &request.controller) {
        (Some(cluster), _) => cluster.controller().to_owned(),
        (None, address) => address
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
    };
    let mounted = tokio::select! {
        mounted = mount(request, controller, guard, audience) => mounted,
        signal = signals.end.received() => Err(interrupted(signal)),
    };
    let outcome = match mounted {
        Ok(mount) => serve(
            request,
            &mount,
            cluster.as_ref(),
            log,
            &mut signals,
            audience,
        )
        .await
        .and(leave(mount).await),
        Err(failure) => Err(failure),
    };
    if let Some(cluster) = cluster {
        cluster.stop().await;
    }
    outcome
}

/// Tells that the mount is there, and waits for its end.
async fn serve(
    request: &MountRequest,
    mount: &JobMount,
    cluster: Option<&Cluster>,
    log: &Log,
    signals: &mut Signals,
    audience: &mut dyn Audience,
) -> Result<(), MountFailure> {
    for line in notices(request, mount, cluster) {
        audience.notice(&line).map_err(MountFailure::system)?;
    }
    audience.ready().map_err(MountFailure::system)?;
    info!(job = request.job, mountpoint = %mount.path().display(), "mounted");
    tokio::select! {
        () = mount.unmounted() => info!("unmounted"),
        signal = signals.end.received() => info!("{signal}: unmounting"),
        never = log.cycle_on(&mut signals.level) => match never {},
    }
    Ok(())
}

async fn leave(mount: JobMount) -> Result<(), MountFailure> {
    let left = mount.unmount().await;
    left.map_err(|failure| MountFailure::mount(anyhow!("the job was not left in order: {failure}")))
}

/// A cluster inside this process, where no controller is named.
async fn embedded(request: &MountRequest) -> Result<Option<Cluster>, MountFailure> {
    if request.controller.is_some() {
        return Ok(None);
    }
    if request.existing {
        return Err(MountFailure::usage(anyhow!(
            "--existing needs a cluster that may know the job: name it with --controller"
        )));
    }
    let mut config = ClusterConfig {
        storage_servers: request.embedded_servers,
        ..ClusterConfig::default()
    };
    if let Some(capacity) = request.terms.hints.capacity {
        config.capacity = capacity;
    }
    let cluster = Cluster::start(config).await;
    cluster.map(Some).map_err(MountFailure::mount)
}

async fn mount(
    request: &MountRequest,
    controller: String,
    guard: Guard,
    audience: &mut dyn Audience,
) -> Result<JobMount, MountFailure> {
    let terms = JobTerms {
        existing_only: request.existing,
        ..request.terms.to_terms(&request.job)
    };
    let mut filesystem = FileSystemConfig {
        read_only: request.options.read_only,
        ..FileSystemConfig::default()
    };
    if let Some(ByteCount(bytes)) = request.memory_budget {
        filesystem.memory_bytes = bytes;
    }
    let config = JobMountConfig {
        controller,
        terms,
        mountpoint: request.mountpoint.clone(),
        settings: settings(&request.options, &request.job),
        filesystem,
        auto_unmount: request.options.auto_unmount,
        presentation: request.options.presentation,
        metrics: request.metrics.clone(),
    };
    let waits = |place: &str| {
        // The mount is what was asked for; nobody who listens does not undo it.
        let _ = audience.notice(&format!("job '{}' waits: {place}", request.job));
    };
    let mount = JobMount::start(config, guard, waits).await;
    mount.map_err(MountFailure::mount)
}

/// The options as the adapter takes them.
fn settings(options: &MountOptions, job: &str) -> MountSettings {
    let is_root = nix::unistd::geteuid().is_root();
    let readers = match options.allow_other.unwrap_or(is_root) {
        true => Readers::Everyone,
        false => Readers::Owner,
    };
    let either = |condition, yes: &str, no: &str| if condition { yes } else { no }.to_owned();
    let mut names = vec![
        either(options.read_only, "ro", "rw"),
        either(options.set_user_id, "suid", "nosuid"),
        either(options.devices, "dev", "nodev"),
        either(options.no_exec, "noexec", "exec"),
        either(options.no_access_time, "noatime", "atime"),
    ];
    for (condition, name) in [
        (options.synchronous, "sync"),
        (options.directories_synchronous, "dirsync"),
    ] {
        if condition {
            names.push(name.to_owned());
        }
    }
    let defaults = MountSettings::default();
    MountSettings {
        source: options
            .source_name
            .clone()
            .unwrap_or_else(|| job.to_owned()),
        subtype: options.subtype.clone().unwrap_or(defaults.subtype),
        readers,
        birth_times: !options.no_birth_times,
        // Lists of others than the owner and the mode that are shown would say something else.
        acls: !options.no_acls && options.presentation.shows_permissions(),
        options: names,
        threads: std::thread::available_parallelism().map_or(defaults.threads, usize::from),
    }
}

/// What the user should know about this mount.
fn notices(request: &MountRequest, mount: &JobMount, cluster: Option<&Cluster>) -> Vec<String> {
    let mut lines = Vec::new();
    let path = mount.path().display();
    if let Some(cluster) = cluster {
        let available = machine::available_memory();
        if cluster.capacity() > available {
            lines.push(format!(
                "the capacity is more than the {available} of memory that are free here: \
                 this machine may run out before the job does"
            ));
        }
        let (capacity, controller) = (cluster.capacity(), cluster.controller());
        let job = &request.job;
        lines.push(format!(
            "no controller was named: a cluster of {capacity} runs inside this process, \
             and ends with its data when {path} is unmounted"
        ));
        lines.push(format!(
            "join from this host: pocket-mount {job} DIR --controller {controller}"
        ));
    }
    if let Some(metrics) = mount.metrics_endpoint() {
        lines.push(format!("metrics are at http://{metrics}/metrics"));
    }
    let notice = &mount.registration().notice;
    if !notice.is_empty() {
        lines.push(notice.clone());
    }
    lines
}

fn interrupted(signal: &str) -> MountFailure {
    MountFailure::mount(anyhow!("{signal} before the mount was ready"))
}
