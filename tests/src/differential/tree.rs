//! A whole tree as a value: what is compared now and then, and at the end.

use std::{collections::BTreeMap, fs, path::Path};

use super::outcome::{Attributes, Data};
use crate::syscall::{get_xattr, list_xattr};

/// Paths below a root, with what is there.
pub type Tree = BTreeMap<String, Node>;

/// One file, directory or link of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Node {
    pub attributes: Attributes,
    /// A file's contents or a symlink's target; why they cannot be read.
    pub contents: Option<Result<Data, String>>,
    pub xattrs: Vec<(String, Data)>,
}

/// Reads the tree below `root`.
pub(super) fn read(root: &Path, directory_links: bool) -> Tree {
    let mut tree = Tree::new();
    let mut pending = vec![String::new()];
    while let Some(folder) = pending.pop() {
        let entries = fs::read_dir(root.join(&folder));
        for entry in entries.into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = match folder.is_empty() {
                true => name,
                false => format!("{folder}/{name}"),
            };
            let full = root.join(&path);
            let Ok(status) = fs::symlink_metadata(&full) else {
                continue; // Its absence is the difference that the comparison will show.
            };
            if status.is_dir() {
                pending.push(path.clone());
            }
            let attributes = Attributes::of(&status, directory_links);
            let contents = contents(&full, &status);
            let xattrs = xattrs(&full);
            tree.insert(
                path,
                Node {
                    attributes,
                    contents,
                    xattrs,
                },
            );
        }
    }
    tree
}

fn contents(path: &Path, status: &fs::Metadata) -> Option<Result<Data, String>> {
    use std::os::unix::ffi::OsStrExt;
    let bytes = if status.is_file() {
        fs::read(path)
    } else if status.is_symlink() {
        fs::read_link(path).map(|target| target.as_os_str().as_bytes().to_vec())
    } else {
        return None;
    };
    Some(
        bytes
            .map(|bytes| Data::of(&bytes))
            .map_err(|error| error.to_string()),
    )
}

fn xattrs(path: &Path) -> Vec<(String, Data)> {
    let names = list_xattr(path).unwrap_or_default();
    let values = names.into_iter().map(|name| {
        let value = get_xattr(path, &name).unwrap_or_default();
        (name, Data::of(&value))
    });
    values.collect()
}
