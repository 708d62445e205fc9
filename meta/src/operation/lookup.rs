//! What a name leads to.

use pocket_proto::session::{Absent, Lookup, reply};
use pocket_proto::{Failure, InodeId};

use super::{Context, Step};

pub(super) fn lookup(context: &mut Context<'_>, request: &Lookup) -> Result<Step, Failure> {
    let parent = InodeId(request.parent);
    if let Some(step) = context.share_directory(parent) {
        return Ok(step);
    }
    let found = context.state.namespace.lookup(parent, &request.name)?;
    Ok(Step::Done(match found {
        Some(inode) => reply::Result::Entry(context.named_entry(parent, &request.name, inode)?),
        None => reply::Result::Absent(Absent {
            name_valid_ms: context.lease_name(parent, &request.name),
        }),
    }))
}
