//! The `pocket` program: one module per command.

mod controller;
mod get;
mod job;
mod jobs;
mod ls;
mod meta;
mod node;
mod nodes;
mod plan;
mod put;
mod rm;
mod simulate;
mod status;
mod storage;
mod top;
mod up;

mod control;
mod object;
mod server;
mod tiers;

use std::{ffi::OsString, process::ExitCode};

use clap::{ArgAction, Parser, Subcommand};

use crate::{
    bench::{self, BenchArgs},
    logging::{Log, Verbosity},
    sentence::sentence,
};

const EXAMPLES: &str = "\
Examples:
  pocket up --storage-servers 2 --capacity 4GiB
      A cluster of processes on this machine, until Ctrl-C; prints how to mount a job.

  pocket up --autoscale --min 2 --max 8 --capacity 1GiB
      The same, with as many storage servers as the jobs need.

  pocket controller --listen 0.0.0.0:7300
  pocket meta --controller 10.0.0.5:7300 --advertise 10.0.0.6
  pocket storage --controller 10.0.0.5:7300 --capacity 100GiB --advertise 10.0.0.7
      The same over machines, one command each. All share POCKET_CLUSTER_KEY.

  pocket put sort-42/in/part-0 part-0 && pocket get sort-42/in/part-0 copy
      Files of a job without a mount.

  pocket plan --max-tasks 100 --latency-sensitive=false
      What a job with these hints would get and cost, beside what other hints would.

  pocket top
      Servers, tiers, jobs and rates, live; q ends, n u r c sort.

  pocket jobs --json
      What runs, for programs. Every command that reads takes --json.

The cluster is named by --controller or POCKET_CONTROLLER; 127.0.0.1:7300 otherwise.";

/// Pocket: an elastic, distributed /tmp for jobs.
#[derive(Debug, Parser)]
#[command(name = "pocket", version, after_help = EXAMPLES, max_term_width = 100)]
struct Program {
    /// Log more; twice for every request
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::UpArguments),
    Controller(controller::ControllerArguments),
    Meta(meta::MetaArguments),
    Storage(storage::StorageArguments),
    Status(status::StatusArguments),
    Top(top::TopArguments),
    Nodes(nodes::NodesArguments),
    Node(node::NodeArguments),
    Jobs(jobs::JobsArguments),
    Job(job::JobArguments),
    Put(put::PutArguments),
    Get(get::GetArguments),
    Ls(ls::LsArguments),
    Rm(rm::RmArguments),
    Plan(plan::PlanArguments),
    Simulate(simulate::SimulateArguments),
    Bench(BenchArgs),
}

/// Runs the command line, the program's name first, and says with what to exit: 0, 1 for a failure
/// (explained on standard error) or 2 for wrong usage.
pub fn run_pocket(arguments: Vec<OsString>) -> ExitCode {
    let program = match Program::try_parse_from(arguments) {
        Ok(program) => program,
        Err(error) => {
            // Help goes to standard output, mistakes to standard error; if neither can be
            // written to there is nobody to tell.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match program.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pocket: {}", sentence(&error));
            ExitCode::FAILURE
        }
    }
}

impl Program {
    fn run(self) -> anyhow::Result<()> {
        let usual = match self.command {
            Command::Controller(_) | Command::Meta(_) | Command::Storage(_) => {
                Verbosity::Information
            }
            _ => Verbosity::Warnings,
        };
        let log = Log::start(usual, self.verbose)?;
        match self.command {
            Command::Up(arguments) => arguments.run(),
            Command::Controller(arguments) => arguments.run(log),
            Command::Meta(arguments) => arguments.run(log),
            Command::Storage(arguments) => arguments.run(log),
            Command::Status(arguments) => arguments.run(),
            Command::Top(arguments) => arguments.run(),
            Command::Nodes(arguments) => arguments.run(),
            Command::Node(arguments) => arguments.run(),
            Command::Jobs(arguments) => arguments.run(),
            Command::Job(arguments) => arguments.run(),
            Command::Put(arguments) => arguments.run(),
            Command::Get(arguments) => arguments.run(),
            Command::Ls(arguments) => arguments.run(),
            Command::Rm(arguments) => arguments.run(),
            Command::Plan(arguments) => arguments.run(),
            Command::Simulate(arguments) => arguments.run(),
            Command::Bench(arguments) => bench::run(arguments),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Program::command().debug_assert();
    }
}
