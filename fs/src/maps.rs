//! The job's weight maps by epoch, made ready to place blocks.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::RwLock;
use pocket_meta_client::Metadata;
use pocket_proto::session::{GetWeightMap, Layout, StorageServer, WeightMap, reply, request};
use pocket_proto::{BlockIndex, Failure, InodeId, Placement, Status};

/// Epochs kept at once; a job re-weighted more often fetches the odd one again.
const EPOCHS_MAX: usize = 1024;
/// Asks for the newest map, whatever its epoch.
const NEWEST: u32 = 0;

/// Immutable maps, fetched once each.
pub(crate) struct Maps {
    metadata: Arc<dyn Metadata>,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    /// By epoch and edition.
    placements: HashMap<(u32, u32), Arc<Placement>>,
    /// The latest edition of each epoch.
    editions: HashMap<u32, u32>,
    servers: HashMap<u64, Arc<StorageServer>>,
}

impl Maps {
    pub(crate) fn new(metadata: Arc<dyn Metadata>) -> Self {
        Maps {
            metadata,
            known: RwLock::default(),
        }
    }

    /// The server of a block if the map is at hand.
    pub(crate) fn known_server(
        &self,
        layout: &Layout,
        inode: InodeId,
        block: BlockIndex,
    ) -> Option<Arc<StorageServer>> {
        let known = self.known.read();
        // The server answers exceptions in the order of their blocks.
        let exceptions = &layout.exceptions;
        match exceptions.binary_search_by_key(&block.0, |exception| exception.block) {
            Ok(at) => known.servers.get(&exceptions[at].server).cloned(),
            Err(_) => {
                let placement = known.placements.get(&(layout.epoch, layout.edition))?;
                Some(placement.shared_server_of(inode, block))
            }
        }
    }

    /// The server that holds `block`, fetching the map if it is new to this mount.
    ///
    /// Fails with lost where the block's server is in no map any more.
    pub(crate) async fn server(
        &self,
        layout: &Layout,
        inode: InodeId,
        block: BlockIndex,
    ) -> Result<Arc<StorageServer>, Failure> {
        for epoch in [layout.epoch, NEWEST] {
            if let Some(server) = self.known_server(layout, inode, block) {
                return Ok(server);
            }
            self.fetch(epoch).await?;
        }
        self.known_server(layout, inode, block).ok_or_else(|| {
            Failure::new(
                Status::Lost,
                format!("block {block} of inode {inode}: server unknown"),
            )
        })
    }

    /// Every server that may hold blocks of a file of this layout.
    pub(crate) async fn all_servers(
        &self,
        layout: &Layout,
    ) -> Result<Vec<Arc<StorageServer>>, Failure> {
        let key = (layout.epoch, layout.edition);
        if !self.known.read().placements.contains_key(&key) {
            self.fetch(layout.epoch).await?;
        }
        let mut servers: HashMap<u64, Arc<StorageServer>> = HashMap::new();
        {
            let known = self.known.read();
            let placement = known.placements.get(&key).ok_or_else(|| {
                let what = format!("no weight map {}, edition {}", key.0, key.1);
                Failure::new(Status::Lost, what)
            })?;
            for server in placement.servers() {
                servers.insert(server.server, Arc::new(server.clone()));
            }
        }
        for exception in &layout.exceptions {
            if let Entry::Vacant(place) = servers.entry(exception.server) {
                let block = BlockIndex(exception.block);
                // An exception says where the block is, whatever the inode.
                place.insert(self.server(layout, InodeId(0), block).await?);
            }
        }
        Ok(servers.into_values().collect())
    }

    async fn fetch(&self, epoch: u32) -> Result<(), Failure> {
        let request = request::Operation::GetWeightMap(GetWeightMap { epoch });
        match self.metadata.call(request).await?.result {
            reply::Result::WeightMap(map) => self.learn(&map),
            _ => Err(Failure::new(
                Status::Internal,
                "weight map: unexpected reply",
            )),
        }
    }

    /// The latest edition of an epoch's map that is at hand.
    pub(crate) fn edition(&self, epoch: u32) -> Option<u32> {
        self.known.read().editions.get(&epoch).copied()
    }

    /// Adds a map.
    pub(crate) fn learn(&self, map: &WeightMap) -> Result<(), Failure> {
        let placement = Placement::new(map)
            .map_err(|error| Failure::new(Status::NoSpace, error.to_string()))?;
        let mut known = self.known.write();
        if known.placements.len() >= EPOCHS_MAX {
            known.placements.clear();
            known.editions.clear();
        }
        for server in map
            .servers
            .iter()
            .filter_map(|weighted| weighted.server.as_ref())
        {
            known
                .servers
                .insert(server.server, Arc::new(server.clone()));
        }
        let key = (map.epoch, map.edition);
        known.placements.insert(key, Arc::new(placement));
        let latest = known.editions.entry(map.epoch).or_default();
        *latest = map.edition.max(*latest);
        Ok(())
    }

    /// Adds a server met in a relocation.
    pub(crate) fn learn_server(&self, server: &Arc<StorageServer>) {
        let mut known = self.known.write();
        known.servers.insert(server.server, Arc::clone(server));
    }
}
