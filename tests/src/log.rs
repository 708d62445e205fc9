//! What processes said: captured logs, and the rule that a WARN or ERROR nobody expected fails
//! the test that caused it.

use std::{fs, path::Path};

/// Levels of a log line that say something went wrong.
const LEVELS: [&str; 2] = ["WARN", "ERROR"];
/// How a panic begins, whichever thread it ends.
const PANIC: &str = "panicked at";

/// Lines of `log` that are a warning or an error, but for those that contain one of `expected`.
pub(crate) fn unexpected_alarms(log: &str, expected: &[String]) -> Vec<String> {
    log.lines()
        .filter(|line| is_alarm(line))
        .filter(|line| !expected.iter().any(|words| line.contains(words.as_str())))
        .map(str::to_owned)
        .collect()
}

/// The level stands among the first words of a line, so that a file named WARN alarms nobody.
fn is_alarm(line: &str) -> bool {
    let head = line
        .char_indices()
        .nth(80)
        .map_or(line, |(at, _)| &line[..at]);
    head.split_whitespace()
        .take(3)
        .any(|word| LEVELS.contains(&word))
        || line.contains(PANIC)
}

/// Everything in a log file; a missing or unreadable one is empty.
pub(crate) fn read(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The last `lines` lines of a log, for the message of a failed test.
pub(crate) fn tail(log: &str, lines: usize) -> String {
    let all: Vec<_> = log.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
2026-11-20T07:00:00.000000Z  INFO pocket_meta: serving endpoint=127.0.0.1:1
2026-11-20T07:00:01.000000Z  WARN pocket_meta: storage server 7 is gone
2026-11-20T07:00:02.000000Z ERROR pocket_meta: bad
2026-11-20T07:00:02.000000Z DEBUG pocket_meta: a file called WARN or ERROR
thread 'main' panicked at src/main.rs:1:1:
";

    #[test]
    fn warnings_errors_and_panics_are_alarms() {
        assert_eq!(unexpected_alarms(LOG, &[]).len(), 3);
    }

    #[test]
    fn expected_words_excuse_their_line_alone() {
        let alarms = unexpected_alarms(LOG, &["is gone".to_owned()]);
        assert_eq!(alarms.len(), 2, "{alarms:?}");
    }
}
