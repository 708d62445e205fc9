//! Where a block is, and another place for one whose server cannot take it.

use pocket_proto::session::{Relocate, RelocateReason, RelocateReply, StorageServer, reply};
use pocket_proto::{BlockIndex, Failure, InodeId, ServerId, Status};

use super::{Context, Step};
use crate::job::Move;
use crate::vouching::Debt;

/// The mount brings along what the block holds already; of a server that is gone it only gives up
/// blocks that it writes anew as a whole.
pub(super) fn relocate(context: &mut Context<'_>, request: &Relocate) -> Result<Step, Failure> {
    let (id, block) = (InodeId(request.inode), BlockIndex(request.block));
    if context.state.moving.contains(&(id, block)) {
        return Ok(context.await_moves());
    }
    if let Some(moved) = context.progress.moved.take() {
        moved?;
    }
    let state = &mut *context.state;
    let file = state.namespace.inode(id)?.file().ok_or(Status::Invalid)?;
    let now_on = state.layouts.server_of(id, file, block).cloned();
    match (&now_on, request.reason()) {
        // Someone else was faster.
        (Some(server), _) if server.server != request.failed_server => {
            return answer(context, id, server.clone());
        }
        (Some(server), RelocateReason::Ask) => return answer(context, id, server.clone()),
        (Some(from), RelocateReason::Sealed) => {
            let (inode, from) = (id, from.clone());
            return Ok(Step::Move(Move { inode, block, from }));
        }
        // Where it is said to be there is nobody any more, who left without the block: it is a hole.
        (None, _) | (Some(_), RelocateReason::Failed) => {}
    }
    let environment = &context.job.environment;
    let failed = ServerId(request.failed_server);
    let alive = |server: &StorageServer| environment.takes_blocks(server);
    let now = context.now.tick;
    let chosen = state.layouts.choose_other(id, block, failed, alive, now);
    if let Some(server) = chosen {
        let namespace = &mut state.namespace;
        namespace.relocate(id, block, ServerId(server.server))?;
        if let Some(from) = now_on.filter(|from| !environment.liveness.is_alive(from)) {
            let address = state.layouts.whole_block(id, block);
            let debt = Debt::Block(context.job.id, address);
            environment.vouching.note_debt(&from, debt);
        }
        return answer(context, id, server);
    }
    // What was deleted a moment ago makes room.
    state.drop_orphans(context.job);
    if !context.progress.awaited_room && environment.reaper.is_busy() {
        context.progress.awaited_room = true;
        return Ok(Step::AwaitRoom);
    }
    if context.progress.awaited_room {
        // Deletions made room, perhaps on the very server that failed.
        context.progress.awaited_room = false;
        state.layouts.forgive();
        let file = state.namespace.inode(id)?.file().ok_or(Status::Invalid)?;
        if let Some(server) = state.layouts.server_of(id, file, block).cloned()
            && environment.takes_blocks(&server)
        {
            return answer(context, id, server);
        }
    }
    Err(Failure::new(
        Status::NoSpace,
        format!("no storage server of the job has room for block {block}"),
    ))
}

fn answer(context: &mut Context<'_>, id: InodeId, server: StorageServer) -> Result<Step, Failure> {
    let file = context.state.namespace.inode(id)?.file();
    let layout = file.map(|file| context.state.layouts.layout(file));
    let reply = RelocateReply {
        layout,
        server: Some(server),
    };
    Ok(Step::Done(reply::Result::Relocate(reply)))
}
