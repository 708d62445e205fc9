//! House rules that a machine can check, over every source file of the tree.

#![allow(clippy::unwrap_used)]

use std::{fs, process::Command};

use pocket_tests::workspace;

/// Lines of a file before its tests; where the second concept in it should have been found.
const LINES_MAX: usize = 500;
/// Files of tests are lists.
const TEST_LINES_MAX: usize = 700;

struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The part in front of the tests, which stand last.
    fn without_tests(&self) -> &str {
        let tests = self.text.find("\n#[cfg(test)]\nmod ");
        tests.map_or(&self.text, |at| &self.text[..at])
    }

    fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("tests.rs")
    }

    /// What test files share: there, a condition is waited for by looking at it now and then.
    fn is_kit(&self) -> bool {
        ["/tests/kit", "/tests/common"]
            .iter()
            .any(|folder| self.path.contains(folder))
    }
}

/// Every .rs file that git knows or would add.
fn sources() -> Vec<Source> {
    let output = Command::new("git")
        .current_dir(workspace())
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "*.rs",
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "git ls-files failed");
    let names = String::from_utf8(output.stdout).unwrap();
    let read = |path: &str| Source {
        path: path.to_owned(),
        text: fs::read_to_string(workspace().join(path)).unwrap_or_default(),
    };
    let sources: Vec<_> = names
        .lines()
        .map(read)
        .filter(|source| !source.text.is_empty())
        .collect();
    assert!(sources.len() > 50, "found only {} sources", sources.len());
    sources
}

/// Fails with a line for each offence.
#[track_caller]
fn none(what: &str, offences: impl Iterator<Item = String>) {
    let offences: Vec<_> = offences.collect();
    assert!(offences.is_empty(), "{what}:\n{}", offences.join("\n"));
}

/// Lines of code with their numbers: comments and what is in quotation marks are not code.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let code = |line: &'_ str| !line.trim_start().starts_with("//");
    (1..).zip(text.lines()).filter(move |(_, line)| code(line))
}

#[test]
fn no_file_is_long() {
    let long = sources().into_iter().filter_map(|source| {
        let lines = source.without_tests().lines().count();
        let lines_max = match source.is_test() {
            true => TEST_LINES_MAX,
            false => LINES_MAX,
        };
        (lines > lines_max).then(|| format!("{}: {lines} lines", source.path))
    });
    none("files to split", long);
}

#[test]
fn every_file_says_what_it_is() {
    let silent = sources()
        .into_iter()
        .filter(|source| !source.text.starts_with("//!"));
    none(
        "files without a header (//!)",
        silent.map(|source| source.path),
    );
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    let sources = sources();
    let offences = sources
        .iter()
        .filter(|source| !source.is_test())
        .flat_map(|source| {
            let lines = code_lines(source.without_tests());
            let unwraps = lines.filter(|(_, line)| line.contains(".unwrap()"));
            unwraps.map(|(number, line)| format!("{}:{number}: {}", source.path, line.trim()))
        });
    none("unwrap() outside tests", offences);
}

#[test]
fn nothing_is_left_to_do_in_the_sources() {
    // Written in halves, so that this file does not find itself.
    let marks = ["TO", "FIX", "XX"].iter().zip(["DO", "ME", "X"]);
    let marks: Vec<_> = marks.map(|(one, other)| format!("{one}{other}")).collect();
    let macros = ["to", "unimple"].iter().zip(["do!", "mented!"]);
    let macros: Vec<_> = macros
        .map(|(one, other)| format!("{one}{other}("))
        .collect();
    let sources = sources();
    let offences = sources.iter().flat_map(|source| {
        let marked = (1..).zip(source.text.lines()).filter(|(_, line)| {
            let words = || line.split(|c: char| !c.is_alphanumeric());
            words().any(|word| marks.iter().any(|mark| mark == word))
                || macros.iter().any(|left| line.contains(left.as_str()))
        });
        marked.map(|(number, line)| format!("{}:{number}: {}", source.path, line.trim()))
    });
    none("left to do", offences);
}

#[test]
fn tests_wait_on_conditions_and_never_sleep() {
    let sleep = ["thread::", "time::"].map(|module| format!("{module}sleep("));
    let sources = sources();
    // Where the clock is paused, sleeping is how time is made to pass.
    let virtual_time = |source: &&Source| source.text.contains("start_paused = true");
    let tests = sources.iter().filter(|source| !source.is_kit());
    let tests = tests.filter(|source| !virtual_time(source));
    let offences = tests.flat_map(|source| {
        let text = match source.is_test() {
            true => source.text.as_str(),
            false => &source.text[source.without_tests().len()..],
        };
        let before = source.text.len() - text.len();
        let first = source.text[..before].lines().count();
        let lines = code_lines(text)
            .filter(|(_, line)| sleep.iter().any(|sleep| line.contains(sleep.as_str())));
        lines.map(move |(number, line)| {
            format!("{}:{}: {}", source.path, first + number, line.trim())
        })
    });
    none("sleeps in tests", offences);
}

#[test]
fn unsafe_code_says_why_it_is_sound() {
    let sources = sources();
    let offences = sources.iter().flat_map(|source| {
        let lines: Vec<_> = source.text.lines().collect();
        let unsound = (0..lines.len()).filter(|&at| {
            let line = lines[at].trim_start();
            let block = ["unsafe {", "unsafe fn", "unsafe impl"]
                .iter()
                .any(|begin| line.contains(begin));
            let explained = lines[at.saturating_sub(6)..=at]
                .iter()
                .any(|line| line.contains("SAFETY:"));
            block && !line.starts_with("//") && !line.contains('"') && !explained
        });
        let offences: Vec<_> = unsound
            .map(|at| format!("{}:{}: {}", source.path, at + 1, lines[at].trim()))
            .collect();
        offences
    });
    none("unsafe without a SAFETY comment", offences);
}

#[test]
fn only_the_adapter_speaks_the_kernels_protocol() {
    // Tests open the device, to see whether they may or to make what is broken.
    let device = format!("\"/dev/{}\"", "fuse");
    let sources = sources();
    let elsewhere = sources
        .iter()
        .filter(|source| !source.path.starts_with("fs/fuse/"))
        .filter(|source| !source.path.starts_with("tests/") && !source.is_test());
    let offences = elsewhere
        .filter(|source| code_lines(&source.text).any(|(_, line)| line.contains(&device)))
        .map(|source| source.path.clone());
    none("the kernel's device outside of fs/fuse", offences);
}

#[test]
fn every_test_that_the_semantics_name_exists() {
    let semantics = fs::read_to_string(workspace().join("SEMANTICS.md")).unwrap();
    let all: String = sources().into_iter().map(|source| source.text).collect();
    let named: Vec<_> = tests_named(&semantics).collect();
    assert!(named.len() > 30, "only {} tests named", named.len());
    let missing = named
        .into_iter()
        .filter(|name| !all.contains(&format!("fn {name}(")))
        .map(str::to_owned);
    none("tests that do not exist", missing);
}

/// Names of tests in a text of Markdown: in backquotes, of at least three words.
fn tests_named(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|name| {
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        name.matches('_').count() >= 2 && name.chars().all(word)
    })
}

#[test]
fn every_promise_of_the_semantics_names_a_test() {
    let semantics = fs::read_to_string(workspace().join("SEMANTICS.md")).unwrap();
    let (promised, _) = semantics.split_once("\n## Not promised yet").unwrap();
    let promises = promised.split("\n- ").skip(1);
    let without = promises
        .map(|promise| promise.split("\n\n").next().unwrap_or_default())
        // Or the folder of the programs that show it.
        .filter(|promise| tests_named(promise).next().is_none() && !promise.contains("`tests/"))
        .map(str::to_owned);
    none("promises without a test", without);
}
