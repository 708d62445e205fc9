//! What a session may ask for: one file per operation, named as on the client's side.
//!
//! An operation is attempted under the job's lock. It looks at how things are, settles with other
//! sessions ([`Context::recall`]), and then changes everything in one go. Where it has to wait it
//! says for what ([`Step`]) and is attempted again from the start; what it has already done is in
//! its [`Progress`].

mod ahead;
mod close;
mod commit;
mod create;
mod create_temporary;
mod entry;
mod file_system_status;
mod get_attributes;
mod grant_inodes;
mod grant_space;
mod link;
mod lock;
mod lookup;
mod make_node;
mod open;
mod read_directory;
mod read_link;
mod relocate;
mod remove;
mod remove_tree;
mod remove_victims;
mod rename;
mod reserve_append;
mod session;
mod set_attributes;
mod truncate;
mod weight_map;
mod xattr;

use pocket_proto::session::{Done, Entry, reply, request};
use pocket_proto::{Failure, InodeId, SessionId, Status};
use tokio::sync::watch;

pub(crate) use ahead::{Answered, of as answered_ahead};

pub(crate) use remove_victims::Victim;

use crate::growth::Given;
use crate::job::{Awaited, Job, JobState, Move, Truncated, Truncation};
use crate::leases::Object;
use crate::now::Now;

/// How far an attempt came.
#[derive(Debug)]
pub(crate) enum Step {
    /// It is done; this is the answer.
    Done(reply::Result),
    /// Others have to let go of leases first.
    Recall(Vec<Awaited>),
    /// Storage servers have to drop blocks.
    Truncate(Truncation),
    /// Others who recall the same names, or move blocks, have to be done first.
    AwaitUnmarked(watch::Receiver<u64>),
    /// Others who cut the file have to be done first.
    AwaitCut(InodeId),
    /// Deletions under way may make room.
    AwaitRoom,
    /// The controller may give the job more.
    AwaitGrowth(Given),
    /// A block has to be moved first.
    Move(Move),
}

/// What earlier attempts have done.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Objects marked as being recalled.
    pub(crate) held: Vec<Object>,
    /// The open that is counted already.
    pub(crate) opened: Option<CountedOpen>,
    /// Blocks that were dropped.
    pub(crate) truncated: Option<Truncated>,
    /// What became of the block that was to be moved.
    pub(crate) moved: Option<Result<(), Failure>>,
    /// Room has been waited for.
    pub(crate) awaited_room: bool,
    /// Other inodes that were changed: they go with the answer.
    pub(crate) changed: Vec<Entry>,
}

/// An open that is counted but not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CountedOpen {
    pub(crate) inode: InodeId,
    pub(crate) write: bool,
}

/// An attempt's surroundings.
pub(crate) struct Context<'a> {
    pub(crate) job: &'a Job,
    pub(crate) state: &'a mut JobState,
    /// Who asks.
    pub(crate) session: SessionId,
    /// Nobody hears the answer.
    pub(crate) one_way: bool,
    /// The mount has answered it already.
    pub(crate) ahead: Option<Answered>,
    pub(crate) progress: &'a mut Progress,
    pub(crate) now: Now,
}

/// Attempts an operation.
pub(crate) fn attempt(
    context: &mut Context<'_>,
    operation: &request::Operation,
) -> Result<Step, Failure> {
    use request::Operation as O;
    if let Some(ahead) = ahead::of(operation) {
        context.begin_ahead(ahead, operation)?;
    }
    match operation {
        O::Lookup(request) => lookup::lookup(context, request),
        O::GetAttributes(request) => get_attributes::get_attributes(context, request),
        O::SetAttributes(request) => set_attributes::set_attributes(context, request),
        O::Create(request) => create::create(context, request),
        O::CreateTemporary(request) => create_temporary::create_temporary(context, request),
        O::MakeNode(request) => make_node::make_node(context, request),
        O::Link(request) => link::link(context, request),
        O::Rename(request) => rename::rename(context, request),
        O::Remove(request) => remove::remove(context, request),
        O::RemoveTree(request) => remove_tree::remove_tree(context, request),
        O::GetRemoval(request) => remove_tree::get_removal(context, request),
        O::ReadLink(request) => read_link::read_link(context, request),
        O::Open(request) => open::open(context, request),
        O::Close(request) => close::close(context, request),
        O::ReadDirectory(request) => read_directory::read_directory(context, request),
        O::SetXattr(request) => xattr::set_xattr(context, request),
        O::GetXattr(request) => xattr::get_xattr(context, request),
        O::ListXattr(request) => xattr::list_xattr(context, request),
        O::RemoveXattr(request) => xattr::remove_xattr(context, request),
        O::FileSystemStatus(_) => file_system_status::file_system_status(context),
        O::GrantSpace(request) => grant_space::grant_space(context, request),
        O::Commit(request) => commit::commit(context, request),
        O::ReserveAppend(request) => reserve_append::reserve_append(context, request),
        O::ReturnAppend(request) => reserve_append::return_append(context, request),
        O::Relocate(request) => relocate::relocate(context, request),
        O::GetWeightMap(request) => weight_map::get_weight_map(context, request),
        O::RecallDone(request) => session::recall_done(context, request),
        O::SetLock(request) => lock::set_lock(context, request),
        O::GetLock(request) => lock::get_lock(context, request),
        O::ReleaseLocks(request) => lock::release_locks(context, request),
        O::CancelLock(request) => lock::cancel_lock(context, request),
        O::KeepAlive(_) => Ok(done()),
        O::Goodbye(_) => session::goodbye(context),
        O::GrantInodes(request) => grant_inodes::grant_inodes(context, request),
        O::ShareDirectory(request) => session::share_directory(context, request),
    }
}

/// The answer of operations that have nothing to say.
fn done() -> Step {
    Step::Done(reply::Result::Done(Done {}))
}

fn malformed(what: impl Into<String>) -> Failure {
    Failure::new(Status::Malformed, what)
}
