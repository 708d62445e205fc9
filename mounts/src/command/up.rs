//! `pocket up`: a cluster of processes on this machine, until a signal ends it.

mod child;
mod local;

use std::{env, ffi::OsStr, fs, path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use pocket_controller_client::ControllerClient;
use pocket_policy::ScalingSettings;
use pocket_proto::{Bandwidth, ByteCount, ServerId, control::StorageClass};
use pocket_scaler::{AutoscaleSettings, Autoscaler, Scaler};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::{
    child::{ChildServer, Ended},
    local::LocalScaler,
};
use super::server::Announcement;
use crate::{
    cluster_key::KEY_VARIABLE,
    machine, metrics, output,
    runtime::block_on,
    signals::Signals,
    units::{parse_capacity, parse_server_bandwidth, parse_time},
};

/// From the start of the last server until the controller has heard of all of them.
const READY_DEADLINE: Duration = Duration::from_secs(15);
const READY_POLL: Duration = Duration::from_millis(50);

/// Run a cluster of processes on this machine until Ctrl-C
#[derive(Args, Debug)]
pub(super) struct UpArguments {
    /// Number of storage servers
    #[arg(
        long,
        value_name = "N",
        default_value_t = 2,
        value_parser = clap::value_parser!(u16).range(1..=64),
        conflicts_with = "autoscale"
    )]
    storage_servers: u16,

    /// Number of long-running storage servers beside these, for the data of jobs with --persist alone
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        value_parser = clap::value_parser!(u16).range(0..=64)
    )]
    long_running: u16,

    /// Start and end storage servers as jobs need them
    #[arg(long)]
    autoscale: bool,

    /// With --autoscale: the fewest storage servers
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u16).range(1..=64),
        requires = "autoscale"
    )]
    min: u16,

    /// With --autoscale: the most storage servers
    #[arg(
        long,
        value_name = "N",
        default_value_t = 8,
        value_parser = clap::value_parser!(u16).range(1..=64),
        requires = "autoscale"
    )]
    max: u16,

    /// With --autoscale: a server that shall go has its blocks moved after this time
    #[arg(
        long,
        value_name = "TIME",
        default_value = "60s",
        value_parser = parse_time,
        requires = "autoscale"
    )]
    drain_deadline: Duration,

    /// Capacity of each storage server [default: an equal share of half the free memory]
    #[arg(long, value_name = "SIZE", value_parser = parse_capacity)]
    capacity: Option<ByteCount>,

    /// What each storage server moves at most, as 8Gb/s: shared fairly among jobs [default: not known]
    #[arg(long, value_name = "RATE", value_parser = parse_server_bandwidth)]
    bandwidth: Option<Bandwidth>,

    /// Where the controller listens; port 0 takes any free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7300")]
    listen: String,

    /// Keep in this directory what outlives the cluster: what earlier runs of jobs needed
    #[arg(long, value_name = "DIR", env = "POCKET_STATE_DIR")]
    state: Option<PathBuf>,

    /// Serve the controller's metrics for Prometheus here, at /metrics, and those of its servers on
    /// free ports of the same host; port 0 takes any free one
    #[arg(long, value_name = "HOST:PORT", env = "POCKET_METRICS")]
    metrics: Option<String>,

    /// Serve the controller's dashboard here, to everyone who reaches it; port 0 takes any free one
    #[arg(long, value_name = "HOST:PORT", env = "POCKET_DASHBOARD")]
    dashboard: Option<String>,

    /// Print one line of JSON when the cluster is ready
    #[arg(long)]
    json: bool,
}

/// A cluster that is ready, for programs.
#[derive(Debug, Serialize)]
struct Cluster {
    controller: String,
    capacity_bytes: u64,
    servers: Vec<Announcement>,
}

/// The processes of the cluster while they run.
struct Processes {
    tasks: JoinSet<Ended>,
    stop: CancellationToken,
    key: Option<String>,
    scaler: Option<LocalScaler>,
}

impl UpArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if self.min > self.max {
            bail!("--min {} is more than --max {}", self.min, self.max);
        }
        block_on(async {
            let mut signals = Signals::listen()?;
            let mut processes = Processes::new();
            // Whatever comes of it, no child is left behind.
            let outcome = tokio::select! {
                outcome = self.bring_up(&mut processes) => outcome.map(Some),
                _ = signals.end.received() => Ok(None),
            };
            let outcome = match outcome {
                Ok(Some(cluster)) => match self.print(&cluster) {
                    Ok(()) => processes.watch(&mut signals).await,
                    Err(error) => Err(error),
                },
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            processes.end().await;
            outcome
        })
    }

    /// Starts every server and waits until the controller knows all of them.
    async fn bring_up(&self, processes: &mut Processes) -> anyhow::Result<Cluster> {
        let capacity = self.capacity_each();
        let state = self.state_file()?;
        let mut controller = vec!["controller", "--listen", &self.listen];
        if let Some(state) = &state {
            controller.extend(["--state", state]);
        }
        if let Some(metrics) = &self.metrics {
            controller.extend(["--metrics", metrics]);
        }
        if let Some(dashboard) = &self.dashboard {
            controller.extend(["--dashboard", dashboard]);
        }
        let controller = processes.start("controller", &controller).await?;
        let address = controller.endpoint.clone();
        let mut servers = vec![controller];
        let meta = [
            "meta",
            "--listen",
            "127.0.0.1:0",
            "--control-listen",
            "127.0.0.1:0",
        ];
        let mut meta = [&meta[..], &["--controller", &address]].concat();
        let beside = self.metrics.as_deref().map(metrics::beside);
        if let Some(beside) = &beside {
            meta.extend(["--metrics", beside]);
        }
        servers.push(processes.start("metadata server", &meta).await?);
        let mut storage: Vec<String> = ["storage", "--listen", "127.0.0.1:0"]
            .map(str::to_owned)
            .into();
        storage.extend(["--capacity".to_owned(), capacity.0.to_string()]);
        storage.extend(["--controller".to_owned(), address.clone()]);
        if let Some(beside) = beside {
            storage.extend(["--metrics".to_owned(), beside]);
        }
        if let Some(rate) = self.bandwidth {
            storage.extend([
                "--bandwidth".to_owned(),
                format!("{}B/s", rate.bytes_per_second),
            ]);
        }
        // Whatever the environment says.
        let of = |class: StorageClass| {
            let class = ["--class".to_owned(), class.to_string()];
            [&storage[..], &class].concat()
        };
        let long_running = of(StorageClass::LongRunning);
        let storage = of(StorageClass::Regular);
        for number in 1..=self.long_running {
            let name = format!("long-running storage server {number}");
            servers.push(processes.start(&name, &long_running).await?);
        }
        if self.autoscale {
            let scaler = processes.scale(storage)?;
            scaler.start(self.min.into()).await?;
            // The controller itself is not among those it lists.
            wait_ready(&address, servers.len() - 1 + usize::from(self.min)).await?;
            processes.follow_load(&address, scaler, self.scaling(capacity))?;
        } else {
            for number in 1..=self.storage_servers {
                let name = format!("storage server {number}");
                servers.push(processes.start(&name, &storage).await?);
            }
            wait_ready(&address, servers.len() - 1).await?;
        }
        Ok(Cluster {
            controller: address,
            capacity_bytes: capacity.0,
            servers,
        })
    }

    /// The controller's file in the state directory, which is made if it is not there.
    fn state_file(&self) -> anyhow::Result<Option<String>> {
        let Some(folder) = &self.state else {
            return Ok(None);
        };
        let shown = folder.display();
        fs::create_dir_all(folder).with_context(|| format!("cannot make {shown}"))?;
        let file = folder.join("controller.state");
        let file = file.to_str().with_context(|| {
            format!("--state {shown} is not text: name a directory whose name is UTF-8")
        })?;
        Ok(Some(file.to_owned()))
    }

    fn capacity_each(&self) -> ByteCount {
        let most = match self.autoscale {
            true => self.max,
            false => self.storage_servers,
        };
        let servers = u64::from(most) + u64::from(self.long_running);
        let share = || machine::memory_for_stores().0 / servers;
        self.capacity
            .unwrap_or_else(|| ByteCount(share() >> 20 << 20))
    }

    fn scaling(&self, capacity: ByteCount) -> AutoscaleSettings {
        AutoscaleSettings {
            scaling: ScalingSettings {
                servers_min: self.min.into(),
                servers_max: self.max.into(),
                ..ScalingSettings::default()
            },
            capacity_bytes: capacity.0,
            bytes_per_second: self.bandwidth.map_or(0, |rate| rate.bytes_per_second),
            drain_deadline: Some(self.drain_deadline),
            tier: None,
        }
    }

    fn print(&self, cluster: &Cluster) -> anyhow::Result<()> {
        if self.json {
            return output::json(cluster);
        }
        let Cluster {
            controller,
            capacity_bytes,
            servers,
        } = cluster;
        let count = match self.autoscale {
            true => format!("{} to {}", self.min, self.max),
            false => self.storage_servers.to_string(),
        };
        let each = ByteCount(*capacity_bytes);
        let long_running = match self.long_running {
            0 => String::new(),
            count => format!(", and {count} long-running"),
        };
        output::line(format_args!(
            "cluster ready: {count} storage servers of {each}{long_running}"
        ))?;
        for server in servers {
            let Announcement {
                role,
                endpoint,
                metrics,
                dashboard,
                pid,
                ..
            } = server;
            output::line(format_args!("  {role:<11} {endpoint:<22} process {pid}"))?;
            if let Some(metrics) = metrics {
                output::line(format_args!("  metrics     http://{metrics}/metrics"))?;
            }
            if let Some(dashboard) = dashboard {
                output::line(format_args!("  dashboard   http://{dashboard}/"))?;
            }
        }
        output::line("mount a job:")?;
        output::line(format_args!(
            "  pocket-mount JOB DIR --controller {controller}"
        ))?;
        output::line("Ctrl-C ends the cluster and all data in it")?;
        Ok(())
    }
}

async fn wait_ready(controller: &str, servers: usize) -> anyhow::Result<()> {
    let client = ControllerClient::connect(controller)?;
    let ready = async {
        loop {
            if let Ok(reply) = client.list_servers().await {
                let alive = reply.servers.iter().filter(|server| server.alive);
                if alive.count() >= servers {
                    return;
                }
            }
            tokio::time::sleep(READY_POLL).await;
        }
    };
    let bounded = tokio::time::timeout(READY_DEADLINE, ready).await;
    bounded.with_context(|| {
        let limit = READY_DEADLINE.as_secs();
        format!("the servers did not register at {controller} within {limit} s")
    })
}

/// The servers of a local cluster are this very program.
fn this_program() -> anyhow::Result<PathBuf> {
    env::current_exe().context("cannot find this program itself")
}

impl Processes {
    /// None yet. They will share the key of the environment, or one made up for them.
    fn new() -> Self {
        let given = env::var(KEY_VARIABLE).is_ok_and(|key| !key.is_empty());
        let made_up = || format!("{}{}", ServerId::random(), ServerId::random());
        Processes {
            tasks: JoinSet::new(),
            stop: CancellationToken::new(),
            key: (!given).then(made_up),
            scaler: None,
        }
    }

    /// Starts one and waits until it says that it serves.
    async fn start(
        &mut self,
        name: &str,
        arguments: &[impl AsRef<OsStr>],
    ) -> anyhow::Result<Announcement> {
        let mut child = ChildServer::start(&this_program()?, name, arguments, self.key.as_deref())?;
        let announcement = child.announcement().await?;
        self.tasks.spawn(child.supervise(self.stop.clone()));
        Ok(announcement)
    }

    /// What will start storage servers with these arguments.
    fn scale(&mut self, arguments: Vec<String>) -> anyhow::Result<LocalScaler> {
        let scaler = LocalScaler::new(this_program()?, arguments, self.key.clone());
        self.scaler = Some(scaler.clone());
        Ok(scaler)
    }

    /// Has as many storage servers from now on as the jobs need.
    fn follow_load(
        &self,
        controller: &str,
        scaler: LocalScaler,
        settings: AutoscaleSettings,
    ) -> anyhow::Result<()> {
        let client = ControllerClient::connect(controller)?;
        let autoscaler = Autoscaler::new(client, scaler, settings);
        tokio::spawn(autoscaler.run(self.stop.clone()));
        Ok(())
    }

    /// Waits for a signal, and reports every process that ends before.
    async fn watch(&mut self, signals: &mut Signals) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                _ = signals.end.received() => return Ok(()),
                ended = self.tasks.join_next() => match ended {
                    Some(Ok(ended)) => eprintln!("pocket: {ended}"),
                    Some(Err(error)) => bail!("a process could not be watched: {error}"),
                    None => bail!("every process of the cluster has ended"),
                },
            }
        }
    }

    /// Ends all of them, and reports those that did not go well.
    async fn end(&mut self) {
        self.stop.cancel();
        if let Some(scaler) = &self.scaler {
            scaler.end().await;
        }
        while let Some(ended) = self.tasks.join_next().await {
            match ended {
                Ok(ended) if ended.in_order => {}
                Ok(ended) => eprintln!("pocket: {ended}"),
                Err(error) => eprintln!("pocket: a process could not be watched: {error}"),
            }
        }
    }
}
