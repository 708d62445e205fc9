//! The links of a client, one per life of a server.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use pocket_proto::{Failure, Incarnation, JobId, Operation, ServerId, session::StorageServer};
use pocket_wire::{Payload, ReplyFrame};

use crate::{
    StorageClientOptions,
    client::change_told,
    link::{Greeting, Link},
};

/// With so many links known, those without a connection are forgotten.
const LINKS_MAX: usize = 4096;

/// Links to servers by id and incarnation.
pub(crate) struct Pool {
    greeting: Greeting,
    links: Mutex<HashMap<(ServerId, Incarnation), Arc<Link>>>,
}

impl Pool {
    pub(crate) fn new(credential: Bytes, options: StorageClientOptions) -> Self {
        Pool {
            greeting: Greeting {
                credential,
                options,
            },
            links: Mutex::default(),
        }
    }

    pub(crate) fn options(&self) -> &StorageClientOptions {
        &self.greeting.options
    }

    /// Makes a request to `server`; see [`Link::call`].
    pub(crate) async fn call(
        &self,
        server: &StorageServer,
        operation: Operation,
        job: JobId,
        head: &[u8],
        data: Payload,
    ) -> Result<ReplyFrame, Failure> {
        let link = self.link(server);
        link.call(&self.greeting, operation, job, head, data).await
    }

    /// Makes a request whose reply is a change of allocated bytes.
    pub(crate) async fn call_for_change(
        &self,
        server: &StorageServer,
        operation: Operation,
        job: JobId,
        head: &[u8],
        data: Payload,
    ) -> Result<i64, Failure> {
        let reply = self.call(server, operation, job, head, data).await?;
        change_told(server, &reply.body)
    }

    fn link(&self, server: &StorageServer) -> Arc<Link> {
        let key = (ServerId(server.server), Incarnation(server.incarnation));
        let mut links = self.links.lock();
        if let Some(link) = links.get(&key) {
            return Arc::clone(link);
        }
        if links.len() >= LINKS_MAX {
            links.retain(|_, link| link.is_connected());
        }
        let link = Arc::new(Link::new(server.clone(), self.greeting.options.connections));
        links.insert(key, Arc::clone(&link));
        link
    }
}
