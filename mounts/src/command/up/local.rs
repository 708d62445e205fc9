//! Storage servers as processes of this machine, started and looked after by this one.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use pocket_scaler::{Instance, InstanceState, Scaler, ScalerError};
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::child::ChildServer;
use crate::command::server::Announcement;

/// First pause before a server that crashed is started again; doubles with every crash in a row.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A server that has run for so long has not crashed in a row.
const RUN_MIN: Duration = Duration::from_secs(30);

/// Starts storage servers here. Cheap to clone: all clones are one.
#[derive(Clone)]
pub(crate) struct LocalScaler {
    shared: Arc<Shared>,
}

struct Shared {
    program: PathBuf,
    arguments: Vec<String>,
    key: Option<String>,
    instances: Mutex<Instances>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Default)]
struct Instances {
    last: u32,
    by_number: BTreeMap<u32, Instance>,
}

impl LocalScaler {
    /// A scaler of no servers yet, which will be this program with these arguments, and the
    /// cluster's key if it is not in the environment.
    pub(crate) fn new(program: PathBuf, arguments: Vec<String>, key: Option<String>) -> Self {
        LocalScaler {
            shared: Arc::new(Shared {
                program,
                arguments,
                key,
                instances: Mutex::default(),
                tasks: TaskTracker::new(),
                stop: CancellationToken::new(),
            }),
        }
    }

    /// Ends all servers; returns when they have.
    pub(crate) async fn end(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

#[async_trait]
impl Scaler for LocalScaler {
    fn name(&self) -> &'static str {
        "local"
    }

    async fn instances(&self) -> Result<Vec<Instance>, ScalerError> {
        let instances = self.shared.instances.lock();
        Ok(instances.by_number.values().cloned().collect())
    }

    async fn start(&self, count: u32) -> Result<(), ScalerError> {
        for _ in 0..count {
            let number = self.shared.add();
            let shared = Arc::clone(&self.shared);
            self.shared.tasks.spawn(async move {
                shared.keep(number).await;
                shared.instances.lock().by_number.remove(&number);
            });
        }
        Ok(())
    }
}

impl Shared {
    fn add(&self) -> u32 {
        let mut instances = self.instances.lock();
        instances.last += 1;
        let number = instances.last;
        let instance = Instance {
            name: format!("storage server {number}"),
            endpoint: None,
            state: InstanceState::Starting,
            rank: 0,
        };
        instances.by_number.insert(number, instance);
        number
    }

    fn note(&self, number: u32, state: InstanceState, endpoint: Option<String>) {
        if let Some(instance) = self.instances.lock().by_number.get_mut(&number) {
            instance.state = state;
            instance.endpoint = endpoint;
        }
    }

    /// Runs a server until it has left or all are to end, and starts it again when it crashed.
    async fn keep(&self, number: u32) {
        let mut pause = PAUSE_MIN;
        let mut times = 0;
        loop {
            let begun = Instant::now();
            let how = match self.run(number).await {
                Ok(()) => return,
                Err(how) => how,
            };
            if begun.elapsed() >= RUN_MIN {
                (pause, times) = (PAUSE_MIN, 0);
            }
            times += 1;
            eprintln!("pocket: {how}; it is started again in {pause:?}");
            self.note(number, InstanceState::Crashed { times, how }, None);
            if self.stop.run_until_cancelled(sleep(pause)).await.is_none() {
                return;
            }
            pause = (pause * 2).min(PAUSE_MAX);
            self.note(number, InstanceState::Starting, None);
        }
    }

    /// One life of a server. Fails with how it ended, if it was not to.
    async fn run(&self, number: u32) -> Result<(), String> {
        let name = format!("storage server {number}");
        let text = |error: anyhow::Error| format!("{error:#}");
        let (arguments, key) = (&self.arguments, self.key.as_deref());
        let mut child = ChildServer::start(&self.program, &name, arguments, key).map_err(text)?;
        let announced = self.stop.run_until_cancelled(child.announcement()).await;
        if let Some(announced) = announced {
            let Announcement {
                endpoint, metrics, ..
            } = announced.map_err(text)?;
            if let Some(metrics) = metrics {
                eprintln!("pocket: metrics of {name} are at http://{metrics}/metrics");
            }
            self.note(number, InstanceState::Running, Some(endpoint));
        }
        let ended = child.supervise(self.stop.clone()).await;
        match ended.in_order || ended.success {
            true => Ok(()),
            false if self.stop.is_cancelled() => {
                eprintln!("pocket: {ended}");
                Ok(())
            }
            false => Err(ended.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
