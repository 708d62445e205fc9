//! The processes that do the measured work, and the crew that the benchmark commands.
//!
//! A worker is this very program, started again. It reads a task per line from its standard input and answers each
//! with a line. Workers are started before the clock runs and hold nothing open in a measured directory in between,
//! so that it can be mounted anew.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use serde::{Deserialize, Serialize};

use super::again::AgainTask;
use super::interrupt::Interrupt;
use super::objects::ObjectTask;
use super::random::RandomTask;
use super::scene::Phase;
use super::sequential::SequentialTask;
use super::shuffle::ShuffleTask;
use super::small_files::SmallFileTask;

/// How long an answer may take beyond a measurement's cap before the file system is taken for hung.
const ANSWER_GRACE: Duration = Duration::from_secs(120);

/// How often a waiting benchmark looks whether it was interrupted.
const INTERRUPT_POLL: Duration = Duration::from_millis(100);

/// Work for one worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Task {
    Sequential(SequentialTask),
    SmallFiles(SmallFileTask),
    Random(RandomTask),
    Objects(ObjectTask),
    Shuffle(ShuffleTask),
    Again(AgainTask),
}

/// What a task did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Outcome {
    /// Operations done or bytes moved, as the task counts.
    pub(super) count: u64,
    /// Time that the worker spent on them.
    pub(super) seconds: f64,
    /// Time of each operation, where the task takes it.
    pub(super) latencies_us: Vec<f64>,
}

impl Task {
    fn perform(&self, cap: Duration) -> anyhow::Result<Outcome> {
        match self {
            Task::Sequential(task) => task.perform(cap),
            Task::SmallFiles(task) => task.perform(cap),
            Task::Random(task) => task.perform(cap),
            Task::Objects(task) => task.perform(cap),
            Task::Shuffle(task) => task.perform(),
            Task::Again(task) => task.perform(cap),
        }
    }
}

/// The life of a worker process: performs the tasks that arrive until its input ends.
pub(super) fn serve(cap: Duration) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let task: Task = serde_json::from_str(&line?)
            .context("a worker was given something else than a task")?;
        let answer: Result<Outcome, String> =
            task.perform(cap).map_err(|problem| format!("{problem:#}"));
        let mut answer = serde_json::to_string(&answer)?;
        answer.push('\n');
        output.write_all(answer.as_bytes())?;
        output.flush()?;
    }
    Ok(())
}

/// Worker processes that stand ready.
#[derive(Debug)]
pub(super) struct Crew {
    workers: Vec<Worker>,
    answers: Receiver<(usize, Option<String>)>,
    patience: Duration,
    interrupt: Interrupt,
}

impl Crew {
    /// Starts that many workers.
    pub(super) fn start(
        workers: usize,
        cap: Duration,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Self> {
        let (sender, answers) = mpsc::channel();
        let workers = (0..workers).map(|index| Worker::start(index, cap, sender.clone()));
        let workers = workers
            .collect::<anyhow::Result<Vec<_>>>()
            .context("cannot start a worker process")?;
        Ok(Crew {
            workers,
            answers,
            patience: cap + ANSWER_GRACE,
            interrupt: interrupt.clone(),
        })
    }

    /// Has every task done by some worker: each takes the next one as soon as it is free.
    ///
    /// Fails with the first task that fails, or when no answer comes in time; the crew is of no use then.
    pub(super) fn perform(&mut self, tasks: &[Task]) -> anyhow::Result<Phase> {
        let mut lines = tasks
            .iter()
            .map(serde_json::to_string)
            .collect::<Result<Vec<_>, _>>()?;
        lines.iter_mut().for_each(|line| line.push('\n'));
        let mut waiting = lines.iter().enumerate();
        let mut assigned = vec![0; self.workers.len()];
        let mut outcomes = vec![Outcome::default(); tasks.len()];

        let start = Instant::now();
        for (worker, (task, line)) in self.workers.iter_mut().zip(waiting.by_ref()) {
            assigned[worker.index] = task;
            worker.give(line)?;
        }
        for _ in 0..tasks.len() {
            let (index, outcome) = self.answer(start)?;
            outcomes[assigned[index]] = outcome;
            if let Some((task, line)) = waiting.next() {
                assigned[index] = task;
                self.workers[index].give(line)?;
            }
        }
        Ok(Phase {
            elapsed: start.elapsed(),
            outcomes,
        })
    }

    /// The next answer of any worker.
    fn answer(&self, start: Instant) -> anyhow::Result<(usize, Outcome)> {
        loop {
            match self.answers.recv_timeout(INTERRUPT_POLL) {
                Ok((index, Some(line))) => {
                    let answer: Result<Outcome, String> = serde_json::from_str(&line)?;
                    return Ok((index, answer.map_err(|problem| anyhow!(problem))?));
                }
                Ok((_, None)) | Err(RecvTimeoutError::Disconnected) => {
                    bail!("a worker process ended")
                }
                Err(RecvTimeoutError::Timeout) => self.interrupt.check()?,
            }
            if start.elapsed() > self.patience {
                bail!(
                    "no answer within {} s: the file system hangs",
                    self.patience.as_secs()
                );
            }
        }
    }
}

/// One worker process; it is killed when dropped.
#[derive(Debug)]
struct Worker {
    index: usize,
    child: Child,
    input: ChildStdin,
}

impl Worker {
    fn start(
        index: usize,
        cap: Duration,
        answers: Sender<(usize, Option<String>)>,
    ) -> anyhow::Result<Self> {
        // The running program, also after its file was replaced by a newer build.
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("pocket")
            .args(["bench", "--worker", "--cap", &cap.as_secs_f64().to_string()]);
        command
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let input = child.stdin.take().context("a worker has no input")?;
        let output = child.stdout.take().context("a worker has no output")?;
        let listen = move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if answers.send((index, Some(line))).is_err() {
                    return;
                }
            }
            // Nobody listens any more when the crew was dismissed.
            let _ = answers.send((index, None));
        };
        std::thread::Builder::new()
            .name(format!("bench-worker-{index}"))
            .spawn(listen)?;
        Ok(Worker {
            index,
            child,
            input,
        })
    }

    fn give(&mut self, line: &str) -> anyhow::Result<()> {
        self.input
            .write_all(line.as_bytes())
            .context("a worker process ended")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
