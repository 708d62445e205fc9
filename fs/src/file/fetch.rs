//! Reading: from buffered data, from held blocks, or from the servers.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::try_join_all;
use pocket_proto::session::{Entry, RelocateReason, StorageServer, Time};
use pocket_proto::{BlockAddress, BlockIndex, Failure, InodeId, Status};
use tokio::runtime::Handle;

use super::contents::CONTENT_BYTES_MAX;
use super::dirty::Held;
use super::state::pieces;
use super::{File, Sharing, State, block_cache::Slot};
use crate::HandleId;
use crate::coherence::Leased;
use crate::filesystem::FileSystem;
use crate::operation::Access;
use crate::start;

/// Zeros for holes, handed out without a copy.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];
/// A whole file up to this size is fetched at the first read, wherever that reads.
const SMALL_FILE_BYTES: u64 = CONTENT_BYTES_MAX;
/// A file that changes faster than it can be read is taken as it is found.
const READ_TRIES_MAX: u32 = 32;

/// Bytes of a file in the order of the file, in pieces that are not copied together.
#[derive(Clone, Debug, Default)]
pub struct ReadData {
    pieces: Vec<Bytes>,
}

impl ReadData {
    /// The pieces in order, none empty.
    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    /// Whether it is the end of the file.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// All bytes as one run; copies only if there are several pieces.
    pub fn into_bytes(mut self) -> Bytes {
        if self.pieces.len() == 1 {
            return self.pieces.remove(0);
        }
        self.pieces.concat().into()
    }

    /// Appends `bytes` and zeros up to `length`.
    fn push(&mut self, bytes: Bytes, length: u32) {
        let mut missing = length as usize - bytes.len().min(length as usize);
        if !bytes.is_empty() {
            self.pieces.push(bytes);
        }
        while missing > 0 {
            let zeros = missing.min(ZEROS.len());
            self.pieces.push(Bytes::from_static(&ZEROS[..zeros]));
            missing -= zeros;
        }
    }
}

impl From<Bytes> for ReadData {
    fn from(bytes: Bytes) -> Self {
        let mut data = ReadData::default();
        let length = bytes.len() as u32;
        data.push(bytes, length);
        data
    }
}

/// What one try to read came to.
struct Read {
    data: ReadData,
    /// The servers held all that was asked for.
    is_whole: bool,
    /// The time of change of the file as it was known.
    changed_time: Option<Time>,
    /// Something of it may come from this mount's memory.
    cached: bool,
    /// The size as it was asked for before the data; none if nobody else could set it.
    asked: Option<SizeAsked>,
}

/// What tells whether a size that was asked for held as long as data were read.
#[derive(Clone, Copy, Debug, PartialEq)]
struct SizeAsked {
    /// How often it had been set.
    cuts: u64,
    /// Counted in this session.
    session: u64,
}

impl SizeAsked {
    fn of(entry: &Leased<Entry>) -> Self {
        SizeAsked {
            cuts: entry.value.cuts,
            session: entry.session,
        }
    }
}

impl Read {
    fn push(&mut self, bytes: Bytes, length: u32) {
        self.is_whole &= bytes.len() >= length as usize;
        self.data.push(bytes, length);
    }
}

/// A piece of a read: some bytes of one block.
#[derive(Clone, Copy)]
struct Piece {
    block: u64,
    start: u32,
    length: u32,
}

/// Where a piece comes from.
enum Source {
    Memory(Bytes),
    Slot(Slot),
    Server,
    /// Buffered data cover a part: they go to the server first.
    AfterWriteBack,
}

impl FileSystem {
    /// Reads `length` bytes at `offset`, fewer at the end of the file. `whole_blocks` says that
    /// what follows will be read as well.
    ///
    /// Where the servers hold fewer bytes than the file should have there is a hole, or the file
    /// was cut or removed since its size was learned. The metadata server tells which: nobody must
    /// read zeros that nobody wrote. Likewise, a mount that may have been given up may have in memory
    /// what others have replaced: it asks. And where others write, the file may have been cut and
    /// written anew since its size was learned: what is not committed yet must not be read as a part
    /// of what was there before.
    pub(crate) async fn read_file(
        self: &Arc<Self>,
        file: &Arc<File>,
        offset: u64,
        length: u32,
        whole_blocks: bool,
    ) -> Result<ReadData, Failure> {
        let mut tries = 1;
        loop {
            let session = self.coherence.session();
            let read = self.read_once(file, offset, length, whole_blocks).await?;
            if read.cached && !self.is_still(session).await? && tries < READ_TRIES_MAX {
                tries += 1;
                continue;
            }
            let goes_through = || file.with(|state| state.sharing == Sharing::Through);
            let through = read.asked.is_some() || goes_through();
            let is_certain = read.data.is_empty() || (read.is_whole && !through);
            if is_certain || tries == READ_TRIES_MAX {
                return Ok(read.data);
            }
            let entry = self.fetch_attributes(file.inode).await?;
            let size_held = !through || read.asked == Some(SizeAsked::of(&entry));
            let changed_time = entry.value.attributes.and_then(|known| known.changed);
            if size_held && (read.is_whole || changed_time == read.changed_time) {
                return Ok(read.data);
            }
            file.refresh(&entry.value, entry.since);
            self.drop_kept(file);
            tries += 1;
        }
    }

    async fn read_once(
        self: &Arc<Self>,
        file: &Arc<File>,
        offset: u64,
        length: u32,
        whole_blocks: bool,
    ) -> Result<Read, Failure> {
        let through = file.with(|state| match state.dead {
            Some(status) => Err(Failure::from(status)),
            None => Ok(state.sharing == Sharing::Through),
        })?;
        let mut asked = None;
        let (mut size, mut changed_time) = file.with(|state| (state.size, state.changed_time));
        if through {
            // Others may have moved the end of the file.
            let entry = self.fetch_attributes(file.inode).await?;
            file.refresh(&entry.value, entry.since);
            size = file.size_by(&entry.value);
            changed_time = entry.value.attributes.and_then(|known| known.changed);
            asked = Some(SizeAsked::of(&entry));
        }
        let length = u64::from(length).min(size.saturating_sub(offset)) as u32;
        let keep = whole_blocks || size <= SMALL_FILE_BYTES;
        let mut pieces =
            pieces(file.block_bytes, offset, length).map(|(block, start, length)| Piece {
                block,
                start,
                length,
            });
        let mut read = Read {
            data: ReadData::default(),
            is_whole: true,
            changed_time,
            cached: !through,
            asked,
        };
        match (pieces.next(), pieces.next()) {
            (None, _) => {}
            (Some(piece), None) => {
                read.push(self.read_piece(file, piece, keep).await?, piece.length);
            }
            (Some(first), Some(second)) => {
                let all: Vec<_> = [first, second].into_iter().chain(pieces).collect();
                let reads = all.iter().map(|piece| self.read_piece(file, *piece, keep));
                for (bytes, piece) in try_join_all(reads).await?.into_iter().zip(&all) {
                    read.push(bytes, piece.length);
                }
            }
        }
        Ok(read)
    }

    /// The bytes of one piece; fewer where the block ends earlier (the rest is zeros).
    async fn read_piece(
        self: &Arc<Self>,
        file: &Arc<File>,
        piece: Piece,
        keep: bool,
    ) -> Result<Bytes, Failure> {
        let Piece {
            block,
            start,
            length,
        } = piece;
        loop {
            match self.source(file, piece, keep)? {
                Source::Memory(bytes) => {
                    self.counts.blocks.hit();
                    return Ok(bytes);
                }
                Source::Slot(slot) => {
                    match slot.initialized() {
                        true => self.counts.blocks.hit(),
                        false => self.counts.blocks.miss(),
                    }
                    let held = slot
                        .get_or_try_init(|| self.fetch_whole(file, block))
                        .await?;
                    let from = held.len().min(start as usize);
                    return Ok(held.slice(from..held.len().min((start + length) as usize)));
                }
                Source::Server => {
                    self.counts.blocks.miss();
                    let _permit = self.read_budget.take(length).await;
                    return self.fetch(file, block, start, length).await;
                }
                Source::AfterWriteBack => self.write_back_block(file, block).await,
            }
        }
    }

    /// Sharing is looked at here, under the lock: a file that has just gone through keeps nothing.
    fn source(&self, file: &File, piece: Piece, keep: bool) -> Result<Source, Failure> {
        let Piece {
            block,
            start,
            length,
        } = piece;
        file.with(|state| {
            let dirty = state.dirty.get(&block);
            let held = dirty.map(|dirty| dirty.held(start, start + length));
            if let Some(Held::Whole(bytes)) = held {
                return Ok(Source::Memory(bytes));
            }
            // Whatever else was written to it since: the server's bytes are older.
            if state.lost.contains(&block) {
                let what = format!("what was written to block {block} could not be stored");
                return Err(Failure::new(Status::Lost, what));
            }
            match held {
                Some(Held::Partly) => return Ok(Source::AfterWriteBack),
                Some(_) => return Ok(Source::Server),
                None => {}
            }
            if state.sharing == Sharing::Through {
                return Ok(Source::Server);
            }
            // What has been closed meanwhile keeps nothing: nobody would drop it.
            if keep && !state.counts.is_closed() {
                state.kept.insert(block);
                let bytes = block_length(state.size, file.block_bytes, block);
                let (slot, new) = self.blocks.slot(file.number, block, bytes);
                if new && let Some(content) = self.content(file.inode, state) {
                    // Nobody else fills a slot that has just been made, but who gets it here later.
                    let _ = slot.set(content);
                }
                return Ok(Source::Slot(slot));
            }
            let kept = state.kept.contains(&block);
            let slot = kept.then(|| self.blocks.peek(file.number, block)).flatten();
            Ok(slot.map_or(Source::Server, Source::Slot))
        })
    }

    /// Fetches a block ahead of its reader, if there is memory for it.
    pub(super) fn fetch_ahead(self: &Arc<Self>, file: &Arc<File>, block: u64) {
        let wanted = file.with(|state| {
            let start = block * u64::from(file.block_bytes);
            let idle = state.sharing == Sharing::Through
                || state.counts.is_closed()
                || start >= state.size
                || state.dirty.contains_key(&block);
            if idle {
                return None;
            }
            let bytes = block_length(state.size, file.block_bytes, block);
            let permit = self.read_budget.try_take(bytes)?;
            let (slot, new) = self.blocks.slot(file.number, block, bytes);
            state.kept.insert(block);
            new.then_some((slot, permit))
        });
        if let Some((slot, permit)) = wanted {
            let (fs, file) = (Arc::clone(self), Arc::clone(file));
            start(&Handle::current(), async move {
                // A failure is met again, and told, by the reader itself.
                let _ = slot.get_or_try_init(|| fs.fetch_whole(&file, block)).await;
                drop(permit);
            });
        }
    }

    /// Fetches a small file that was opened to be read, so that the first read finds it on its way.
    pub async fn prefetch(self: &Arc<Self>, handle: HandleId) {
        let Some(handle) = self.handles.file(handle) else {
            return;
        };
        let file = &handle.file;
        let length = file.with(|state| match (state.sharing, state.size) {
            (Sharing::Cached, 1..=SMALL_FILE_BYTES) => state.size as u32,
            _ => 0,
        });
        if handle.access == Access::Read && length > 0 && length <= file.block_bytes {
            let piece = Piece {
                block: 0,
                start: 0,
                length,
            };
            // A failure is met again, and told, by the reader itself.
            let _ = self.read_piece(file, piece, true).await;
        }
    }

    async fn fetch_whole(&self, file: &File, block: u64) -> Result<Bytes, Failure> {
        let length = file.with(|state| block_length(state.size, file.block_bytes, block));
        self.fetch(file, block, 0, length).await
    }

    async fn fetch(
        &self,
        file: &File,
        block: u64,
        start: u32,
        length: u32,
    ) -> Result<Bytes, Failure> {
        let block = BlockIndex(block);
        let address = BlockAddress {
            inode: file.inode,
            block,
            offset_bytes: start,
            length_bytes: length,
        };
        let mut bytes = self.read_block(file, address).await?.bytes;
        bytes.truncate(length as usize);
        Ok(bytes)
    }

    /// The server that holds a block of an open file.
    pub(super) async fn server_of(
        &self,
        file: &File,
        block: BlockIndex,
    ) -> Result<Arc<StorageServer>, Failure> {
        let (known, layout) =
            file.with(
                |state| match self.maps.known_server(&state.layout, file.inode, block) {
                    Some(server) => (Some(server), None),
                    None => (None, Some(state.layout.clone())),
                },
            );
        match (known, layout) {
            (Some(server), _) => Ok(server),
            (None, layout) => {
                let layout = layout.unwrap_or_default();
                match self.maps.server(&layout, file.inode, block).await {
                    // The layout is older than any map that can still be had.
                    Err(failure) if failure.status == Status::Lost => {
                        self.ask_place(file, block, 0, RelocateReason::Ask).await
                    }
                    found => found,
                }
            }
        }
    }

    /// The whole content of a small file as the server has it, if it is at hand.
    fn content(&self, inode: InodeId, state: &State) -> Option<Bytes> {
        let version = state.version()?;
        (1..=CONTENT_BYTES_MAX)
            .contains(&version.size)
            .then(|| self.contents.get(inode, version))?
    }

    /// The file's last handle is closed: keeps its content, if it was read whole, and forgets the
    /// rest.
    pub(crate) fn retire_kept(&self, file: &File) {
        let version = file.with(|state| state.version());
        if let Some(version) = version
            && version.size <= CONTENT_BYTES_MAX.min(u64::from(file.block_bytes))
            && let Some(slot) = self.blocks.peek(file.number, 0)
            && let Some(content) = slot.get()
        {
            self.contents.put(file.inode, version, content.clone());
        }
        self.drop_kept(file);
    }

    /// Forgets what is held of a file for readers.
    pub(crate) fn drop_kept(&self, file: &File) {
        let kept = file.with(|state| std::mem::take(&mut state.kept));
        self.drop_blocks(file, kept);
    }

    pub(crate) fn drop_blocks(&self, file: &File, blocks: impl IntoIterator<Item = u64>) {
        self.blocks.remove_all(file.number, blocks);
    }
}

/// Bytes of a block that lie below `size`.
fn block_length(size: u64, block_bytes: u32, block: u64) -> u32 {
    let start = block * u64::from(block_bytes);
    size.saturating_sub(start).min(u64::from(block_bytes)) as u32
}
