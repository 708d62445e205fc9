//! One server process of a cluster.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};

use super::{CLUSTER_KEY, Shape};
use crate::{Process, binary};

/// One server process, with what it takes to start it again where it was.
#[derive(Debug)]
pub struct Server {
    name: String,
    arguments: Vec<String>,
    endpoint: String,
    control_endpoint: Option<String>,
    folder: PathBuf,
    pub(super) process: Process,
    /// Whether a test had its hands on the process.
    pub(super) touched: bool,
}

impl Server {
    pub(super) fn controller(folder: &Path) -> Self {
        let endpoint = free_endpoint();
        let arguments = ["controller", "--listen", &endpoint];
        Self::start("controller", folder, &arguments, &endpoint, None)
    }

    pub(super) fn metadata(folder: &Path, controller: &str) -> Self {
        let endpoint = free_endpoint();
        let control = free_endpoint();
        let arguments = [
            "meta",
            "--listen",
            &endpoint,
            "--control-listen",
            &control,
            "--controller",
            controller,
        ];
        Self::start("meta", folder, &arguments, &endpoint, Some(&control))
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
        let endpoint = free_endpoint();
        let arguments = ["storage", "--listen", &endpoint, "--controller", controller];
        let arguments = [&arguments[..], tier].concat();
        let name = format!("storage-{index}");
        Self::start(&name, folder, &arguments, &endpoint, None)
    }

    fn start(
        name: &str,
        folder: &Path,
        arguments: &[&str],
        endpoint: &str,
        control_endpoint: Option<&str>,
    ) -> Self {
        let arguments: Vec<_> = arguments.iter().map(|&word| word.to_owned()).collect();
        Server {
            process: Process::start(name, folder, server_command(&arguments)),
            name: name.to_owned(),
            arguments,
            endpoint: endpoint.to_owned(),
            control_endpoint: control_endpoint.map(str::to_owned),
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
        self.process = Process::start(&self.name, &self.folder, server_command(&self.arguments));
        for words in expected {
            self.process.expect_in_log(&words);
        }
    }
}

fn server_command(arguments: &[String]) -> Command {
    let mut command = Command::new(binary("pocket"));
    command
        .args(arguments)
        .env("POCKET_CLUSTER_KEY", CLUSTER_KEY)
        .env("NO_COLOR", "1");
    command
}

/// An address of this host that was free a moment ago. The port is not reserved; the kernel hands
/// out ephemeral ports in a random order, so that another taker in between is unlikely.
pub fn free_endpoint() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = listener
        .local_addr()
        .expect("a bound socket has an address");
    address.to_string()
}
