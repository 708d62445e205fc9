//! One server process of a cluster.

use std::{
    io,
    net::Ipv4Addr,
    ops::Deref,
    path::{Path, PathBuf},
    process::Command,
};

use tokio::net::TcpSocket;

use super::{CLUSTER_KEY, Shape};
use crate::{Process, binary};

/// One server process, with what it takes to start it again where it was.
#[derive(Debug)]
pub struct Server {
    name: String,
    arguments: Vec<String>,
    endpoint: Endpoint,
    control_endpoint: Option<Endpoint>,
    metrics: Endpoint,
    folder: PathBuf,
    pub(super) process: Process,
    /// Whether a test had its hands on the process.
    pub(super) touched: bool,
}

impl Server {
    pub(super) fn controller(folder: &Path) -> Self {
        let endpoint = Endpoint::reserve();
        let arguments = owned(&["controller", "--listen", &endpoint]);
        Self::start("controller", folder, arguments, endpoint, None)
    }

    pub(super) fn metadata(folder: &Path, controller: &str) -> Self {
        let endpoint = Endpoint::reserve();
        let control = Endpoint::reserve();
        let arguments = owned(&[
            "meta",
            "--listen",
            &endpoint,
            "--control-listen",
            &control,
            "--controller",
            controller,
        ]);
        Self::start("meta", folder, arguments, endpoint, Some(control))
    }

    pub(super) fn storage(folder: &Path, index: usize, shape: &Shape, controller: &str) -> Self {
        let mut tier = vec!["--capacity", shape.storage_capacity];
        if let Some(bandwidth) = shape.storage_bandwidth {
            tier.extend(["--bandwidth", bandwidth]);
        }
        Self::storage_of(folder, index, &tier, controller)
    }

    pub(super) fn disk_storage(
        folder: &Path,
        index: usize,
        capacity: &str,
        controller: &str,
    ) -> Self {
        let disk = folder.join(format!("disk-{index}"));
        std::fs::create_dir(&disk).expect("the scratch folder can be written");
        let tier = format!("nvme={},{capacity}", disk.display());
        Self::storage_of(folder, index, &["--tier", &tier], controller)
    }

    fn storage_of(folder: &Path, index: usize, tier: &[&str], controller: &str) -> Self {
        let endpoint = Endpoint::reserve();
        let arguments = ["storage", "--listen", &endpoint, "--controller", controller];
        let arguments = owned(&[&arguments[..], tier].concat());
        let name = format!("storage-{index}");
        Self::start(&name, folder, arguments, endpoint, None)
    }

    fn start(
        name: &str,
        folder: &Path,
        arguments: Vec<String>,
        endpoint: Endpoint,
        control_endpoint: Option<Endpoint>,
    ) -> Self {
        let metrics = Endpoint::reserve();
        Server {
            process: Process::start(name, folder, server_command(&arguments, &metrics)),
            metrics,
            name: name.to_owned(),
            arguments,
            endpoint,
            control_endpoint,
            folder: folder.to_owned(),
            touched: false,
        }
    }

    /// Where it serves.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Where a metadata server answers the controller.
    pub fn control_endpoint(&self) -> Option<&str> {
        self.control_endpoint.as_deref()
    }

    /// Where it serves its metrics.
    pub fn metrics(&self) -> &str {
        &self.metrics
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        self.touched = true;
        &mut self.process
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process().kill();
    }

    /// Starts it again at the same address, with nothing left of its former life but what it had
    /// on a disk.
    pub fn restart(&mut self) {
        self.kill();
        self.process.check_log();
        let expected = self.process.take_expected();
        let command = server_command(&self.arguments, &self.metrics);
        self.process = Process::start(&self.name, &self.folder, command);
        for words in expected {
            self.process.expect_in_log(&words);
        }
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn server_command(arguments: &[String], metrics: &str) -> Command {
    let mut command = Command::new(binary("pocket"));
    command
        .args(arguments)
        .env("POCKET_CLUSTER_KEY", CLUSTER_KEY)
        .env("POCKET_METRICS", metrics)
        .env("NO_COLOR", "1");
    command
}

/// An address of this host that nobody serves, and that the kernel gives to nobody else as long
/// as this lives. A server that is told to may listen there, end, and listen there again.
///
/// The port is bound by a socket that never listens and lets others share the address; the kernel
/// takes it for no bind to "any port" and for no outgoing connection (ip(7), `SO_REUSEADDR`).
#[derive(Debug)]
pub struct Endpoint {
    address: String,
    _reservation: TcpSocket,
}

impl Endpoint {
    /// Reserves a port of the loopback interface.
    pub fn reserve() -> Self {
        let reserved = || {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
            Ok((socket.local_addr()?.to_string(), socket))
        };
        let (address, socket) =
            reserved().unwrap_or_else(|error: io::Error| panic!("no free port: {error}"));
        Endpoint {
            address,
            _reservation: socket,
        }
    }
}

impl Deref for Endpoint {
    type Target = str;

    fn deref(&self) -> &str {
        &self.address
    }
}
