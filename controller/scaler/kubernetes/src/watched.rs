//! A kind of objects as the API server tells of them: listed once, then kept by a watch.
//!
//! A watch that breaks goes on where it was; one that has expired (410) or tells nothing for long
//! lists anew, whatever the reason: no request is waited for without end. Between tries
//! there are pauses that grow; where the API server names one (429, Retry-After), the client under
//! this one keeps it.

use std::{
    fmt::Debug,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use kube::{
    Api, Resource,
    runtime::{
        reflector::{self, Store, store::Writer},
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    answer::{GONE, code},
    backoff::Backoff,
};

/// A watch is asked for this long, in seconds.
const WATCH_SECONDS: u32 = 30;
/// After so long without a word all is listed anew, should the word have been lost.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// Objects of one kind.
pub(crate) struct Watched<K: Resource<DynamicType = ()> + 'static> {
    store: Store<K>,
    listed: Arc<AtomicBool>,
}

impl<K> Watched<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    /// What is known so far, and the task that keeps it until `stop`; `changed` is told of changes.
    pub(crate) fn new(
        api: Api<K>,
        config: watcher::Config,
        changed: watch::Sender<()>,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (store, writer) = reflector::store();
        let listed = Arc::new(AtomicBool::new(false));
        let watched = Watched {
            store,
            listed: Arc::clone(&listed),
        };
        let config = config.timeout(WATCH_SECONDS);
        let follow = follow(api, config, writer, listed, changed);
        let task = async move {
            stop.run_until_cancelled(follow).await;
        };
        (watched, task)
    }

    /// What there is; none before it was listed.
    pub(crate) fn all(&self) -> Option<Vec<Arc<K>>> {
        let listed = self.listed.load(Ordering::Acquire);
        listed.then(|| self.store.state())
    }
}

async fn follow<K>(
    api: Api<K>,
    config: watcher::Config,
    mut writer: Writer<K>,
    listed: Arc<AtomicBool>,
    changed: watch::Sender<()>,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let kind = K::kind(&());
    let mut backoff = Backoff::default();
    let mut failing = false;
    loop {
        let mut events = pin!(watcher(api.clone(), config.clone()));
        while let Ok(Some(event)) = timeout(SILENCE_MAX, events.next()).await {
            let failure = match event {
                Ok(event) => {
                    writer.apply_watcher_event(&event);
                    // That a list begins says nothing yet of the API server.
                    if matches!(event, Event::Init) {
                        continue;
                    }
                    if std::mem::take(&mut failing) {
                        info!("watching each {kind} goes on");
                    }
                    backoff.reset();
                    listed.fetch_or(matches!(event, Event::InitDone), Ordering::Release);
                    changed.send_replace(());
                    continue;
                }
                Err(failure) => failure,
            };
            let expired = has_expired(&failure);
            match expired {
                true => debug!("what was watched of {kind} has expired: listing anew"),
                false if std::mem::replace(&mut failing, true) => debug!("{kind}: {failure}"),
                false => warn!("watching each {kind} fails and is tried again: {failure}"),
            }
            sleep(backoff.pause()).await;
            if expired {
                break;
            }
        }
    }
}

fn has_expired(failure: &watcher::Error) -> bool {
    match failure {
        watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error) => {
            code(error) == Some(GONE)
        }
        watcher::Error::WatchError(status) => status.code == GONE,
        _ => false,
    }
}
