//! `pocket ls`: the names in a directory of a job.

use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use pocket_fs::FileSystem;
use pocket_proto::{
    ByteCount, InodeId,
    session::{Attributes, FileKind},
};
use serde::Serialize;

use super::object::ObjectArguments;
use crate::{
    connection::JobConnection,
    object::{ObjectPath, show_name},
    output::{self, Column},
    runtime::block_on,
    units::show_time,
};

/// List a directory of a job, or show one object
#[derive(Args, Debug)]
pub(super) struct LsArguments {
    /// What to list
    #[arg(value_name = "JOB[/PATH]")]
    path: ObjectPath,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    object: ObjectArguments,
}

/// A name and what is behind it.
#[derive(Debug, Serialize)]
struct ObjectView {
    name: String,
    /// Hexadecimal, where the name is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    name_bytes: Option<String>,
    kind: &'static str,
    mode: u32,
    link_count: u32,
    uid: u32,
    gid: u32,
    size_bytes: u64,
    allocated_bytes: u64,
    modified_seconds: i64,
    inode: u64,
}

const COLUMNS: [Column; 4] = [
    Column::Text("MODE"),
    Column::Figure("SIZE"),
    Column::Text("MODIFIED (UTC)"),
    Column::Text("NAME"),
];

impl LsArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut objects = block_on(async {
            let work = async |connection: &JobConnection| list(connection.fs(), &self.path).await;
            self.object.join(&self.path.job, work).await
        })?;
        objects.sort_by(|a, b| a.name.cmp(&b.name));
        if self.json {
            return output::json(&objects);
        }
        let mut table = output::table(&COLUMNS);
        table.add_rows(objects.iter().map(ObjectView::row));
        Ok(output::print_table(&table)?)
    }
}

async fn list(fs: &Arc<FileSystem>, path: &ObjectPath) -> anyhow::Result<Vec<ObjectView>> {
    let cannot = || format!("cannot list {path}");
    let entry = fs.walk(&path.path).await.with_context(cannot)?;
    let attributes = entry.attributes.with_context(cannot)?;
    if attributes.kind() != FileKind::Directory {
        return Ok(vec![ObjectView::new(
            path.name().unwrap_or_default(),
            &attributes,
        )]);
    }
    let mut objects = Vec::new();
    let read = fs.scan_directory(InodeId(attributes.inode), true, |entry| {
        let attributes = entry
            .entry
            .as_ref()
            .and_then(|entry| entry.attributes.as_ref());
        if let (Some(attributes), false) = (attributes, matches!(&entry.name[..], b"." | b"..")) {
            objects.push(ObjectView::new(&entry.name, attributes));
        }
        true
    });
    read.await.with_context(cannot)?;
    Ok(objects)
}

impl ObjectView {
    fn new(name: &[u8], attributes: &Attributes) -> Self {
        let hexadecimal = || name.iter().map(|byte| format!("{byte:02x}")).collect();
        ObjectView {
            name: show_name(name),
            name_bytes: std::str::from_utf8(name).is_err().then(hexadecimal),
            kind: kind_name(attributes.kind()),
            mode: attributes.mode,
            link_count: attributes.link_count,
            uid: attributes.uid,
            gid: attributes.gid,
            size_bytes: attributes.size_bytes,
            allocated_bytes: attributes.allocated_bytes,
            modified_seconds: attributes.modified.map_or(0, |time| time.seconds),
            inode: attributes.inode,
        }
    }

    fn row(&self) -> [String; 4] {
        [
            format!("{}{}", kind_letter(self.kind), permissions(self.mode)),
            match self.kind {
                "file" => ByteCount(self.size_bytes).to_string(),
                _ => "-".to_owned(),
            },
            show_time(self.modified_seconds),
            self.name.clone(),
        ]
    }
}

fn kind_name(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Unspecified => "unknown",
        FileKind::Regular => "file",
        FileKind::Directory => "directory",
        FileKind::Symlink => "symlink",
        FileKind::Fifo => "fifo",
        FileKind::Socket => "socket",
        FileKind::CharacterDevice => "character-device",
        FileKind::BlockDevice => "block-device",
    }
}

/// As ls(1) shows it.
fn kind_letter(kind: &str) -> char {
    match kind {
        "file" => '-',
        "directory" => 'd',
        "symlink" => 'l',
        "fifo" => 'p',
        "socket" => 's',
        "character-device" => 'c',
        "block-device" => 'b',
        _ => '?',
    }
}

/// "rwxr-xr-x", with s and t where ls(1) has them.
fn permissions(mode: u32) -> String {
    let mut shown: Vec<char> = "rwxrwxrwx".chars().collect();
    for (at, letter) in shown.iter_mut().enumerate() {
        if mode & (0o400 >> at) == 0 {
            *letter = '-';
        }
    }
    for (bit, at, set) in [(0o4000, 2, 's'), (0o2000, 5, 's'), (0o1000, 8, 't')] {
        if mode & bit != 0 {
            shown[at] = if shown[at] == 'x' {
                set
            } else {
                set.to_ascii_uppercase()
            };
        }
    }
    shown.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_read_as_in_ls() {
        for (mode, shown) in [
            (0o644, "rw-r--r--"),
            (0o1777, "rwxrwxrwt"),
            (0o4755, "rwsr-xr-x"),
            (0o2644, "rw-r-Sr--"),
            (0, "---------"),
        ] {
            assert_eq!(permissions(mode), shown);
        }
    }

    #[test]
    fn names_that_are_no_text_keep_their_bytes_in_json() {
        let view = ObjectView::new(b"a\xff", &Attributes::default());
        assert_eq!(view.name, "a\\xff");
        assert_eq!(view.name_bytes.as_deref(), Some("61ff"));
        let view = ObjectView::new("ä".as_bytes(), &Attributes::default());
        assert_eq!((view.name.as_str(), view.name_bytes), ("ä", None));
    }
}
