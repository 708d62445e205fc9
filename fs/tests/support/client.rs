//! A mount as a program sees it, and what is handed over as its kernel would be.

use std::sync::Arc;

use bytes::Bytes;
use pocket_fs::{
    Caller, CreateRequest, Errno, FileSystem, HandleId, Leased, NewNode, NodeRequest, OpenRequest,
    RecallInbox, SetAttributesRequest, WriteRequest,
};
use pocket_meta_client::{Metadata, SessionInfo};
use pocket_proto::InodeId;
use pocket_proto::session::{Attributes, Entry};

use super::tap::{Tap, Tapped};
use super::{Job, name};

pub(crate) const CALLER: Caller = Caller {
    uid: 1000,
    gid: 100,
};

/// Of programs; it takes nothing away where a directory has a default ACL.
const UMASK: u32 = 0o022;

/// A mount with a tap on its way to the server.
pub(crate) struct Client {
    pub(crate) fs: Arc<FileSystem>,
    pub(crate) tap: Arc<Tap>,
    pub(crate) inbox: Arc<RecallInbox>,
    pub(crate) info: SessionInfo,
}

impl Client {
    /// One that has asked for nothing yet.
    pub(crate) async fn cold(job: &Job) -> Self {
        let tap = Arc::new(Tap::default());
        let mut info = None;
        let way = |inner: pocket_meta::LocalMetadata| -> Arc<dyn Metadata> {
            info = Some(inner.session());
            let tap = Arc::clone(&tap);
            Arc::new(Tapped { inner, tap })
        };
        let (fs, inbox) = job.mount_and_inbox(way).await;
        let info = info.unwrap();
        Client {
            fs,
            tap,
            inbox,
            info,
        }
    }

    /// One that has inode numbers at hand: the first thing made in a directory of its own makes it
    /// ask for them.
    pub(crate) async fn warm(job: &Job) -> Self {
        let client = Client::cold(job).await;
        let first = client.mkdir(InodeId::ROOT, b"warm").await.unwrap();
        for number in 0..100 {
            client.symlink(first, &name('a', number)).await;
            tokio::task::yield_now().await;
        }
        client
    }

    pub(crate) async fn make(
        &self,
        parent: InodeId,
        name: &[u8],
        node: NewNode<'_>,
        mode: u32,
    ) -> Result<InodeId, Errno> {
        let node = NodeRequest {
            parent,
            name,
            node,
            mode,
            umask: UMASK,
            caller: CALLER,
        };
        let made = self.fs.make_node(node).await?;
        Ok(inode_of(&self.given(&made).unwrap()))
    }

    pub(crate) async fn mkdir(&self, parent: InodeId, name: &[u8]) -> Result<InodeId, Errno> {
        self.make(parent, name, NewNode::Directory, 0o755).await
    }

    pub(crate) async fn symlink(&self, parent: InodeId, name: &[u8]) {
        let link = NewNode::Symlink(b"target");
        self.make(parent, name, link, 0o777).await.unwrap();
    }

    pub(crate) async fn create(
        &self,
        parent: InodeId,
        name: &[u8],
        mode: u32,
    ) -> Result<(InodeId, HandleId), Errno> {
        let create = CreateRequest {
            parent,
            name,
            mode,
            umask: UMASK,
            flags: libc::O_RDWR | libc::O_CREAT,
            clear_set_id: false,
            caller: CALLER,
        };
        let made = self.fs.create(create).await?;
        Ok(self.fs.hand_over(&made, |(entry, opened), _| {
            (inode_of(&entry.attributes.unwrap()), opened.handle)
        }))
    }

    /// Writes at the start of an open file.
    pub(crate) async fn write(&self, handle: HandleId, content: &[u8]) -> Result<(), Errno> {
        let (write, data) = (WriteRequest::default(), Bytes::copy_from_slice(content));
        self.fs.write(handle, write, data).await.map(|_| ())
    }

    /// Creates a file, writes it and closes it.
    pub(crate) async fn put(
        &self,
        parent: InodeId,
        name: &[u8],
        mode: u32,
        content: &[u8],
    ) -> Result<InodeId, Errno> {
        let (inode, handle) = self.create(parent, name, mode).await?;
        if !content.is_empty() {
            self.write(handle, content).await?;
        }
        self.fs.flush(handle).await?;
        self.fs.release(handle).await;
        Ok(inode)
    }

    pub(crate) async fn open(&self, inode: InodeId, flags: i32) -> HandleId {
        let open = OpenRequest {
            flags,
            clear_set_id: false,
        };
        self.fs.open(inode, open).await.unwrap().handle
    }

    /// Opens a file, reads it and closes it.
    pub(crate) async fn read(&self, inode: InodeId) -> Bytes {
        let handle = self.open(inode, libc::O_RDONLY).await;
        let data = self.fs.read(handle, 0, 1 << 20).await.unwrap();
        self.fs.release(handle).await;
        data.into_bytes()
    }

    pub(crate) async fn look(&self, parent: InodeId, name: &[u8]) -> Option<Attributes> {
        let found = self.fs.lookup(parent, name).await.unwrap();
        self.given(&found)
    }

    pub(crate) async fn stat(&self, inode: InodeId) -> Attributes {
        let found = self.fs.get_attributes(inode).await.unwrap();
        self.given(&found).unwrap()
    }

    pub(crate) async fn change(&self, inode: InodeId, change: SetAttributesRequest) {
        let done = self.fs.set_attributes(inode, change).await.unwrap();
        self.given(&done);
    }

    pub(crate) async fn chmod(&self, inode: InodeId, mode: u32) {
        let change = SetAttributesRequest {
            mode: Some(mode),
            ..SetAttributesRequest::default()
        };
        self.change(inode, change).await;
    }

    fn given(&self, leased: &Leased<Entry>) -> Option<Attributes> {
        self.fs.hand_over_entry(leased, |entry, _| entry.attributes)
    }
}

fn inode_of(attributes: &Attributes) -> InodeId {
    InodeId(attributes.inode)
}
