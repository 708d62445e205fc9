//! Another place for a block whose server cannot take it.

use pocket_proto::session::{Relocate, RelocateReply, StorageServer, reply};
use pocket_proto::{BlockIndex, Failure, InodeId, ServerId, Status};

use super::{Context, Step};

/// The mount brings along what the block holds already; of a server that is gone it only gives up
/// blocks that it writes anew as a whole.
pub(super) fn relocate(context: &mut Context<'_>, request: &Relocate) -> Result<Step, Failure> {
    let (id, block) = (InodeId(request.inode), BlockIndex(request.block));
    let state = &mut *context.state;
    let file = state.namespace.inode(id)?.file().ok_or(Status::Invalid)?;
    let now_on = state.layouts.server_of(id, file, block).cloned();
    if let Some(server) = now_on
        && server.server != request.failed_server
    {
        // Someone else was faster.
        return answer(context, id, server);
    }
    let liveness = &context.job.environment.liveness;
    let failed = ServerId(request.failed_server);
    let alive = |server: &StorageServer| liveness.is_alive(server);
    let now = context.now.tick;
    let chosen = state.layouts.choose_other(id, block, failed, alive, now);
    if let Some(server) = chosen {
        let namespace = &mut state.namespace;
        namespace.relocate(id, block, ServerId(server.server))?;
        return answer(context, id, server);
    }
    // What was deleted a moment ago makes room.
    state.drop_orphans(context.job);
    if !context.progress.awaited_room && context.job.environment.reaper.is_busy() {
        context.progress.awaited_room = true;
        return Ok(Step::AwaitRoom);
    }
    if context.progress.awaited_room {
        // Deletions made room, perhaps on the very server that failed.
        context.progress.awaited_room = false;
        state.layouts.forgive();
        let file = state.namespace.inode(id)?.file().ok_or(Status::Invalid)?;
        if let Some(server) = state.layouts.server_of(id, file, block).cloned()
            && liveness.is_alive(&server)
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
