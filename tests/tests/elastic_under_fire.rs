//! Everything that may befall an elastic cluster, one after the other, under writers and readers: servers
//! join, are drained, stand still and die, and so does the controller in the middle of its work.
//! What was acknowledged reads back whole, or as EIO where a killed server had it; and what jobs
//! hold is what servers hold, after every step and at the end, when it is nothing.

#![allow(clippy::unwrap_used)]

use std::{
    collections::HashSet,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use pocket_proto::{
    PROTOCOL_VERSION,
    control::{Hints, LeaveStage, RegisterJobRequest},
};
use pocket_tests::{
    Control, Process, ProcessCluster, Shape, content,
    load::{
        Answers::{Whole, WholeOrEio},
        Load,
    },
    try_until, until, with_shape,
};

/// A server may take as long to leave, to be missed or to be back.
const SOON: Duration = Duration::from_secs(20);
/// A registration waits for a controller that is away, and for its first look around.
const REGISTERED_DEADLINE: Duration = Duration::from_secs(30);
/// Below this a server that stands still is neither missed nor given up by who waits for it.
const SHORT_PAUSE_MS: u64 = 1_500;
/// Jobs that are registered when the controller dies.
const REGISTERED: usize = 5;
const CAPACITY: &str = "512MiB";

fn endpoint(cluster: &mut ProcessCluster, server: usize) -> String {
    cluster.storage(server).endpoint().to_owned()
}

fn drain(cluster: &mut ProcessCluster, server: usize, options: &[&str]) {
    let endpoint = endpoint(cluster, server);
    let mut command = cluster.command(&[&["node", "drain", &endpoint], options].concat());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Waits until a server that was drained has ended, in order.
#[track_caller]
fn wait_gone(cluster: &mut ProcessCluster, server: usize) {
    let ended = cluster.storage(server).process().wait(SOON);
    assert!(ended.success(), "{ended}");
}

#[track_caller]
fn wait_alive(cluster: &ProcessCluster, server: usize, alive: bool) {
    until(SOON, "the controller to notice", || {
        cluster
            .storage_status(server)
            .is_some_and(|status| status.alive == alive)
    });
}

/// A server stands still for longer than two heartbeats, and too briefly for anyone to mind.
fn pause_briefly(cluster: &mut ProcessCluster, server: usize) {
    cluster.storage(server).process().freeze();
    until(SOON, "two heartbeats to be missing", || {
        let status = cluster.storage_status(server);
        status.is_some_and(|status| status.last_heartbeat_ms_ago > SHORT_PAUSE_MS)
    });
    cluster.storage(server).process().thaw();
}

/// A server stands still until it is declared lost, and is back with all that it had.
fn pause_long(cluster: &mut ProcessCluster, server: usize) {
    cluster.storage(server).process().freeze();
    wait_alive(cluster, server, false);
    cluster.storage(server).process().thaw();
    wait_alive(cluster, server, true);
}

fn registration(name: &str) -> RegisterJobRequest {
    RegisterJobRequest {
        name: name.to_owned(),
        hints: Some(Hints {
            capacity_bytes: Some(1 << 20),
            ..Hints::default()
        }),
        protocol_version: PROTOCOL_VERSION,
        // Nobody mounts it.
        keep: true,
        ..RegisterJobRequest::default()
    }
}

/// The controller is killed between registrations that it has answered and some that it never will, and
/// started again; a server that is new meanwhile finds it. Names of jobs that were registered.
fn kill_the_controller_during_registrations(cluster: &mut ProcessCluster) -> Vec<String> {
    let stop = Arc::new(AtomicBool::new(false));
    let (sender, names) = mpsc::channel();
    let (address, stopped) = (cluster.controller_endpoint().to_owned(), Arc::clone(&stop));
    let registrar = std::thread::spawn(move || {
        let control = Control::new(&address);
        for number in (0..).take_while(|_| !stopped.load(Ordering::Relaxed)) {
            let name = format!("burst-{number}");
            if control.register(registration(&name)).is_ok() {
                sender.send(name).unwrap();
            }
        }
    });
    let file = cluster.folder("put").join("f");
    fs::write(&file, content(1, 1000)).unwrap();
    let put = cluster.command(&["put", "asked/f", file.to_str().unwrap(), "--keep"]);
    let some = (0..REGISTERED).map(|_| names.recv_timeout(SOON).unwrap());
    let mut registered = some.collect::<Vec<_>>();
    // One that was sent to it, and that it never reads.
    cluster.controller().process().freeze();
    let mut asking = Process::start("put", file.parent().unwrap(), put);
    let new = cluster.add_storage(CAPACITY);
    cluster.controller().restart();
    let asked = asking.wait(REGISTERED_DEADLINE);
    assert!(asked.success(), "{asked}\n{}", asking.report());
    stop.store(true, Ordering::Relaxed);
    registrar.join().unwrap();
    wait_alive(cluster, new, true);
    let mut output = cluster.command(&["get", "asked/f", "-"]);
    assert_eq!(output.output().unwrap().stdout, content(1, 1000));
    registered.extend(names);
    registered
}

#[track_caller]
fn end_jobs(cluster: &ProcessCluster, names: &[String]) {
    let jobs = cluster.control().jobs().unwrap();
    let known: HashSet<_> = jobs.into_iter().map(|job| job.name).collect();
    for name in names {
        assert!(
            known.contains(name),
            "{name} was registered and is not known"
        );
    }
    // Whatever became of those that nobody was answered, they end like the others.
    for name in known.iter().filter(|name| name.starts_with("burst-")) {
        assert!(cluster.control().deregister(name).unwrap());
    }
    assert!(cluster.control().deregister("asked").unwrap());
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_left_over_whatever_befalls_the_cluster() {
    let shape = Shape {
        storage_servers: 3,
        storage_capacity: CAPACITY,
        ..Shape::default()
    };
    with_shape(shape, |cluster| {
        cluster.expect_loss();
        let mut load = Load::new(cluster, "fire");
        let whole = |load: &mut Load, cluster: &mut ProcessCluster| {
            assert_eq!(load.lost_blocks(cluster), HashSet::new());
            cluster.check_account(|bytes| bytes > 0);
        };
        load.around(Whole, || ());
        whole(&mut load, cluster);

        let joined = load.around(Whole, || cluster.add_storage(CAPACITY));
        until(SOON, "the new server to be used", || {
            load.around(Whole, || ());
            cluster.storage_used(joined) > 0
        });
        whole(&mut load, cluster);

        // One is emptied by moving, the other stays until the jobs end.
        let stays = 1;
        load.around(Whole, || drain(cluster, stays, &["--no-move"]));
        load.around(Whole, || {
            drain(cluster, 0, &["--deadline", "0s"]);
            wait_gone(cluster, 0);
        });
        whole(&mut load, cluster);

        load.around(Whole, || pause_briefly(cluster, 2));
        whole(&mut load, cluster);
        load.around(WholeOrEio, || pause_long(cluster, 2));
        let back = try_until(SOON, || load.lost_blocks(cluster).is_empty().then_some(()));
        assert!(back.is_some(), "{:?}", load.lost_blocks(cluster));
        load.remove_rewritten();
        whole(&mut load, cluster);

        let new = joined + 1;
        let registered = load.around(Whole, || kill_the_controller_during_registrations(cluster));
        whole(&mut load, cluster);
        end_jobs(cluster, &registered);
        whole(&mut load, cluster);

        // What was on a server that dies is EIO, and nothing else is.
        let dead = endpoint(cluster, 2);
        load.around(WholeOrEio, || {
            cluster.storage(2).kill();
            wait_alive(cluster, 2, false);
        });
        let lost = load.lost_blocks(cluster);
        assert_eq!(lost, load.blocks_on(&dead));
        assert!(!lost.is_empty(), "the server held something");
        load.leave_alone(&lost);

        // The pool shrinks and grows while the controller is away.
        load.around(Whole, || {
            drain(cluster, joined, &["--deadline", "1s"]);
            cluster.controller().kill();
            cluster.add_storage(CAPACITY);
            cluster.controller().restart();
            wait_gone(cluster, joined);
        });
        assert_eq!(load.lost_blocks(cluster), lost);
        load.remove_rewritten();
        load.remove_files_of(&lost);
        whole(&mut load, cluster);
        assert!(cluster.storage_used(new) > 0);

        // Nothing is left of the jobs, and nothing keeps the server any more that was to wait for them.
        let leave = cluster
            .storage_status(stays)
            .and_then(|status| status.leave);
        assert_eq!(leave.map(|leave| leave.stage()), Some(LeaveStage::Closed));
        load.finish();
        assert!(cluster.control().deregister("fire").unwrap());
        cluster.check_account(|bytes| bytes == 0);
        assert!(cluster.control().jobs().unwrap().is_empty());
        wait_gone(cluster, stays);
    });
}
