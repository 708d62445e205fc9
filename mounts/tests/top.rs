//! `pocket top`, in a terminal of its own and without one.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::{Child, Stdio},
    sync::{Arc, Mutex},
};

use common::{POCKET, Up, command, signal, until};
use nix::{
    pty::{Winsize, openpty},
    sys::{
        signal::Signal,
        termios::{Termios, tcgetattr},
    },
};

/// Switch to and from the screen that leaves no trace, and show the cursor.
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";
const CURSOR: &str = "\x1b[?25h";

/// A terminal with the program in it.
struct Terminal {
    child: Child,
    keyboard: File,
    /// Keeps the terminal for its settings to be looked at.
    slave: OwnedFd,
    before: Termios,
    output: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn start(up: &Up, columns: u16, rows: u16) -> Self {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(Some(&size), None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut command = command(POCKET, &["top", "--controller", &up.controller]);
        command.stdin(end()).stdout(end()).stderr(end());
        command.env("TERM", "xterm-256color");
        let child = command.spawn().unwrap();
        let keyboard = File::from(pty.master);
        let mut screen = keyboard.try_clone().unwrap();
        let output = Arc::new(Mutex::new(Vec::new()));
        let shown = Arc::clone(&output);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = screen.read(&mut bytes) {
                shown.lock().unwrap().extend_from_slice(&bytes[..length]);
            }
        });
        Terminal {
            child,
            keyboard,
            slave: pty.slave,
            before,
            output,
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned()
    }

    #[track_caller]
    fn shows(&self, words: &str) {
        until(words, || self.text().contains(words));
    }

    fn press(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).unwrap();
    }

    /// Forgets what was drawn so far.
    fn forget(&self) {
        self.output.lock().unwrap().clear();
    }

    #[track_caller]
    fn ends_as_it_began(mut self) {
        let mut code = None;
        until("pocket top has ended", || {
            let ended = self.child.try_wait().unwrap();
            code = ended.and_then(|status| status.code());
            ended.is_some()
        });
        assert_eq!(code, Some(0), "{}", self.text());
        self.shows(LEAVE);
        self.shows(CURSOR);
        assert!(tcgetattr(&self.slave).unwrap() == self.before);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn cluster() -> Up {
    let up = Up::start(&["--storage-servers", "2", "--capacity", "64MiB"]);
    let put = ["put", "watched/f", "/proc/self/cmdline", "--keep"];
    up.pocket(&put).assert_code(0);
    up
}

#[test]
fn top_draws_sorts_by_key_and_leaves_the_terminal_as_it_was() {
    let up = cluster();
    let mut terminal = Terminal::start(&up, 110, 30);
    terminal.shows(ENTER);
    for words in ["dram:", "SERVER", "CAPACITY", "watched"] {
        terminal.shows(words);
    }
    // The mark of the order in force moves: that is drawn reversed.
    terminal.forget();
    terminal.press(b"c");
    terminal.shows("\x1b[7m");
    terminal.press(b"q");
    terminal.ends_as_it_began();

    let mut terminal = Terminal::start(&up, 110, 30);
    terminal.shows("watched");
    terminal.press(b"\x03");
    terminal.ends_as_it_began();

    let terminal = Terminal::start(&up, 110, 30);
    terminal.shows("watched");
    signal(terminal.child.id() as i32, Signal::SIGTERM);
    terminal.ends_as_it_began();
}

#[test]
fn top_fits_a_small_terminal_and_follows_its_size() {
    let up = cluster();
    let mut terminal = Terminal::start(&up, 30, 8);
    terminal.shows("SERVER");
    assert!(!terminal.text().contains("OPS/S"));
    let slave = Stdio::from(terminal.slave.try_clone().unwrap());
    let mut resize = command("stty", &["rows", "40", "cols", "130"]);
    assert!(resize.stdin(slave).status().unwrap().success());
    // The terminal is not the process's controlling one, so that nobody else tells it.
    signal(terminal.child.id() as i32, Signal::SIGWINCH);
    terminal.shows("OPS/S");
    terminal.press(b"q");
    terminal.ends_as_it_began();
}

#[test]
fn top_says_that_the_controller_is_gone_and_still_ends() {
    let mut up = cluster();
    let mut terminal = Terminal::start(&up, 110, 30);
    terminal.shows("watched");
    signal(up.process(), Signal::SIGTERM);
    up.wait();
    terminal.shows("cannot reach");
    terminal.press(b"q");
    terminal.ends_as_it_began();
}

#[test]
fn top_without_a_terminal_prints_once() {
    let up = cluster();
    let ran = up.pocket(&["top"]);
    ran.assert_code(0);
    for words in ["dram:", "SERVER", "JOB", "watched"] {
        assert!(ran.stdout.contains(words), "{words} in {ran:?}");
    }
    assert!(!ran.stdout.contains('\x1b'), "{ran:?}");
    let ran = up.pocket(&["top", "--json"]);
    ran.assert_code(0);
    let view: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(view["tiers"][0]["servers"], 2);
    assert_eq!(view["servers"].as_array().unwrap().len(), 3);
    assert_eq!(view["jobs"][0]["name"], "watched");
}
