//! `pocket storage`: a storage server as a process.

mod parting;
mod tier;

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use pocket_metrics::MetricsServer;
use pocket_proto::{Bandwidth, ByteCount, ServerId, control::StorageClass};
use pocket_storage::{
    RunningServer, StorageConfig, StorageMetrics, StorageServer, Store, StoreBandwidth,
};
use tracing::error;

use self::{
    parting::Parting,
    tier::{Tier, TierArgument},
};
use super::server::{Announcement, MetricsArguments, ServerArguments, advertised};
use crate::{
    endpoint::ControllerArgument,
    logging::Log,
    machine, metrics,
    units::{parse_capacity, parse_server_bandwidth},
};

/// Run a storage server: it holds the blocks of jobs
#[derive(Args, Debug)]
pub(super) struct StorageArguments {
    #[command(flatten)]
    control: ControllerArgument,

    /// Where to listen to mounts; port 0 takes any free one
    #[arg(long, value_name = "HOST:PORT", default_value = "0.0.0.0:7303")]
    listen: String,

    /// What holds the blocks: dram, nvme, ssd or hdd; several of them as dram=SIZE and
    /// nvme=PATH,SIZE[,RATE], each a server of its own on the next port
    #[arg(long = "tier", value_name = "TIER", default_value = "dram")]
    tiers: Vec<TierArgument>,

    /// Disk tiers: a directory on the disk, or a block device
    #[arg(long, value_name = "PATH")]
    path: Option<PathBuf>,

    /// Bytes of blocks to hold at most [default for dram: half of the free memory]
    #[arg(
        long,
        value_name = "SIZE",
        env = "POCKET_STORAGE_CAPACITY",
        value_parser = parse_capacity
    )]
    capacity: Option<ByteCount>,

    /// What this server moves, in and out together, as 8Gb/s: then throughput is planned, and shared
    /// fairly among jobs when it is short [default: not known]
    #[arg(
        long,
        value_name = "RATE",
        env = "POCKET_STORAGE_BANDWIDTH",
        value_parser = parse_server_bandwidth
    )]
    bandwidth: Option<Bandwidth>,

    /// What this server is there for: long-running ones hold the data of jobs with --persist, and no
    /// others, and no scaler has them leave; jobs with --persist go nowhere else where there are any
    #[arg(
        long,
        value_name = "CLASS",
        env = "POCKET_STORAGE_CLASS",
        default_value_t = StorageClass::Regular
    )]
    class: StorageClass,

    /// Measure at start what each medium moves where nobody says so; takes two seconds
    #[arg(long)]
    calibrate: bool,

    /// What others call this host [default: the address that the controller is reached from]
    #[arg(long, value_name = "HOST[:PORT]", env = "POCKET_ADVERTISE")]
    advertise: Option<String>,

    /// Note here that this server was drained, and serve no more when the note is found at start;
    /// for containers that are started again whatever their end was. May be given several times
    #[arg(long = "drained-note", value_name = "FILE")]
    drained_notes: Vec<PathBuf>,

    #[command(flatten)]
    metrics: MetricsArguments,

    #[command(flatten)]
    server: ServerArguments,
}

/// The servers of a process, one for each tier, with the page for all of them.
struct Running {
    servers: Vec<RunningServer>,
    served: Option<MetricsServer>,
}

impl StorageArguments {
    pub(super) fn run(self, log: Log) -> anyhow::Result<()> {
        let parting = Parting::new(self.drained_notes.clone());
        if parting.was_left() {
            return parting.wait_for_the_end();
        }
        let tiers = self.complete_tiers()?;
        let StorageArguments {
            control: ControllerArgument { controller },
            listen,
            advertise,
            metrics,
            server,
            calibrate,
            class,
            ..
        } = self;
        check_memory(&tiers, machine::total_memory())?;
        server.serve(
            log,
            |cluster_key| async move {
                let mut servers = Vec::new();
                for (listen, tier) in listens(&listen, tiers.len())?.into_iter().zip(tiers) {
                    let config = StorageConfig {
                        advertise: advertised(&listen, advertise.clone(), &controller)?,
                        listen,
                        capacity: tier.capacity,
                        store: tier.store,
                        bandwidth: match tier.bandwidth {
                            Some(said) => StoreBandwidth::Said(said.bytes_per_second),
                            None if calibrate => StoreBandwidth::Measured,
                            None => StoreBandwidth::Unknown,
                        },
                        class,
                        cluster_key: cluster_key.clone(),
                        controller: Some(controller.to_string()),
                        server: ServerId::random(),
                    };
                    servers.push(StorageServer::start(config).await?);
                }
                let counted: Vec<_> = servers.iter().map(|it| it.metrics().clone()).collect();
                let page = move || StorageMetrics::page(&counted);
                let served = metrics::serve(metrics.metrics.as_deref(), page).await?;
                Ok(Running { servers, served })
            },
            |Running { servers, served }| {
                let announced = servers.iter().map(|server| Announcement {
                    metrics: metrics::endpoint(served.as_ref()),
                    ..Announcement::new("storage", server.endpoint())
                });
                announced.collect()
            },
            async |running: &Running| {
                for server in &running.servers {
                    server.dismissed().await;
                }
                if let Err(error) = parting.leave() {
                    error!("nobody will know that this server was drained: {error:#}");
                }
            },
            |running| async {
                for server in running.servers {
                    server.stop().await;
                }
            },
        )
    }

    /// The tiers, where there is one with what is said beside it.
    fn complete_tiers(&self) -> anyhow::Result<Vec<Tier>> {
        let mut tiers = self.tiers.clone();
        if let [only] = &mut tiers[..] {
            only.path = only.path.take().or_else(|| self.path.clone());
            only.capacity = only.capacity.or(self.capacity);
            only.bandwidth = only.bandwidth.or(self.bandwidth);
        } else if self.path.is_some() || self.bandwidth.is_some() {
            bail!("with several tiers, say what belongs to each as --tier nvme=PATH,SIZE,RATE");
        } else if self
            .advertise
            .as_ref()
            .is_some_and(|name| name.contains(':'))
        {
            bail!("with several tiers, --advertise names a host without a port");
        }
        tiers.into_iter().map(TierArgument::complete).collect()
    }
}

/// Where each of several servers listens: on ports one after the other.
fn listens(first: &str, count: usize) -> anyhow::Result<Vec<String>> {
    if count == 1 {
        return Ok(vec![first.to_owned()]);
    }
    let wrong = || format!("'{first}' is not HOST:PORT");
    let (host, port) = first.rsplit_once(':').with_context(wrong)?;
    let port: u16 = port.parse().with_context(wrong)?;
    let ports = (0..count).map(|number| match port {
        0 => Ok(0),
        _ => {
            let number = u16::try_from(number).ok();
            let port = number.and_then(|number| port.checked_add(number));
            port.with_context(|| format!("no port is left behind {first}"))
        }
    });
    ports.map(|port| Ok(format!("{host}:{}", port?))).collect()
}

/// What is in memory cannot be more than the machine has.
fn check_memory(tiers: &[Tier], memory: Option<ByteCount>) -> anyhow::Result<()> {
    let in_memory = tiers.iter().filter(|tier| tier.store == Store::Dram);
    let asked = in_memory.map(|tier| tier.capacity.0);
    let asked = ByteCount(asked.fold(0, u64::saturating_add));
    if let Some(memory) = memory
        && asked > memory
    {
        bail!("--capacity {asked} is more than the {memory} of memory of this machine: give less");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_servers_listen_on_ports_in_a_row() {
        assert_eq!(listens("a:7303", 1).unwrap(), ["a:7303"]);
        assert_eq!(
            listens("a:7303", 3).unwrap(),
            ["a:7303", "a:7304", "a:7305"]
        );
        assert_eq!(listens("[::]:0", 2).unwrap(), ["[::]:0", "[::]:0"]);
        assert!(listens("a:65535", 2).is_err());
        assert!(listens("a", 2).is_err());
    }

    #[test]
    fn a_server_cannot_hold_more_than_the_machine_has() {
        let memory = Some(ByteCount(8 << 30));
        let check = |tiers: &[&str], memory| {
            let tiers = tiers.iter().map(|tier| {
                let tier: TierArgument = tier.parse().unwrap();
                tier.complete().unwrap()
            });
            check_memory(&tiers.collect::<Vec<_>>(), memory)
        };
        assert!(check(&["dram=8GiB", "nvme=/mnt/d0,1PiB"], memory).is_ok());
        assert!(check(&["dram=1024TiB"], None).is_ok());
        let error = check(&["dram=1024TiB"], memory).expect_err("too much");
        let error = error.to_string();
        assert!(
            error.contains("--capacity 1024TiB") && error.contains("8GiB"),
            "{error}"
        );
    }
}
