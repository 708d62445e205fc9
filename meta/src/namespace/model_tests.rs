//! Random operations on a namespace and on a naive model of paths have the same outcome.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use pocket_proto::{InodeId, Status};
use proptest::prelude::*;

use super::{Content, File, Namespace, NewInode, RenameMode};
use crate::now::Timestamp;

type Path = Vec<u8>;

/// Every path there is, and what it leads to.
#[derive(Debug, Default)]
struct Model {
    paths: BTreeMap<Path, Node>,
    next: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Node {
    id: u64,
    directory: bool,
}

impl Model {
    fn get(&self, path: &[u8]) -> Option<Node> {
        match path {
            [] => Some(Node {
                id: 0,
                directory: true,
            }),
            _ => self.paths.get(path).copied(),
        }
    }

    fn has_children(&self, path: &[u8]) -> bool {
        self.paths
            .keys()
            .any(|key| key.len() > path.len() && key.starts_with(path))
    }

    fn make(&mut self, path: &[u8], directory: bool) -> Result<(), Status> {
        if self.get(path).is_some() {
            return Err(Status::Exists);
        }
        self.next += 1;
        let id = self.next;
        self.paths.insert(path.to_vec(), Node { id, directory });
        Ok(())
    }

    fn link(&mut self, from: Node, path: &[u8]) -> Result<(), Status> {
        if from.directory {
            return Err(Status::NotPermitted);
        }
        if self.get(path).is_some() {
            return Err(Status::Exists);
        }
        self.paths.insert(path.to_vec(), from);
        Ok(())
    }

    fn remove(&mut self, path: &[u8], directory: bool) -> Result<(), Status> {
        let node = self.get(path).ok_or(Status::NotFound)?;
        match (node.directory, directory) {
            (true, false) => Err(Status::IsDirectory),
            (false, true) => Err(Status::NotDirectory),
            (true, true) if self.has_children(path) => Err(Status::NotEmpty),
            _ => {
                self.paths.remove(path);
                Ok(())
            }
        }
    }

    fn rename(&mut self, old: &[u8], new: &[u8], mode: RenameMode) -> Result<(), Status> {
        let moved = self.get(old).ok_or(Status::NotFound)?;
        let target = self.get(new);
        match (mode, target) {
            (RenameMode::NoReplace, Some(_)) => return Err(Status::Exists),
            (RenameMode::Exchange, None) => return Err(Status::NotFound),
            (_, Some(target)) if target == moved => return Ok(()),
            _ => {}
        }
        if moved.directory && new.starts_with(old) {
            return Err(Status::Invalid);
        }
        if mode == RenameMode::Exchange {
            if old.starts_with(new) {
                return Err(Status::Invalid);
            }
            let (below_old, below_new) = (self.take(old), self.take(new));
            self.put(new, below_old);
            self.put(old, below_new);
            return Ok(());
        }
        match (moved.directory, target) {
            (true, Some(target)) if !target.directory => return Err(Status::NotDirectory),
            (true, Some(_)) if self.has_children(new) => return Err(Status::NotEmpty),
            (false, Some(target)) if target.directory => return Err(Status::IsDirectory),
            _ => {}
        }
        self.paths.remove(new);
        let below = self.take(old);
        self.put(new, below);
        Ok(())
    }

    /// Takes a path and everything below it out; keys become relative.
    fn take(&mut self, path: &[u8]) -> Vec<(Path, Node)> {
        let keys: Vec<_> = self.paths.keys().cloned().collect();
        let below = keys.into_iter().filter(|key| key.starts_with(path));
        let below: Vec<_> = below.collect();
        below
            .into_iter()
            .filter_map(|key| Some((key[path.len()..].to_vec(), self.paths.remove(&key)?)))
            .collect()
    }

    fn put(&mut self, path: &[u8], below: Vec<(Path, Node)>) {
        for (rest, node) in below {
            self.paths.insert([path, &rest].concat(), node);
        }
    }
}

#[derive(Clone, Debug)]
enum Action {
    Make(Path, bool),
    Link(Path, Path),
    Remove(Path, bool),
    Rename(Path, Path, RenameMode),
}

fn path() -> impl Strategy<Value = Path> {
    prop::collection::vec(prop::sample::select(b"abc".to_vec()), 1..4)
}

fn action() -> impl Strategy<Value = Action> {
    let mode = prop::sample::select(vec![
        RenameMode::Replace,
        RenameMode::NoReplace,
        RenameMode::Exchange,
    ]);
    prop_oneof![
        3 => (path(), any::<bool>()).prop_map(|(path, directory)| Action::Make(path, directory)),
        1 => (path(), path()).prop_map(|(from, to)| Action::Link(from, to)),
        2 => (path(), any::<bool>()).prop_map(|(path, directory)| Action::Remove(path, directory)),
        3 => (path(), path(), mode).prop_map(|(old, new, mode)| Action::Rename(old, new, mode)),
    ]
}

fn now() -> Timestamp {
    Timestamp::from_seconds(1)
}

fn resolve(namespace: &Namespace, path: &[u8]) -> Option<InodeId> {
    path.iter().try_fold(InodeId::ROOT, |at, name| {
        namespace.lookup(at, &[*name]).ok().flatten()
    })
}

/// The directory that would hold `path`, if there is one.
fn parent_of<'a>(namespace: &Namespace, path: &'a [u8]) -> Option<(InodeId, &'a [u8])> {
    let (name, parent) = path.split_last_chunk::<1>().map(|(p, n)| (n, p))?;
    let parent = resolve(namespace, parent)?;
    namespace.lookup(parent, b".").ok()?;
    Some((parent, name))
}

fn apply(namespace: &mut Namespace, model: &mut Model, action: &Action) {
    match action {
        Action::Make(path, directory) => {
            let Some((parent, name)) = parent_of(namespace, path) else {
                return;
            };
            let content = if *directory {
                NewInode::directory()
            } else {
                Content::File(File::default())
            };
            let new = NewInode {
                umask: 0,
                mode: 0o755,
                uid: 0,
                gid: 0,
                content,
            };
            let plan = namespace.plan_make(parent, name, &new, None);
            let result = plan.map(|plan| {
                namespace.make(&plan, new, now());
            });
            assert_eq!(result, model.make(path, *directory));
        }
        Action::Link(from, to) => {
            let (Some(inode), Some(node)) = (resolve(namespace, from), model.get(from)) else {
                return;
            };
            let Some((parent, name)) = parent_of(namespace, to) else {
                return;
            };
            let plan = namespace.plan_link(inode, parent, name);
            let result = plan.map(|plan| namespace.link(&plan, now()));
            assert_eq!(result, model.link(node, to));
        }
        Action::Remove(path, directory) => {
            let Some((parent, name)) = parent_of(namespace, path) else {
                return;
            };
            let plan = namespace.plan_remove(parent, name, *directory);
            let result = plan.map(|plan| {
                namespace.remove(&plan, now());
                namespace.forget(plan.inode);
            });
            assert_eq!(result, model.remove(path, *directory));
        }
        Action::Rename(old, new, mode) => {
            let (Some(from), Some(to)) = (parent_of(namespace, old), parent_of(namespace, new))
            else {
                return;
            };
            let plan = namespace.plan_rename(from, to, *mode);
            let result = plan.map(|plan| {
                namespace.rename(&plan, now());
                if let Some(replaced) = plan.replaced() {
                    namespace.forget(replaced);
                }
            });
            assert_eq!(result, model.rename(old, new, *mode), "{action:?}");
        }
    }
}

/// Every path of the namespace with its inode, by walking it.
fn walk(namespace: &Namespace, at: InodeId, path: &[u8], found: &mut BTreeMap<Path, InodeId>) {
    let (entries, end) = namespace.read_directory(at, 0, usize::MAX).unwrap();
    assert!(end);
    for entry in entries.into_iter().filter(|entry| !entry.is_dot()) {
        let below = [path, &entry.name].concat();
        if namespace.inode(entry.inode).unwrap().is_directory() {
            assert_eq!(namespace.lookup(entry.inode, b".."), Ok(Some(at)));
            walk(namespace, entry.inode, &below, found);
        }
        found.insert(below, entry.inode);
    }
}

fn compare(namespace: &Namespace, model: &Model) {
    let mut found = BTreeMap::new();
    walk(namespace, InodeId::ROOT, &[], &mut found);
    assert!(found.keys().eq(model.paths.keys()), "{found:?} {model:?}");
    let mut distinct: Vec<_> = found.values().collect();
    distinct.sort();
    distinct.dedup();
    assert_eq!(namespace.inode_count(), distinct.len() as u64 + 1);
    for (path, inode) in &found {
        let node = model.paths[path];
        let links = if node.directory {
            let below = model.paths.iter().filter(|(key, node)| {
                node.directory && key.len() == path.len() + 1 && key.starts_with(path)
            });
            2 + below.count()
        } else {
            model.paths.values().filter(|other| **other == node).count()
        };
        assert_eq!(namespace.inode(*inode).unwrap().link_count, links as u32);
        let names = namespace.names_of(*inode);
        let names: BTreeSet<_> = names.into_iter().collect();
        let led = found.iter().filter(|(_, other)| *other == inode);
        let led = led.map(|(path, _)| {
            let (name, above) = path.split_last().unwrap();
            let parent = found.get(above).copied().unwrap_or(InodeId::ROOT);
            (parent, Bytes::copy_from_slice(&[*name]))
        });
        assert_eq!(names, led.collect());
    }
}

proptest! {
    #[test]
    fn random_operations_do_what_a_map_of_paths_does(
        actions in prop::collection::vec(action(), 1..120)
    ) {
        let mut namespace = Namespace::new(now());
        let mut model = Model::default();
        for action in &actions {
            apply(&mut namespace, &mut model, action);
        }
        compare(&namespace, &model);
    }
}
