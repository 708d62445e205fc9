//! `pocket node drain` and `pocket node undrain`.

use std::time::Duration;

use clap::{Args, Subcommand};
use pocket_controller_client::ControllerClient;
use pocket_proto::control::{DrainServerReply, DrainServerRequest, ServerRole};

use crate::{
    endpoint::ControllerArgument, output, runtime::block_on, units::parse_time, view::jobs,
};

/// Time between two looks for a server that is to go.
const GONE_POLL: Duration = Duration::from_millis(200);
/// By then a new controller has heard of every server that lives (they register again within a few
/// seconds).
const CONTROLLER_SETTLES: Duration = Duration::from_secs(10);

/// Have a server leave the cluster, or stay
#[derive(Args, Debug)]
pub(super) struct NodeArguments {
    #[command(subcommand)]
    command: NodeCommand,
}

#[derive(Debug, Subcommand)]
enum NodeCommand {
    /// Place no new data on a storage server, or no new job on a metadata server; it ends when it is
    /// empty
    Drain {
        /// Its address or id, as `pocket nodes` shows it
        #[arg(value_name = "SERVER", env = "POCKET_SERVER")]
        server: String,

        /// Move blocks that are still there to other servers after this time. Jobs are not moved: a
        /// metadata server waits until they end
        #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_time)]
        deadline: Duration,

        /// Move nothing: wait until the jobs that have data there end or delete them
        #[arg(long, conflicts_with = "deadline")]
        no_move: bool,

        /// Why, for those who look
        #[arg(long, value_name = "TEXT", default_value = "drained by hand")]
        reason: String,

        /// Return when it has gone
        #[arg(long)]
        wait: bool,

        #[command(flatten)]
        control: ControllerArgument,
    },
    /// Have a server that is being drained stay after all
    Undrain {
        /// Its address or id
        #[arg(value_name = "SERVER")]
        server: String,

        #[command(flatten)]
        control: ControllerArgument,
    },
}

impl NodeArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.command {
            NodeCommand::Drain {
                server,
                deadline,
                no_move,
                reason,
                wait,
                control,
            } => {
                let request = DrainServerRequest {
                    server,
                    undo: false,
                    reason,
                    deadline_seconds: (!no_move).then_some(deadline.as_secs()),
                };
                ask(request, wait, &control)
            }
            NodeCommand::Undrain { server, control } => {
                let request = DrainServerRequest {
                    server,
                    undo: true,
                    ..DrainServerRequest::default()
                };
                ask(request, false, &control)
            }
        }
    }
}

fn ask(
    request: DrainServerRequest,
    wait: bool,
    control: &ControllerArgument,
) -> anyhow::Result<()> {
    let reply = block_on(async {
        let client = control.connect()?;
        let reply = client.drain_server(request).await?;
        if wait {
            gone(&client, reply.server).await;
        }
        Ok(reply)
    })?;
    let sentence = sentence(&reply, wait);
    Ok(output::line(format_args!("{sentence}"))?)
}

fn sentence(reply: &DrainServerReply, wait: bool) -> String {
    let endpoint = &reply.endpoint;
    let is_metadata = reply.role() == ServerRole::Metadata;
    let server = match is_metadata {
        true => format!("metadata server {endpoint}"),
        false => format!("storage server {endpoint}"),
    };
    match &reply.leave {
        _ if wait => format!("{server} has gone"),
        None => format!("{server} stays"),
        Some(_) if is_metadata => format!(
            "{server} takes no new jobs and ends when it has none, which is after {} (pocket nodes \
             shows how far it is)",
            jobs(reply.jobs)
        ),
        Some(leave) => match leave.deadline_seconds {
            Some(seconds) => format!(
                "{server} takes no new data and ends when it is empty; what is there after \
                 {seconds} s is moved (pocket nodes shows how far it is)"
            ),
            None => format!(
                "{server} takes no new data and ends when it is empty (pocket nodes shows how far \
                 it is)"
            ),
        },
    }
}

/// Waits until the controller knows no living server of this id. One that has just started knows
/// none at all, and is asked again, as is one that is away.
async fn gone(client: &ControllerClient, server: u64) {
    loop {
        tokio::time::sleep(GONE_POLL).await;
        let Ok(reply) = client.list_servers().await else {
            continue;
        };
        let settled = reply.uptime_seconds >= CONTROLLER_SETTLES.as_secs();
        let there = reply.servers.iter().any(|s| s.server == server && s.alive);
        if settled && !there {
            return;
        }
    }
}
