//! The built-in table, prices, and every mistake with its sentence.

use proptest::prelude::*;

use super::*;

#[test]
fn the_built_in_table_has_the_published_prices() {
    let table = Catalogue::default();
    let prices = table.nodes.iter().map(|node| (node.tier, node.price.0));
    let prices: Vec<_> = prices.collect();
    let expected = [
        (Tier::Dram, 532_000_000),
        (Tier::Nvme, 624_000_000),
        (Tier::Ssd, 1_705_000_000),
        (Tier::Hdd, 468_000_000),
    ];
    assert_eq!(prices, expected);
    assert_eq!(table.machine, Price(192_000_000));
    let nvme = table.named("nvme").expect("is there");
    assert_eq!(nvme.capacity_bytes, 1_960_000_000_000);
    assert_eq!(nvme.bytes_per_second, 1_000_000_000);
    assert_eq!(table.defaults.task_bytes_per_second, 75_000_000);
}

#[test]
fn a_node_costs_its_shares_and_together_its_price() {
    let table = Catalogue::default();
    for node in &table.nodes {
        let all = Needs {
            capacity_bytes: node.capacity_bytes,
            bytes_per_second: node.bytes_per_second,
        };
        assert_eq!(table.share_price(node, all), node.price);
    }
    let nvme = table.typical(Tier::Nvme).expect("is there");
    let needs = Needs {
        capacity_bytes: 0,
        bytes_per_second: 500_000_000,
    };
    assert_eq!(table.share_price(nvme, needs), Price(96_000_000));
}

#[test]
fn insensitive_jobs_take_the_cheapest_medium_for_their_shape() {
    let table = Catalogue::default();
    let order = |capacity_bytes, bytes_per_second| {
        table.cheapest_first(Needs {
            capacity_bytes,
            bytes_per_second,
        })
    };
    // Throughput is cheapest on NVMe, bare capacity on HDD; DRAM is last in either case.
    assert_eq!(order(1 << 30, 1 << 30)[0], Tier::Nvme);
    assert_eq!(order(1 << 43, 1 << 20)[0], Tier::Hdd);
    assert_eq!(order(1 << 30, 1 << 30)[3], Tier::Dram);
}

#[test]
fn mistakes_are_named_with_the_fix() {
    for (from, to, parts) in [
        (
            "tier = \"hdd\"",
            "tier = \"tape\"",
            ["node 'hdd', tier", "use dram"],
        ),
        (
            "\"60GB\"",
            "\"lots\"",
            ["node 'dram', capacity", "as 10GiB"],
        ),
        (
            "\"60GB\"",
            "\"0GB\"",
            ["node 'dram', capacity", "from 64MiB"],
        ),
        (
            "\"60GB\"",
            "\"-60GB\"",
            ["node 'dram', capacity", "as 10GiB"],
        ),
        (
            "\"60GB\"",
            "\"7EB\"",
            ["node 'dram', capacity", "correct it"],
        ),
        (
            "\"1.2Gb/s\"",
            "\"0Gb/s\"",
            ["node 'hdd', bandwidth", "more than 0"],
        ),
        (
            "\"1.2Gb/s\"",
            "\"99Tb/s\"",
            ["node 'hdd', bandwidth", "10Tb/s"],
        ),
        (
            "\"0.532\"",
            "\"-1\"",
            ["node 'dram', price_per_hour", "dollars per hour"],
        ),
        (
            "\"0.532\"",
            "\"0.1\"",
            ["node 'dram', price_per_hour", "contradicts machine"],
        ),
        (
            "\"0.532\"",
            "\"5320000\"",
            ["node 'dram', price_per_hour", "per hour?"],
        ),
        (
            "get_us = 317",
            "get_us = 0",
            ["node 'dram', get_us", "give 1 to"],
        ),
        (
            "get_us = 317",
            "get_us = -1",
            ["node 'dram', get_us: -1", "give 1 to 10000000"],
        ),
        (
            "get_us = 317",
            "get_us = \"fast\"",
            ["node 'dram', get_us", "as get_us = 317"],
        ),
        (
            "\"0.532\"",
            "0.532",
            [
                "node 'dram', price_per_hour: 0.532 is not text",
                "write it in quotes",
            ],
        ),
        (
            "\"0.532\"",
            "nan",
            [
                "node 'dram', price_per_hour: NaN is not text",
                "as \"0.532\"",
            ],
        ),
        (
            "price_per_hour = \"0.532\"",
            "",
            [
                "node 'dram', price_per_hour",
                "is missing: add price_per_hour = \"0.532\"",
            ],
        ),
        (
            "price_per_hour = \"0.192\"",
            "price_per_hour = \"0\"",
            ["machine.price_per_hour", "and not nothing: give what"],
        ),
        (
            "[machine]",
            "[machines]",
            ["machine", "is missing: add a table [machine]"],
        ),
        (
            "[default]",
            "[[default]]",
            ["default", "write its values under [default]"],
        ),
        (
            "name = \"ssd\"\ntier = \"ssd\"\ncapacity = \"1600GB\"\nbandwidth = \"8Gb/s\"\n\
             get_us = 516\nput_us = 604",
            "name = \"twin\"\ntier = \"nvme\"\ncapacity = \"1960GB\"\nbandwidth = \"8Gb/s\"\n\
             get_us = 422\nput_us = 539",
            [
                "node 'twin'",
                "the same machine as node 'nvme', which costs $0.6240/h and not",
            ],
        ),
        (
            "nodes = 50",
            "nodes = 50\ncolour = \"red\"",
            ["default.colour", "is not known: correct or remove it"],
        ),
        (
            "name = \"ssd\"",
            "name = \"nvme\"",
            ["node 'nvme'", "rename one"],
        ),
        (
            "name = \"ssd\"",
            "name = \" \"",
            ["the 3. node, name", "give it one"],
        ),
        (
            "name = \"ssd\"",
            "nome = \"ssd\"",
            ["the 3. node, name", "is missing: add name = \"nvme\""],
        ),
        ("nodes = 50", "nodes = 0", ["default.nodes", "give 1 to"]),
        ("[machine]", "[machine", ["cannot be read", "line 7"]),
    ] {
        assert!(BUILT_IN.contains(from), "{from}");
        let error = Catalogue::parse(&BUILT_IN.replacen(from, to, 1)).expect_err(to);
        for part in parts {
            let sentence = error.to_string();
            assert!(sentence.contains(part), "{part}: {sentence}");
        }
    }
    assert!(Catalogue::parse("").is_err());
    let none = BUILT_IN.split("[[node]]").next().expect("a head");
    let error = Catalogue::parse(&format!("node = []\n{none}")).expect_err("no types");
    assert!(error.to_string().contains("0 node types"), "{error}");
}

proptest! {
    #[test]
    fn no_table_panics_and_what_is_read_is_sound(
        at in 0..BUILT_IN.len(), length in 0..20usize, with in "[ -~\n]{0,12}",
    ) {
        let mut text: Vec<char> = BUILT_IN.chars().collect();
        let end = (at + length).min(text.len());
        text.splice(at.min(end)..end, with.chars());
        let text: String = text.into_iter().collect();
        match Catalogue::parse(&text) {
            Ok(table) => {
                let sound = |node: &NodeType| {
                    node.capacity_bytes > 0 && node.bytes_per_second > 0 && node.price >= table.machine
                };
                prop_assert!(!table.nodes.is_empty() && table.nodes.iter().all(sound));
            }
            Err(error) => prop_assert!(error.to_string().starts_with("the price table cannot be read: line ")
                || error.to_string().starts_with("price table, "), "{error}"),
        }
    }
}
