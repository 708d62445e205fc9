//! The scaler: sees the set and its pods, raises and lowers `replicas`.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::Pod};
use kube::{
    Api, Client, Error,
    api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions},
    runtime::watcher,
};
use parking_lot::Mutex;
use pocket_scaler::{Instance, Scaler, ScalerError};
use serde_json::json;
use thiserror::Error as ThisError;
use tokio::{
    sync::{Mutex as AsyncMutex, watch},
    time::{sleep, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tracing::{debug, info, warn};

use crate::{
    answer::{CONFLICT, NOT_FOUND, code, words},
    backoff::Backoff,
    election::{Election, Leadership, LeaseSettings},
    pods::ServerPod,
    set::{ServerSet, check, selector},
    watched::Watched,
};

/// How long a scaler that starts waits for an API server that does not answer.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// Tries of a change that others keep overtaking; each looks anew.
const CONFLICTS_MAX: usize = 6;
/// The first pause between them.
const CONFLICT_PAUSE: Duration = Duration::from_millis(20);
/// Leftovers are looked for so often, should nothing have been said of them.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Settings of a scaler.
#[derive(Clone, Debug)]
pub struct KubernetesSettings {
    /// Where the set is.
    pub namespace: String,
    /// Its name.
    pub statefulset: String,
    /// How one of several scalers is chosen.
    pub lease: LeaseSettings,
}

/// Why a scaler does not start.
#[derive(Debug, ThisError)]
pub enum StartError {
    /// There is nothing to scale.
    #[error(
        "there is no StatefulSet '{name}' in namespace '{namespace}': apply the manifests first, or \
         name another one"
    )]
    NoSet {
        /// Of the set.
        name: String,
        /// Where it was looked for.
        namespace: String,
    },
    /// It cannot be scaled as it is.
    #[error("the StatefulSet '{name}' cannot be scaled: {reason}")]
    Unfit {
        /// Of the set.
        name: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The API server refuses or does not answer.
    #[error("the API server does not tell of the StatefulSet '{name}': {answer}")]
    Api {
        /// Of the set.
        name: String,
        /// What it says.
        answer: String,
    },
    /// The API server is silent.
    #[error("the API server did not answer within {0:?}")]
    Silent(Duration),
}

/// Why nothing was changed.
#[derive(Debug, ThisError)]
enum ChangeError {
    #[error("another scaler leads")]
    NotLeading,
    #[error("the pods are not known yet")]
    Unknown,
    #[error("the API server did not answer while this scaler was sure to lead")]
    Late,
    #[error("the StatefulSet keeps being changed by others")]
    Overtaken,
    #[error("{0}")]
    Api(String),
}

impl From<Error> for ChangeError {
    fn from(error: Error) -> Self {
        ChangeError::Api(words(&error))
    }
}

/// Starts storage servers as pods of a StatefulSet. Cheap to clone: all clones are one.
#[derive(Clone)]
pub struct KubernetesScaler {
    shared: Arc<Shared>,
    /// Stops everything with the last clone.
    _stop: Arc<DropGuard>,
}

struct Shared {
    name: String,
    selector: String,
    sets: Api<StatefulSet>,
    pods: Api<Pod>,
    set_seen: Watched<StatefulSet>,
    pods_seen: Watched<Pod>,
    leadership: Leadership,
    /// What was done and not yet seen.
    ahead: Mutex<Ahead>,
    /// One change at a time.
    changing: AsyncMutex<()>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Own changes that the watches may not have told of yet.
#[derive(Debug, Default)]
struct Ahead {
    /// The set as it was left.
    set: Option<ServerSet>,
    /// Pods (uids) that were deleted to be made anew.
    fresh: HashSet<String>,
}

impl KubernetesScaler {
    /// Starts to watch and to take part in the election; fails if the set is not there or cannot be
    /// scaled. Must be called within a tokio runtime.
    pub async fn start(client: Client, settings: KubernetesSettings) -> Result<Self, StartError> {
        let KubernetesSettings {
            namespace,
            statefulset: name,
            lease,
        } = settings;
        let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &namespace);
        let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
        let set = first_look(&sets, &name, &namespace).await?;
        let unfit = |reason| StartError::Unfit {
            name: name.clone(),
            reason,
        };
        check(&set).map_err(unfit)?;
        let selector = selector(&set).map_err(unfit)?;

        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let (changed, changes) = watch::channel(());
        let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let (set_seen, task) =
            Watched::new(sets.clone(), only, changed.clone(), stop.child_token());
        tasks.spawn(task);
        let ours = watcher::Config::default().labels(&selector);
        let (pods_seen, task) =
            Watched::new(pods.clone(), ours, changed.clone(), stop.child_token());
        tasks.spawn(task);
        let leadership = Leadership::none();
        let leases = Api::namespaced(client, &namespace);
        let election = Election::new(leases, lease, leadership.clone(), changed);
        tasks.spawn(election.run(stop.child_token()));

        let shared = Arc::new(Shared {
            name,
            selector,
            sets,
            pods,
            set_seen,
            pods_seen,
            leadership,
            ahead: Mutex::default(),
            changing: AsyncMutex::default(),
            tasks,
            stop: stop.clone(),
        });
        let upkeep = Arc::clone(&shared).upkeep(changes);
        let until = stop.clone();
        shared.tasks.spawn(async move {
            until.run_until_cancelled(upkeep).await;
        });
        Ok(KubernetesScaler {
            shared,
            _stop: Arc::new(stop.drop_guard()),
        })
    }

    /// Gives the lease back and stops; returns when that is done. The servers stay.
    pub async fn end(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

#[async_trait]
impl Scaler for KubernetesScaler {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    async fn instances(&self) -> Result<Vec<Instance>, ScalerError> {
        let shared = &self.shared;
        let (set, pods) = shared
            .seen()
            .ok_or_else(|| ScalerError::Failed("the pods are not known yet".to_owned()))?;
        let ahead = shared.ahead.lock();
        Ok(set.instances(&shared.name, &pods, &ahead.fresh))
    }

    async fn start(&self, count: u32) -> Result<(), ScalerError> {
        if count == 0 {
            return Ok(());
        }
        let shared = &self.shared;
        let grown = shared.leading(shared.grow(count)).await;
        grown.map_err(|error| ScalerError::Failed(error.to_string()))
    }

    fn leads(&self) -> bool {
        self.shared.leadership.time_left().is_some()
    }
}

/// The set, from an API server that may not answer at first.
async fn first_look(
    sets: &Api<StatefulSet>,
    name: &str,
    namespace: &str,
) -> Result<StatefulSet, StartError> {
    let begun = Instant::now();
    let mut backoff = Backoff::default();
    loop {
        let left = START_PATIENCE.saturating_sub(begun.elapsed());
        let looked = timeout(left, sets.get(name)).await;
        let error = match looked.map_err(|_| StartError::Silent(START_PATIENCE))? {
            Ok(set) => return Ok(set),
            Err(error) => error,
        };
        let refused = code(&error).is_some_and(|code| code < 500);
        if code(&error) == Some(NOT_FOUND) {
            return Err(StartError::NoSet {
                name: name.to_owned(),
                namespace: namespace.to_owned(),
            });
        }
        if refused || begun.elapsed() >= START_PATIENCE {
            return Err(StartError::Api {
                name: name.to_owned(),
                answer: words(&error),
            });
        }
        debug!("the API server is asked again: {}", words(&error));
        sleep(backoff.pause()).await;
    }
}

impl Shared {
    /// The set and its pods as far as they are known.
    fn seen(&self) -> Option<(ServerSet, Vec<ServerPod>)> {
        let set = ServerSet::read(self.set_seen.all()?.first()?);
        let pods = self.pods_seen.all()?;
        let pods = pods
            .iter()
            .filter_map(|pod| ServerPod::read(pod, &self.name));
        let pods: Vec<_> = pods.collect();
        let mut ahead = self.ahead.lock();
        ahead
            .fresh
            .retain(|uid| pods.iter().any(|pod| pod.uid == *uid));
        let set = ahead.newer(set);
        Some((set, pods))
    }

    /// Does what changes something, as long as this scaler is sure to lead, and nothing else of its
    /// kind beside it.
    async fn leading<T>(
        &self,
        change: impl Future<Output = Result<T, ChangeError>>,
    ) -> Result<T, ChangeError> {
        let _changing = self.changing.lock().await;
        let left = self.leadership.time_left().ok_or(ChangeError::NotLeading)?;
        let changed = timeout(left, change).await;
        changed.unwrap_or(Err(ChangeError::Late))
    }

    /// To be asked right before each request that changes something: this process may have been
    /// paused since it was last asked.
    fn still_leading(&self) -> Result<(), ChangeError> {
        let left = self.leadership.time_left();
        left.map(|_| ()).ok_or(ChangeError::NotLeading)
    }

    /// The set and its pods as they are now.
    async fn read(&self) -> Result<(ServerSet, Vec<ServerPod>), ChangeError> {
        // In this order: a pod that is read later belongs to this version of the set or a newer one,
        // and with a newer one the change is refused.
        let set = ServerSet::read(&self.sets.get(&self.name).await?);
        let pods = self
            .pods
            .list(&ListParams::default().labels(&self.selector))
            .await?;
        let pods = pods
            .iter()
            .filter_map(|pod| ServerPod::read(pod, &self.name));
        Ok((set, pods.collect()))
    }

    /// Has so many more servers than [`Scaler::instances`] shows, and no more than that should the
    /// watches be late: drained pods are made anew, for the rest `replicas` goes up.
    async fn grow(&self, count: u32) -> Result<(), ChangeError> {
        let (set, pods) = self.seen().ok_or(ChangeError::Unknown)?;
        let goal = self.count(&set, &pods).saturating_add(count);
        let lacking = |set: &ServerSet, pods: &[ServerPod]| {
            goal.saturating_sub(self.count(set, pods)).min(count)
        };
        let (set, pods) = self.read().await?;
        let mut missing = lacking(&set, &pods);
        for pod in pods.iter().filter(|pod| pod.is_drained()) {
            if missing == 0 {
                return Ok(());
            }
            if self.make_anew(pod).await? {
                missing -= 1;
            }
        }
        self.resize(|set, pods| set.replicas.saturating_add(lacking(set, pods)))
            .await
    }

    /// Servers that there are or shall be.
    fn count(&self, set: &ServerSet, pods: &[ServerPod]) -> u32 {
        let ahead = self.ahead.lock();
        let shown = set.instances(&self.name, pods, &ahead.fresh);
        u32::try_from(shown.len()).unwrap_or(u32::MAX)
    }

    /// Takes out the drained pods at the top.
    async fn shrink(&self) -> Result<(), ChangeError> {
        self.resize(|set, pods| set.needed(pods)).await
    }

    /// Deletes exactly this pod as it was read. Whether it was there.
    async fn make_anew(&self, pod: &ServerPod) -> Result<bool, ChangeError> {
        let exactly = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(pod.uid.clone()),
                resource_version: Some(pod.version.clone()),
            }),
            ..DeleteParams::default()
        };
        self.still_leading()?;
        match self.pods.delete(&pod.name, &exactly).await {
            Ok(_) => {
                info!(pod = pod.name, "a drained pod is made anew");
                self.ahead.lock().fresh.insert(pod.uid.clone());
                Ok(true)
            }
            Err(error) if matches!(code(&error), Some(NOT_FOUND | CONFLICT)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Sets `replicas` to what is wanted of the set as it is.
    async fn resize(
        &self,
        wanted: impl Fn(&ServerSet, &[ServerPod]) -> u32,
    ) -> Result<(), ChangeError> {
        let mut backoff = Backoff::from(CONFLICT_PAUSE);
        let parameters = PatchParams::default();
        for _ in 0..CONFLICTS_MAX {
            let (set, pods) = self.read().await?;
            let replicas = wanted(&set, &pods);
            if replicas == set.replicas {
                return Ok(());
            }
            let scale = json!({
                "apiVersion": "autoscaling/v1",
                "kind": "Scale",
                "metadata": {"name": self.name, "resourceVersion": set.version},
                "spec": {"replicas": replicas},
            });
            self.still_leading()?;
            let patch = Patch::Merge(&scale);
            let patched = self.sets.patch_scale(&self.name, &parameters, &patch);
            match patched.await {
                Ok(scale) => {
                    info!(
                        before = set.replicas,
                        after = replicas,
                        "the StatefulSet is scaled"
                    );
                    self.ahead.lock().set = Some(ServerSet {
                        replicas,
                        first: set.first,
                        version: scale.metadata.resource_version.unwrap_or_default(),
                    });
                    return Ok(());
                }
                Err(error) if code(&error) == Some(CONFLICT) => {
                    debug!("the StatefulSet was changed meanwhile: looking anew");
                }
                Err(error) => return Err(error.into()),
            }
            sleep(backoff.pause()).await;
        }
        Err(ChangeError::Overtaken)
    }

    /// Takes out drained pods whenever there are any.
    async fn upkeep(self: Arc<Self>, mut changes: watch::Receiver<()>) {
        let mut backoff = Backoff::default();
        loop {
            let needless = self
                .seen()
                .is_some_and(|(set, pods)| set.needed(&pods) < set.replicas);
            if needless && self.still_leading().is_ok() {
                match self.leading(self.shrink()).await {
                    Ok(()) => backoff.reset(),
                    Err(error) => {
                        warn!("drained pods are not taken out yet: {error}");
                        sleep(backoff.pause()).await;
                        continue;
                    }
                }
            }
            if let Ok(Err(_)) = timeout(UPKEEP_INTERVAL, changes.changed()).await {
                // Whoever tells of changes has stopped.
                return;
            }
        }
    }
}

impl Ahead {
    /// The set as it was seen, or as it was left if that is newer. Versions are compared as numbers,
    /// which API servers promise since 1.35 and did before.
    fn newer(&mut self, seen: ServerSet) -> ServerSet {
        let number = |set: &ServerSet| set.version.parse::<u64>().ok();
        match &self.set {
            Some(left) if number(left) > number(&seen) => left.clone(),
            _ => {
                self.set = None;
                seen
            }
        }
    }
}
