//! Registrations that wait for room, over real sockets.

#![allow(clippy::unwrap_used)]

mod kit;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kit::{GIB, World, eventually, job_of, world};
use parking_lot::Mutex;
use pocket_controller_client::ControllerError;
use pocket_proto::{
    Status,
    control::{DeregisterJobRequest, RegisterJobReply},
};
use tokio::task::JoinHandle;

const LONG: Duration = Duration::from_secs(60);

/// A client that waits in the queue, and what it was told.
struct Waiter {
    registered: JoinHandle<Result<RegisterJobReply, ControllerError>>,
    told: Arc<Mutex<Vec<String>>>,
}

/// Registers a job of a GiB, which waits; returns when the controller knows of it.
async fn wait_in_queue(world: &World, name: &str, patience: Duration) -> Waiter {
    let told = Arc::new(Mutex::new(Vec::new()));
    let client = kit::client(world.controller.endpoint());
    let (request, heard) = (job_of(name, GIB), Arc::clone(&told));
    let registered = tokio::spawn(async move {
        let hear = |place: &str| heard.lock().push(place.to_owned());
        client.register_job_in_turn(request, patience, hear).await
    });
    let shown = format!("job '{name}'");
    eventually("it has a place", || async {
        waiting(world)
            .await
            .iter()
            .any(|place| place.contains(&shown))
    })
    .await;
    Waiter { registered, told }
}

async fn waiting(world: &World) -> Vec<String> {
    world.client.survey("").await.unwrap().waiting
}

async fn end(world: &World, name: &str) {
    let request = DeregisterJobRequest {
        name: name.to_owned(),
        job: 0,
    };
    assert!(world.client.deregister_job(request).await.unwrap());
}

/// All of it is taken.
async fn full() -> World {
    let world = world(1).await;
    world
        .client
        .register_job(job_of("all", 8 * GIB))
        .await
        .unwrap();
    world
}

#[tokio::test]
async fn who_waits_is_told_the_place_and_the_reason_and_gets_the_room_in_turn() {
    let world = full().await;
    let first = wait_in_queue(&world, "first", LONG).await;
    let second = wait_in_queue(&world, "second", LONG).await;
    eventually("both are told", || async {
        !first.told.lock().is_empty() && !second.told.lock().is_empty()
    })
    .await;
    let told = second.told.lock()[0].clone();
    assert!(told.starts_with("place 2 of 2 in the queue: "), "{told}");
    let told = first.told.lock().last().unwrap().clone();
    assert!(
        told.contains("all 8GiB on 1 storage server are given to other jobs"),
        "{told}"
    );
    end(&world, "all").await;
    for waiter in [first, second] {
        assert!(waiter.registered.await.unwrap().unwrap().created);
    }
    assert!(waiting(&world).await.is_empty());
}

#[tokio::test]
async fn a_client_that_goes_away_gives_its_place_up_and_others_move_up() {
    let world = full().await;
    let first = wait_in_queue(&world, "first", LONG).await;
    let second = wait_in_queue(&world, "second", LONG).await;
    let begin = Instant::now();
    first.registered.abort();
    eventually("the second has moved up", || async {
        let waiting = waiting(&world).await;
        waiting.len() == 1
            && waiting[0].starts_with("place 1 of 1")
            && waiting[0].contains("'second'")
    })
    .await;
    // Told by the connection, not by silence.
    assert!(begin.elapsed() < Duration::from_secs(9));
    eventually("and is told so", || async {
        let told = second.told.lock();
        told.last()
            .is_some_and(|place| place.starts_with("place 1 of 1"))
    })
    .await;
    end(&world, "all").await;
    assert!(second.registered.await.unwrap().unwrap().created);
    let jobs = world.client.list_jobs("").await.unwrap();
    assert_eq!(jobs.len(), 1);
}

#[tokio::test]
async fn patience_ends_with_the_place_and_the_reason() {
    let world = full().await;
    let waiter = wait_in_queue(&world, "late", Duration::from_secs(1)).await;
    match waiter.registered.await.unwrap() {
        Err(ControllerError::Refused { status, message }) => {
            assert_eq!(status, Status::NoSpace);
            assert!(
                message.starts_with("place 1 of 1 in the queue: job 'late'"),
                "{message}"
            );
            assert!(message.ends_with("(given up after 1 s)"), "{message}");
        }
        other => panic!("not refused: {other:?}"),
    }
    assert!(waiting(&world).await.is_empty(), "the place is given up");
}

#[tokio::test]
async fn two_who_wait_to_create_a_job_get_the_same_one() {
    let world = full().await;
    let first = wait_in_queue(&world, "both", LONG).await;
    let other = wait_in_queue(&world, "between", LONG).await;
    let second = wait_in_queue(&world, "both", LONG).await;
    eventually("all three wait", || async {
        waiting(&world).await.len() == 3
    })
    .await;
    end(&world, "all").await;
    let first = first.registered.await.unwrap().unwrap();
    let second = second.registered.await.unwrap().unwrap();
    assert!(first.created && !second.created && first.job == second.job);
    assert!(other.registered.await.unwrap().unwrap().created);
}

#[tokio::test]
async fn who_cannot_wait_is_answered_within_seconds() {
    let world = full().await;
    let begin = Instant::now();
    let refused = world.client.register_job(job_of("x", GIB)).await;
    assert!(
        matches!(refused, Err(ControllerError::Refused { .. })),
        "{refused:?}"
    );
    assert!(begin.elapsed() < Duration::from_secs(9));
    assert!(waiting(&world).await.is_empty());
}

#[tokio::test]
async fn who_waits_goes_on_waiting_where_the_controller_starts_anew() {
    let mut world = full().await;
    let waiter = wait_in_queue(&world, "patient", LONG).await;
    eventually("it is told", || async { !waiter.told.lock().is_empty() }).await;
    let endpoint = world.controller.endpoint().to_owned();
    world.controller.stop().await;
    world.controller = kit::controller_at(&endpoint, Duration::from_secs(3)).await;
    let shown = || async {
        let survey = world.client.survey("").await;
        survey.is_ok_and(|survey| survey.waiting.len() == 1)
    };
    eventually("it waits again", shown).await;
    assert!(!waiter.registered.is_finished());
    end(&world, "all").await;
    assert!(waiter.registered.await.unwrap().unwrap().created);
}
