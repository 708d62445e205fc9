//! The page of metrics, and the document that lists them.

use pocket_metrics::check_document;

use super::{super::metrics::METRICS, *};

/// A value of the page.
fn value(page: &str, sample: &str) -> f64 {
    let line = page.lines().find(|line| {
        line.strip_prefix(sample)
            .is_some_and(|rest| rest.starts_with(' '))
    });
    let line = line.unwrap_or_else(|| panic!("no {sample} in\n{page}"));
    let value = line.rsplit(' ').next().expect("has a value");
    value.parse().expect("is a number")
}

#[test]
fn the_page_tells_jobs_servers_decisions_and_cost() {
    let mut world = World::new(3);
    let id = world.mount(&job_of("a", 2 * GIB)).job;
    world.set_mounts(id, 2);
    world.mount(&job_of("a", 2 * GIB));
    world.mount(&job_of("b", GIB));
    world.used.insert(1, GIB);
    assert!(matches!(
        world.step(&job_of("huge", 99 * GIB)),
        RegisterStep::Refused(_)
    ));
    assert!(matches!(
        world.step(&job_of("c", 22 * GIB)),
        RegisterStep::Wait(..)
    ));
    world.pass(10);
    world.deregister("b");
    world.pass_without(5, &[3]);
    let page = world.cluster.metrics(world.now).into_text();
    for (sample, expected) in [
        ("pocket_controller_jobs{state=\"running\"}", 1.0),
        ("pocket_controller_jobs{state=\"ending\"}", 0.0),
        ("pocket_controller_waiting_jobs", 1.0),
        ("pocket_controller_mounts", 2.0),
        (
            "pocket_controller_servers{role=\"metadata\",state=\"alive\"}",
            1.0,
        ),
        (
            "pocket_controller_servers{role=\"storage\",state=\"alive\"}",
            2.0,
        ),
        (
            "pocket_controller_servers{role=\"storage\",state=\"dead\"}",
            1.0,
        ),
        (
            "pocket_controller_capacity_bytes{tier=\"dram\"}",
            16.0 * GIB as f64,
        ),
        (
            "pocket_controller_reserved_bytes{tier=\"dram\"}",
            2.0 * GIB as f64,
        ),
        ("pocket_controller_used_bytes{tier=\"dram\"}", GIB as f64),
        (
            "pocket_controller_decisions_total{decision=\"created\"}",
            2.0,
        ),
        (
            "pocket_controller_decisions_total{decision=\"joined\"}",
            1.0,
        ),
        (
            "pocket_controller_decisions_total{decision=\"refused\"}",
            1.0,
        ),
        (
            "pocket_controller_decisions_total{decision=\"queued\"}",
            1.0,
        ),
        ("pocket_controller_decisions_total{decision=\"ended\"}", 1.0),
    ] {
        assert_eq!(value(&page, sample), expected, "{sample}\n{page}");
    }
    assert!(value(&page, "pocket_controller_price_dollars_per_hour") > 0.0);
    let before = value(&page, "pocket_controller_cost_dollars_total");
    world.deregister("a");
    world.pass(5);
    let page = world.cluster.metrics(world.now).into_text();
    assert!(value(&page, "pocket_controller_cost_dollars_total") > before);
    assert_eq!(
        value(&page, "pocket_controller_price_dollars_per_hour"),
        0.0
    );
}

#[test]
fn the_document_lists_what_the_endpoint_tells() {
    let world = World::new(1);
    let page = world.cluster.metrics(world.now);
    let document = include_str!("../../../../docs/metrics.md");
    check_document(page, &METRICS, document, "pocket_controller_");
}
