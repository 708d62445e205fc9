//! The state machine with a clock of the test's own: no sockets, no waiting.

use std::collections::HashMap;

use pocket_proto::{
    ClusterKey, PROTOCOL_VERSION, Status,
    control::{
        DeregisterJobRequest, HeartbeatReply, HeartbeatRequest, Hints, JobReport, JobStatus, Leave,
        LeaveStage, RegisterJobReply, RegisterJobRequest, ServerRole, Usage,
    },
};

use super::*;
use pocket_policy::{Ticket, check_request};

mod classes;
mod invariants;
mod jobs;
mod leaving;
mod metrics;
mod restart;
mod revision;
mod scale;
mod servers;
mod throughput;
mod traffic;
mod waiting;

const GIB: u64 = 1 << 30;
const META: u64 = 100;
const LEASE: Duration = Duration::from_secs(60);

/// A cluster and its clock, with metadata servers that do as they are told.
struct World {
    cluster: Cluster,
    now: Instant,
    /// What each metadata server holds.
    held: HashMap<u64, Vec<JobReport>>,
    storage: Vec<u64>,
    /// What storage servers say they hold.
    used: HashMap<u64, u64>,
    /// What they were told of their leaving.
    leaves: HashMap<u64, Leave>,
    /// Storage servers that no job of any metadata server needs.
    evacuated: Vec<u64>,
    /// Places in the queue, by job name.
    tickets: HashMap<String, Ticket>,
}

impl World {
    /// A controller that settled long ago, a metadata server, and storage servers 1, 2, ... of
    /// 8 GiB.
    fn new(storage: u64) -> Self {
        let mut world = World::empty(Duration::ZERO);
        world.add_metadata(META);
        for id in 1..=storage {
            world.add_storage(id, 8 * GIB);
        }
        world
    }

    fn empty(settle: Duration) -> Self {
        let config = ControllerConfig {
            settle,
            cluster_key: ClusterKey::open(),
            ..ControllerConfig::default()
        };
        let now = Instant::now() + Duration::from_secs(1 << 20);
        World {
            cluster: Cluster::new(&config, now),
            now,
            held: HashMap::new(),
            storage: Vec::new(),
            used: HashMap::new(),
            leaves: HashMap::new(),
            evacuated: Vec::new(),
            tickets: HashMap::new(),
        }
    }

    /// The same servers and another controller.
    fn restart(&mut self, settle: Duration) {
        let config = ControllerConfig {
            settle,
            ..ControllerConfig::default()
        };
        self.cluster = Cluster::new(&config, self.now);
        self.tickets.clear();
    }

    fn add_metadata(&mut self, id: u64) {
        self.register(metadata_server(id));
        self.held.entry(id).or_default();
    }

    fn add_storage(&mut self, id: u64, capacity_bytes: u64) {
        self.register(storage_server(id, capacity_bytes));
        self.storage.push(id);
    }

    fn register(&mut self, request: RegisterServerRequest) {
        self.cluster
            .register_server(&request, self.now)
            .expect("a sound registration");
    }

    fn heartbeat(&mut self, id: u64) -> HeartbeatReply {
        let request = HeartbeatRequest {
            leave: self.leaves.get(&id).cloned(),
            evacuated: self.evacuated.clone(),
            server: id,
            incarnation: id,
            usage: Some(Usage {
                used_bytes: self.used.get(&id).copied().unwrap_or(0),
                ..Usage::default()
            }),
            jobs: self.held.get(&id).cloned().unwrap_or_default(),
            ..HeartbeatRequest::default()
        };
        let reply = self.cluster.heartbeat(request, self.now);
        match &reply.leave {
            Some(leave) if leave.stage() == LeaveStage::Gone => {
                self.storage.retain(|known| *known != id);
                self.leaves.insert(id, leave.clone());
            }
            Some(leave) => {
                self.leaves.insert(id, leave.clone());
            }
            None => {
                self.leaves.remove(&id);
            }
        }
        reply
    }

    /// So many seconds pass, every server but those named reports, and commands are carried out.
    fn pass_without(&mut self, seconds: u64, silent: &[u64]) -> Vec<Command> {
        let mut commands = Vec::new();
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            for held in self.held.values_mut().flatten() {
                held.age_seconds += 1;
                held.idle_seconds = if held.mounts > 0 {
                    0
                } else {
                    held.idle_seconds + 1
                };
            }
            let servers = self.held.keys().chain(&self.storage).copied();
            for id in servers
                .filter(|id| !silent.contains(id))
                .collect::<Vec<_>>()
            {
                self.heartbeat(id);
            }
            commands.extend(self.upkeep());
        }
        commands
    }

    fn pass(&mut self, seconds: u64) -> Vec<Command> {
        self.pass_without(seconds, &[])
    }

    /// Carries out what is to be done until nothing is left.
    fn upkeep(&mut self) -> Vec<Command> {
        let mut all = Vec::new();
        loop {
            let commands = self.cluster.upkeep(self.now, 10);
            if commands.is_empty() {
                return all;
            }
            for command in commands {
                self.obey(&command);
                all.push(command);
            }
        }
    }

    /// The metadata server does it and says so.
    fn obey(&mut self, command: &Command) {
        let held = self.held.get_mut(&command.server.0).expect("a server");
        let same =
            |report: &JobReport| report.job.as_ref().map(|job| job.job) == Some(command.job.0);
        match &command.action {
            Action::Create(job) => held.push(JobReport {
                job: Some((**job).clone()),
                ..JobReport::default()
            }),
            Action::Change(job) => {
                let report = held.iter_mut().find(|report| same(report)).expect("a job");
                report.job = Some((**job).clone());
            }
            Action::Drop(_) => held.retain(|report| !same(report)),
            Action::SetWeightMap(map) => {
                let report = held.iter_mut().find(|report| same(report)).expect("a job");
                report.job.as_mut().expect("a job").weight_map = Some(map.clone());
            }
        }
        self.cluster.finished(command, Ok(()), self.now);
    }

    fn step(&mut self, request: &RegisterJobRequest) -> RegisterStep {
        let terms = check_request(request).expect("sound terms");
        let mut ticket = self.tickets.remove(&request.name);
        let step = self
            .cluster
            .register_step(request, &terms, &mut ticket, self.now);
        match (&step, ticket) {
            (RegisterStep::Wait(..), Some(ticket)) => {
                self.tickets.insert(request.name.clone(), ticket);
            }
            (_, Some(ticket)) => self.cluster.leave_queue(ticket),
            (_, None) => {}
        }
        step
    }

    /// Registers a job as a mount does, and gets what a mount gets.
    fn mount(&mut self, request: &RegisterJobRequest) -> RegisterJobReply {
        match self.step(request) {
            RegisterStep::Done(reply) => *reply,
            RegisterStep::Create(command) => {
                self.obey(&command);
                self.cluster
                    .created(command.job, self.now)
                    .expect("it was just created")
            }
            other => panic!("not registered: {other:?}"),
        }
    }

    /// Whoever waits to register the job does so no longer.
    fn give_up(&mut self, name: &str) {
        if let Some(ticket) = self.tickets.remove(name) {
            self.cluster.leave_queue(ticket);
        }
    }

    fn set_mounts(&mut self, job: u64, mounts: u32) {
        for report in self.held.values_mut().flatten() {
            if report.job.as_ref().is_some_and(|held| held.job == job) {
                report.mounts = mounts;
                report.idle_seconds = 0;
            }
        }
    }

    fn fail(&mut self, command: &Command) {
        let failure = Failure::new(Status::Unavailable, "no answer");
        self.cluster.finished(command, Err(failure), self.now);
    }

    fn jobs(&self) -> Vec<JobStatus> {
        self.cluster.list_jobs("", self.now).jobs
    }

    fn deregister(&mut self, name: &str) -> EndStep {
        let request = DeregisterJobRequest {
            name: name.to_owned(),
            job: 0,
        };
        self.cluster.end_step(&request, self.now)
    }

    fn reserved_bytes(&self) -> u64 {
        let servers = self.cluster.list_servers(self.now).servers;
        servers.iter().map(|server| server.reserved_bytes).sum()
    }
}

fn metadata_server(id: u64) -> RegisterServerRequest {
    RegisterServerRequest {
        server: id,
        incarnation: id,
        role: ServerRole::Metadata.into(),
        endpoint: format!("meta-{id}:7301"),
        control_endpoint: format!("meta-{id}:7302"),
        protocol_version: PROTOCOL_VERSION,
        ..RegisterServerRequest::default()
    }
}

fn storage_server(id: u64, capacity_bytes: u64) -> RegisterServerRequest {
    RegisterServerRequest {
        server: id,
        incarnation: id,
        role: ServerRole::Storage.into(),
        endpoint: format!("storage-{id}:7303"),
        tier: "dram".to_owned(),
        capacity_bytes,
        protocol_version: PROTOCOL_VERSION,
        ..RegisterServerRequest::default()
    }
}

fn job(name: &str) -> RegisterJobRequest {
    RegisterJobRequest {
        name: name.to_owned(),
        protocol_version: PROTOCOL_VERSION,
        ..RegisterJobRequest::default()
    }
}

fn job_of(name: &str, capacity_bytes: u64) -> RegisterJobRequest {
    RegisterJobRequest {
        hints: Some(Hints {
            capacity_bytes: Some(capacity_bytes),
            ..Hints::default()
        }),
        ..job(name)
    }
}

/// The jobs that are dropped.
fn drops(commands: &[Command]) -> Vec<u64> {
    let drops = commands
        .iter()
        .filter(|c| matches!(c.action, Action::Drop(_)));
    drops.map(|command| command.job.0).collect()
}

/// Servers of a map, in order.
fn servers_of(map: &WeightMap) -> Vec<u64> {
    let servers = map.servers.iter().filter_map(|s| s.server.as_ref());
    let mut ids: Vec<_> = servers.map(|server| server.server).collect();
    ids.sort_unstable();
    ids
}

fn maps(commands: &[Command]) -> Vec<(u32, Vec<u64>)> {
    let maps = commands.iter().filter_map(|command| match &command.action {
        Action::SetWeightMap(map) => Some((map.epoch, servers_of(map))),
        _ => None,
    });
    maps.collect()
}
