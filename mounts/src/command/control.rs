//! What the commands that ask a controller have in common.

use clap::Args;
use pocket_controller_client::ControllerClient;

use crate::endpoint::ControllerAddress;

/// Which cluster is asked.
#[derive(Args, Clone, Debug)]
pub(super) struct ControlArguments {
    /// The cluster's controller
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "POCKET_CONTROLLER",
        default_value = "127.0.0.1:7300"
    )]
    pub(super) controller: ControllerAddress,
}

/// Which cluster is asked, and how the answer is shown.
#[derive(Args, Clone, Debug)]
pub(super) struct ReadArguments {
    #[command(flatten)]
    control: ControlArguments,

    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl ControlArguments {
    /// A client; must be called within a runtime.
    pub(super) fn connect(&self) -> anyhow::Result<ControllerClient> {
        Ok(ControllerClient::connect(self.controller.as_str())?)
    }
}

impl ReadArguments {
    /// A client; must be called within a runtime.
    pub(super) fn connect(&self) -> anyhow::Result<ControllerClient> {
        self.control.connect()
    }
}
