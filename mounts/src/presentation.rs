//! `-o uid=`, `gid=` and `umask=`: files shown with another owner and fewer permissions; `-o noac`:
//! shown anew each time.
//!
//! Attributes are changed on their way from the metadata server to this mount's file system core;
//! what the server keeps, and what other mounts see, stays as it is.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pocket_meta_client::{Answered, Metadata, SessionInfo};
use pocket_proto::{
    Failure,
    session::{Attributes, Entry, reply, request},
};

/// How files are shown; by default as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Presentation {
    /// Every file seems to belong to this user.
    pub uid: Option<u32>,
    /// Every file seems to belong to this group.
    pub gid: Option<u32>,
    /// Permission bits that no file seems to have.
    pub umask: Option<u32>,
    /// Names and attributes are as if nothing were leased: asked for each time.
    pub unleased: bool,
}

impl Presentation {
    /// `metadata`, seen through this; itself where nothing is to be shown differently.
    pub(crate) fn over(self, metadata: Arc<dyn Metadata>) -> Arc<dyn Metadata> {
        match self == Presentation::default() {
            true => metadata,
            false => Arc::new(Presented {
                metadata,
                presentation: self,
            }),
        }
    }

    /// Whether owners, groups and modes are shown as they are.
    pub(crate) fn shows_permissions(self) -> bool {
        self.uid.is_none() && self.gid.is_none() && self.umask.is_none()
    }

    fn optional(self, entry: &mut Option<Entry>) {
        if let Some(entry) = entry {
            self.entry(entry);
        }
    }

    fn entry(self, entry: &mut Entry) {
        // What the mount made there ahead of the server would not be shown as it is here.
        entry.exclusive = false;
        if self.unleased {
            entry.attributes_valid_ms = 0;
            entry.name_valid_ms = 0;
            entry.names = 0;
        }
        if let Some(attributes) = &mut entry.attributes {
            self.attributes(attributes);
        }
    }

    fn attributes(self, attributes: &mut Attributes) {
        attributes.uid = self.uid.unwrap_or(attributes.uid);
        attributes.gid = self.gid.unwrap_or(attributes.gid);
        attributes.mode &= !self.umask.unwrap_or(0);
    }

    fn result(self, result: &mut reply::Result) {
        match result {
            reply::Result::Entry(entry) => self.entry(entry),
            reply::Result::Opened(opened) => self.optional(&mut opened.entry),
            reply::Result::ReadDirectory(page) => {
                let entries = page.entries.iter_mut();
                entries.for_each(|named| self.optional(&mut named.entry));
                if self.unleased {
                    page.valid_ms = 0;
                }
            }
            reply::Result::Absent(absent) if self.unleased => absent.name_valid_ms = 0,
            // No attributes in these.
            reply::Result::Done(_)
            | reply::Result::ReadLink(_)
            | reply::Result::Xattr(_)
            | reply::Result::FileSystemStatus(_)
            | reply::Result::GrantSpace(_)
            | reply::Result::GrantInodes(_)
            | reply::Result::ReserveAppend(_)
            | reply::Result::Relocate(_)
            | reply::Result::WeightMap(_)
            | reply::Result::SetLock(_)
            | reply::Result::GetLock(_)
            | reply::Result::Removal(_)
            | reply::Result::Absent(_) => {}
        }
    }
}

/// A session whose answers are shown differently.
struct Presented {
    metadata: Arc<dyn Metadata>,
    presentation: Presentation,
}

#[async_trait]
impl Metadata for Presented {
    async fn call(&self, operation: request::Operation) -> Result<Answered, Failure> {
        let mut answered = self.metadata.call(operation).await?;
        self.presentation.result(&mut answered.result);
        for entry in &mut answered.changed {
            self.presentation.entry(entry);
        }
        Ok(answered)
    }

    fn tell(&self, operation: request::Operation) -> Result<(), Failure> {
        self.metadata.tell(operation)
    }

    fn tell_soon(&self, operation: request::Operation) -> Result<(), Failure> {
        self.metadata.tell_soon(operation)
    }

    fn flush(&self) {
        self.metadata.flush();
    }

    fn in_touch_for(&self) -> Duration {
        self.metadata.in_touch_for()
    }

    fn is_settled(&self) -> bool {
        self.metadata.is_settled()
    }

    fn newest_epoch(&self) -> u32 {
        self.metadata.newest_epoch()
    }

    fn session(&self) -> SessionInfo {
        self.metadata.session()
    }
}

#[cfg(test)]
mod tests {
    use pocket_proto::session::{Absent, DirectoryEntry, Opened, ReadDirectoryReply};

    use super::*;

    fn entry() -> Entry {
        Entry {
            attributes: Some(Attributes {
                mode: 0o4777,
                uid: 1,
                gid: 2,
                ..Attributes::default()
            }),
            ..Entry::default()
        }
    }

    fn shown(presentation: Presentation, mut result: reply::Result) -> (u32, u32, u32) {
        presentation.result(&mut result);
        let entry = match result {
            reply::Result::Entry(entry) => Some(entry),
            reply::Result::Opened(opened) => opened.entry,
            reply::Result::ReadDirectory(mut page) => page.entries.remove(1).entry,
            _ => None,
        };
        let attributes = entry.and_then(|entry| entry.attributes).unwrap();
        (attributes.uid, attributes.gid, attributes.mode)
    }

    #[test]
    fn every_answer_with_attributes_is_shown_differently() {
        let presentation = Presentation {
            uid: Some(7),
            gid: Some(8),
            umask: Some(0o27),
            unleased: false,
        };
        let dot = DirectoryEntry::default();
        let file = DirectoryEntry {
            entry: Some(entry()),
            ..DirectoryEntry::default()
        };
        for result in [
            reply::Result::Entry(entry()),
            reply::Result::Opened(Opened {
                entry: Some(entry()),
                mode: 0,
            }),
            reply::Result::ReadDirectory(ReadDirectoryReply {
                entries: vec![dot.clone(), file.clone()],
                end: true,
                valid_ms: 0,
            }),
        ] {
            assert_eq!(shown(presentation, result), (7, 8, 0o4750));
        }
    }

    #[test]
    fn nothing_is_leased_where_nothing_is_to_be_kept() {
        let presentation = Presentation {
            unleased: true,
            ..Presentation::default()
        };
        let mut found = reply::Result::Entry(Entry {
            attributes_valid_ms: 1000,
            name_valid_ms: 1000,
            exclusive: true,
            names: 3,
            ..entry()
        });
        presentation.result(&mut found);
        assert_eq!(found, reply::Result::Entry(entry()));
        let mut absent = reply::Result::Absent(Absent {
            name_valid_ms: 1000,
        });
        presentation.result(&mut absent);
        assert_eq!(absent, reply::Result::Absent(Absent::default()));
    }

    #[test]
    fn what_is_not_said_stays_as_it_is() {
        let presentation = Presentation {
            uid: Some(7),
            ..Presentation::default()
        };
        let result = reply::Result::Entry(entry());
        assert_eq!(shown(presentation, result), (7, 2, 0o4777));
    }
}
