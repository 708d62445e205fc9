//! The storage servers as the arbiter sees them, from what controller and scaler say.

use std::collections::HashSet;

use pocket_policy::{Member, Needs, Pool, Tier};
use pocket_proto::control::{LeaveStage, ListServersReply, ServerRole, ServerStatus, StorageClass};

use crate::{AutoscaleSettings, Instance, InstanceState};

/// What is there.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// Servers that take data.
    pub(crate) staying: Vec<ServerStatus>,
    /// Servers whose leaving can still be undone.
    pub(crate) may_stay: Vec<ServerStatus>,
    /// Servers that were started and do not take data yet.
    pub(crate) starting: u32,
    /// Registrations that wait for room, and running jobs that lack some.
    pub(crate) waiting: u32,
    /// What they lack, in bytes.
    pub(crate) wanted_bytes: u64,
    /// Servers that they need beside those that are there.
    wanted_servers: u32,
    /// Endpoints of servers that the scaler looks after.
    ours: HashSet<String>,
}

/// Endpoints of servers that were leaving when last seen. One that the controller has dismissed shows
/// as running until the scaler hears of its end; it is none that starts.
#[derive(Debug, Default)]
pub(crate) struct Departing(HashSet<String>);

impl Departing {
    /// Takes in what is there now.
    pub(crate) fn note(&mut self, reply: &ListServersReply, instances: &[Instance]) {
        for server in reply.servers.iter().filter(|server| server.alive) {
            match stage(server) {
                LeaveStage::Stays => self.0.remove(&server.endpoint),
                _ => self.0.insert(server.endpoint.clone()),
            };
        }
        let shown: HashSet<_> = instances
            .iter()
            .filter_map(|i| i.endpoint.as_ref())
            .collect();
        self.0.retain(|endpoint| shown.contains(endpoint));
    }

    fn contains(&self, endpoint: &str) -> bool {
        self.0.contains(endpoint)
    }
}

impl View {
    pub(crate) fn of(
        reply: ListServersReply,
        instances: &[Instance],
        departing: &Departing,
        tier: Option<Tier>,
    ) -> Self {
        // Long-running servers come and go by hand.
        let counts = |server: &ServerStatus| {
            server.role() == ServerRole::Storage
                && server.storage_class() == StorageClass::Regular
                && server.alive
                && tier.is_none_or(|tier| server.tier == tier.name())
        };
        let alive: Vec<_> = reply.servers.into_iter().filter(counts).collect();
        let known: HashSet<&str> = alive
            .iter()
            .map(|server| server.endpoint.as_str())
            .collect();
        let starting = instances
            .iter()
            .filter(|instance| match &instance.endpoint {
                Some(endpoint) => {
                    !known.contains(endpoint.as_str()) && !departing.contains(endpoint)
                }
                None => instance.state == InstanceState::Starting,
            });
        let starting = u32::try_from(starting.count()).unwrap_or(u32::MAX);
        let at = |wanted: LeaveStage| {
            let servers = alive.iter().filter(move |server| stage(server) == wanted);
            servers.cloned().collect::<Vec<_>>()
        };
        View {
            staying: at(LeaveStage::Stays),
            may_stay: at(LeaveStage::Closed),
            starting,
            waiting: reply.waiting,
            wanted_bytes: reply.wanted_bytes,
            wanted_servers: reply.wanted_servers,
            ours: instances
                .iter()
                .filter_map(|i| i.endpoint.clone())
                .collect(),
        }
    }

    pub(crate) fn servers(&self) -> u32 {
        let staying = u32::try_from(self.staying.len()).unwrap_or(u32::MAX);
        staying.saturating_add(self.starting)
    }

    /// For the arbiter. While jobs wait, servers that are free or starting are theirs; otherwise it
    /// sizes those. The processors of servers that share a machine do not count, as more servers there
    /// would not bring more of them.
    pub(crate) fn pool(&self, settings: &AutoscaleSettings) -> Pool {
        let needed = self.waiting > 0;
        let there = self.staying.iter().map(|server| Member {
            has: Needs {
                capacity_bytes: server.capacity_bytes,
                bytes_per_second: server.bandwidth_bytes_per_second,
            },
            needed: needed || is_in_use(server),
            // Others may not be removed.
            ready: self.ours.contains(&server.endpoint),
        });
        let coming = Member {
            has: Needs {
                capacity_bytes: settings.capacity_bytes,
                bytes_per_second: settings.bytes_per_second,
            },
            needed,
            ready: false,
        };
        let starting = std::iter::repeat_n(coming, self.starting as usize);
        let beyond = Needs {
            capacity_bytes: self
                .sum(|server| used_bytes(server).saturating_sub(server.reserved_bytes)),
            bytes_per_second: self.sum(|server| {
                let usage = server.usage.unwrap_or_default();
                let promised = server.reserved_bandwidth_bytes_per_second;
                usage.network_bytes_per_second.saturating_sub(promised)
            }),
        };
        Pool::of(there.chain(starting), beyond, settings.scaling.servers_min)
    }

    /// Servers to be started so that those who wait find room.
    pub(crate) fn lacking(&self) -> u32 {
        self.wanted_servers.saturating_sub(self.starting)
    }

    fn sum(&self, of: impl Fn(&ServerStatus) -> u64) -> u64 {
        self.staying.iter().map(of).fold(0, u64::saturating_add)
    }
}

/// Whether anything of it is promised, or it holds data.
pub(crate) fn is_in_use(server: &ServerStatus) -> bool {
    server.reserved_bytes > 0
        || server.reserved_bandwidth_bytes_per_second > 0
        || used_bytes(server) > 0
}

fn stage(server: &ServerStatus) -> LeaveStage {
    let leave = server.leave.as_ref();
    leave.map_or(LeaveStage::Stays, |leave| leave.stage())
}

/// Bytes that a server holds.
pub(crate) fn used_bytes(server: &ServerStatus) -> u64 {
    server.usage.map_or(0, |usage| usage.used_bytes)
}

#[cfg(test)]
mod tests {
    use pocket_policy::ScalingSettings;
    use pocket_proto::control::{Leave, Usage};

    use super::*;

    fn settings() -> AutoscaleSettings {
        AutoscaleSettings {
            scaling: ScalingSettings::default(),
            capacity_bytes: 100,
            bytes_per_second: 0,
            drain_deadline: None,
            tier: None,
        }
    }

    fn server(endpoint: &str, reserved_bytes: u64, stage: LeaveStage) -> ServerStatus {
        ServerStatus {
            role: ServerRole::Storage.into(),
            endpoint: endpoint.to_owned(),
            alive: true,
            capacity_bytes: 100,
            reserved_bytes,
            leave: (stage != LeaveStage::Stays).then(|| Leave {
                stage: stage.into(),
                ..Leave::default()
            }),
            ..ServerStatus::default()
        }
    }

    fn instance(endpoint: Option<&str>) -> Instance {
        Instance {
            name: "s".to_owned(),
            endpoint: endpoint.map(str::to_owned),
            state: InstanceState::Starting,
            rank: 0,
        }
    }

    #[test]
    fn what_leaves_is_not_there_and_what_starts_is() {
        let dead = ServerStatus {
            alive: false,
            ..server("d:1", 50, LeaveStage::Stays)
        };
        let reply = ListServersReply {
            servers: vec![
                server("a:1", 90, LeaveStage::Stays),
                server("b:1", 10, LeaveStage::Closed),
                server("c:1", 10, LeaveStage::Sealed),
                dead,
            ],
            waiting: 1,
            wanted_bytes: 250,
            wanted_servers: 3,
            ..ListServersReply::default()
        };
        let instances = [
            instance(Some("a:1")),
            instance(Some("new:1")),
            instance(None),
        ];
        let view = View::of(reply, &instances, &Departing::default(), None);
        assert_eq!(
            (view.servers(), view.starting, view.may_stay.len()),
            (3, 2, 1)
        );
        assert_eq!(view.lacking(), 1, "two of the three are starting");
    }

    #[test]
    fn what_is_free_is_the_arbiters_unless_jobs_wait_for_it_or_it_is_not_ours() {
        let reply = |waiting| ListServersReply {
            servers: vec![
                server("a:1", 90, LeaveStage::Stays),
                server("b:1", 0, LeaveStage::Stays),
                server("foreign:1", 0, LeaveStage::Stays),
            ],
            waiting,
            ..ListServersReply::default()
        };
        let instances = ["a:1", "b:1", "new:1"].map(|endpoint| instance(Some(endpoint)));
        let pool = |waiting| {
            let view = View::of(reply(waiting), &instances, &Departing::default(), None);
            let pool = view.pool(&settings());
            (pool.servers, pool.promised, pool.removable)
        };
        assert_eq!(pool(0), (4, 1, 1));
        assert_eq!(pool(1), (4, 4, 0));
    }

    #[test]
    fn what_jobs_use_beyond_their_promises_is_the_load_of_what_is_free() {
        let over = ServerStatus {
            usage: Some(Usage {
                used_bytes: 60,
                ..Usage::default()
            }),
            ..server("a:1", 10, LeaveStage::Stays)
        };
        let reply = ListServersReply {
            servers: vec![over, server("b:1", 0, LeaveStage::Stays)],
            ..ListServersReply::default()
        };
        let view = View::of(reply, &[], &Departing::default(), None);
        assert_eq!(view.pool(&settings()).capacity_permille, 500);
    }

    #[test]
    fn what_has_just_left_is_none_that_starts() {
        let reply = |servers| ListServersReply {
            servers,
            ..ListServersReply::default()
        };
        let instances = [instance(Some("a:1")), instance(Some("b:1"))];
        let staying = server("b:1", 0, LeaveStage::Stays);
        let mut departing = Departing::default();
        let both = reply(vec![server("a:1", 0, LeaveStage::Sealed), staying.clone()]);
        departing.note(&both, &instances);
        let one = reply(vec![staying]);
        departing.note(&one, &instances);
        assert_eq!(
            View::of(one.clone(), &instances, &departing, None).starting,
            0
        );
        // Seen to have ended, it may come back under the same address.
        departing.note(&one, &instances[1..]);
        assert_eq!(View::of(one, &instances, &departing, None).starting, 1);
    }

    #[test]
    fn servers_of_other_tiers_do_not_count_where_one_is_looked_after() {
        let on = |tier: &str, endpoint| ServerStatus {
            tier: tier.to_owned(),
            ..server(endpoint, 0, LeaveStage::Stays)
        };
        let reply = ListServersReply {
            servers: vec![on("dram", "a:1"), on("nvme", "b:1")],
            ..ListServersReply::default()
        };
        let servers = |tier| View::of(reply.clone(), &[], &Departing::default(), tier).servers();
        assert_eq!((servers(None), servers(Some(Tier::Dram))), (2, 1));
    }

    #[test]
    fn long_running_servers_are_neither_counted_nor_removed() {
        let long_running = |endpoint, stage| ServerStatus {
            storage_class: StorageClass::LongRunning.into(),
            ..server(endpoint, 0, stage)
        };
        let reply = ListServersReply {
            servers: vec![
                server("a:1", 90, LeaveStage::Stays),
                long_running("b:1", LeaveStage::Stays),
                long_running("c:1", LeaveStage::Closed),
            ],
            ..ListServersReply::default()
        };
        let instances = [instance(Some("a:1"))];
        let view = View::of(reply, &instances, &Departing::default(), None);
        let pool = view.pool(&settings());
        assert_eq!((pool.servers, pool.promised, pool.removable), (1, 1, 0));
        assert!(view.may_stay.is_empty(), "{view:?}");
    }

    #[test]
    fn nothing_at_all_is_not_full() {
        let view = View::default();
        assert_eq!(view.pool(&settings()).capacity_permille, 0);
        assert_eq!(view.lacking(), 0);
    }
}
