//! The core against a plain model: random operations on a few files, over a metadata server and a
//! block engine in the same process, must give what byte vectors give.

mod support;

use std::collections::BTreeMap;

use bytes::Bytes;
use pocket_fs::{
    AllocateMode, AllocateRequest, Caller, CopyRequest, CreateRequest, Errno, FilePlace,
    FileSystem, HandleId, OpenRequest, RenameMode, SeekTarget, SetAttributesRequest, WriteData,
    WriteRequest,
};
use pocket_proto::InodeId;
use proptest::prelude::*;
use std::sync::Arc;

/// Small blocks, so that a few KiB cross many.
const BLOCK_BYTES: u32 = 4096;
const FILE_BYTES_MAX: u64 = 40_000;
const NAMES: [&[u8]; 3] = [b"a", b"b", b"c"];
const CALLER: Caller = Caller { uid: 0, gid: 0 };

#[derive(Clone, Debug)]
enum Step {
    Create(usize),
    Write {
        name: usize,
        offset: u64,
        length: u32,
        fill: u8,
    },
    Append {
        name: usize,
        length: u32,
        fill: u8,
    },
    Read {
        name: usize,
        offset: u64,
        length: u32,
    },
    Truncate {
        name: usize,
        size: u64,
    },
    Allocate {
        name: usize,
        mode: AllocateMode,
        keep_size: bool,
        offset: u64,
        length: u64,
    },
    Copy {
        from: usize,
        to: usize,
        start: u64,
        target: u64,
        length: u64,
    },
    Seek {
        name: usize,
        offset: u64,
    },
    Flush(usize),
    Reopen(usize),
    Unlink(usize),
    Rename {
        from: usize,
        to: usize,
    },
    Stat(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES.len();
    let offset = 0..FILE_BYTES_MAX;
    let length = 1u32..9000;
    prop_oneof![
        2 => name.clone().prop_map(Step::Create),
        6 => (name.clone(), offset.clone(), length.clone(), any::<u8>())
            .prop_map(|(name, offset, length, fill)| Step::Write { name, offset, length, fill }),
        2 => (name.clone(), length.clone(), any::<u8>())
            .prop_map(|(name, length, fill)| Step::Append { name, length, fill }),
        6 => (name.clone(), offset.clone(), length)
            .prop_map(|(name, offset, length)| Step::Read { name, offset, length }),
        2 => (name.clone(), offset.clone()).prop_map(|(name, size)| Step::Truncate { name, size }),
        4 => (name.clone(), mode(), any::<bool>(), offset.clone(), 1..20_000_u64).prop_map(
            |(name, mode, keep_size, offset, length)| {
                Step::Allocate { name, mode, keep_size, offset, length }
            }
        ),
        3 => (name.clone(), name.clone(), offset.clone(), offset.clone(), 1..20_000_u64).prop_map(
            |(from, to, start, target, length)| {
                // Every other one lies alike in its blocks.
                let target = match length % 2 {
                    0 => target - target % 4096 + start % 4096,
                    _ => target,
                };
                Step::Copy { from, to, start, target, length }
            }
        ),
        3 => (name.clone(), offset.clone()).prop_map(|(name, offset)| Step::Seek { name, offset }),
        1 => name.clone().prop_map(Step::Flush),
        1 => name.clone().prop_map(Step::Reopen),
        1 => name.clone().prop_map(Step::Unlink),
        1 => (name.clone(), name.clone()).prop_map(|(from, to)| Step::Rename { from, to }),
        2 => name.prop_map(Step::Stat),
    ]
}

fn mode() -> impl Strategy<Value = AllocateMode> {
    prop_oneof![
        Just(AllocateMode::Allocate),
        Just(AllocateMode::PunchHole),
        Just(AllocateMode::ZeroRange),
    ]
}

/// The file system under test and the handles it has given out, beside the model.
struct World {
    fs: Arc<FileSystem>,
    handles: BTreeMap<usize, HandleId>,
    model: BTreeMap<usize, Vec<u8>>,
}

impl World {
    async fn apply(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Create(name) => self.create(name).await,
            Step::Write {
                name,
                offset,
                length,
                fill,
            } => {
                self.write(name, Some(offset), &vec![fill; length as usize])
                    .await
            }
            Step::Append { name, length, fill } => {
                self.write(name, None, &vec![fill; length as usize]).await
            }
            Step::Read {
                name,
                offset,
                length,
            } => self.read(name, offset, length).await,
            Step::Truncate { name, size } => self.truncate(name, size).await,
            Step::Allocate {
                name,
                mode,
                keep_size,
                offset,
                length,
            } => {
                let request = AllocateRequest {
                    mode,
                    keep_size: keep_size || mode == AllocateMode::PunchHole,
                    offset,
                    length,
                    clear_set_id: false,
                };
                self.allocate(name, request).await
            }
            Step::Copy {
                from,
                to,
                start,
                target,
                length,
            } => self.copy((from, start), (to, target), length).await,
            Step::Seek { name, offset } => self.seek(name, offset).await,
            Step::Flush(name) => match self.handles.get(&name) {
                Some(handle) => Ok(self.fs.flush(*handle).await?),
                None => Ok(()),
            },
            Step::Reopen(name) => self.reopen(name).await,
            Step::Unlink(name) => self.unlink(name).await,
            Step::Rename { from, to } => self.rename(from, to).await,
            Step::Stat(name) => self.stat(name).await,
        }
    }

    async fn create(&mut self, name: usize) -> Result<(), TestCaseError> {
        let create = CreateRequest {
            parent: InodeId::ROOT,
            name: NAMES[name],
            mode: 0o644,
            umask: 0,
            flags: libc::O_RDWR | libc::O_EXCL,
            clear_set_id: false,
            caller: CALLER,
        };
        match self.fs.create(create).await {
            Ok(leased) => {
                prop_assert!(self.model.insert(name, Vec::new()).is_none());
                self.handles.insert(name, leased.value.1.handle);
            }
            Err(errno) => {
                prop_assert_eq!(errno, Errno(libc::EEXIST));
                prop_assert!(self.model.contains_key(&name));
            }
        }
        Ok(())
    }

    async fn write(
        &mut self,
        name: usize,
        offset: Option<u64>,
        data: &[u8],
    ) -> Result<(), TestCaseError> {
        let (Some(handle), Some(model)) = (self.handles.get(&name), self.model.get_mut(&name))
        else {
            return Ok(());
        };
        let write = WriteRequest {
            offset: offset.unwrap_or(0),
            append: offset.is_none(),
            ..WriteRequest::default()
        };
        let offset = offset.unwrap_or(model.len() as u64);
        let shared = Bytes::copy_from_slice(data);
        let way = match data.len() % 2 {
            0 => WriteData::Shared(&shared),
            _ => WriteData::Borrowed(data),
        };
        let written = match self.fs.try_write(*handle, write, way) {
            Some(outcome) => outcome?,
            None => {
                let data = Bytes::copy_from_slice(data);
                self.fs.write(*handle, write, data).await?
            }
        };
        prop_assert_eq!(written as usize, data.len());
        let (start, end) = (offset as usize, offset as usize + data.len());
        model.resize(model.len().max(end), 0);
        model[start..end].copy_from_slice(data);
        Ok(())
    }

    async fn read(&self, name: usize, offset: u64, length: u32) -> Result<(), TestCaseError> {
        let (Some(handle), Some(model)) = (self.handles.get(&name), self.model.get(&name)) else {
            return Ok(());
        };
        let got = self.fs.read(*handle, offset, length).await?.into_bytes();
        let start = model.len().min(offset as usize);
        let end = model.len().min(offset as usize + length as usize);
        prop_assert!(
            got == model[start..end],
            "read of {length} at {offset} differs"
        );
        Ok(())
    }

    async fn allocate(
        &mut self,
        name: usize,
        request: AllocateRequest,
    ) -> Result<(), TestCaseError> {
        let (Some(handle), Some(model)) = (self.handles.get(&name), self.model.get_mut(&name))
        else {
            return Ok(());
        };
        self.fs.allocate(*handle, request).await?;
        let (start, end) = (
            request.offset as usize,
            (request.offset + request.length) as usize,
        );
        if !request.keep_size {
            model.resize(model.len().max(end), 0);
        }
        if request.mode != AllocateMode::Allocate {
            let size = model.len();
            model[start.min(size)..end.min(size)].fill(0);
        }
        Ok(())
    }

    async fn copy(
        &mut self,
        (from, start): (usize, u64),
        (to, target): (usize, u64),
        length: u64,
    ) -> Result<(), TestCaseError> {
        let (Some(source), Some(dest)) = (self.handles.get(&from), self.handles.get(&to)) else {
            return Ok(());
        };
        let (Some(content), true) = (self.model.get(&from), self.model.contains_key(&to)) else {
            return Ok(());
        };
        let place = |handle: &HandleId, offset| FilePlace {
            handle: *handle,
            offset,
        };
        let request = CopyRequest {
            from: place(source, start),
            to: place(dest, target),
            length,
            clear_set_id: false,
        };
        let copied = self.fs.copy_range(request).await;
        let end = content.len().min((start + length) as usize);
        let data = content[end.min(start as usize)..end].to_vec();
        let (target, length) = (target as usize, data.len());
        let overlap = target + length > start as usize && target < start as usize + length;
        if from == to && overlap && length > 0 {
            prop_assert_eq!(copied, Err(Errno(libc::EINVAL)));
            return Ok(());
        }
        prop_assert_eq!(copied? as usize, length);
        if length > 0
            && let Some(model) = self.model.get_mut(&to)
        {
            model.resize(model.len().max(target + length), 0);
            model[target..target + length].copy_from_slice(&data);
        }
        Ok(())
    }

    /// No byte that is not zero lies in a hole, and data and holes take turns to the end.
    async fn seek(&self, name: usize, offset: u64) -> Result<(), TestCaseError> {
        let (Some(handle), Some(model)) = (self.handles.get(&name), self.model.get(&name)) else {
            return Ok(());
        };
        let none = Err(Errno(libc::ENXIO));
        let size = model.len() as u64;
        let data = self.fs.seek(*handle, offset, SeekTarget::Data).await;
        let hole = self.fs.seek(*handle, offset, SeekTarget::Hole).await;
        if offset >= size {
            prop_assert_eq!((data, hole), (none, none));
            return Ok(());
        }
        let hole = hole?;
        prop_assert!((offset..=size).contains(&hole));
        let next = match data {
            Ok(next) => next,
            errno => {
                prop_assert_eq!(errno, none);
                size
            }
        };
        prop_assert!(next >= offset && (next == offset) == (hole > offset) || next == size);
        let skipped = &model[offset as usize..next as usize];
        prop_assert!(
            skipped.iter().all(|byte| *byte == 0),
            "data skipped at {offset}"
        );
        if hole < size {
            let behind = match self.fs.seek(*handle, hole, SeekTarget::Data).await {
                Ok(behind) => behind,
                Err(_) => size,
            };
            prop_assert!(behind > hole, "a hole is no data");
            let hole = &model[hole as usize..behind as usize];
            prop_assert!(hole.iter().all(|byte| *byte == 0), "data in a hole");
        }
        Ok(())
    }

    async fn truncate(&mut self, name: usize, size: u64) -> Result<(), TestCaseError> {
        let Some(model) = self.model.get_mut(&name) else {
            return Ok(());
        };
        let inode = support::inode_of(&self.fs, NAMES[name]).await;
        let change = SetAttributesRequest {
            size_bytes: Some(size),
            ..SetAttributesRequest::default()
        };
        self.fs.set_attributes(inode, change).await?;
        model.resize(size as usize, 0);
        Ok(())
    }

    async fn reopen(&mut self, name: usize) -> Result<(), TestCaseError> {
        if let Some(handle) = self.handles.remove(&name) {
            self.fs.release(handle).await;
        }
        if self.model.contains_key(&name) {
            let inode = support::inode_of(&self.fs, NAMES[name]).await;
            let opened = self
                .fs
                .open(
                    inode,
                    OpenRequest {
                        flags: libc::O_RDWR,
                        clear_set_id: false,
                    },
                )
                .await?;
            self.handles.insert(name, opened.handle);
        }
        Ok(())
    }

    async fn unlink(&mut self, name: usize) -> Result<(), TestCaseError> {
        let outcome = self.fs.unlink(InodeId::ROOT, NAMES[name]).await;
        prop_assert_eq!(outcome.is_ok(), self.model.remove(&name).is_some());
        if let Some(handle) = self.handles.remove(&name) {
            self.fs.release(handle).await;
        }
        Ok(())
    }

    async fn rename(&mut self, from: usize, to: usize) -> Result<(), TestCaseError> {
        let outcome = self
            .fs
            .rename(
                (InodeId::ROOT, NAMES[from]),
                (InodeId::ROOT, NAMES[to]),
                RenameMode::Replace,
            )
            .await;
        prop_assert_eq!(outcome.is_ok(), self.model.contains_key(&from));
        if outcome.is_ok() && from != to {
            let content = self.model.remove(&from).unwrap_or_default();
            self.model.insert(to, content);
            if let Some(replaced) = self.handles.remove(&to) {
                self.fs.release(replaced).await;
            }
            if let Some(handle) = self.handles.remove(&from) {
                self.handles.insert(to, handle);
            }
        }
        Ok(())
    }

    async fn stat(&self, name: usize) -> Result<(), TestCaseError> {
        let entry = self.fs.lookup(InodeId::ROOT, NAMES[name]).await?.value;
        let size = entry.attributes.map(|attributes| attributes.size_bytes);
        prop_assert_eq!(
            size,
            self.model.get(&name).map(|content| content.len() as u64)
        );
        Ok(())
    }

    /// Everything closed and read once more through fresh handles; then all removed.
    async fn finish(mut self) -> Result<(), TestCaseError> {
        for name in 0..NAMES.len() {
            self.reopen(name).await?;
            self.read(name, 0, FILE_BYTES_MAX as u32 * 2).await?;
            self.stat(name).await?;
        }
        for name in 0..NAMES.len() {
            self.unlink(name).await?;
        }
        let gauges = self.fs.gauges();
        prop_assert_eq!(
            (gauges.handles, gauges.write_bytes, gauges.read_bytes),
            (0, 0, 0)
        );
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn files_hold_what_byte_vectors_would(steps in prop::collection::vec(step(), 1..120)) {
        support::runtime().block_on(async {
            let job = support::Job::start(BLOCK_BYTES).await;
            let mut world = World {
                fs: job.mount().await,
                handles: BTreeMap::new(),
                model: BTreeMap::new(),
            };
            for step in steps {
                world.apply(step).await?;
            }
            world.finish().await?;
            job.assert_all_space_returned().await;
            Ok::<(), TestCaseError>(())
        })?;
    }
}
