//! Pools under load: when they change, by how much, and that they then rest.

use proptest::prelude::*;

use super::*;

/// A pool that does as it is told, under a load in thousandths of a server (and thread).
struct World {
    arbiter: Arbiter,
    servers: u32,
    threads: u32,
    load: [u64; 3],
    needed: u32,
    now_ms: u64,
}

impl World {
    fn new(servers: u32, load: [u64; 3], settings: ScalingSettings) -> Self {
        World {
            arbiter: Arbiter::new(settings),
            servers,
            threads: 1,
            load,
            needed: 0,
            now_ms: 5_000,
        }
    }

    fn pool(&self) -> Pool {
        let servers = u64::from(self.servers).max(1);
        let [cpu, network, capacity] = self.load;
        Pool {
            servers: self.servers,
            promised: 0,
            threads: self.threads,
            cpu_permille: cpu.div_ceil(servers * u64::from(self.threads)) as u32,
            network_permille: network.div_ceil(servers) as u32,
            capacity_permille: capacity.div_ceil(servers) as u32,
            removable: self.servers.saturating_sub(self.needed),
        }
    }

    /// So many seconds pass; the changes made.
    fn pass(&mut self, seconds: u64) -> Vec<(u64, u32, u32)> {
        let mut changes = Vec::new();
        for _ in 0..seconds {
            self.now_ms += 1_000;
            if let Decision::Scale {
                servers, threads, ..
            } = self.arbiter.decide(&self.pool(), self.now_ms)
            {
                (self.servers, self.threads) = (servers, threads);
                changes.push((self.now_ms / 1_000, servers, threads));
            }
        }
        changes
    }
}

fn settings() -> ScalingSettings {
    ScalingSettings {
        window_down_ms: 10_000,
        cool_down_ms: 10_000,
        ..ScalingSettings::default()
    }
}

#[test]
fn what_is_short_for_a_while_adds_to_the_middle_of_the_range() {
    let mut world = World::new(10, [0, 8_100, 0], settings());
    // The first look is at second 6; three seconds later it has lasted.
    assert_eq!(world.pass(60), [(9, 12, 1)]);
    let mut short = World::new(10, [0, 8_100, 0], settings());
    assert_eq!(short.pass(2), []);
    short.load = [0, 7_000, 0];
    assert_eq!(short.pass(1), []);
    short.load = [0, 8_100, 0];
    assert_eq!(short.pass(3), [], "the window starts again");
}

#[test]
fn plenty_for_long_removes_but_not_what_jobs_need() {
    let mut world = World::new(10, [0, 2_000, 5_000], settings());
    assert_eq!(world.pass(60), [(16, 8, 1)]);
    let mut world = World::new(10, [0, 2_000, 1_000], settings());
    world.needed = 9;
    assert_eq!(world.pass(30), [(16, 9, 1)]);
    world.needed = 5;
    let change = world.pass(30);
    assert_eq!(change.len(), 1, "goes on as jobs end: {change:?}");
    assert_eq!(world.servers, 5);
}

#[test]
fn servers_that_others_started_for_a_while_are_removed_again() {
    let mut world = World::new(10, [0, 0, 0], settings());
    world.needed = 4;
    assert_eq!(world.pass(60), [(16, 4, 1)]);
    // A job came and went, and the load is what it was.
    (world.servers, world.needed) = (12, 4);
    assert_eq!(world.pass(60).last().map(|change| change.1), Some(4));
}

#[test]
fn in_range_nothing_happens_whatever_one_resource_does() {
    for load in [
        [0, 7_000, 0],
        [0, 6_000, 100],
        [0, 100, 8_000],
        [0, 5_000, 6_500],
    ] {
        assert_eq!(World::new(10, load, settings()).pass(100), [], "{load:?}");
    }
}

#[test]
fn cpu_scales_threads_before_servers() {
    let mut world = World::new(2, [2 * 2_000, 0, 0], settings());
    assert_eq!(world.pass(60), [(9, 2, 3)]);
    let mut hot = World::new(2, [2 * 10_000, 1_300, 0], settings());
    assert_eq!(
        hot.pass(60),
        [(9, 4, 8)],
        "threads are at their most, so servers as well"
    );
}

#[test]
fn limits_hold() {
    let limited = ScalingSettings {
        servers_min: 2,
        servers_max: 12,
        ..settings()
    };
    assert_eq!(World::new(1, [0, 0, 0], limited).pass(30), [(6, 2, 1)]);
    assert_eq!(
        World::new(10, [0, 99_000, 0], limited).pass(60),
        [(9, 12, 1)]
    );
    assert_eq!(World::new(10, [0, 0, 0], limited).pass(60), [(16, 2, 1)]);
    assert_eq!(World::new(12, [0, 99_000, 0], limited).pass(60), []);
}

#[test]
fn changes_keep_their_distance() {
    let mut world = World::new(10, [0, 8_100, 0], settings());
    assert_eq!(world.pass(4).len(), 1);
    world.load = [0, 40_000, 0];
    let next = world.pass(30);
    assert_eq!(next.len(), 1);
    assert_eq!(next[0].0, 19, "ten seconds after the first");
}

#[test]
fn more_threads_are_growth_and_fewer_are_not() {
    let mut world = World::new(10, [0, 8_100, 0], settings());
    assert_eq!(world.pass(5), [(9, 12, 1)]);
    // In the same direction: as soon as the cool-down is over.
    world.load = [12 * 900, 8_100, 0];
    assert_eq!(world.pass(15), [(19, 12, 2)]);
    // In the other one: three cool-downs later, though nothing is short from second 26 on.
    (world.load, world.needed) = ([5_000, 6_000, 0], 12);
    assert_eq!(world.pass(60), [(49, 12, 1)]);
}

#[test]
fn a_pool_at_its_minimum_grows_and_one_without_servers_waits_for_those_that_jobs_need() {
    let least = ScalingSettings {
        servers_min: 2,
        ..settings()
    };
    assert_eq!(World::new(2, [0, 3_500, 0], least).pass(30), [(9, 5, 1)]);
    let none = Pool::of([], beyond(5, 5), 0);
    assert_eq!((none.threads, none.network_permille), (1, 0));
    let mut arbiter = Arbiter::new(settings());
    for second in 0..60 {
        assert_eq!(arbiter.decide(&none, second * 1_000), Decision::Hold);
    }
}

#[test]
fn a_change_says_what_was_out_of_range_and_for_how_long() {
    let reason = |network_permille| {
        let mut arbiter = Arbiter::new(settings());
        let pool = Pool {
            servers: 10,
            threads: 1,
            network_permille,
            removable: 10,
            ..Pool::default()
        };
        let mut decisions = (0..60).map(|second| arbiter.decide(&pool, second * 1_000));
        decisions.find_map(|decision| match decision {
            Decision::Scale { reason, .. } => Some(reason),
            Decision::Hold => None,
        })
    };
    let said = |text: &str| Some(text.to_owned());
    assert_eq!(reason(801), said("network was above its range for 3 s"));
    assert_eq!(reason(599), said("everything was below its range for 10 s"));
    assert_eq!(reason(600), None);
}

/// A server of 100 bytes and 10 a second.
fn member(needed: bool, ready: bool) -> Member {
    Member {
        has: Needs {
            capacity_bytes: 100,
            bytes_per_second: 10,
        },
        needed,
        ready,
    }
}

fn beyond(capacity_bytes: u64, bytes_per_second: u64) -> Needs {
    Needs {
        capacity_bytes,
        bytes_per_second,
    }
}

#[test]
fn of_storage_started_by_need_only_the_spare_part_is_sized() {
    let members = [
        member(true, true),
        member(false, true),
        member(false, true),
        member(false, false),
    ];
    let pool = Pool::of(members, beyond(150, 6), 0);
    assert_eq!((pool.servers, pool.promised, pool.removable), (4, 1, 2));
    assert_eq!((pool.capacity_permille, pool.network_permille), (500, 200));
    assert_eq!(
        Pool::of(members, beyond(0, 0), 3).removable,
        1,
        "the minimum stays"
    );
    // Where none is spare the load is that of one more.
    let full = Pool::of([member(true, true); 2], beyond(50, 0), 0);
    assert_eq!(
        (full.promised, full.removable, full.capacity_permille),
        (2, 0, 500)
    );
    let unknown = Member {
        has: beyond(100, 0),
        ..member(false, true)
    };
    let pool = Pool::of([unknown], beyond(0, 1_000), 0);
    assert_eq!(pool.network_permille, 0, "what nobody knows is not planned");
    assert_eq!(Pool::of([], beyond(5, 5), 0).servers, 0);
}

#[test]
fn spare_servers_go_and_those_that_jobs_need_do_not_count() {
    let pool = |needed, spare, use_beyond| {
        let members = [member(true, true)].repeat(needed).into_iter();
        let members = members.chain([member(false, true)].repeat(spare));
        Pool::of(members, use_beyond, 1)
    };
    let mut arbiter = Arbiter::new(settings());
    let mut after = |seconds: std::ops::Range<u64>, pool: Pool| {
        seconds
            .into_iter()
            .find_map(|second| match arbiter.decide(&pool, second * 1_000) {
                Decision::Scale { servers, .. } => Some((second, servers)),
                Decision::Hold => None,
            })
    };
    assert_eq!(after(0..60, pool(4, 3, beyond(0, 0))), Some((10, 4)));
    // Jobs end, and what they had is spare: the total is what it was, and shrinks to the minimum.
    assert_eq!(after(60..120, pool(0, 4, beyond(0, 0))), Some((70, 1)));
    // Use beyond all that is promised: as many more as bring it to the middle of the range.
    assert_eq!(after(120..180, pool(4, 0, beyond(280, 0))), Some((123, 8)));
}

#[test]
fn servers_that_others_start_begin_the_long_window_anew() {
    let idle = Pool::of([member(false, true); 2], beyond(0, 0), 0);
    let mut arbiter = Arbiter::new(settings());
    for second in 0..10 {
        assert_eq!(arbiter.decide(&idle, second * 1_000), Decision::Hold);
    }
    arbiter.started_by_others();
    for second in 10..20 {
        assert_eq!(
            arbiter.decide(&idle, second * 1_000),
            Decision::Hold,
            "{second}"
        );
    }
    assert!(matches!(
        arbiter.decide(&idle, 20_000),
        Decision::Scale { servers: 0, .. }
    ));
}

proptest! {
    #[test]
    fn constant_load_never_scales_twice(
        servers in 1..3_000u32, cpu in 0..10_000_000u64, network in 0..2_000_000u64,
        capacity in 0..2_000_000u64, needed in 0..3_000u32, threads in 1..8u32,
    ) {
        let mut world = World::new(servers, [cpu, network, capacity], settings());
        world.needed = needed.min(servers);
        world.threads = threads;
        let changes = world.pass(300);
        prop_assert!(changes.len() <= 1, "{changes:?}");
        if changes.iter().any(|(_, after, _)| *after < servers) {
            prop_assert!(world.servers >= world.needed);
            prop_assert!(world.pool().network_permille <= 800, "and is not short afterwards");
        }
    }

    #[test]
    fn any_load_keeps_the_cool_down_and_the_limits(
        loads in proptest::collection::vec((1..40u64, 0..60_000u64, 0..60_000u64), 1..20),
    ) {
        let limited = ScalingSettings { servers_min: 2, servers_max: 50, ..settings() };
        let mut world = World::new(10, [0, 0, 0], limited);
        let mut changes = Vec::new();
        for (seconds, network, capacity) in loads {
            world.load = [0, network, capacity];
            changes.extend(world.pass(seconds));
        }
        let mut before = None;
        for pair in changes.windows(2) {
            let (first, second) = (pair[0], pair[1]);
            prop_assert!(second.0 - first.0 >= 10, "{changes:?}");
            let grew = second.1 > first.1;
            if before.is_some_and(|before| before != grew) {
                prop_assert!(second.0 - first.0 >= 30, "a flap: {changes:?}");
            }
            before = Some(grew);
        }
        prop_assert!(changes.iter().all(|(_, servers, _)| (2..=50).contains(servers)));
    }
}

/// Servers that do so many thousand operations a second each, all of them to be told to go.
fn metadata(thousands: &[u64]) -> Pool {
    let member = |thousands: &u64| MetadataMember {
        operations_per_second: thousands * 1_000,
        inodes: 0,
        cpu_permille: 0,
        threads: 2,
        ours: true,
    };
    Pool::of_metadata(thousands.iter().map(member), 1)
}

fn metadata_settings() -> ScalingSettings {
    ScalingSettings {
        kind: PoolKind::Metadata,
        servers_min: 1,
        servers_max: 4,
        threads_max: 1,
        ..ScalingSettings::default()
    }
}

#[test]
fn metadata_servers_follow_operations_inodes_and_cpu_one_as_the_other() {
    let of = |member| Pool::of_metadata([member, MetadataMember::default()], 1);
    let busy = MetadataMember {
        operations_per_second: METADATA_OPERATIONS_PER_SECOND,
        inodes: METADATA_INODES / 2,
        cpu_permille: 900,
        threads: 3,
        ours: true,
    };
    let pool = of(busy);
    assert_eq!(
        (pool.network_permille, pool.capacity_permille),
        (500, 250),
        "one of two that can do as much"
    );
    assert_eq!(
        pool.cpu_permille, 675,
        "of four threads, one of whom is the other's"
    );
    assert_eq!((pool.servers, pool.removable), (2, 1));
    let none = Pool::of_metadata([], 1);
    assert_eq!(
        (
            none.network_permille,
            none.capacity_permille,
            none.cpu_permille
        ),
        (0, 0, 0)
    );
    let alone = Pool::of_metadata([busy], 1);
    assert_eq!(alone.removable, 0, "one stays at least");
}

#[test]
fn a_metadata_pool_grows_to_the_middle_of_its_range_and_shrinks_again_without_a_flap() {
    let mut arbiter = Arbiter::new(metadata_settings());
    let mut now_ms = 0;
    let mut decide = |pool: Pool, for_ms: u64| {
        let until = now_ms + for_ms;
        let mut made = Vec::new();
        while now_ms < until {
            if let Decision::Scale {
                servers, reason, ..
            } = arbiter.decide(&pool, now_ms)
            {
                made.push((servers, reason));
            }
            now_ms += 500;
        }
        made
    };
    let grown = decide(metadata(&[85]), 4_000);
    assert_eq!(
        grown,
        [(
            2,
            "the rate of operations was above its range for 3 s".to_owned()
        )]
    );
    assert_eq!(decide(metadata(&[85, 0]), 60_000), [], "the same load");
    let shrunk = decide(metadata(&[10, 10]), 4_000);
    assert_eq!(
        shrunk,
        [(1, "everything was below its range for 5 s".to_owned())]
    );
    assert_eq!(decide(metadata(&[20]), 60_000), [], "there is always one");
}
