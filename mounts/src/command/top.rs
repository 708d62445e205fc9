//! `pocket top`: a cluster as it lives, in a terminal.

mod screen;
mod snapshot;

use std::{
    io::{self, IsTerminal, Read, Write},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use crossterm::{cursor, execute, queue, terminal};
use parking_lot::Mutex;
use pocket_controller_client::ControllerClient;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use self::{
    screen::{Line, Size},
    snapshot::{Order, Snapshot},
};
use super::control::ReadArguments;
use crate::{output, runtime::block_on};

/// Servers report once a second: more often there is nothing new.
const REFRESH: Duration = Duration::from_secs(1);
/// How late a signal or a new picture may be noticed.
const LOOK: Duration = Duration::from_millis(100);

/// Bytes of keys that are read at once.
const KEYS_MAX: usize = 64;
const ESCAPE: u8 = 0x1b;
/// What Ctrl-C is while the terminal makes no signal of it.
const CONTROL_C: u8 = 0x03;

/// Watch servers, tiers and jobs; q ends, n u r c sort
#[derive(Args, Debug)]
pub(super) struct TopArguments {
    #[command(flatten)]
    read: ReadArguments,

    /// Print one picture and end, as is done without a terminal
    #[arg(long)]
    once: bool,
}

/// What is shown, and why it may be old.
#[derive(Default)]
struct Shown {
    snapshot: Option<Arc<Snapshot>>,
    failure: Option<String>,
    /// Grows with every change of the above.
    edition: u64,
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    End,
    Sort(Order),
    Nothing,
}

impl TopArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let is_live = io::stdout().is_terminal() && io::stdin().is_terminal();
        if self.read.json || self.once || !is_live {
            return self.print();
        }
        block_on(async {
            let client = self.read.connect()?;
            let shown = Arc::new(Mutex::new(Shown::default()));
            let over = CancellationToken::new();
            tokio::spawn(refresh(client, Arc::clone(&shown)));
            tokio::spawn(end_with_signals(over.clone())?);
            let show = move || {
                let mut screen = Screen::open()?;
                screen.show(&shown, &over)
            };
            // Drawing and waiting for keys block.
            tokio::task::spawn_blocking(show).await?
        })
    }

    fn print(&self) -> anyhow::Result<()> {
        let snapshot = block_on(async { Ok(Snapshot::take(&self.read.connect()?).await?) })?;
        match self.read.json {
            true => output::json(&snapshot.to_view()),
            false => snapshot.print(),
        }
    }
}

/// Takes a picture every second. What cannot be had is said, and the last picture stays.
async fn refresh(client: ControllerClient, shown: Arc<Mutex<Shown>>) {
    let mut ticks = interval(REFRESH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let taken = Snapshot::take(&client).await;
        let mut shown = shown.lock();
        shown.edition += 1;
        match taken {
            Ok(snapshot) => {
                shown.snapshot = Some(Arc::new(snapshot));
                shown.failure = None;
            }
            Err(error) => shown.failure = Some(error.to_string()),
        }
    }
}

/// A terminal that is closed or a process that is to end leaves as with `q`.
fn end_with_signals(
    over: CancellationToken,
) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let cannot = "cannot listen to signals";
    let mut interrupt = signal(SignalKind::interrupt()).context(cannot)?;
    let mut terminate = signal(SignalKind::terminate()).context(cannot)?;
    let mut hang_up = signal(SignalKind::hangup()).context(cannot)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
        over.cancel();
    })
}

/// The terminal, which is as it was when this is dropped.
struct Screen {
    keys: mpsc::Receiver<Vec<u8>>,
}

impl Screen {
    fn open() -> anyhow::Result<Self> {
        let (typed, keys) = mpsc::channel();
        // Before the first change, so that whatever fails is undone.
        let screen = Screen { keys };
        terminal::enable_raw_mode().context("cannot use the terminal")?;
        execute!(io::stdout(), terminal::EnterAlternateScreen, cursor::Hide)?;
        // It waits for keys until the end of the process, which is soon.
        thread::spawn(move || {
            let mut bytes = [0; KEYS_MAX];
            while let Ok(length @ 1..) = io::stdin().read(&mut bytes) {
                if typed.send(bytes[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Ok(screen)
    }

    /// Draws what is new until it is to end.
    fn show(&mut self, shown: &Mutex<Shown>, over: &CancellationToken) -> anyhow::Result<()> {
        let (mut order, mut drawn) = (Order::Used, None);
        while !over.is_cancelled() {
            let (columns, rows) = terminal::size()?;
            let size = Size {
                width: columns.into(),
                height: rows.into(),
            };
            let (edition, snapshot, failure) = {
                let shown = shown.lock();
                let failure = shown.failure.clone();
                (shown.edition, shown.snapshot.clone(), failure)
            };
            if drawn != Some((edition, order, size)) {
                let lines = screen::picture(snapshot.as_deref(), failure.as_deref(), order, size);
                draw(&lines, size)?;
                drawn = Some((edition, order, size));
            }
            match self.keys.recv_timeout(LOOK) {
                Ok(keys) => match wish(&keys) {
                    Wish::End => return Ok(()),
                    Wish::Sort(by) => order = by,
                    Wish::Nothing => {}
                },
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                // The terminal is closed.
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
        Ok(())
    }
}

/// Draws over what was there, at once, so that nothing flickers.
fn draw(lines: &[Line], size: Size) -> io::Result<()> {
    let mut output = Vec::new();
    for (row, line) in (0..).zip(lines) {
        queue!(output, cursor::MoveTo(0, row))?;
        output.write_all(line.to_ansi(size.width).as_bytes())?;
        queue!(output, terminal::Clear(terminal::ClearType::UntilNewLine))?;
    }
    if lines.len() < size.height {
        let below = u16::try_from(lines.len()).unwrap_or(u16::MAX);
        queue!(
            output,
            cursor::MoveTo(0, below),
            terminal::Clear(terminal::ClearType::FromCursorDown)
        )?;
    }
    let mut terminal = io::stdout().lock();
    terminal.write_all(&output)?;
    terminal.flush()
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = execute!(io::stdout(), cursor::Show, terminal::LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}

/// What keys ask for that were typed together, or one key that sends several bytes.
fn wish(keys: &[u8]) -> Wish {
    match keys {
        [ESCAPE] => Wish::End,
        // An arrow or the like.
        [ESCAPE, ..] => Wish::Nothing,
        keys => keys.iter().fold(Wish::Nothing, |wish, &key| match key {
            _ if wish == Wish::End => Wish::End,
            b'q' | CONTROL_C => Wish::End,
            key => Order::of(key.into()).map_or(wish, Wish::Sort),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_end_and_sort() {
        for (keys, expected) in [
            (&b"q"[..], Wish::End),
            (b"\x1b", Wish::End),
            (b"\x03", Wish::End),
            (b"c", Wish::Sort(Order::Cost)),
            (b"nr", Wish::Sort(Order::Rate)),
            (b"nq", Wish::End),
            (b"qn", Wish::End),
            (b"x", Wish::Nothing),
            // An arrow ends nothing, and neither does what is no text.
            (b"\x1b[C", Wish::Nothing),
            (b"\xff\x00", Wish::Nothing),
        ] {
            assert_eq!(wish(keys), expected, "{keys:?}");
        }
    }
}
