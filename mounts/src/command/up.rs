//! `pocket up`: a cluster of processes on this machine, until a signal ends it.

mod child;

use std::{env, fs, path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use pocket_controller_client::ControllerClient;
use pocket_proto::{Bandwidth, ByteCount, ServerId};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::child::{ChildServer, Ended};
use super::server::Announcement;
use crate::{
    cluster_key::KEY_VARIABLE,
    machine, output,
    runtime::block_on,
    signals::Signals,
    units::{parse_capacity, parse_server_bandwidth},
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
        value_parser = clap::value_parser!(u16).range(1..=64)
    )]
    storage_servers: u16,

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

    /// Serve the controller's metrics for Prometheus here, at /metrics; port 0 takes any free one
    #[arg(long, value_name = "HOST:PORT", env = "POCKET_METRICS")]
    metrics: Option<String>,

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
}

impl UpArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
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
        let meta = [&meta[..], &["--controller", &address]].concat();
        servers.push(processes.start("metadata server", &meta).await?);
        let bytes = capacity.0.to_string();
        let bandwidth = self
            .bandwidth
            .map(|rate| format!("{}B/s", rate.bytes_per_second));
        for number in 1..=self.storage_servers {
            let storage = ["storage", "--listen", "127.0.0.1:0", "--capacity", &bytes];
            let mut storage = [&storage[..], &["--controller", &address]].concat();
            if let Some(bandwidth) = &bandwidth {
                storage.extend(["--bandwidth", bandwidth]);
            }
            let name = format!("storage server {number}");
            servers.push(processes.start(&name, &storage).await?);
        }
        // The controller itself is not among those it lists.
        wait_ready(&address, servers.len() - 1).await?;
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
        let share = || machine::memory_for_stores().0 / u64::from(self.storage_servers);
        self.capacity
            .unwrap_or_else(|| ByteCount(share() >> 20 << 20))
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
        let count = self.storage_servers;
        let each = ByteCount(*capacity_bytes);
        output::line(format_args!(
            "cluster ready: {count} storage servers of {each}"
        ))?;
        for server in servers {
            let Announcement {
                role,
                endpoint,
                metrics,
                pid,
                ..
            } = server;
            output::line(format_args!("  {role:<11} {endpoint:<22} process {pid}"))?;
            if let Some(metrics) = metrics {
                output::line(format_args!("  metrics     http://{metrics}/metrics"))?;
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

impl Processes {
    /// None yet. They will share the key of the environment, or one made up for them.
    fn new() -> Self {
        let given = env::var(KEY_VARIABLE).is_ok_and(|key| !key.is_empty());
        let made_up = || format!("{}{}", ServerId::random(), ServerId::random());
        Processes {
            tasks: JoinSet::new(),
            stop: CancellationToken::new(),
            key: (!given).then(made_up),
        }
    }

    /// Starts one and waits until it says that it serves.
    async fn start(&mut self, name: &str, arguments: &[&str]) -> anyhow::Result<Announcement> {
        let mut child = ChildServer::start(name, arguments, self.key.as_deref())?;
        let announcement = child.announcement().await?;
        self.tasks.spawn(child.supervise(self.stop.clone()));
        Ok(announcement)
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
        while let Some(ended) = self.tasks.join_next().await {
            match ended {
                Ok(ended) if ended.in_order => {}
                Ok(ended) => eprintln!("pocket: {ended}"),
                Err(error) => eprintln!("pocket: a process could not be watched: {error}"),
            }
        }
    }
}
