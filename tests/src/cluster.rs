//! A cluster of real processes: `pocket controller`, `pocket meta` and `pocket storage` on free
//! ports of this machine.

use std::{path::PathBuf, process::Command, time::Duration};

use pocket_proto::control::ServerRole;

use crate::{Control, Mount, Network, Scratch, binary, network::Namespace, rights, wait};

mod account;
mod pool;
mod server;

pub use server::{Endpoint, Server};

/// How long a cluster may take until every server is known to the controller.
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// The key of every cluster of the suites; a set key also keeps the servers from warning.
pub const CLUSTER_KEY: &str = "key of the test kit";

/// What a cluster consists of.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Number of storage servers.
    pub storage_servers: usize,
    /// Capacity of each, as the command line takes it.
    pub storage_capacity: &'static str,
    /// Number of further storage servers of the NVMe tier, each on a directory of its own.
    pub disk_servers: usize,
    /// Capacity of each of them.
    pub disk_capacity: &'static str,
    /// What each says it moves, as the command line takes it; else nobody knows.
    pub storage_bandwidth: Option<&'static str>,
}

impl Default for Shape {
    fn default() -> Self {
        Shape {
            storage_servers: 2,
            storage_capacity: "1GiB",
            disk_servers: 0,
            disk_capacity: "1GiB",
            storage_bandwidth: None,
        }
    }
}

/// A running cluster. Its processes can be killed, frozen and started anew one by one.
#[derive(Debug)]
pub struct ProcessCluster {
    controller: Server,
    metadata: Server,
    more_metadata: Vec<Server>,
    storage: Vec<Server>,
    control: Control,
    folders: usize,
    expected: Vec<String>,
    scratch: Scratch,
}

/// Runs `body` on a cluster of the default shape that is the body's alone and has no jobs; see
/// [`with_shape`]. A cluster that came to no harm is used again by the next test.
#[track_caller]
pub fn with_cluster(body: impl FnOnce(&mut ProcessCluster)) {
    if rights::can_mount() {
        let mut cluster = pool::take().unwrap_or_else(|| ProcessCluster::start(&Shape::default()));
        body(&mut cluster);
        if cluster.was_touched() {
            cluster.finish();
        } else {
            cluster.clear();
            pool::give_back(cluster);
        }
    }
}

/// Runs `body` on a new cluster, ends it in an orderly way and fails if any of its processes did
/// not end, or said something bad that the body did not expect. Where this machine cannot mount,
/// see [`rights::can_mount`].
#[track_caller]
pub fn with_shape(shape: Shape, body: impl FnOnce(&mut ProcessCluster)) {
    if rights::can_mount() {
        let mut cluster = ProcessCluster::start(&shape);
        body(&mut cluster);
        cluster.finish();
    }
}

impl ProcessCluster {
    /// Starts the processes and waits until the controller reports every server alive.
    pub fn start(shape: &Shape) -> Self {
        let scratch = Scratch::new();
        let folder = scratch.path();
        let controller = Server::controller(folder);
        let address = controller.endpoint().to_owned();
        let metadata = Server::metadata(folder, &address);
        let in_memory =
            (0..shape.storage_servers).map(|index| Server::storage(folder, index, shape, &address));
        let on_disk = (shape.storage_servers..)
            .take(shape.disk_servers)
            .map(|index| Server::disk_storage(folder, index, shape.disk_capacity, &address));
        let storage = in_memory.chain(on_disk).collect();
        let cluster = ProcessCluster {
            control: Control::new(&address),
            controller,
            metadata,
            more_metadata: Vec::new(),
            storage,
            folders: 0,
            expected: Vec::new(),
            scratch,
        };
        cluster.wait_ready();
        cluster
    }

    /// Waits until the controller reports every server of the cluster alive.
    #[track_caller]
    pub fn wait_ready(&self) {
        let ready = || {
            let servers = self.control.servers().unwrap_or_default();
            let alive = |role: ServerRole, endpoint: &str| {
                servers.iter().any(|server| {
                    server.alive && server.role() == role && server.endpoint == endpoint
                })
            };
            alive(ServerRole::Metadata, self.metadata.endpoint())
                && self
                    .storage
                    .iter()
                    .all(|server| alive(ServerRole::Storage, server.endpoint()))
        };
        if wait::try_until(READY_DEADLINE, || ready().then_some(())).is_none() {
            let servers = self.servers().map(|server| server.process.report());
            let logs = servers.collect::<Vec<_>>().join("\n");
            panic!("cluster not ready within {READY_DEADLINE:?}\n{logs}");
        }
    }

    /// Mounts `job` on a new mount point.
    pub fn mount(&mut self, job: &str) -> Mount {
        self.mount_with(job, &[])
    }

    /// Mounts `job` with further arguments of `pocket-mount`.
    pub fn mount_with(&mut self, job: &str, arguments: &[&str]) -> Mount {
        self.mount_in(None, job, arguments)
    }

    /// Mounts `job` by a process that reaches this cluster's servers, those of now, through a
    /// network of its own.
    pub fn mount_through_network(&mut self, job: &str) -> (Mount, Network) {
        let servers = self.servers();
        let endpoints: Vec<_> = servers.map(|server| server.endpoint().to_owned()).collect();
        let network = Network::to(&endpoints);
        (self.mount_in(Some(network.namespace()), job, &[]), network)
    }

    fn mount_in(&mut self, namespace: Option<Namespace>, job: &str, arguments: &[&str]) -> Mount {
        let folder = self.folder("mount");
        let mut all = vec!["--controller", self.controller.endpoint()];
        all.extend(arguments);
        let mut mount = Mount::start_in(namespace, &folder, job, &all);
        for words in &self.expected {
            mount.expect_in_log(words);
        }
        mount
    }

    /// The controller's address.
    pub fn controller_endpoint(&self) -> &str {
        self.controller.endpoint()
    }

    /// The controller, to ask.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// The controller's process.
    pub fn controller(&mut self) -> &mut Server {
        &mut self.controller
    }

    /// The metadata server's process.
    pub fn metadata(&mut self) -> &mut Server {
        &mut self.metadata
    }

    /// Starts another metadata server, and waits until the controller knows it.
    pub fn add_metadata(&mut self) -> &mut Server {
        let folder = self.folder("metadata");
        let mut server = Server::metadata(&folder, self.controller.endpoint());
        server.touched = true;
        for words in &self.expected {
            server.process.expect_in_log(words);
        }
        let control = &self.control;
        wait::until(READY_DEADLINE, "the new metadata server", || {
            let servers = control.servers().unwrap_or_default();
            servers
                .iter()
                .any(|it| it.alive && it.endpoint == server.endpoint())
        });
        self.more_metadata.push(server);
        self.more_metadata.last_mut().expect("it was just added")
    }

    /// The process of storage server `index`.
    pub fn storage(&mut self, index: usize) -> &mut Server {
        &mut self.storage[index]
    }

    /// Starts another storage server, and answers its index. Does not wait until it serves.
    pub fn add_storage(&mut self, capacity: &'static str) -> usize {
        let index = self.storage.len();
        let address = self.controller.endpoint().to_owned();
        let shape = Shape {
            storage_capacity: capacity,
            ..Shape::default()
        };
        let mut server = Server::storage(self.scratch.path(), index, &shape, &address);
        server.touched = true;
        for words in &self.expected {
            server.process.expect_in_log(words);
        }
        self.storage.push(server);
        index
    }

    /// Excuses what the death of a server makes the others say.
    pub fn expect_loss(&mut self) {
        for words in [
            "storage",
            "unavailable",
            "metadata",
            "controller",
            "heartbeat",
            "lost",
            "server",
        ] {
            self.expect_in_logs(words);
        }
    }

    /// Excuses log lines with `words`, of every server and of mounts made from now on.
    pub fn expect_in_logs(&mut self, words: &str) {
        self.expected.push(words.to_owned());
        for server in self.servers_mut() {
            server.process.expect_in_log(words);
        }
    }

    /// A new folder for the test's own files, on the local disk; a number makes its name its own.
    pub fn folder(&mut self, name: &str) -> PathBuf {
        self.folders += 1;
        self.scratch.folder(&format!("{name}-{}", self.folders))
    }

    /// A command of the `pocket` program that asks this cluster.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("pocket"));
        command
            .args(arguments)
            .env("POCKET_CONTROLLER", self.controller.endpoint())
            .env("POCKET_CLUSTER_KEY", CLUSTER_KEY);
        command
    }

    /// Ends every process in an orderly way and checks their logs. Servers that the test killed
    /// are only checked.
    #[track_caller]
    pub fn finish(&mut self) {
        // Storage first and the controller last would be kinder; a cluster must bear any order.
        for server in self.servers_mut() {
            if server.process.ended().is_none() {
                server.process.signal(nix::sys::signal::Signal::SIGTERM);
            }
        }
        for server in self.servers_mut() {
            server.process.finish_signalled();
        }
    }

    fn was_touched(&self) -> bool {
        self.servers().any(|server| server.touched)
    }

    /// Ends every job and forgets what a test expected, for the next one.
    #[track_caller]
    fn clear(&mut self) {
        for job in self.control.jobs().expect("the controller answers") {
            let ended = self.control.deregister(&job.name);
            ended.expect("a job can always be ended");
        }
        self.expected.clear();
        for server in self.servers_mut() {
            assert_eq!(server.process.ended(), None, "{}", server.process.report());
            server.process.check_log();
            server.process.take_expected();
        }
    }

    fn servers(&self) -> impl Iterator<Item = &Server> {
        [&self.controller, &self.metadata]
            .into_iter()
            .chain(&self.more_metadata)
            .chain(&self.storage)
    }

    fn servers_mut(&mut self) -> impl Iterator<Item = &mut Server> {
        [&mut self.controller, &mut self.metadata]
            .into_iter()
            .chain(&mut self.more_metadata)
            .chain(&mut self.storage)
    }
}
