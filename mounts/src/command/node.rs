//! `pocket node drain` and `pocket node undrain`.

use std::time::Duration;

use clap::{Args, Subcommand};
use pocket_proto::control::DrainServerRequest;

use super::control::ControlArguments;
use crate::{output, runtime::block_on, units::parse_time};

/// Have a storage server leave the cluster, or stay
#[derive(Args, Debug)]
pub(super) struct NodeArguments {
    #[command(subcommand)]
    command: NodeCommand,
}

#[derive(Debug, Subcommand)]
enum NodeCommand {
    /// Place no new data on a storage server; it ends when it is empty
    Drain {
        /// Its address or id, as `pocket nodes` shows it
        #[arg(value_name = "SERVER")]
        server: String,

        /// Move what is still there to other servers after this time
        #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_time)]
        deadline: Duration,

        /// Move nothing: wait until the jobs that have data there end or delete them
        #[arg(long, conflicts_with = "deadline")]
        no_move: bool,

        /// Why, for those who look
        #[arg(long, value_name = "TEXT", default_value = "drained by hand")]
        reason: String,

        #[command(flatten)]
        control: ControlArguments,
    },
    /// Have a server that is being drained stay after all
    Undrain {
        /// Its address or id
        #[arg(value_name = "SERVER")]
        server: String,

        #[command(flatten)]
        control: ControlArguments,
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
                control,
            } => {
                let request = DrainServerRequest {
                    server,
                    undo: false,
                    reason,
                    deadline_seconds: (!no_move).then_some(deadline.as_secs()),
                };
                ask(request, &control)
            }
            NodeCommand::Undrain { server, control } => {
                let request = DrainServerRequest {
                    server,
                    undo: true,
                    ..DrainServerRequest::default()
                };
                ask(request, &control)
            }
        }
    }
}

fn ask(request: DrainServerRequest, control: &ControlArguments) -> anyhow::Result<()> {
    let reply = block_on(async { Ok(control.connect()?.drain_server(request).await?) })?;
    let endpoint = reply.endpoint;
    let sentence = match reply.leave {
        None => format!("storage server {endpoint} stays"),
        Some(leave) => match leave.deadline_seconds {
            Some(seconds) => format!(
                "storage server {endpoint} takes no new data and ends when it is empty; what is \
                 there after {seconds} s is moved (pocket nodes shows how far it is)"
            ),
            None => format!(
                "storage server {endpoint} takes no new data and ends when it is empty (pocket \
                 nodes shows how far it is)"
            ),
        },
    };
    Ok(output::line(format_args!("{sentence}"))?)
}
