//! How many servers a pool has: a pure arbiter, one per pool (metadata, long-running storage,
//! regular storage).
//!
//! Each resource has a range (60 to 80 % in the paper, section 4.3). If any is above its range for a
//! short window the pool grows, if all are below theirs for a long one it shrinks, and either way
//! to the size that brings the scarcest to the middle, at once: so one step suffices for a load,
//! and the next step waits for a cool-down and for the load to be another one. CPU first scales the
//! worker threads of the servers there are. Servers that a running job's allocation needs are not
//! removable, and their number is passed in.
//!
//! Of storage whose servers are started by need ([`crate::place`]) the arbiter sizes the spare part
//! alone ([`Pool::of`]): what jobs use within their allocations was provided for, headroom included,
//! when they were admitted, and the servers without a promise are there for what they use beyond.

use crate::{METADATA_INODES, METADATA_OPERATIONS_PER_SECOND, Needs};

/// A range to stay in, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Below it there is too much of the resource.
    pub low_permille: u32,
    /// Above it there is too little.
    pub high_permille: u32,
}

impl Range {
    /// The middle: where a change leads to.
    fn aim(self) -> u64 {
        u64::from(self.low_permille.midpoint(self.high_permille)).max(1)
    }
}

impl Default for Range {
    /// 60 to 80 % (paper, section 4.3).
    fn default() -> Self {
        Range {
            low_permille: 600,
            high_permille: 800,
        }
    }
}

/// What the servers of a pool are there for, and so what is counted of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PoolKind {
    /// Blocks: bytes, and bytes a second.
    #[default]
    Storage,
    /// Names: inodes, and operations a second.
    Metadata,
}

impl PoolKind {
    /// What capacity, network and CPU are called, for people.
    fn resources(self) -> [&'static str; 3] {
        match self {
            PoolKind::Storage => ["capacity", "network", "cpu"],
            PoolKind::Metadata => ["the number of inodes", "the rate of operations", "cpu"],
        }
    }
}

/// Settings of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScalingSettings {
    /// What its servers are there for.
    pub kind: PoolKind,
    /// Range of CPU, of the worker threads there are.
    pub cpu: Range,
    /// Range of network throughput.
    pub network: Range,
    /// Range of capacity.
    pub capacity: Range,
    /// For so long something must be short before the pool grows: milliseconds.
    pub window_up_ms: u64,
    /// For so long everything must be plenty before it shrinks: milliseconds.
    pub window_down_ms: u64,
    /// Between two changes: milliseconds.
    pub cool_down_ms: u64,
    /// Never fewer servers.
    pub servers_min: u32,
    /// Never more.
    pub servers_max: u32,
    /// Worker threads that a server can have.
    pub threads_max: u32,
}

impl Default for ScalingSettings {
    /// Regular storage: up after 3 s, down after 5 s, 5 s between changes. A server starts in 4 s, so
    /// that to hold an idle one for longer costs more than to start another.
    fn default() -> Self {
        ScalingSettings {
            kind: PoolKind::default(),
            cpu: Range::default(),
            network: Range::default(),
            capacity: Range::default(),
            window_up_ms: 3_000,
            window_down_ms: 5_000,
            cool_down_ms: 5_000,
            servers_min: 0,
            servers_max: 5_000,
            threads_max: 8,
        }
    }
}

/// A pool as it is, in thousandths of what it has, rounded up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// Servers, those that are starting included.
    pub servers: u32,
    /// Those of them that are provided for and not sized here: neither they nor their load count in
    /// what follows. 0 where all are sized by their use.
    pub promised: u32,
    /// Worker threads of each.
    pub threads: u32,
    /// CPU in use, of all worker threads.
    pub cpu_permille: u32,
    /// Network throughput in use.
    pub network_permille: u32,
    /// Capacity in use.
    pub capacity_permille: u32,
    /// Servers that no running job's allocation needs.
    pub removable: u32,
}

/// A storage server of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// What it has; throughput 0 where that is not known.
    pub has: Needs,
    /// Whether any of it is promised to a job, or it holds data that stay.
    pub needed: bool,
    /// Whether it is there and not only starting.
    pub ready: bool,
}

/// A metadata server of a pool; of one that is only starting nothing is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetadataMember {
    /// What it does.
    pub operations_per_second: u64,
    /// Of all its jobs.
    pub inodes: u64,
    /// CPU in use, in thousandths of its worker threads.
    pub cpu_permille: u32,
    /// Worker threads; 0: not known.
    pub threads: u32,
    /// It is there, and may be told to go.
    pub ours: bool,
}

impl Pool {
    /// A pool of storage servers that are started by need. `beyond`: what jobs want beyond what is
    /// promised to them, and what is not on its way to them; `servers_min`: so many are never removed.
    pub fn of(members: impl IntoIterator<Item = Member>, beyond: Needs, servers_min: u32) -> Pool {
        let mut pool = Pool {
            threads: 1,
            ..Pool::default()
        };
        let (mut spare, mut rates_known) = (Needs::default(), true);
        let mut largest = Needs::default();
        for member in members {
            pool.servers += 1;
            rates_known &= member.has.bytes_per_second > 0;
            largest.capacity_bytes = largest.capacity_bytes.max(member.has.capacity_bytes);
            largest.bytes_per_second = largest.bytes_per_second.max(member.has.bytes_per_second);
            if member.needed {
                pool.promised += 1;
                continue;
            }
            pool.removable += u32::from(member.ready);
            let add = |sum: u64, amount: u64| sum.saturating_add(amount);
            spare.capacity_bytes = add(spare.capacity_bytes, member.has.capacity_bytes);
            spare.bytes_per_second = add(spare.bytes_per_second, member.has.bytes_per_second);
        }
        pool.removable = pool.removable.min(pool.servers.saturating_sub(servers_min));
        // Where nothing is spare the load is that of one more server.
        let permille = |used: u64, spare: u64, each: u64| {
            let all = u128::from(if spare > 0 { spare } else { each }).max(1);
            u32::try_from((u128::from(used) * 1_000).div_ceil(all)).unwrap_or(u32::MAX)
        };
        pool.capacity_permille = permille(
            beyond.capacity_bytes,
            spare.capacity_bytes,
            largest.capacity_bytes,
        );
        if rates_known && pool.servers > 0 {
            pool.network_permille = permille(
                beyond.bytes_per_second,
                spare.bytes_per_second,
                largest.bytes_per_second,
            );
        }
        pool
    }

    /// A pool of metadata servers, all sized by their use. Each does what placement takes it to do
    /// ([`METADATA_OPERATIONS_PER_SECOND`], [`METADATA_INODES`]). A server goes when its jobs have
    /// ended, so that any of `ours` beyond `servers_min` may be told to.
    pub fn of_metadata(
        members: impl IntoIterator<Item = MetadataMember>,
        servers_min: u32,
    ) -> Pool {
        let mut pool = Pool {
            threads: 1,
            ..Pool::default()
        };
        let (mut operations, mut inodes, mut cpu_permille, mut threads) = (0u64, 0u64, 0u64, 0u64);
        let mut ours = 0;
        for member in members {
            pool.servers += 1;
            ours += u32::from(member.ours);
            operations = operations.saturating_add(member.operations_per_second);
            inodes = inodes.saturating_add(member.inodes);
            let of_its = u64::from(member.threads.max(1));
            threads = threads.saturating_add(of_its);
            let used = u64::from(member.cpu_permille).saturating_mul(of_its);
            cpu_permille = cpu_permille.saturating_add(used);
        }
        let servers = u64::from(pool.servers.max(1));
        let permille = |used: u64, each: u64| {
            let all = u128::from(each) * u128::from(servers);
            u32::try_from((u128::from(used) * 1_000).div_ceil(all)).unwrap_or(u32::MAX)
        };
        pool.cpu_permille =
            u32::try_from(cpu_permille.div_ceil(threads.max(1))).unwrap_or(u32::MAX);
        pool.network_permille = permille(operations, METADATA_OPERATIONS_PER_SECOND);
        pool.capacity_permille = permille(inodes, METADATA_INODES);
        pool.removable = ours.min(pool.servers.saturating_sub(servers_min));
        pool
    }

    fn spare(&self) -> u32 {
        self.servers.saturating_sub(self.promised)
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing.
    Hold,
    /// Have so many servers with so many threads from now on.
    Scale {
        /// Servers in all.
        servers: u32,
        /// Worker threads of each.
        threads: u32,
        /// Why, for people.
        reason: String,
    },
}

/// A change in the other direction than the last waits for so many cool-downs: what it would undo
/// was for a reason, and two that follow each other closely are a flap.
const TURN_ROUND_COOL_DOWNS: u64 = 3;
/// Load must differ by this part from that of the last change, or it is the same load.
const SAME_LOAD: u64 = 32;

/// Remembers since when a pool is out of its ranges, and its last change.
#[derive(Clone, Debug)]
pub struct Arbiter {
    settings: ScalingSettings,
    above_since_ms: Option<u64>,
    below_since_ms: Option<u64>,
    last: Option<Change>,
}

#[derive(Clone, Copy, Debug)]
struct Change {
    at_ms: u64,
    grew: bool,
    /// Servers that it led to, without those that are provided for.
    spare: u32,
    load: Load,
    /// Fewer servers could go than should.
    held_back: bool,
}

/// What is in use, in thousandths of one server's or one thread's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Load {
    cpu: u64,
    network: u64,
    capacity: u64,
}

impl Load {
    fn of(pool: &Pool) -> Self {
        // Use beyond what there is counts as that of one server where none is spare.
        let servers = match pool.promised {
            0 => u64::from(pool.servers),
            _ => u64::from(pool.spare().max(1)),
        };
        Load {
            cpu: servers * u64::from(pool.threads) * u64::from(pool.cpu_permille),
            network: servers * u64::from(pool.network_permille),
            capacity: servers * u64::from(pool.capacity_permille),
        }
    }

    fn is_like(self, other: Load) -> bool {
        let like = |a: u64, b: u64| a.abs_diff(b) <= a.max(b) / SAME_LOAD;
        like(self.cpu, other.cpu)
            && like(self.network, other.network)
            && like(self.capacity, other.capacity)
    }
}

impl Arbiter {
    /// An arbiter that has seen nothing yet.
    pub fn new(settings: ScalingSettings) -> Self {
        Arbiter {
            settings,
            above_since_ms: None,
            below_since_ms: None,
            last: None,
        }
    }

    /// Looks at the pool; to be called about every second. Times are milliseconds of any clock.
    pub fn decide(&mut self, pool: &Pool, now_ms: u64) -> Decision {
        let (above, below) = self.out_of_range(pool);
        let since = |since: Option<u64>, is: bool| is.then(|| since.unwrap_or(now_ms));
        self.above_since_ms = since(self.above_since_ms, above.is_some());
        self.below_since_ms = since(self.below_since_ms, below);
        let lasted = |since: Option<u64>, window_ms: u64| {
            since.is_some_and(|since| now_ms.saturating_sub(since) >= window_ms)
        };
        let load = Load::of(pool);
        if self.rests(load, pool.spare(), now_ms) {
            return Decision::Hold;
        }
        let wanted = self.wanted(load, pool.promised);
        let (servers, threads, reason) = if pool.servers < self.settings.servers_min {
            let reason = format!(
                "the pool has {} servers at least",
                self.settings.servers_min
            );
            (self.settings.servers_min, pool.threads.max(1), reason)
        } else if let Some(what) =
            above.filter(|_| lasted(self.above_since_ms, self.settings.window_up_ms))
        {
            let reason = format!(
                "{what} was above its range for {} s",
                self.settings.window_up_ms / 1_000
            );
            let servers = wanted.max(pool.servers);
            (
                servers,
                self.threads_for(load, servers).max(pool.threads),
                reason,
            )
        } else if lasted(self.below_since_ms, self.settings.window_down_ms) {
            let seconds = self.settings.window_down_ms / 1_000;
            let reason = format!("everything was below its range for {seconds} s");
            let needed = pool.servers - pool.removable.min(pool.servers);
            let servers = wanted.clamp(needed, pool.servers);
            // Fewer servers with as many threads as their load needs.
            (servers, self.threads_for(load, servers), reason)
        } else {
            return Decision::Hold;
        };
        // The threads of a load were settled with its first change; only servers were held back.
        let settled = self.last.is_some_and(|last| load.is_like(last.load));
        if servers == pool.servers && (settled || threads == pool.threads) {
            return Decision::Hold;
        }
        let grows = servers > pool.servers || threads > pool.threads;
        if self.turns_round_too_soon(grows, now_ms) {
            return Decision::Hold;
        }
        self.last = Some(Change {
            at_ms: now_ms,
            grew: grows,
            spare: servers.saturating_sub(pool.promised),
            load,
            held_back: servers < pool.servers && servers > wanted,
        });
        self.above_since_ms = None;
        self.below_since_ms = None;
        Decision::Scale {
            servers,
            threads,
            reason,
        }
    }

    /// Somebody else started servers, for jobs that wait: nothing is removed before the window for it
    /// has passed again.
    pub fn started_by_others(&mut self) {
        self.below_since_ms = None;
    }

    /// Which resource is above its range, and whether all are below theirs.
    fn out_of_range(&self, pool: &Pool) -> (Option<&'static str>, bool) {
        let [capacity, network, cpu] = self.settings.kind.resources();
        let uses = [
            (capacity, pool.capacity_permille, self.settings.capacity),
            (network, pool.network_permille, self.settings.network),
            (cpu, pool.cpu_permille, self.settings.cpu),
        ];
        let above = uses
            .iter()
            .find(|(_, used, range)| *used > range.high_permille);
        let below = uses
            .iter()
            .all(|(_, used, range)| *used < range.low_permille);
        (above.map(|(name, ..)| *name), below)
    }

    /// After a change the pool rests: for the cool-down, and for as long as the load is the one that
    /// the change was made for and nobody else has started or ended servers.
    fn rests(&self, load: Load, spare: u32, now_ms: u64) -> bool {
        self.last.is_some_and(|last| {
            now_ms.saturating_sub(last.at_ms) < self.settings.cool_down_ms
                || load.is_like(last.load) && spare == last.spare && !last.held_back
        })
    }

    /// Whether this would undo the last change soon after it.
    fn turns_round_too_soon(&self, grows: bool, now_ms: u64) -> bool {
        let pause_ms = self
            .settings
            .cool_down_ms
            .saturating_mul(TURN_ROUND_COOL_DOWNS);
        self.last
            .is_some_and(|last| last.grew != grows && now_ms.saturating_sub(last.at_ms) < pause_ms)
    }

    /// Servers that bring the scarcest resource to the middle of its range.
    fn wanted(&self, load: Load, promised: u32) -> u32 {
        let settings = &self.settings;
        let threads_max = u64::from(settings.threads_max.max(1));
        let servers = (load.network.div_ceil(settings.network.aim()))
            .max(load.capacity.div_ceil(settings.capacity.aim()))
            .max(load.cpu.div_ceil(settings.cpu.aim() * threads_max));
        let servers = servers.saturating_add(promised.into());
        let most = u64::from(settings.servers_max);
        servers.clamp(u64::from(settings.servers_min).min(most), most) as u32
    }

    /// Threads of each of so many servers.
    fn threads_for(&self, load: Load, servers: u32) -> u32 {
        let threads = load
            .cpu
            .div_ceil(self.settings.cpu.aim() * u64::from(servers.max(1)));
        threads.clamp(1, u64::from(self.settings.threads_max.max(1))) as u32
    }
}

#[cfg(test)]
mod tests;
