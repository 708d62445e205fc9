//! The storage servers as the arbiter sees them, from what controller and scaler say.

use std::collections::HashSet;

use pocket_policy::{Pool, Tier};
use pocket_proto::control::{LeaveStage, ListServersReply, ServerRole, ServerStatus};

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
    /// What registrations wait for, in bytes.
    pub(crate) wanted_bytes: u64,
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
        let counts = |server: &ServerStatus| {
            server.role() == ServerRole::Storage
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
            wanted_bytes: reply.wanted_bytes,
        }
    }

    pub(crate) fn servers(&self) -> u32 {
        let staying = u32::try_from(self.staying.len()).unwrap_or(u32::MAX);
        staying.saturating_add(self.starting)
    }

    /// For the arbiter. What is promised to jobs counts as used; the processors of servers that
    /// share a machine do not, as more servers there would not bring more of them.
    pub(crate) fn pool(&self, settings: &AutoscaleSettings) -> Pool {
        let taken = |server: &ServerStatus| server.reserved_bytes.max(used_bytes(server));
        let rate = |server: &ServerStatus| {
            let used = server
                .usage
                .map_or(0, |usage| usage.network_bytes_per_second);
            server.reserved_bandwidth_bytes_per_second.max(used)
        };
        let servers = self.servers();
        let starting = u128::from(self.starting);
        let capacity = self.sum(|server| server.capacity_bytes)
            + starting * u128::from(settings.capacity_bytes);
        let bandwidth = self.sum(|server| server.bandwidth_bytes_per_second)
            + starting * u128::from(settings.bytes_per_second);
        let (taken, rate) = (self.sum(taken), self.sum(rate));
        let needed = needed(taken, capacity, servers).max(needed(rate, bandwidth, servers));
        Pool {
            servers,
            promised: 0,
            threads: 1,
            cpu_permille: 0,
            network_permille: permille(rate, bandwidth),
            capacity_permille: permille(taken, capacity),
            removable: servers - needed.min(servers),
        }
    }

    /// Servers to be started so that those who wait find room.
    pub(crate) fn lacking(&self, settings: &AutoscaleSettings) -> u32 {
        if self.wanted_bytes == 0 {
            return 0;
        }
        let free = self.sum(|server| server.capacity_bytes.saturating_sub(server.reserved_bytes))
            + u128::from(self.starting) * u128::from(settings.capacity_bytes);
        let lacking = u128::from(self.wanted_bytes).saturating_sub(free);
        let servers = lacking.div_ceil(u128::from(settings.capacity_bytes.max(1)));
        u32::try_from(servers).unwrap_or(u32::MAX)
    }

    fn sum(&self, of: impl Fn(&ServerStatus) -> u64) -> u128 {
        self.staying
            .iter()
            .map(|server| u128::from(of(server)))
            .sum()
    }
}

fn stage(server: &ServerStatus) -> LeaveStage {
    let leave = server.leave.as_ref();
    leave.map_or(LeaveStage::Stays, |leave| leave.stage())
}

/// Bytes that a server holds.
pub(crate) fn used_bytes(server: &ServerStatus) -> u64 {
    server.usage.map_or(0, |usage| usage.used_bytes)
}

/// Rounded up; 0 where there is nothing to use.
fn permille(used: u128, all: u128) -> u32 {
    match all {
        0 => 0,
        all => u32::try_from((used * 1_000).div_ceil(all)).unwrap_or(u32::MAX),
    }
}

/// So many of `servers`, which have `all` together, hold `taken`.
fn needed(taken: u128, all: u128, servers: u32) -> u32 {
    match all {
        0 => 0,
        all => u32::try_from((taken * u128::from(servers)).div_ceil(all)).unwrap_or(u32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use pocket_policy::ScalingSettings;
    use pocket_proto::control::Leave;

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
            wanted_bytes: 250,
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
        let pool = view.pool(&settings());
        assert_eq!((pool.capacity_permille, pool.removable), (300, 2));
        // 10 free there and 200 to come: one more.
        assert_eq!(view.lacking(&settings()), 1);
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
    fn nothing_at_all_is_not_full() {
        let view = View::default();
        assert_eq!(view.pool(&settings()).capacity_permille, 0);
        assert_eq!(view.lacking(&settings()), 0);
    }
}
