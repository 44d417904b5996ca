//! How far it is: a bar on a terminal for what takes longer than a moment, a plain line now and then elsewhere.

use super::args::{Global, HowFar};
use super::{messages, terminal};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use undelfs::recover::Progress;

/// What is done sooner is not worth a bar that flickers.
const BAR_AFTER: Duration = Duration::from_secs(1);
/// Often enough to see that it goes on, seldom enough for a log.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// For programs, often enough to draw a bar of their own.
const JSON_EVERY: Duration = Duration::from_secs(1);

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
    Json,
}

struct State {
    what: String,
    begun: Instant,
    /// What was done when it began.
    first: u64,
    said: Instant,
    /// The last that a program was not yet told.
    unsaid: Option<Step>,
    bar: Option<ProgressBar>,
}

impl State {
    fn new(what: &str, first: u64) -> Self {
        let now = Instant::now();
        State { what: what.to_owned(), begun: now, first, said: now, unsaid: None, bar: None }
    }

    /// Says what is left to say, and takes the bar away.
    fn finish(&mut self) {
        if let Some(step) = self.unsaid.take() {
            messages::note(&json(&self.what, step));
        }
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// How far it is: `done` of `total` (0 is unknown).
#[derive(Clone, Copy)]
struct Step {
    done: u64,
    total: u64,
    /// They are bytes.
    bytes: bool,
    /// How much was found so far.
    found: Option<u64>,
}

impl Meter {
    /// As the standard error and the global options ask for.
    pub fn new(global: &Global) -> Self {
        let style = match (global.quiet, std::io::stderr().is_terminal()) {
            _ if global.progress == HowFar::Json => Style::Json,
            (true, _) => Style::Silent,
            // A bar and a log on one terminal would write over each other.
            (_, true) if global.verbose == 0 || global.log.is_some() => Style::Bar,
            _ => Style::Lines,
        };
        Meter { style, state: Mutex::new(State::new("", 0)) }
    }

    /// Says that `done` of `total` bytes are done; a `total` of 0 is an unknown one.
    pub fn bytes(&self, what: &str, done: u64, total: u64) {
        self.tell(what, Step { done, total, bytes: true, found: None });
    }

    fn tell(&self, what: &str, step: Step) {
        if self.style == Style::Silent {
            return;
        }
        // The state is whole after every statement, so a panic elsewhere leaves nothing half done.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let is_new = state.what != what;
        if is_new {
            state.finish();
            *state = State::new(what, step.done);
        }
        match self.style {
            Style::Bar if now - state.begun >= BAR_AFTER => {
                let (begun, first) = (state.begun, state.first);
                let bar = state.bar.get_or_insert_with(|| bar(what, step, first, begun));
                bar.set_length(step.total);
                bar.set_position(step.done);
                bar.set_prefix(step.found());
            }
            Style::Lines if now - state.said >= LINE_EVERY => {
                state.said = now;
                messages::note(&line(what, step, state.first, now - state.begun));
            }
            Style::Json if is_new || now - state.said >= JSON_EVERY => {
                (state.said, state.unsaid) = (now, None);
                messages::note(&json(what, step));
            }
            Style::Json => state.unsaid = Some(step),
            _ => {}
        }
    }

    /// Says that all is done, and takes the bar away.
    pub fn finish(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).finish();
    }
}

impl Progress for Meter {
    fn step(&self, what: &str, done: u64, total: u64) {
        self.tell(what, Step { done, total, bytes: false, found: None });
    }

    fn scan(&self, done: u64, total: u64, pages: u64) {
        self.tell("looking through free blocks", Step { done, total, bytes: true, found: Some(pages) });
    }
}

impl Step {
    fn found(&self) -> String {
        self.found.map_or(String::new(), |found| format!(", {found} found"))
    }
}

fn bar(what: &str, step: Step, first: u64, begun: Instant) -> ProgressBar {
    let template = match (step.bytes, step.total) {
        (_, 0) => "{msg} {spinner} {elapsed}",
        (true, _) => "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta} left{prefix}",
        (false, _) => "{msg} {wide_bar} {percent}% {eta} left",
    };
    let bar = ProgressBar::with_draw_target(Some(step.total), ProgressDrawTarget::stderr());
    let bar = bar.with_elapsed(begun.elapsed()).with_position(first);
    // Else what was done before would count as done in no time.
    bar.reset_eta();
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.with_message(terminal::line(what).into_owned())
}

/// One line for where there is no terminal. `first` was done when it began.
fn line(what: &str, step: Step, first: u64, took: Duration) -> String {
    let Step { done, total, bytes, .. } = step;
    let percent = (u128::from(done) * 100).checked_div(u128::from(total));
    let mut line = format!("undelfs: {what}");
    match (bytes, percent) {
        (true, Some(percent)) => line += &format!(": {} of {} ({percent}%)", terminal::size(done), terminal::size(total)),
        (true, None) => line += &format!(": {}", terminal::size(done)),
        (false, Some(percent)) => line += &format!(": {percent}%"),
        (false, None) => line += &format!(": {} s", took.as_secs()),
    }
    if bytes && let Some(rate) = done.saturating_sub(first).checked_div(took.as_secs()) {
        line += &format!(", {}/s", terminal::size(rate));
        if let Some(left) = total.saturating_sub(done).checked_div(rate) {
            line += &format!(", {left} s left");
        }
    }
    line + &step.found()
}

/// One line for a program.
fn json(what: &str, step: Step) -> String {
    let total = Some(step.total).filter(|total| *total > 0);
    let unit = step.bytes.then_some("bytes");
    json!({ "progress": what, "done": step.done, "total": total, "unit": unit, "found": step.found }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_for_logs() {
        let minute = Duration::from_secs(60);
        let copying = |done, total| ("copying", Step { done, total, bytes: true, found: None });
        let reading = |done, total| ("reading the journal", Step { done, total, bytes: false, found: None });
        let scanning = ("scanning", Step { done: 1200 << 20, total: 2400 << 20, bytes: true, found: Some(7) });
        for ((what, step), first, took, expected) in [
            (copying(600 << 20, 1200 << 20), 0, minute, "copying: 600 MiB of 1.2 GiB (50%), 10 MiB/s, 60 s left"),
            (copying(0, 1200 << 20), 0, minute, "copying: 0 B of 1.2 GiB (0%), 0 B/s"),
            (copying(0, 0), 0, Duration::ZERO, "copying: 0 B"),
            (scanning, 600 << 20, minute, "scanning: 1.2 GiB of 2.3 GiB (50%), 10 MiB/s, 120 s left, 7 found"),
            (reading(1, 3), 0, minute, "reading the journal: 33%"),
            (reading(1, 0), 0, minute, "reading the journal: 60 s"),
        ] {
            assert_eq!(line(what, step, first, took), format!("undelfs: {expected}"));
        }
        assert_eq!(
            json(scanning.0, scanning.1),
            r#"{"done":1258291200,"found":7,"progress":"scanning","total":2516582400,"unit":"bytes"}"#
        );
        let (what, step) = reading(1, 0);
        assert_eq!(json(what, step), r#"{"done":1,"found":null,"progress":"reading the journal","total":null,"unit":null}"#);
    }
}
