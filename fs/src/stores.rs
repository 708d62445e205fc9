//! The way to storage servers, as one session of the mount after the other.
//!
//! What is to change blocks says for which session: data that were taken up in one that was lost
//! since must not be stored in the name of the next, over what others have written in between.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pocket_proto::{Failure, Status};
use pocket_storage_client::BlockStore;
use tokio::sync::watch;
use tokio::time::timeout;

/// A change waits no longer for the session that it is for; operations end within ten seconds.
const RENEWAL_PATIENCE: Duration = Duration::from_secs(8);

/// See the module. Sessions are numbered as [`Coherence`](crate::coherence::Coherence) counts them.
pub(crate) struct Stores {
    current: watch::Sender<Current>,
}

#[derive(Clone)]
struct Current {
    session: u64,
    store: Arc<dyn BlockStore>,
}

impl Stores {
    /// The store of the first session.
    pub(crate) fn new(store: Arc<dyn BlockStore>) -> Self {
        Stores {
            current: watch::Sender::new(Current { session: 0, store }),
        }
    }

    /// For what changes nothing.
    pub(crate) fn newest(&self) -> Arc<dyn BlockStore> {
        Arc::clone(&self.current.borrow().store)
    }

    /// For changes in the name of a session. Waits for one that is yet to be renewed.
    ///
    /// Errors: [`Status::SessionEnded`] if another one took its place, [`Status::Unavailable`] if
    /// it is not renewed in time.
    pub(crate) async fn of(&self, session: u64) -> Result<Arc<dyn BlockStore>, Failure> {
        let current = self.wait_for(session).await.ok_or_else(|| {
            let what = "no session with the metadata server to change blocks in";
            Failure::new(Status::Unavailable, what)
        })?;
        match current.session == session {
            true => Ok(current.store),
            false => Err(Failure::new(
                Status::SessionEnded,
                "the session that this was written in was lost",
            )),
        }
    }

    /// What came of a change in the name of a session. If storage servers know that the session has
    /// ended, this returns when the mount has noticed, so that the failure counts as the session's.
    pub(crate) async fn outlive<T>(
        &self,
        session: u64,
        outcome: Result<T, Failure>,
    ) -> Result<T, Failure> {
        if let Err(failure) = &outcome
            && failure.status == Status::SessionEnded
        {
            // Late or not, it is answered with the failure.
            let _ = self.wait_for(session + 1).await;
        }
        outcome
    }

    /// Another session has begun.
    pub(crate) fn renew(&self, session: u64, credential: Bytes) {
        self.current.send_if_modified(|current| {
            let is_newer = session >= current.session;
            if is_newer {
                current.session = session;
                current.store = current.store.renewed(credential);
            }
            is_newer
        });
    }

    async fn wait_for(&self, session: u64) -> Option<Current> {
        {
            let current = self.current.borrow();
            if current.session >= session {
                return Some(current.clone());
            }
        }
        let mut changes = self.current.subscribe();
        let renewed = changes.wait_for(|current| current.session >= session);
        match timeout(RENEWAL_PATIENCE, renewed).await {
            Ok(Ok(current)) => Some(current.clone()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use pocket_proto::JobId;
    use pocket_storage_client::{StorageClient, StorageClientOptions};

    use super::*;

    fn stores() -> Stores {
        let options = StorageClientOptions::default();
        Stores::new(Arc::new(StorageClient::new(JobId(1), Vec::new(), options)))
    }

    #[tokio::test]
    async fn what_was_taken_up_in_a_lost_session_finds_no_way_in_the_next() {
        let stores = stores();
        stores.of(0).await.map(drop).unwrap();
        stores.renew(1, Bytes::new());
        let late = stores.of(0).await.map(drop).unwrap_err();
        assert_eq!(late.status, Status::SessionEnded);
        stores.of(1).await.map(drop).unwrap();
        // What is said of an earlier one comes too late.
        stores.renew(0, Bytes::new());
        stores.of(1).await.map(drop).unwrap();
    }

    #[tokio::test]
    async fn change_waits_for_its_session_to_be_renewed() {
        let stores = Arc::new(stores());
        let waiting = tokio::spawn({
            let stores = Arc::clone(&stores);
            async move { stores.of(1).await.map(drop) }
        });
        tokio::task::yield_now().await;
        stores.renew(1, Bytes::new());
        waiting.await.unwrap().unwrap();
    }
}
