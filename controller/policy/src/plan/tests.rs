//! What jobs would get and cost: tables, and what holds of every plan.

use proptest::prelude::*;

use super::*;

const GB: u64 = 1_000_000_000;

fn planned_by(hints: &Hints) -> Plan {
    plan(hints, &Catalogue::default(), None)
}

fn tiers(plan: &Plan) -> Vec<(Tier, u64)> {
    let tiers = plan.tiers.iter();
    let rounded = |bytes: u64| (bytes + GB / 2) / GB;
    tiers
        .map(|tier| (tier.tier, rounded(tier.needs.capacity_bytes)))
        .collect()
}

#[test]
fn without_hints_it_is_fifty_nodes_dram_first_then_flash() {
    let plan = planned_by(&Hints::default());
    assert_eq!(plan.needs.bytes_per_second, 50 * GB);
    assert_eq!(plan.needs.capacity_bytes, 98_000 * GB);
    assert_eq!(tiers(&plan), [(Tier::Dram, 3_000), (Tier::Nvme, 95_000)]);
    assert_eq!(plan.tiers[0].servers_permille, 50_000);
}

#[test]
fn every_hint_added_makes_it_cheaper_for_a_typical_job() {
    let tasks = Hints {
        max_tasks: Some(250),
        ..Hints::default()
    };
    let insensitive = Hints {
        latency_sensitive: Some(false),
        ..tasks
    };
    let exact = Hints {
        capacity_bytes: Some(100 * GB),
        bandwidth_bytes_per_second: Some(10 * GB),
        ..insensitive
    };
    let prices =
        [Hints::default(), tasks, insensitive, exact].map(|hints| planned_by(&hints).price);
    assert!(prices.is_sorted_by(|a, b| a > b), "{prices:?}");
}

#[test]
fn an_insensitive_job_gets_no_dram_and_a_sensitive_one_only_what_it_said() {
    let hints = |latency_sensitive| Hints {
        latency_sensitive: Some(latency_sensitive),
        capacity_bytes: Some(120 * GB),
        bandwidth_bytes_per_second: Some(GB),
        ..Hints::default()
    };
    let fast = planned_by(&hints(true));
    assert_eq!(tiers(&fast), [(Tier::Dram, 120)]);
    assert_eq!(fast.alone, [("dram".to_owned(), 2)]);
    assert_eq!(fast.price_alone, Some(Price(1_064_000_000)));
    let cheap = planned_by(&hints(false));
    assert_eq!(tiers(&cheap), [(Tier::Nvme, 120)]);
    assert_eq!(cheap.alone, [("nvme".to_owned(), 1)]);
    assert!(cheap.price < fast.price && Some(fast.price) < fast.price_alone);
    assert!(
        cheap
            .reasons
            .iter()
            .any(|reason| reason.contains("on nvme"))
    );
}

#[test]
fn a_table_of_dram_alone_serves_everybody() {
    let mut table = Catalogue::default();
    table.nodes.truncate(1);
    for latency_sensitive in [None, Some(true), Some(false)] {
        let hints = Hints {
            latency_sensitive,
            ..Hints::default()
        };
        let plan = plan(&hints, &table, None);
        assert_eq!(tiers(&plan), [(Tier::Dram, 98_000)]);
    }
}

#[test]
fn an_insensitive_job_gets_no_dram_however_cheap_that_is() {
    let mut table = Catalogue::default();
    for node in &mut table.nodes[1..] {
        node.price = node.price.times(100);
    }
    let hints = Hints {
        latency_sensitive: Some(false),
        capacity_bytes: Some(GB),
        bandwidth_bytes_per_second: Some(GB),
        ..Hints::default()
    };
    let plan = plan(&hints, &table, None);
    assert!(table.nodes[1..].iter().all(|node| {
        table.share_cost(&table.nodes[0], plan.needs) < table.share_cost(node, plan.needs)
    }));
    assert!(
        plan.tiers.iter().all(|tier| tier.tier != Tier::Dram),
        "{:?}",
        plan.tiers
    );
}

/// The built-in table with only these types.
fn table_of(names: &[&str]) -> Catalogue {
    let mut table = Catalogue::default();
    table
        .nodes
        .retain(|node| names.contains(&node.name.as_str()));
    table
}

#[test]
fn the_cheapest_plan_is_the_one_that_is_billed_least() {
    // Servers full of one resource say HDD; what a job is billed for both says NVMe.
    let hints = Hints {
        capacity_bytes: Some(2_000 * GB),
        bandwidth_bytes_per_second: Some(GB / 5),
        latency_sensitive: Some(false),
        ..Hints::default()
    };
    let table = Catalogue::default();
    let chosen = plan(&hints, &table, None);
    assert_eq!(tiers(&chosen), [(Tier::Nvme, 2_000)]);
    for node in &table.nodes {
        let other = table.share_price(node, chosen.needs);
        assert!(
            node.tier == Tier::Dram || chosen.price <= other,
            "{}",
            node.name
        );
    }
}

#[test]
fn a_plan_meets_all_needs_or_says_what_is_missing() {
    let hints = Hints {
        max_tasks: Some(100),
        latency_sensitive: Some(false),
        ..Hints::default()
    };
    for names in [
        &["dram", "nvme"][..],
        &["dram", "ssd"],
        &["dram", "hdd"],
        &["nvme"],
    ] {
        let mut table = table_of(names);
        table.nodes.last_mut().expect("some").capacity_bytes = 480 * GB;
        let plan = plan(&hints, &table, None);
        let sum = |of: fn(&Needs) -> u64| -> u64 { plan.tiers.iter().map(|t| of(&t.needs)).sum() };
        assert_eq!(
            sum(|needs| needs.capacity_bytes),
            plan.needs.capacity_bytes,
            "{names:?}"
        );
        assert_eq!(plan.missing, Needs::default());
        assert!(
            plan.tiers.iter().all(|tier| tier.tier != Tier::Dram),
            "{names:?}"
        );
    }
    let mut tiny = table_of(&["nvme"]);
    tiny.nodes[0].capacity_bytes = 64 << 20;
    let hints = Hints {
        capacity_bytes: Some(1 << 53),
        ..Hints::default()
    };
    let plan = plan(&hints, &tiny, None);
    let planned = plan.tiers[0].needs.capacity_bytes;
    assert_eq!(planned, 1_000_000 * (64 << 20));
    assert_eq!(plan.missing.capacity_bytes, (1 << 53) - planned);
    assert_eq!((plan.price_alone, plan.alone.len()), (None, 0));
    assert!(
        plan.reasons.iter().any(|r| r.contains("fit nowhere")),
        "{:?}",
        plan.reasons
    );
}

/// Some types of every tier, some of them small.
fn any_table() -> impl Strategy<Value = Catalogue> {
    let one = (0..4usize, 1..1_000u64, 1..5_000u64, 200..2_000u64);
    proptest::collection::vec(one, 1..6).prop_map(|types| {
        let types = types.into_iter().enumerate();
        let node = |(number, (tier, gigabytes, megabytes, permille))| NodeType {
            name: format!("type-{number}"),
            tier: Tier::FASTEST_FIRST[tier],
            capacity_bytes: gigabytes * GB,
            bytes_per_second: megabytes * (GB / 1_000),
            get_us: 100,
            put_us: 100,
            price: Price(permille * 1_000_000),
        };
        Catalogue {
            nodes: types.map(node).collect(),
            ..Catalogue::default()
        }
    })
}

fn any_hints() -> impl Strategy<Value = Hints> {
    let capacity = proptest::option::of(4_096..=1u64 << 53);
    let bandwidth = proptest::option::of(1_000..=125_000_000_000_000u64);
    let tasks = proptest::option::of(1..=1_000_000u32);
    let hints = (capacity, bandwidth, tasks, any::<Option<bool>>());
    hints.prop_map(
        |(capacity, bandwidth, max_tasks, latency_sensitive)| Hints {
            capacity_bytes: capacity,
            bandwidth_bytes_per_second: bandwidth,
            max_tasks,
            latency_sensitive,
            ..Hints::default()
        },
    )
}

proptest! {
    #[test]
    fn no_plan_exceeds_the_servers_of_a_type_or_lacks_what_it_does_not_say(
        table in any_table(), hints in any_hints(),
    ) {
        let plan = plan(&hints, &table, None);
        let (needs, missing) = (plan.needs, plan.missing);
        // Each part is rounded up.
        let rounded = plan.tiers.len() as u64 + 1;
        let sum = |of: fn(&Needs) -> u64| plan.tiers.iter().map(|tier| of(&tier.needs)).sum::<u64>();
        let bytes = sum(|needs| needs.capacity_bytes) + missing.capacity_bytes;
        let rate = sum(|needs| needs.bytes_per_second) + missing.bytes_per_second;
        prop_assert!(bytes >= needs.capacity_bytes && bytes - needs.capacity_bytes <= rounded);
        prop_assert!(rate >= needs.bytes_per_second && rate - needs.bytes_per_second <= rounded);
        for tier in &plan.tiers {
            let node = table.named(&tier.node).expect("of the table");
            let most = u64::from(SERVERS_MAX);
            prop_assert!(tier.needs.capacity_bytes <= node.capacity_bytes * most + rounded);
            prop_assert!(tier.needs.bytes_per_second <= node.bytes_per_second * most + rounded);
        }
        prop_assert_eq!(missing == Needs::default(), plan.price_alone.is_some());
        let said = plan.reasons.iter().any(|reason| reason.contains("fit nowhere"));
        prop_assert_eq!(said, missing.capacity_bytes > 0);
    }

    #[test]
    fn no_type_alone_is_cheaper_than_a_plan_to_which_latency_does_not_matter(
        table in any_table(), capacity in 4_096..1u64 << 46, rate in 1_000..1u64 << 40,
    ) {
        let hints = Hints {
            capacity_bytes: Some(capacity),
            bandwidth_bytes_per_second: Some(rate),
            latency_sensitive: Some(false),
            ..Hints::default()
        };
        let plan = plan(&hints, &table, None);
        let dram_alone = table.nodes.iter().all(|node| node.tier == Tier::Dram);
        for node in table.nodes.iter().filter(|node| dram_alone || node.tier != Tier::Dram) {
            // Bytes and money are rounded up for each part.
            let price = table.share_price(node, plan.needs) + Price(10 * plan.tiers.len() as u64);
            prop_assert!(plan.price <= price, "{} {:?}", node.name, plan);
        }
    }

    #[test]
    fn of_a_slower_tier_a_plan_takes_only_what_the_faster_do_not_hold(
        table in any_table(), hints in any_hints(),
    ) {
        let hints = Hints { latency_sensitive: Some(true), ..hints };
        let plan = plan(&hints, &table, None);
        prop_assert!(plan.tiers.is_sorted_by_key(|tier| tier.tier), "{:?}", plan.tiers);
        let demand = demand(&hints, &table, None);
        let tiers: Vec<Tier> = table.nodes.iter().map(|node| node.tier).collect();
        let Some(last) = plan.tiers.last() else { return Ok(()) };
        for node in table.nodes.iter().filter(|node| node.tier < last.tier) {
            let limit = server_limit(&demand, node.tier, node.bytes_per_second, &tiers);
            let taken = plan.tiers.iter().find(|tier| tier.node == node.name);
            let permille = taken.map_or(0, |tier| tier.servers_permille);
            prop_assert!(permille + 1 >= u64::from(limit) * 1_000, "{} {permille} {limit}", node.name);
        }
    }
}
