//! The cluster behind the API server: what requests do to objects, what the set's controller and
//! the machines then do, and what tests do to them.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use k8s_openapi::{
    api::{apps::v1::StatefulSet, autoscaling::v1::Scale, coordination::v1::Lease},
    apimachinery::pkg::apis::meta::v1::DeleteOptions,
};
use parking_lot::Mutex;
use pocket_scaler::DRAINED;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    NAMESPACE, SET,
    manifests::{manifests, strictly},
    objects::{Change, Fault, Kind, Objects, Request, Verb, name_of},
    role::Role,
};

/// How long a server that crashed is away.
const CRASH_PAUSE: Duration = Duration::from_millis(300);
/// Marks pods that do not become ready by themselves.
const STAYS: &str = "tests/stays";

/// The answer to a request that was understood and allowed.
#[derive(Debug)]
pub enum Answer {
    Object(Value),
    Created(Value),
    List(Kind, Vec<Value>, u64),
    Refused(u16, &'static str, String),
}

/// Everything there is.
pub struct Cluster {
    state: Mutex<State>,
    changed: watch::Sender<()>,
    role: Role,
    port: u16,
    /// Addresses of pods, of which no two are ever the same.
    addresses: AtomicUsize,
}

struct State {
    objects: Objects,
    requests: Vec<Request>,
    used_rules: BTreeSet<usize>,
    refused: Vec<Request>,
    faults: Vec<(Verb, Kind, Fault)>,
    watches: CancellationToken,
    /// Pods do not start by themselves.
    held: bool,
}

impl Cluster {
    /// With the set of the manifests at so many replicas. Its controller works from now on.
    /// Servers in its pods listen on `port`.
    pub fn new(replicas: u32, port: u16) -> Arc<Self> {
        let mut objects = Objects::default();
        let manifests = manifests();
        let of_set = |m: &&super::Manifest| m.kind() == "StatefulSet" && m.name() == SET;
        let mut set = manifests.iter().find(of_set).unwrap().object.clone();
        set["metadata"]["namespace"] = json!(NAMESPACE);
        set["metadata"]["uid"] = json!("the-set");
        set["spec"]["replicas"] = json!(replicas);
        set["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"] = json!(port);
        objects.put(Kind::StatefulSet, set);
        let cluster = Arc::new(Cluster {
            state: Mutex::new(State {
                objects,
                requests: Vec::new(),
                used_rules: BTreeSet::new(),
                refused: Vec::new(),
                faults: Vec::new(),
                watches: CancellationToken::new(),
                held: false,
            }),
            changed: watch::Sender::new(()),
            role: Role::shipped(),
            port,
            addresses: AtomicUsize::new(1),
        });
        tokio::spawn(Arc::clone(&cluster).control());
        cluster
    }

    // --- what tests do -------------------------------------------------------------------------

    /// Has the next request of this verb and kind go wrong.
    pub fn fault(&self, verb: Verb, kind: Kind, fault: Fault) {
        self.state.lock().faults.push((verb, kind, fault));
    }

    pub fn faults_left(&self) -> usize {
        self.state.lock().faults.len()
    }

    /// Ends every watch, as a connection that breaks.
    pub fn break_watches(&self) {
        let mut state = self.state.lock();
        std::mem::take(&mut state.watches).cancel();
    }

    /// Forgets what there was: watches from before have expired.
    pub fn forget(&self) {
        let objects = &mut self.state.lock().objects;
        objects.forgotten = objects.version();
    }

    /// Another changes what there is of a kind, without effect.
    pub fn touch(&self, kind: Kind) {
        let mut state = self.state.lock();
        let all: Vec<_> = state.objects.all(kind).cloned().collect();
        for object in all {
            state.objects.put(kind, object);
        }
        drop(state);
        self.changed.send_replace(());
    }

    pub fn replicas(&self) -> u64 {
        let state = self.state.lock();
        let set = state.objects.get(Kind::StatefulSet, SET).unwrap();
        set["spec"]["replicas"].as_u64().unwrap()
    }

    pub fn set_replicas(&self, replicas: u32) {
        let mut state = self.state.lock();
        let mut set = state.objects.get(Kind::StatefulSet, SET).unwrap().clone();
        set["spec"]["replicas"] = json!(replicas);
        state.objects.put(Kind::StatefulSet, set);
        drop(state);
        self.changed.send_replace(());
    }

    /// Names and uids of the pods there are.
    pub fn pods(&self) -> Vec<(String, String)> {
        let state = self.state.lock();
        let pods = state.objects.all(Kind::Pod);
        pods.map(|pod| {
            (
                name_of(pod),
                pod["metadata"]["uid"].as_str().unwrap().to_owned(),
            )
        })
        .collect()
    }

    /// Has pods wait to be started by [`Cluster::runs`], or not.
    pub fn hold(&self, held: bool) {
        self.state.lock().held = held;
        self.changed.send_replace(());
    }

    /// The pod that serves there.
    pub fn pod_at(&self, endpoint: &str) -> Option<String> {
        let state = self.state.lock();
        let at = |pod: &&Value| {
            let ip = pod["status"]["podIP"].as_str().unwrap_or_default();
            is_ready(pod) && endpoint == format!("{ip}:{}", self.port)
        };
        state.objects.all(Kind::Pod).find(at).map(name_of)
    }

    /// The server in a pod was drained: its process ends, and one that waits takes its place.
    pub fn drained(&self, pod: &str) {
        let end = json!({"exitCode": 0, "reason": "Completed", "message": DRAINED});
        self.restarted(pod, &end, json!({"running": {}}));
    }

    /// The server in a pod is killed, and comes back after a while.
    pub fn crashed(self: &Arc<Self>, pod: &str) {
        let end = json!({"exitCode": 137, "reason": "OOMKilled"});
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}});
        let ip = self.restarted(pod, &end, waiting);
        let (cluster, pod) = (Arc::clone(self), pod.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(CRASH_PAUSE).await;
            cluster.runs(&pod, &ip);
        });
    }

    /// The process in a pod ended so, and its container is in this state now. Answers its address.
    fn restarted(&self, name: &str, end: &Value, state: Value) -> String {
        let mut ip = String::new();
        self.change_pod(name, |pod| {
            pod["metadata"]["annotations"] = json!({STAYS: "as it is"});
            let status = &mut pod["status"];
            ip = status["podIP"].as_str().unwrap().to_owned();
            status["conditions"] = json!([{"type": "Ready", "status": "False"}]);
            let container = &mut status["containerStatuses"][0];
            container["state"] = state;
            container["ready"] = json!(false);
            container["lastState"] = json!({"terminated": end});
            let times = container["restartCount"].as_u64().unwrap();
            container["restartCount"] = json!(times + 1);
        });
        ip
    }

    /// The pod's server serves.
    pub fn runs(&self, name: &str, ip: &str) {
        self.change_pod(name, |pod| run(pod, ip));
    }

    fn change_pod(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut state = self.state.lock();
        let mut pod = state.objects.get(Kind::Pod, name).unwrap().clone();
        change(&mut pod);
        state.objects.put(Kind::Pod, pod);
        drop(state);
        self.changed.send_replace(());
    }

    /// Requests so far that change something.
    pub fn changes_asked(&self, kind: Kind) -> Vec<Request> {
        let looks = [Verb::Get, Verb::List, Verb::Watch];
        let asks = |r: &&Request| r.kind == kind && !looks.contains(&r.verb);
        self.state
            .lock()
            .requests
            .iter()
            .filter(asks)
            .cloned()
            .collect()
    }

    pub fn asked(&self, verb: Verb, kind: Kind) -> usize {
        let requests = &self.state.lock().requests;
        requests
            .iter()
            .filter(|r| (r.verb, r.kind) == (verb, kind))
            .count()
    }

    /// The holder of the lease and how often it has changed.
    pub fn lease(&self) -> Option<(String, u64)> {
        let state = self.state.lock();
        let lease = state.objects.get(Kind::Lease, super::LEASE)?;
        let holder = lease["spec"]["holderIdentity"].as_str()?.to_owned();
        Some((holder, lease["spec"]["leaseTransitions"].as_u64()?))
    }

    /// Requests that the Role does not allow, and rules (by number) that were needed.
    pub fn rules(&self) -> (Vec<Request>, BTreeSet<usize>) {
        let state = self.state.lock();
        (state.refused.clone(), state.used_rules.clone())
    }

    /// What was asked for, as "get statefulsets" or "patch statefulsets/scale".
    pub fn permissions_used(&self) -> BTreeSet<String> {
        let said = |request: &Request| {
            let (_, resource) = request.kind.names();
            let verb = request.verb.name();
            match &request.subresource {
                Some(subresource) => format!("{verb} {resource}/{subresource}"),
                None => format!("{verb} {resource}"),
            }
        };
        self.state.lock().requests.iter().map(said).collect()
    }

    /// There is no set any more.
    pub fn remove_set(&self) {
        self.state.lock().objects.remove(Kind::StatefulSet, SET);
    }

    // --- what the server does ------------------------------------------------------------------

    pub(super) fn note(&self, request: &Request) {
        self.state.lock().requests.push(request.clone());
    }

    pub(super) fn allows(&self, request: &Request) -> bool {
        let mut state = self.state.lock();
        match self.role.allowing(request) {
            Some(rule) => {
                state.used_rules.insert(rule);
                true
            }
            None => {
                state.refused.push(request.clone());
                false
            }
        }
    }

    pub(super) fn next_fault(&self, verb: Verb, kind: Kind) -> Option<Fault> {
        let faults = &mut self.state.lock().faults;
        let at = faults
            .iter()
            .position(|(of, on, _)| (*of, *on) == (verb, kind))?;
        Some(faults.remove(at).2)
    }

    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(super) fn changes_after(&self, kind: Kind, version: u64) -> Option<Vec<Change>> {
        self.state.lock().objects.changes_after(kind, version)
    }

    pub(super) fn watch_life(&self) -> CancellationToken {
        self.state.lock().watches.clone()
    }

    pub(super) fn answer(&self, request: &Request) -> Answer {
        let mut state = self.state.lock();
        let objects = &mut state.objects;
        let Request {
            verb, kind, body, ..
        } = request;
        if *verb == Verb::List {
            let items = objects.all(*kind).cloned().collect();
            return Answer::List(*kind, items, objects.version());
        }
        let name = request.name.clone().unwrap_or_else(|| name_of(body));
        let found = objects.get(*kind, &name).cloned();
        if *verb == Verb::Create {
            strictly::<Lease>(body).unwrap();
            if found.is_some() {
                return refused(409, "AlreadyExists", &name);
            }
            let made = objects.put(*kind, body.clone());
            return Answer::Created(made);
        }
        let Some(found) = found else {
            return refused(404, "NotFound", &name);
        };
        let answer = match (verb, request.subresource.as_deref()) {
            (Verb::Get, None) => return Answer::Object(found),
            (Verb::Update, None) => update(objects, &found, body),
            (Verb::Patch, Some("scale")) => patch_scale(objects, &found, body),
            (Verb::Delete, None) => delete(objects, &found, body),
            _ => return refused(405, "MethodNotAllowed", &name),
        };
        drop(state);
        self.changed.send_replace(());
        answer
    }

    /// The set's controller and the machines, a step after each change.
    async fn control(self: Arc<Self>) {
        let mut changed = self.changed.subscribe();
        loop {
            while self.step() {
                self.changed.send_replace(());
                tokio::task::yield_now().await;
            }
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Does one thing that is to be done; whether there was one.
    fn step(&self) -> bool {
        let mut state = self.state.lock();
        let held = state.held;
        let objects = &mut state.objects;
        let Some(set) = objects.get(Kind::StatefulSet, SET).cloned() else {
            return false;
        };
        let replicas = set["spec"]["replicas"].as_u64().unwrap();
        let pods: Vec<_> = objects.all(Kind::Pod).cloned().collect();
        for mut pod in pods {
            let name = name_of(&pod);
            let (_, ordinal) = name.rsplit_once('-').unwrap();
            let excess = ordinal.parse::<u64>().unwrap() >= replicas;
            if !pod["metadata"]["deletionTimestamp"].is_null() {
                objects.remove(Kind::Pod, &name);
                return true;
            }
            if excess {
                pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
                objects.put(Kind::Pod, pod);
                return true;
            }
            let comes = pod["metadata"]["annotations"][STAYS].is_null();
            if !held && comes && !is_ready(&pod) {
                let number = self.addresses.fetch_add(1, Ordering::Relaxed);
                run(
                    &mut pod,
                    &format!("10.0.{}.{}", number / 250, 1 + number % 250),
                );
                objects.put(Kind::Pod, pod);
                return true;
            }
        }
        for ordinal in 0..replicas {
            let name = format!("{SET}-{ordinal}");
            if objects.get(Kind::Pod, &name).is_none() {
                let number = self.addresses.fetch_add(1, Ordering::Relaxed);
                objects.put(Kind::Pod, new_pod(&set, &name, number));
                return true;
            }
        }
        if set["status"]["replicas"] != json!(replicas) {
            let mut set = set;
            set["status"] = json!({"replicas": replicas});
            objects.put(Kind::StatefulSet, set);
            return true;
        }
        false
    }
}

fn is_ready(pod: &Value) -> bool {
    pod["status"]["conditions"][0]["status"] == "True"
}

fn new_pod(set: &Value, name: &str, number: usize) -> Value {
    let template = &set["spec"]["template"];
    let container = template["spec"]["containers"][0]["name"].as_str().unwrap();
    json!({
        "metadata": {
            "name": name, "namespace": NAMESPACE, "uid": format!("uid-{number}"),
            "labels": template["metadata"]["labels"],
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": SET,
                "uid": "the-set", "controller": true, "blockOwnerDeletion": true}]
        },
        "spec": template["spec"],
        "status": {
            "phase": "Pending",
            "conditions": [{"type": "Ready", "status": "False"}],
            "containerStatuses": [{"name": container, "image": "", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}}}]
        }
    })
}

fn run(pod: &mut Value, ip: &str) {
    let status = &mut pod["status"];
    status["phase"] = json!("Running");
    status["podIP"] = json!(ip);
    status["conditions"] = json!([{"type": "Ready", "status": "True"}]);
    let container = &mut status["containerStatuses"][0];
    container["ready"] = json!(true);
    container["state"] = json!({"running": {}});
}

fn refused(code: u16, reason: &'static str, name: &str) -> Answer {
    Answer::Refused(code, reason, format!("\"{name}\": {reason}"))
}

/// Whether a change was decided on what there is now; one that names no version always was.
fn is_current(found: &Value, version: &Value) -> bool {
    version.is_null() || *version == found["metadata"]["resourceVersion"]
}

fn update(objects: &mut Objects, found: &Value, body: &Value) -> Answer {
    strictly::<Lease>(body).unwrap();
    if !is_current(found, &body["metadata"]["resourceVersion"]) {
        return refused(409, "Conflict", &name_of(found));
    }
    Answer::Object(objects.put(Kind::Lease, body.clone()))
}

fn patch_scale(objects: &mut Objects, found: &Value, body: &Value) -> Answer {
    strictly::<Scale>(body).unwrap();
    if !is_current(found, &body["metadata"]["resourceVersion"]) {
        return refused(409, "Conflict", &name_of(found));
    }
    let mut set = found.clone();
    set["spec"]["replicas"] = body["spec"]["replicas"].clone();
    let set = objects.put(Kind::StatefulSet, set);
    serde_json::from_value::<StatefulSet>(set.clone()).unwrap();
    Answer::Object(json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {"name": SET, "namespace": NAMESPACE, "uid": "the-set",
            "resourceVersion": set["metadata"]["resourceVersion"]},
        "spec": set["spec"]["replicas"].as_u64().map(|replicas| json!({"replicas": replicas})),
        "status": {"replicas": set["status"]["replicas"].as_u64().unwrap_or(0),
            "selector": "app.kubernetes.io/component=storage"}
    }))
}

fn delete(objects: &mut Objects, found: &Value, body: &Value) -> Answer {
    strictly::<DeleteOptions>(body).unwrap();
    let exactly = &body["preconditions"];
    let same = exactly["uid"].is_null() || exactly["uid"] == found["metadata"]["uid"];
    if !same || !is_current(found, &exactly["resourceVersion"]) {
        return refused(409, "Conflict", &name_of(found));
    }
    let mut going = found.clone();
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    Answer::Object(objects.put(Kind::Pod, going))
}
