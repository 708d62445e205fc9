//! Where blocks are: the job's weight maps, and the choice of another place.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use pocket_proto::session::{Layout, StorageServer, WeightMap, WeightedServer};
use pocket_proto::{
    BlockAddress, BlockIndex, Epoch, Failure, InodeId, Placement, ServerId, Status,
};
use tokio::time::Instant;

use crate::limits::{FULL_SERVER_MEMORY, WEIGHT_MAP_SERVERS_MAX, WEIGHT_MAPS_MAX};
use crate::namespace::File;

/// Files of more blocks than this are taken to be on every server of their map, which is simpler
/// and nearly true.
const BLOCKS_PLACED_MAX: u64 = 64;

/// Blocks of a file that are told of to people: finding out takes a while, under the job's lock.
const BLOCKS_DESCRIBED_MAX: u64 = 4096;

/// The weight maps of a job, from its first file's to the newest.
#[derive(Debug)]
pub(crate) struct Layouts {
    block_bytes: u32,
    maps: BTreeMap<Epoch, Edition>,
    newest: Epoch,
    /// Servers that could not take a block, and when that was last said.
    avoided: HashMap<ServerId, Instant>,
}

#[derive(Debug)]
struct Edition {
    map: WeightMap,
    placement: Placement,
}

/// Blocks of a file, from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockRange {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl Layouts {
    /// Starts with a job's first map.
    pub(crate) fn new(block_bytes: u32, map: WeightMap) -> Result<Self, Failure> {
        let mut layouts = Layouts {
            block_bytes,
            maps: BTreeMap::new(),
            newest: Epoch(map.epoch),
            avoided: HashMap::new(),
        };
        layouts.publish(map)?;
        Ok(layouts)
    }

    /// Takes a map for new files. An epoch that is known already changes nothing; one that was
    /// passed by is refused.
    pub(crate) fn publish(&mut self, map: WeightMap) -> Result<(), Failure> {
        let invalid = |what: String| Failure::new(Status::Invalid, what);
        let epoch = Epoch(map.epoch);
        if self.maps.contains_key(&epoch) {
            return Ok(());
        }
        if epoch < self.newest {
            return Err(invalid(format!(
                "weight map of epoch {epoch} comes after that of epoch {}",
                self.newest
            )));
        }
        if map.servers.len() > WEIGHT_MAP_SERVERS_MAX {
            return Err(invalid(format!(
                "weight map of {} servers, the limit is {WEIGHT_MAP_SERVERS_MAX}",
                map.servers.len()
            )));
        }
        if self.maps.len() >= WEIGHT_MAPS_MAX {
            return Err(Failure::new(
                Status::LimitReached,
                format!("the job has had {WEIGHT_MAPS_MAX} weight maps"),
            ));
        }
        let placement = Placement::new(&map).map_err(|error| invalid(error.to_string()))?;
        self.newest = epoch;
        self.maps.insert(epoch, Edition { map, placement });
        Ok(())
    }

    pub(crate) fn block_bytes(&self) -> u32 {
        self.block_bytes
    }

    /// The map for new files.
    pub(crate) fn newest(&self) -> &WeightMap {
        &self.edition(self.newest).map
    }

    /// Whether there is a map of this epoch.
    pub(crate) fn has(&self, epoch: Epoch) -> bool {
        self.maps.contains_key(&epoch)
    }

    /// The map of an epoch; 0 names the newest.
    pub(crate) fn map(&self, epoch: Epoch) -> Result<&WeightMap, Failure> {
        if epoch == Epoch(0) {
            return Ok(self.newest());
        }
        let edition = self.maps.get(&epoch).ok_or_else(|| {
            let what = format!("the job has no weight map of epoch {epoch}");
            Failure::new(Status::NotFound, what)
        })?;
        Ok(&edition.map)
    }

    /// A file's layout, for the wire.
    pub(crate) fn layout(&self, file: &File) -> Layout {
        Layout {
            epoch: file.epoch.0,
            block_bytes: self.block_bytes,
            exceptions: file.exceptions(),
            edition: self.edition(file.epoch).map.edition,
        }
    }

    /// Every server that any map names, the newest word on each.
    pub(crate) fn all_servers(&self) -> Vec<StorageServer> {
        let maps = self.maps.values().flat_map(|edition| &edition.map.servers);
        let servers = maps.filter_map(|weighted| weighted.server.clone());
        let known: BTreeMap<u64, StorageServer> =
            servers.map(|server| (server.server, server)).collect();
        known.into_values().collect()
    }

    /// The layout of a file for people: a line of figures, and one for each run of blocks on one
    /// server, as many as fit.
    pub(crate) fn describe(&self, inode: InodeId, file: &File, bytes_max: usize) -> String {
        let (epoch, block_bytes) = (file.epoch, self.block_bytes);
        let mut text = format!("epoch {epoch}, blocks of {block_bytes} bytes\n");
        let blocks = file.size_bytes.div_ceil(u64::from(block_bytes));
        let name = |block| match self.server_of(inode, file, BlockIndex(block)) {
            Some(server) => format!("{} {}", server.endpoint, server.tier),
            None => "nowhere".to_owned(),
        };
        let mut first = 0;
        while first < blocks {
            let server = name(first);
            let mut end = first + 1;
            while end < blocks.min(BLOCKS_DESCRIBED_MAX) && name(end) == server {
                end += 1;
            }
            let line = format!("{first}-{} {server}\n", end - 1);
            if text.len() + line.len() > bytes_max || first >= BLOCKS_DESCRIBED_MAX {
                text.push_str("...\n");
                break;
            }
            text.push_str(&line);
            first = end;
        }
        text
    }

    /// A block from its beginning to its end.
    pub(crate) fn whole_block(&self, inode: InodeId, block: BlockIndex) -> BlockAddress {
        BlockAddress {
            inode,
            block,
            offset_bytes: 0,
            length_bytes: self.block_bytes,
        }
    }

    /// Servers that may hold blocks of `range` of a file.
    pub(crate) fn servers_of(
        &self,
        inode: InodeId,
        file: &File,
        range: BlockRange,
    ) -> Vec<StorageServer> {
        let placement = &self.edition(file.epoch).placement;
        let mut servers: Vec<StorageServer> = Vec::new();
        let mut add = |server: &StorageServer| {
            if servers.iter().all(|known| known.server != server.server) {
                servers.push(server.clone());
            }
        };
        if range.last.saturating_sub(range.first) < BLOCKS_PLACED_MAX && !file.has_blocks_behind() {
            for block in (range.first..=range.last).map(BlockIndex) {
                add(placement.server_of(inode, block));
            }
        } else {
            placement.servers().for_each(&mut add);
        }
        for server in file.exceptions.values() {
            if let Some(server) = self.server(*server) {
                add(server);
            }
        }
        servers
    }

    /// The server that holds a block of a file.
    pub(crate) fn server_of(
        &self,
        inode: InodeId,
        file: &File,
        block: BlockIndex,
    ) -> Option<&StorageServer> {
        match file.exceptions.get(&block) {
            Some(server) => self.server(*server),
            None => {
                let placement = &self.edition(file.epoch).placement;
                Some(placement.server_of(inode, block))
            }
        }
    }

    /// Another place for a block that `failed` could not take: by the newest map, without servers
    /// that failed a moment ago and those that are not `alive`. `None`: there is none.
    pub(crate) fn choose_other(
        &mut self,
        inode: InodeId,
        block: BlockIndex,
        failed: ServerId,
        alive: impl Fn(&StorageServer) -> bool,
        now: Instant,
    ) -> Option<StorageServer> {
        self.avoided.insert(failed, now);
        self.avoided
            .retain(|_, said| *said + FULL_SERVER_MEMORY > now);
        let newest = self.newest();
        let usable = newest.servers.iter().filter(|weighted| {
            weighted.server.as_ref().is_some_and(|server| {
                !self.avoided.contains_key(&ServerId(server.server)) && alive(server)
            })
        });
        let map = WeightMap {
            epoch: newest.epoch,
            edition: 0,
            servers: usable.cloned().collect(),
        };
        let placement = Placement::new(&map).ok()?;
        Some(placement.server_of(inode, block).clone())
    }

    /// Whether any map places blocks on the server.
    pub(crate) fn name(&self, server: &StorageServer) -> bool {
        let maps = self.maps.values().map(|edition| &edition.map);
        let mut named = maps.flat_map(|map| &map.servers);
        named.any(|weighted| is_of(weighted, server))
    }

    /// The server that takes the place of one that leaves: of the newest map's the one with the
    /// most weight. `None`: there is no other.
    pub(crate) fn successor_of(
        &self,
        leaving: &StorageServer,
        alive: impl Fn(&StorageServer) -> bool,
    ) -> Option<StorageServer> {
        let others = self.newest().servers.iter().filter(|weighted| {
            let server = weighted.server.as_ref();
            server.is_some_and(|server| server.server != leaving.server && alive(server))
        });
        others.max_by_key(|other| other.weight)?.server.clone()
    }

    /// The server has left, and holds nothing that anybody needs: `successor` stands in its place
    /// in every map, so that what was a hole there is one here.
    pub(crate) fn depart(&mut self, gone: &StorageServer, successor: &StorageServer) {
        for edition in self.maps.values_mut() {
            let mut changed = false;
            for weighted in &mut edition.map.servers {
                if !is_of(weighted, gone) {
                    continue;
                }
                if weighted.stands_for == 0 {
                    weighted.stands_for = gone.server;
                }
                weighted.server = Some(successor.clone());
                changed = true;
            }
            if changed {
                edition.map.edition += 1;
                edition.placement = Placement::new(&edition.map)
                    .expect("the map had a server with a weight and still has");
            }
        }
    }

    /// Deletions may have made room: no server is avoided any more.
    pub(crate) fn forgive(&mut self) {
        self.avoided.clear();
    }

    /// The newest word on a server.
    fn server(&self, id: ServerId) -> Option<&StorageServer> {
        let maps = self.maps.values().rev();
        let mut servers = maps.flat_map(|edition| &edition.map.servers);
        servers.find_map(|weighted| weighted.server.as_ref().filter(|s| s.server == id.0))
    }

    fn edition(&self, epoch: Epoch) -> &Edition {
        self.maps
            .get(&epoch)
            .expect("files have epochs that were published, and maps are kept")
    }
}

/// Whether it is this life of the server, wherever it was reached at that time.
fn is_of(weighted: &WeightedServer, server: &StorageServer) -> bool {
    let named = weighted.server.as_ref();
    named.is_some_and(|named| {
        (named.server, named.incarnation) == (server.server, server.incarnation)
    })
}

impl BlockRange {
    /// The blocks behind the first `keep_bytes` of a file, up to its end at `size_bytes`; `None`
    /// if there are none. A block kept in part counts.
    pub(crate) fn behind(keep_bytes: u64, size_bytes: u64, block_bytes: u32) -> Option<Self> {
        let block_bytes = u64::from(block_bytes);
        (size_bytes > keep_bytes).then(|| BlockRange {
            first: keep_bytes / block_bytes,
            last: (size_bytes - 1) / block_bytes,
        })
    }
}

/// Which storage servers are alive, as the controller last said.
#[derive(Debug, Default)]
pub(crate) struct Liveness(parking_lot::RwLock<Option<Arc<HashMap<u64, u64>>>>);

impl Liveness {
    /// Takes the controller's word: ids and incarnations of the servers alive.
    pub(crate) fn update(&self, servers: &[StorageServer]) {
        let alive = servers.iter();
        let alive = alive.map(|server| (server.server, server.incarnation));
        *self.0.write() = Some(Arc::new(alive.collect()));
    }

    /// Whether the server is alive; taken to be while nobody has said anything.
    pub(crate) fn is_alive(&self, server: &StorageServer) -> bool {
        match &*self.0.read() {
            Some(alive) => alive.get(&server.server) == Some(&server.incarnation),
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u32 = 1 << 20;

    fn map(epoch: u32, ids: &[u64]) -> WeightMap {
        let server = |&id: &u64| WeightedServer {
            server: Some(StorageServer {
                server: id,
                incarnation: 1,
                ..Default::default()
            }),
            weight: 1,
            stands_for: 0,
        };
        WeightMap {
            epoch,
            edition: 0,
            servers: ids.iter().map(server).collect(),
        }
    }

    fn file(epoch: u32) -> File {
        File {
            epoch: Epoch(epoch),
            ..File::default()
        }
    }

    #[test]
    fn maps_are_kept_and_epochs_never_go_back() {
        let mut layouts = Layouts::new(BLOCK, map(3, &[1, 2])).unwrap();
        assert!(layouts.publish(map(2, &[1])).is_err());
        assert!(layouts.publish(map(9, &[])).is_err());
        layouts.publish(map(5, &[2, 3])).unwrap();
        layouts.publish(map(3, &[9])).unwrap();
        assert_eq!(layouts.newest().epoch, 5);
        assert_eq!(layouts.map(Epoch(0)).unwrap().epoch, 5);
        assert_eq!(layouts.map(Epoch(3)).unwrap(), &map(3, &[1, 2]));
        assert!(layouts.map(Epoch(4)).is_err());
        let ids: Vec<_> = layouts.all_servers().iter().map(|s| s.server).collect();
        assert_eq!(ids, [1, 2, 3]);
    }

    #[test]
    fn one_block_concerns_one_server_and_many_concern_all() {
        let layouts = Layouts::new(BLOCK, map(1, &[1, 2, 3, 4])).unwrap();
        let range = |last| BlockRange { first: 0, last };
        assert_eq!(
            layouts.servers_of(InodeId(7), &file(1), range(0)),
            [layouts
                .server_of(InodeId(7), &file(1), BlockIndex(0))
                .cloned()
                .unwrap()]
        );
        let all = layouts.servers_of(InodeId(7), &file(1), range(1000));
        assert_eq!(all.len(), 4);
        let uncertain = File {
            uncertain: true,
            ..file(1)
        };
        let ahead = File {
            allocated_behind: true,
            ..file(1)
        };
        for file in [uncertain, ahead] {
            assert_eq!(layouts.servers_of(InodeId(7), &file, range(0)).len(), 4);
        }
    }

    #[test]
    fn another_place_is_neither_dead_nor_full() {
        let mut layouts = Layouts::new(BLOCK, map(1, &[1, 2, 3])).unwrap();
        let now = Instant::now();
        let mut choose = |failed, now| {
            let alive = |server: &StorageServer| server.server != 3;
            let other =
                layouts.choose_other(InodeId(7), BlockIndex(0), ServerId(failed), alive, now);
            other.map(|server| server.server)
        };
        assert_eq!(choose(1, now), Some(2));
        assert_eq!(choose(2, now), None);
        assert_eq!(choose(2, now + FULL_SERVER_MEMORY), Some(1));
    }

    #[test]
    fn a_successor_stands_in_the_place_of_a_server_that_left() {
        let mut layouts = Layouts::new(BLOCK, map(1, &[1, 2])).unwrap();
        layouts.publish(map(2, &[2, 3])).unwrap();
        let server = |id: u64| map(1, &[id]).servers[0].server.clone().unwrap();
        let placed = |layouts: &Layouts, epoch| {
            let of = |block| layouts.server_of(InodeId(7), &file(epoch), BlockIndex(block));
            let ids = (0..64).map(|block| of(block).map(|server| server.server));
            ids.collect::<Vec<_>>()
        };
        let before = placed(&layouts, 1);
        let successor = layouts.successor_of(&server(1), |_| true).unwrap();
        assert!([2, 3].contains(&successor.server));
        assert!(layouts.name(&server(1)));
        layouts.depart(&server(1), &server(3));
        assert!(!layouts.name(&server(1)));
        let after = placed(&layouts, 1);
        for (old, new) in before.iter().zip(&after) {
            assert_eq!(*new, if *old == Some(1) { Some(3) } else { *old });
        }
        assert_eq!(layouts.layout(&file(1)).edition, 1);
        assert_eq!(layouts.layout(&file(2)).edition, 0);
        layouts.depart(&server(3), &server(2));
        assert!(placed(&layouts, 1).iter().all(|id| *id == Some(2)));
    }

    #[test]
    fn blocks_behind_a_size_are_counted_from_the_one_kept_in_part() {
        let behind = |keep, size| BlockRange::behind(keep, size, 4096);
        assert_eq!(behind(0, 0), None);
        assert_eq!(behind(10, 10), None);
        assert_eq!(behind(0, 1), Some(BlockRange { first: 0, last: 0 }));
        let expected = Some(BlockRange { first: 1, last: 2 });
        assert_eq!(behind(4096, 8193), expected);
        assert_eq!(behind(4097, 8193), expected);
    }

    #[test]
    fn another_incarnation_is_not_alive() {
        let liveness = Liveness::default();
        let server = |server, incarnation| StorageServer {
            server,
            incarnation,
            ..Default::default()
        };
        assert!(liveness.is_alive(&server(1, 1)));
        liveness.update(&[server(1, 1)]);
        assert!(liveness.is_alive(&server(1, 1)));
        assert!(!liveness.is_alive(&server(1, 2)));
        assert!(!liveness.is_alive(&server(2, 1)));
    }
}
