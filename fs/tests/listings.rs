//! Directories listed again and again: what is answered without asking, and what ends that.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use pocket_fs::RenameMode;
use pocket_proto::InodeId;
use support::{Client, Job, Op, name, runtime};

/// A directory that another mount changed within this time is not leased to who lists it.
const QUIET: Duration = Duration::from_secs(3);

/// Names of a directory, and where they lead.
type Names = BTreeMap<Vec<u8>, InodeId>;

/// Lets the server's clock go on while nothing changes.
async fn rest() {
    tokio::time::pause();
    tokio::time::advance(QUIET).await;
    tokio::time::resume();
}

async fn list(mount: &Client, directory: InodeId, with_attributes: bool) -> Names {
    let handle = mount.fs.open_directory(directory);
    let mut names = Names::new();
    let mut cookie = 0;
    loop {
        let page = mount.fs.read_directory(handle, cookie, with_attributes);
        let page = page.await.expect("listed");
        let before = cookie;
        mount.fs.hand_over_page(&page, |entries, _, _| {
            for listed in entries {
                cookie = listed.cookie;
                let before = names.insert(listed.name.to_vec(), InodeId(listed.inode));
                assert_eq!(before, None, "{:?} came twice", listed.name);
            }
        });
        if cookie == before {
            break;
        }
    }
    mount.fs.release_directory(handle).await;
    names
}

/// Lists, and tells how often that asked the server.
async fn list_counted(mount: &Client, directory: InodeId, with_attributes: bool) -> (Names, usize) {
    mount.tap.forget();
    let names = list(mount, directory, with_attributes).await;
    (
        names,
        mount.tap.count(|op| matches!(op, Op::ReadDirectory(_))),
    )
}

#[test]
fn a_directory_listed_again_asks_nobody() {
    runtime().block_on(async {
        let job = Job::start(4096).await;
        let (maker, reader) = (Client::cold(&job).await, Client::cold(&job).await);
        let directory = maker.mkdir(InodeId::ROOT, b"d").await.unwrap();
        for number in 0..600 {
            maker.symlink(directory, &name('l', number)).await;
        }
        rest().await;
        for mount in [&reader, &maker] {
            for with_attributes in [true, false] {
                let (first, _) = list_counted(mount, directory, with_attributes).await;
                assert_eq!(first.len(), 602);
                let again = list_counted(mount, directory, with_attributes).await;
                assert_eq!(again, (first, 0), "with attributes: {with_attributes}");
            }
        }
    });
}

#[test]
fn a_name_changed_anywhere_is_in_the_next_listing() {
    runtime().block_on(async {
        let job = Job::start(4096).await;
        let (one, other) = (Client::cold(&job).await, Client::cold(&job).await);
        let directory = one.mkdir(InodeId::ROOT, b"d").await.unwrap();
        let above = one.mkdir(InodeId::ROOT, b"above").await.unwrap();
        one.symlink(directory, b"first").await;
        for (changing, watching) in [(&one, &other), (&other, &one), (&one, &one)] {
            rest().await;
            let before = list(watching, directory, true).await;
            changing.symlink(directory, b"new").await;
            let added = list(watching, directory, true).await;
            assert_eq!(added.len(), before.len() + 1);

            let (from, to) = ((directory, &b"new"[..]), (directory, &b"moved"[..]));
            let renamed = changing.fs.rename(from, to, RenameMode::Replace);
            renamed.await.unwrap();
            let renamed = list(watching, directory, true).await;
            assert!(renamed.contains_key(&b"moved"[..]) && !renamed.contains_key(&b"new"[..]));

            let removed = changing.fs.unlink(directory, b"moved");
            removed.await.unwrap();
            assert_eq!(list(watching, directory, true).await, before);

            let (from, to) = ((InodeId::ROOT, &b"d"[..]), (above, &b"d"[..]));
            let moved = changing.fs.rename(from, to, RenameMode::Replace);
            moved.await.unwrap();
            assert_eq!(list(watching, directory, true).await[&b".."[..]], above);
            let back = changing.fs.rename(to, from, RenameMode::Replace);
            back.await.unwrap();
            let home = list(watching, directory, true).await;
            assert_eq!(home[&b".."[..]], InodeId::ROOT);
        }
    });
}

/// Names that are made one after the other are recalled from who has listed the directory once,
/// not each.
#[test]
fn a_listing_is_recalled_once() {
    runtime().block_on(async {
        let job = Job::start(4096).await;
        let (maker, reader) = (Client::cold(&job).await, Client::cold(&job).await);
        let directory = maker.mkdir(InodeId::ROOT, b"d").await.unwrap();
        rest().await;
        list(&reader, directory, false).await;
        assert_eq!(list_counted(&reader, directory, false).await.1, 0);
        for number in 0..50 {
            maker.symlink(directory, &name('l', number)).await;
        }
        let recalls = reader.tap.recalls();
        assert!(recalls <= 2, "{recalls} recalls for one listing");
        assert_eq!(list(&reader, directory, false).await.len(), 52);
    });
}
