//! `pocket storage`: a storage server as a process.

use clap::{Args, ValueEnum};
use pocket_proto::{Bandwidth, ByteCount, ServerId};
use pocket_storage::{RunningServer, StorageConfig, StorageServer};

use super::server::{Announcement, ServerArguments, advertised};
use crate::{endpoint::ControllerAddress, logging::Log, machine, units::parse_capacity};

/// Run a storage server: it holds the blocks of jobs
#[derive(Args, Debug)]
pub(super) struct StorageArguments {
    /// The cluster's controller
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "POCKET_CONTROLLER",
        default_value = "127.0.0.1:7300"
    )]
    controller: ControllerAddress,

    /// Where to listen to mounts; port 0 takes any free one
    #[arg(long, value_name = "HOST:PORT", default_value = "0.0.0.0:7303")]
    listen: String,

    /// Bytes of blocks to hold at most [default: half of the free memory]
    #[arg(
        long,
        value_name = "SIZE",
        env = "POCKET_STORAGE_CAPACITY",
        value_parser = parse_capacity
    )]
    capacity: Option<ByteCount>,

    /// What it moves, for placement, as 8Gb/s [default: not planned]
    #[arg(long, value_name = "RATE", env = "POCKET_STORAGE_BANDWIDTH")]
    bandwidth: Option<Bandwidth>,

    /// The medium that holds the blocks
    #[arg(long, value_enum, default_value = "dram")]
    tier: Tier,

    /// What others call this host [default: the address that the controller is reached from]
    #[arg(long, value_name = "HOST[:PORT]", env = "POCKET_ADVERTISE")]
    advertise: Option<String>,

    #[command(flatten)]
    server: ServerArguments,
}

/// Media that there is an engine for.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Tier {
    /// Memory of this process
    Dram,
}

impl Tier {
    fn name(self) -> &'static str {
        match self {
            Tier::Dram => "dram",
        }
    }
}

impl StorageArguments {
    pub(super) fn run(self, log: Log) -> anyhow::Result<()> {
        let StorageArguments {
            controller,
            listen,
            capacity,
            bandwidth,
            tier,
            advertise,
            server,
        } = self;
        server.serve(
            log,
            |cluster_key| async move {
                let config = StorageConfig {
                    advertise: advertised(&listen, advertise, &controller)?,
                    listen,
                    capacity: capacity.unwrap_or_else(machine::memory_for_stores),
                    tier: tier.name().to_owned(),
                    bytes_per_second: bandwidth.map_or(0, |rate| rate.bytes_per_second),
                    cluster_key,
                    controller: Some(controller.to_string()),
                    server: ServerId::random(),
                };
                Ok(StorageServer::start(config).await?)
            },
            |running| Announcement::new("storage", running.endpoint()),
            RunningServer::dismissed,
            RunningServer::stop,
        )
    }
}
