//! What a mount does before it acknowledges a recall, and what it does unasked.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;
use pocket_fs::{KernelCache, WriteRequest};
use pocket_proto::InodeId;
use support::{Client, Job, runtime};

/// A kernel that cannot drop all names at once, and where an operation in the directory is under
/// way until the test ends it.
struct OldKernel {
    operation: Mutex<mpsc::Receiver<()>>,
    asked_for_all: AtomicBool,
}

impl KernelCache for OldKernel {
    fn drop_name(&self, _: InodeId, _: &[u8]) {
        let _ = self.operation.lock().unwrap().recv();
    }
    fn drop_attributes(&self, _: InodeId) {}
    fn drop_data(&self, _: InodeId) {}
    fn drop_listing(&self, _: InodeId) {}
    fn drop_all_names(&self) -> bool {
        self.asked_for_all.store(true, Ordering::Relaxed);
        false
    }
}

#[test]
fn a_name_that_an_older_kernel_drops_late_is_not_given_back_before() {
    runtime().block_on(async {
        let job = Job::start(4096).await;
        let (one, two) = (Client::cold(&job).await, Client::cold(&job).await);
        one.put(InodeId::ROOT, b"f", 0o644, b"").await.unwrap();
        two.look(InodeId::ROOT, b"f").await.unwrap();
        let (end, operation) = mpsc::channel();
        let kernel = Arc::new(OldKernel {
            operation: Mutex::new(operation),
            asked_for_all: AtomicBool::new(false),
        });
        two.fs.attach_kernel(kernel.clone());
        let fs = Arc::clone(&one.fs);
        let removing = tokio::spawn(async move { fs.unlink(InodeId::ROOT, b"f").await });
        while !kernel.asked_for_all.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        assert!(!removing.is_finished(), "the kernel still has the name");
        end.send(()).unwrap();
        removing.await.unwrap().unwrap();
        assert!(two.look(InodeId::ROOT, b"f").await.is_none());
    });
}

#[test]
fn what_is_written_is_on_the_servers_in_seconds_closed_or_not() {
    let paused = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    paused.unwrap().block_on(async {
        let job = Job::start(4096).await;
        let (one, two) = (Client::cold(&job).await, Client::cold(&job).await);
        let housekeeping = tokio::spawn(Arc::clone(&one.fs).run_housekeeping());
        let (inode, handle) = one.create(InodeId::ROOT, b"f", 0o644).await.unwrap();
        let data = Bytes::from_static(b"not closed");
        let write = WriteRequest::default();
        one.fs.write(handle, write, data).await.unwrap();
        assert_eq!(two.stat(inode).await.size_bytes, 0);
        let began = tokio::time::Instant::now();
        while two.stat(inode).await.size_bytes == 0 {
            tokio::time::advance(Duration::from_millis(100)).await;
            assert!(began.elapsed() < Duration::from_secs(10));
        }
        housekeeping.abort();
    });
}
