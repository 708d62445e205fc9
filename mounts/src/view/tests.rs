//! What programs and people read of jobs and servers.

use pocket_proto::{
    control::{Allocation, Hints, job_status},
    session::{StorageServer, WeightMap, WeightedServer},
};

use super::*;

fn job() -> JobStatus {
    let server = |server, weight| WeightedServer {
        server: Some(StorageServer {
            server,
            tier: "dram".to_owned(),
            endpoint: format!("host:{server}"),
            ..StorageServer::default()
        }),
        weight,
        stands_for: 0,
    };
    JobStatus {
        job: 255,
        name: "sort".to_owned(),
        hints: Some(Hints {
            max_tasks: Some(3),
            ..Hints::default()
        }),
        allocation: Some(Allocation {
            capacity_bytes: 10 << 30,
            weight_map: Some(WeightMap {
                epoch: 1,
                edition: 0,
                servers: vec![server(1, 1), server(2, 3)],
            }),
            ..Allocation::default()
        }),
        lease_seconds: 60,
        nanodollars: 1_500_000_000,
        epochs: vec![job_status::Epoch {
            epoch: 1,
            servers: 2,
            reason: "the job was created".to_owned(),
            ..job_status::Epoch::default()
        }],
        ..JobStatus::default()
    }
}

#[test]
fn a_job_is_shown_with_units_and_shares() {
    let view = JobView::from(job());
    assert_eq!(view.row()[3], "10GiB");
    assert_eq!(view.row()[6], "$1.5000");
    assert_eq!(view.row()[7], "1m 0s after its last mount");
    let details = view.details();
    assert!(details.contains(&("hints", "max-tasks 3".to_owned())));
    assert!(details.contains(&("storage server", "host:2 dram 75.0%".to_owned())));
    let epoch = "1, 2 servers, 0s ago: the job was created".to_owned();
    assert!(details.contains(&("epoch", epoch)));
    let json = serde_json::to_value(&view).unwrap();
    assert_eq!(json["dollars"], 1.5);
    assert_eq!(json["job"], "00000000000000ff");
    assert_eq!(json["weights"][0]["fraction"], 0.25);
    assert!(json["lapses_in_seconds"].is_null());
}

#[test]
fn empty_messages_are_shown_too() {
    let job = JobView::from(JobStatus::default());
    assert_eq!(job.hints.to_string(), "none");
    assert!(job.row().iter().all(|cell| !cell.contains("NaN")));
    let server = ServerView::from(ServerStatus::default());
    assert_eq!(server.row()[3], "dead for 0s");
}
