//! How far it is: a bar on a terminal for what takes longer than a moment, a plain line now and then elsewhere.

use super::args::Global;
use super::{messages, terminal};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use undelfs::recover::Progress;

/// What is done sooner is not worth a bar that flickers.
const BAR_AFTER: Duration = Duration::from_secs(1);
/// Often enough to see that it goes on, seldom enough for a log.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// Tells how far a piece of work is.
pub struct Meter {
    style: Style,
    state: Mutex<State>,
}

/// In which way it is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Silent,
    Lines,
    Bar,
}

struct State {
    what: String,
    begun: Instant,
    /// What was done when it began.
    first: u64,
    said: Instant,
    bar: Option<ProgressBar>,
}

impl Meter {
    /// As the standard error and the global options ask for.
    pub fn new(global: &Global) -> Self {
        let style = match (global.quiet, std::io::stderr().is_terminal()) {
            (true, _) => Style::Silent,
            // A bar and a log on one terminal would write over each other.
            (_, true) if global.verbose == 0 || global.log.is_some() => Style::Bar,
            _ => Style::Lines,
        };
        let now = Instant::now();
        Meter { style, state: Mutex::new(State { what: String::new(), begun: now, first: 0, said: now, bar: None }) }
    }

    /// Says that `done` of `total` bytes are done; a `total` of 0 is an unknown one.
    pub fn bytes(&self, what: &str, done: u64, total: u64) {
        self.tell(what, done, total, true, &|| String::new());
    }

    fn tell(&self, what: &str, done: u64, total: u64, bytes: bool, found: &dyn Fn() -> String) {
        if self.style == Style::Silent {
            return;
        }
        // The state is whole after every statement, so a panic elsewhere leaves nothing half done.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if state.what != what {
            if let Some(bar) = state.bar.take() {
                bar.finish_and_clear();
            }
            *state = State { what: what.to_owned(), begun: now, first: done, said: now, bar: None };
        }
        match self.style {
            Style::Bar if now - state.begun >= BAR_AFTER => {
                let (begun, first) = (state.begun, state.first);
                let bar = state.bar.get_or_insert_with(|| bar(what, first, total, begun, bytes));
                bar.set_length(total);
                bar.set_position(done);
                bar.set_prefix(found());
            }
            Style::Lines if now - state.said >= LINE_EVERY => {
                state.said = now;
                messages::note(&(line(what, state.first, done, total, bytes, now - state.begun) + &found()));
            }
            _ => {}
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = state.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Meter {
    fn step(&self, what: &str, done: u64, total: u64) {
        self.tell(what, done, total, false, &|| String::new());
    }

    fn scan(&self, done: u64, total: u64, pages: u64) {
        self.tell("looking through free blocks", done, total, true, &|| format!(", {pages} found"));
    }
}

fn bar(what: &str, first: u64, total: u64, begun: Instant, bytes: bool) -> ProgressBar {
    let template = match (bytes, total) {
        (_, 0) => "{msg} {spinner} {elapsed}",
        (true, _) => "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta} left{prefix}",
        (false, _) => "{msg} {wide_bar} {percent}% {eta} left",
    };
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr()).with_elapsed(begun.elapsed()).with_position(first);
    bar.reset_eta();
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.with_message(terminal::line(what).into_owned())
}

/// One line for where there is no terminal.
fn line(what: &str, first: u64, done: u64, total: u64, bytes: bool, took: Duration) -> String {
    let percent = (u128::from(done) * 100).checked_div(u128::from(total));
    let mut line = format!("undelfs: {what}");
    match (bytes, percent) {
        (true, Some(percent)) => line += &format!(": {} of {} ({percent}%)", terminal::size(done), terminal::size(total)),
        (true, None) => line += &format!(": {}", terminal::size(done)),
        (false, Some(percent)) => line += &format!(": {percent}%"),
        (false, None) => line += &format!(": {} s", took.as_secs()),
    }
    if bytes && let Some(rate) = (done - first.min(done)).checked_div(took.as_secs()) {
        line += &format!(", {}/s", terminal::size(rate));
        if let Some(left) = total.saturating_sub(done).checked_div(rate) {
            line += &format!(", {left} s left");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_for_logs() {
        let minute = Duration::from_secs(60);
        assert_eq!(
            line("copying", 0, 600 << 20, 1200 << 20, true, minute),
            "undelfs: copying: 600 MiB of 1.2 GiB (50%), 10 MiB/s, 60 s left"
        );
        assert_eq!(line("copying", 0, 0, 1200 << 20, true, minute), "undelfs: copying: 0 B of 1.2 GiB (0%), 0 B/s");
        let half = "undelfs: scanning: 1.2 GiB of 2.3 GiB (50%), 10 MiB/s, 120 s left";
        assert_eq!(line("scanning", 600 << 20, 1200 << 20, 2400 << 20, true, minute), half);
        assert_eq!(line("copying", 0, 0, 0, true, Duration::ZERO), "undelfs: copying: 0 B");
        assert_eq!(line("reading the journal", 0, 1, 3, false, minute), "undelfs: reading the journal: 33%");
        assert_eq!(line("reading the journal", 0, 1, 0, false, minute), "undelfs: reading the journal: 60 s");
    }
}
