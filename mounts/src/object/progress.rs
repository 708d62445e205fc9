//! A bar on standard error while much is copied, where a person looks on.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Less than this is done before a bar has been read.
const WORTH_A_BAR: u64 = 64 << 20;
const REDRAWS_PER_SECOND: u8 = 8;

/// The progress of one copy.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A copy of so many bytes, or of an unknown number. Shows nothing where standard error is no
    /// terminal (indicatif sees to that, as to NO_COLOR), or `quiet`.
    pub(crate) fn new(what: &str, total_bytes: Option<u64>, quiet: bool) -> Self {
        if quiet || total_bytes.is_some_and(|total| total < WORTH_A_BAR) {
            return Progress(ProgressBar::hidden());
        }
        let target = ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND);
        let bar = ProgressBar::with_draw_target(total_bytes, target);
        let template = match total_bytes {
            Some(_) => {
                "{msg} {bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}"
            }
            None => "{msg} {spinner} {binary_bytes} {binary_bytes_per_sec}",
        };
        let style = ProgressStyle::with_template(template);
        bar.set_style(style.expect("the template is a constant"));
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(500));
        Progress(bar)
    }

    /// So many bytes more are done.
    pub(crate) fn add(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
