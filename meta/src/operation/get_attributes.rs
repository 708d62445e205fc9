//! An inode's attributes.

use pocket_proto::session::{GetAttributes, reply};
use pocket_proto::{Failure, InodeId};

use super::{Context, Step};

pub(super) fn get_attributes(
    context: &mut Context<'_>,
    request: &GetAttributes,
) -> Result<Step, Failure> {
    let entry = context.entry(InodeId(request.inode))?;
    Ok(Step::Done(reply::Result::Entry(entry)))
}
