//! `pocket storage`: a storage server as a process.

use anyhow::bail;
use clap::{Args, ValueEnum};
use pocket_proto::{Bandwidth, ByteCount, ServerId};
use pocket_storage::{RunningServer, StorageConfig, StorageServer};

use super::server::{Announcement, ServerArguments, advertised};
use crate::{
    endpoint::ControllerAddress,
    logging::Log,
    machine,
    units::{parse_capacity, parse_server_bandwidth},
};

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

    /// What this server's network moves, in and out together, as 8Gb/s: then throughput is planned, and
    /// shared fairly among jobs when it is short [default: not known]
    #[arg(
        long,
        value_name = "RATE",
        env = "POCKET_STORAGE_BANDWIDTH",
        value_parser = parse_server_bandwidth
    )]
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
        check_capacity(capacity, machine::total_memory())?;
        server.serve(
            log,
            |cluster_key| async move {
                let config = StorageConfig {
                    advertise: advertised(&listen, advertise, &controller)?,
                    listen,
                    capacity: capacity.unwrap_or_else(machine::memory_for_stores),
                    bytes_per_second: bandwidth.map(|rate| rate.bytes_per_second),
                    tier: tier.name().to_owned(),
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

/// What is in memory cannot be more than the machine has.
fn check_capacity(asked: Option<ByteCount>, memory: Option<ByteCount>) -> anyhow::Result<()> {
    if let (Some(asked), Some(memory)) = (asked, memory)
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
    fn a_server_cannot_hold_more_than_the_machine_has() {
        let memory = Some(ByteCount(8 << 30));
        assert!(check_capacity(Some(ByteCount(8 << 30)), memory).is_ok());
        assert!(check_capacity(None, memory).is_ok());
        assert!(check_capacity(Some(ByteCount(1 << 50)), None).is_ok());
        let error = check_capacity(Some(ByteCount(1 << 50)), memory).expect_err("too much");
        let error = error.to_string();
        assert!(
            error.contains("--capacity 1024TiB") && error.contains("8GiB"),
            "{error}"
        );
    }
}
