//! lookup: a name to its inode.

use pocket_proto::InodeId;
use pocket_proto::session::{Entry, Lookup, reply, request};

use crate::filesystem::unexpected;
use crate::{Errno, FileSystem, Leased};

impl FileSystem {
    /// The entry of `name` in `parent`. An absent name is answered as an entry without
    /// attributes, whose name lease says for how long it may be remembered as absent.
    pub async fn lookup(&self, parent: InodeId, name: &[u8]) -> Result<Leased<Entry>, Errno> {
        let request = Lookup {
            parent: parent.0,
            name: name.to_vec().into(),
        };
        let answer = self.call(request::Operation::Lookup(request)).await?;
        answer.map(|result| match result {
            reply::Result::Entry(entry) => Ok(self.overlaid(entry)),
            reply::Result::Absent(absent) => Ok(Entry {
                name_valid_ms: absent.name_valid_ms,
                ..Entry::default()
            }),
            _ => Err(unexpected().into()),
        })
    }
}
