//! `pocket job show` and `pocket job deregister`.

use anyhow::bail;
use clap::{Args, Subcommand};
use pocket_proto::control::DeregisterJobRequest;

use super::control::ReadArguments;
use crate::{endpoint::ControllerArgument, output, runtime::block_on, view::JobView};

/// Show or end one job
#[derive(Args, Debug)]
pub(super) struct JobArguments {
    #[command(subcommand)]
    command: JobCommand,
}

#[derive(Debug, Subcommand)]
enum JobCommand {
    /// Show what a job was given, why, what it uses and costs; also of one that ended lately
    Show {
        /// The job's name
        #[arg(value_name = "JOB")]
        job: String,

        #[command(flatten)]
        read: ReadArguments,
    },
    /// End a job: its data are gone at once, and its mounts answer with errors
    Deregister {
        /// The job's name
        #[arg(value_name = "JOB")]
        job: String,

        #[command(flatten)]
        control: ControllerArgument,
    },
}

impl JobArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.command {
            JobCommand::Show { job, read } => show(&job, &read),
            JobCommand::Deregister { job, control } => deregister(&job, &control),
        }
    }
}

fn show(name: &str, read: &ReadArguments) -> anyhow::Result<()> {
    let found = block_on(async { Ok(read.connect()?.survey(name).await?) })?;
    let mut jobs = found.jobs.into_iter().chain(found.ended);
    let Some(job) = jobs.find(|job| job.name == name) else {
        bail!("there is no job '{name}' (pocket jobs lists those there are)");
    };
    let view = JobView::from(job);
    if read.json {
        return output::json(&view);
    }
    for (label, value) in view.details() {
        output::line(format_args!("{label:<17}{value}"))?;
    }
    Ok(())
}

fn deregister(name: &str, control: &ControllerArgument) -> anyhow::Result<()> {
    let request = DeregisterJobRequest {
        name: name.to_owned(),
        job: 0,
    };
    let existed = block_on(async { Ok(control.connect()?.deregister_job(request).await?) })?;
    match existed {
        true => Ok(output::line(format_args!(
            "job '{name}' has ended, its data are gone"
        ))?),
        false => bail!("there is no job '{name}' (pocket jobs lists those there are)"),
    }
}
