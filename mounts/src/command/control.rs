//! What the commands that show what a controller knows have in common.

use clap::Args;
use pocket_controller_client::ControllerClient;

use crate::endpoint::ControllerArgument;

/// Which cluster is asked, and how the answer is shown.
#[derive(Args, Clone, Debug)]
pub(super) struct ReadArguments {
    #[command(flatten)]
    control: ControllerArgument,

    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl ReadArguments {
    /// A client; must be called within a runtime.
    pub(super) fn connect(&self) -> anyhow::Result<ControllerClient> {
        Ok(self.control.connect()?)
    }
}
