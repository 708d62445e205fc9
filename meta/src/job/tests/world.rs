//! A job and its mounts, in which one thing happens after the other, and what must hold in between.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use pocket_proto::control::CreateJobRequest;
use pocket_proto::session::{LockMode, StorageServer, WeightMap, WeightedServer};
use pocket_proto::{InodeId, SessionId, Status};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::LEASE;
use super::messages::{Computing, Down, Line, LineSink, Place, Wish};
use super::mount::{Life, Mount};
use super::schedule::{Choose, Plain};
use crate::blocks::NoBlocks;
use crate::environment::Environment;
use crate::job::{Executed, Job};
use crate::now::Now;

/// Steps until a run in which nothing is hindered must have ended.
const STEPS_MAX: usize = 3000;
/// More than any chain of wake-ups among the job's tasks.
const WAKE_UPS: usize = 16;
/// So much time passes at a step.
const TICK: Duration = Duration::from_millis(1500);

/// What may go wrong in a run, how often.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    /// Connections lost, with all that is on them.
    pub(super) disconnects: usize,
    /// Mounts stopped; they go on later.
    pub(super) stops: usize,
    pub(super) kills: usize,
    /// Times when time passes although there is something to do.
    pub(super) delays: usize,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    /// An answer leaves the server; recalls may overtake it before.
    Reply(usize),
    Deliver(usize),
    Serve(usize),
    Acknowledge(usize),
    Ask(usize),
    SignOfLife(usize),
    /// The mount connects again, in a new session if it knows that it lost the one it had.
    Connect(usize),
    Continue(usize),
    TimePasses,
    Disconnect(usize),
    Stop(usize),
    Kill(usize),
}

pub(super) struct World {
    job: Arc<Job>,
    mounts: Vec<Mount>,
    faults: Faults,
    /// What happened, for people.
    pub(super) story: String,
    _stop: DropGuard,
}

impl World {
    /// A job with so many mounts and an empty namespace.
    pub(super) fn new(mounts: usize) -> Self {
        let stop = CancellationToken::new();
        let environment = Environment::new(Arc::new(NoBlocks), stop.clone());
        let server = WeightedServer {
            server: Some(StorageServer {
                server: 1,
                incarnation: 1,
                ..StorageServer::default()
            }),
            weight: 1,
            stands_for: 0,
        };
        let order = CreateJobRequest {
            job: 1,
            capacity_bytes: 1 << 30,
            weight_map: Some(WeightMap {
                edition: 0,
                epoch: 1,
                servers: vec![server],
            }),
            ..CreateJobRequest::default()
        };
        let job = Job::new(order, (LEASE, Duration::ZERO), environment);
        let mut world = World {
            job: Arc::new(job.expect("the order is sound")),
            mounts: Vec::new(),
            faults: Faults::default(),
            story: String::new(),
            _stop: stop.drop_guard(),
        };
        for _ in 0..mounts {
            let mount = world.connect();
            world.mounts.push(mount);
        }
        world
    }

    fn connect(&self) -> Mount {
        let (line, now) = (Arc::new(Mutex::new(Line::default())), Now::take());
        let sink = Box::new(LineSink(Arc::clone(&line)));
        let opened = self.job.open_session("mount".to_owned(), sink, now);
        Mount::new(opened.expect("there is room").0, line, now.tick)
    }

    /// Does what programs want, undisturbed.
    pub(super) async fn prepare(&mut self, mount: usize, wishes: &[Wish]) {
        self.mounts[mount].script.extend(wishes.iter().cloned());
        self.run_out(&mut Plain).await;
    }

    /// The inode of a name.
    pub(super) fn inode(&self, directory: u64, name: &str) -> u64 {
        let state = self.job.state.lock();
        let found = state.namespace.lookup(InodeId(directory), name.as_bytes());
        found.expect("a directory").expect("a name").0
    }

    /// Lets the mounts do what their programs want, in the order that is chosen and with faults,
    /// and then to the end without further ones.
    pub(super) async fn run(
        &mut self,
        scripts: Vec<Vec<Wish>>,
        faults: Faults,
        steps: usize,
        choose: &mut impl Choose,
    ) {
        for (mount, script) in self.mounts.iter_mut().zip(scripts) {
            mount.script.extend(script);
        }
        self.faults = faults;
        for _ in 0..steps {
            if self.mounts.iter().all(|mount| {
                matches!(mount.life, Life::Killed) || mount.life == Life::Runs && mount.is_idle()
            }) {
                break;
            }
            let actions = self.actions();
            let action = actions[choose.choose(actions.len())];
            self.act(action).await;
        }
        self.faults = Faults::default();
        self.run_out(&mut Plain).await;
        self.check_end();
    }

    /// Goes on until nobody has anything to do: that this comes is the claim that every recall ends,
    /// none is lost, and every wait for a lock ends.
    async fn run_out(&mut self, choose: &mut impl Choose) {
        for _ in 0..STEPS_MAX {
            if self.is_over() {
                return;
            }
            let actions = self.actions();
            let action = actions[choose.choose(actions.len())];
            self.act(action).await;
        }
        panic!("it does not end\n{}", self.story);
    }

    fn is_over(&self) -> bool {
        let state = self.job.state.lock();
        self.mounts.iter().all(|mount| {
            let session = state.sessions.get(&mount.caller.session);
            match mount.life {
                Life::Runs => {
                    mount.is_idle()
                        && !mount.lost
                        && session.is_some_and(|session| session.pending_recalls().0 == 0)
                }
                Life::Stopped(_) => false,
                Life::Killed => session.is_none(),
            }
        })
    }

    /// What may happen next, the plain course first: whatever is under way goes on before something
    /// new begins, and time passes when there is nothing else.
    fn actions(&self) -> Vec<Action> {
        let now = Instant::now();
        let mut actions = Vec::new();
        let all = || self.mounts.iter().enumerate();
        for (index, mount) in all() {
            if !mount.computed.is_empty() {
                actions.push(Action::Reply(index));
            }
            if !mount.up.is_empty() {
                actions.push(Action::Serve(index));
            }
            if mount.life != Life::Runs {
                continue;
            }
            if !mount.line.lock().frames.is_empty() {
                actions.push(Action::Deliver(index));
            }
            if !mount.owed.is_empty() {
                actions.push(Action::Acknowledge(index));
            }
            if !mount.connected || mount.line.lock().closed {
                actions.push(Action::Connect(index));
            }
        }
        let overslept = |life| matches!(life, Life::Stopped(since) if since + LEASE * 2 <= now);
        for (index, mount) in all() {
            if overslept(mount.life) {
                actions.push(Action::Continue(index));
            }
        }
        for (index, mount) in all().filter(|(_, mount)| mount.life == Life::Runs) {
            if mount.can_ask() {
                actions.push(Action::Ask(index));
            }
            if mount.needs_sign_of_life(now) {
                actions.push(Action::SignOfLife(index));
            }
        }
        if actions.is_empty() || self.faults.delays > 0 {
            actions.push(Action::TimePasses);
        }
        for (index, mount) in all() {
            match mount.life {
                Life::Stopped(_) if overslept(mount.life) => {}
                Life::Stopped(_) => actions.push(Action::Continue(index)),
                Life::Killed => {}
                Life::Runs => {
                    if mount.connected && self.faults.disconnects > 0 {
                        actions.push(Action::Disconnect(index));
                    }
                    if self.faults.stops > 0 {
                        actions.push(Action::Stop(index));
                    }
                    if self.faults.kills > 0 {
                        actions.push(Action::Kill(index));
                    }
                }
            }
        }
        actions
    }

    async fn act(&mut self, action: Action) {
        let now = Now::take();
        match action {
            Action::Reply(index) => {
                let mount = &mut self.mounts[index];
                if let Some((call, stamp, answer)) = mount.computed.pop_front() {
                    let reply = Down::Reply {
                        call,
                        stamp,
                        answer,
                    };
                    mount.line.lock().frames.push_back(reply);
                }
            }
            Action::Deliver(index) => self.mounts[index].deliver(now.tick),
            Action::Serve(index) => self.serve(index, now),
            Action::Acknowledge(index) => self.mounts[index].acknowledge(),
            Action::Ask(index) => {
                let next = self.mounts[index].script.front();
                let _ = writeln!(self.story, "  mount {index} wants {next:?}");
                self.mounts[index].ask(now.tick);
            }
            Action::SignOfLife(index) => self.mounts[index].sign_of_life(now.tick),
            Action::Connect(index) => self.connect_again(index, now),
            Action::Continue(index) => self.mounts[index].life = Life::Runs,
            Action::TimePasses => {
                self.faults.delays = self.faults.delays.saturating_sub(1);
                tokio::time::advance(TICK).await;
                self.job.keep_house();
            }
            Action::Disconnect(index) => {
                self.faults.disconnects -= 1;
                self.mounts[index].disconnect();
                self.job.disconnected(self.mounts[index].caller);
            }
            Action::Stop(index) => {
                self.faults.stops -= 1;
                self.mounts[index].life = Life::Stopped(now.tick);
            }
            Action::Kill(index) => {
                self.faults.kills -= 1;
                let mount = &mut self.mounts[index];
                mount.life = Life::Killed;
                mount.disconnect();
                self.job.disconnected(mount.caller);
            }
        }
        let _ = writeln!(self.story, "{action:?}");
        for _ in 0..WAKE_UPS {
            tokio::task::yield_now().await;
        }
        self.mounts.iter_mut().for_each(Mount::take_computed);
        self.check();
    }

    /// The server takes up the next request of a mount.
    fn serve(&mut self, index: usize, now: Now) {
        let mount = &mut self.mounts[index];
        let Some(up) = mount.up.pop_front() else {
            return;
        };
        let _ = writeln!(self.story, "  request {:?}", up.request);
        let pushes = mount.line.lock().pushes;
        let executed = self
            .job
            .execute(mount.caller, up.request, up.call.is_none(), now);
        let stamp = mount.stamp(pushes);
        match (up.call, executed) {
            (Some(call), Executed::Now(answer)) => mount.computed.push_back((call, stamp, answer)),
            (Some(call), Executed::Later(answer)) => mount.computing.push(Computing {
                call,
                pushes,
                answer,
            }),
            (None, Executed::Now(Err(failure))) => {
                let over = [Status::SessionEnded, Status::Unavailable];
                assert!(
                    over.contains(&failure.status),
                    "what was told was refused: {failure:?}\n{}",
                    self.story
                );
            }
            (None, _) => {}
        }
    }

    fn connect_again(&mut self, index: usize, now: Now) {
        let mount = &mut self.mounts[index];
        let had = mount.caller.session;
        if !mount.lost {
            if mount.connected {
                mount.disconnect();
                self.job.disconnected(mount.caller);
            }
            let line = Arc::new(Mutex::new(Line::default()));
            let sink = Box::new(LineSink(Arc::clone(&line)));
            match self.job.resume_session(had, sink, now) {
                Ok((caller, _)) => {
                    mount.resume(caller, line);
                    return;
                }
                Err(failure) => assert_eq!(failure.status, Status::SessionEnded),
            }
            mount.lose();
        }
        let script = std::mem::take(&mut self.mounts[index].script);
        self.mounts[index] = self.connect();
        self.mounts[index].script = script;
    }

    /// What holds at every moment.
    fn check(&self) {
        let now = Instant::now();
        if let Some(what) = self.stale(now).or_else(|| self.conflicting(now)) {
            panic!("{what}\n{}", self.story);
        }
    }

    /// Whether the server still has the session, or the mount had no reason to be surprised.
    fn counts(&self, mount: &Mount, now: Instant) -> bool {
        let state = self.job.state.lock();
        let alive = state.sessions.contains_key(&mount.caller.session);
        mount.life != Life::Killed && mount.is_in_touch(now) && (alive || !mount.is_behind())
    }

    /// Something that a mount may believe, and that is not so.
    fn stale(&self, now: Instant) -> Option<String> {
        for (index, mount) in self.mounts.iter().enumerate() {
            if !self.counts(mount, now) {
                continue;
            }
            for (place, (believed, until)) in &mount.names {
                let truth = self.truth(place, now);
                let own = mount.knows(place) || mount.is_touching(place) || self.is_ahead(mount);
                if *until > now && !own && truth != *believed {
                    return Some(format!(
                        "mount {index} believes {place:?} to be {believed:?}, and it is {truth:?}"
                    ));
                }
            }
            let state = self.job.state.lock();
            for (inode, (believed, until)) in &mount.modes {
                let truth = state.namespace.inode(InodeId(*inode));
                // One that is gone is not looked at any more.
                let truth = truth.map_or(*believed, |inode| inode.mode);
                if *until > now && !mount.is_setting_mode(*inode) && truth != *believed {
                    return Some(format!(
                        "mount {index} believes the mode of {inode} to be {believed:o}, \
                         and it is {truth:o}"
                    ));
                }
            }
        }
        None
    }

    /// Whether a mount has done what the server has not heard of yet.
    fn is_ahead(&self, mount: &Mount) -> bool {
        let state = self.job.state.lock();
        let session = state.sessions.get(&mount.caller.session);
        session.is_some_and(|session| mount.told_ahead() > session.told)
    }

    /// What a name leads to: by the mount that has its directory to itself, or the server.
    fn truth(&self, place: &Place, now: Instant) -> Option<u64> {
        let (directory, name) = place;
        let has = |mount: &&Mount| mount.knows(place) && self.counts(mount, now);
        if let Some(owner) = self.mounts.iter().find(has) {
            return owner.own[directory].get(name).copied();
        }
        let state = self.job.state.lock();
        let found = state.namespace.lookup(InodeId(*directory), name);
        found.ok().flatten().map(|inode| inode.0)
    }

    /// Two mounts that both hold what one alone may.
    fn conflicting(&self, now: Instant) -> Option<String> {
        let counting = self.mounts.iter().filter(|mount| self.counts(mount, now));
        let counting: Vec<_> = counting.collect();
        for (at, one) in counting.iter().enumerate() {
            for other in &counting[at + 1..] {
                if let Some(directory) = one.own.keys().find(|inode| other.own.contains_key(inode))
                {
                    return Some(format!(
                        "two mounts have directory {directory} to themselves"
                    ));
                }
                for (inode, (_, writers, through)) in &one.opens {
                    let Some((_, others, other_through)) = other.opens.get(inode) else {
                        continue;
                    };
                    if writers + others > 0 && !(*through && *other_through) {
                        return Some(format!("file {inode} is written and cached at once"));
                    }
                }
                for (inode, mode) in &one.locks {
                    let exclusive = |mode: &LockMode| *mode == LockMode::Exclusive;
                    if let Some(held) = other.locks.get(inode)
                        && (exclusive(mode) || exclusive(held))
                    {
                        return Some(format!("two mounts hold locks on {inode} that conflict"));
                    }
                }
            }
        }
        None
    }

    /// What holds when all is said and done.
    fn check_end(&self) {
        let state = self.job.state.lock();
        assert!(!state.leases.has_marks(), "marks are left\n{}", self.story);
        for mount in &self.mounts {
            let own = mount.own.iter().filter(|_| mount.life == Life::Runs);
            for (directory, names) in own {
                let known = names
                    .iter()
                    .filter(|(name, _)| mount.knows(&(*directory, Bytes::clone(name))));
                for (name, inode) in known {
                    let told = state.namespace.lookup(InodeId(*directory), name);
                    assert_eq!(
                        told.ok().flatten(),
                        Some(InodeId(*inode)),
                        "what was done ahead is lost\n{}",
                        self.story
                    );
                }
            }
            let session: SessionId = mount.caller.session;
            assert_eq!(
                state.sessions.contains_key(&session),
                mount.life == Life::Runs
            );
        }
    }
}

/// A name in a directory.
pub(super) fn place(directory: u64, name: &'static str) -> Place {
    (directory, Bytes::from_static(name.as_bytes()))
}
