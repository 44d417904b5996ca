//! What is said on the standard error: errors, notes and the log. Each is one line, whatever names it quotes.

use super::args::Global;
use super::terminal;
use env_logger::Target;
use log::LevelFilter;
use std::fs::OpenOptions;
use std::io::Write;
use undelfs::{Error, Result};

/// Says why the program ends, or what it could not do.
pub fn error(text: &str) {
    note(&format!("undelfs: {text}"));
}

/// Says something for people, on a line of its own.
pub fn note(text: &str) {
    // Where even the standard error cannot be written to, nothing is left to complain on.
    let _ = writeln!(std::io::stderr(), "{}", terminal::line(text));
}

/// Begins the log, on the standard error or in the file of `--log`.
///
/// # Errors
/// Where the file cannot be written.
pub fn start(global: &Global) -> Result<()> {
    let level = match (global.quiet, global.verbose) {
        (true, _) => LevelFilter::Error,
        (_, 0) => LevelFilter::Warn,
        (_, 1) => LevelFilter::Info,
        (_, 2) => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    let mut builder = env_logger::Builder::new();
    // The libraries underneath have their own ideas of what deserves a warning.
    builder.filter_level(level.min(LevelFilter::Error)).filter_module("undelfs", level);
    match &global.log {
        Some(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path).map_err(|error| Error::path(path, error))?;
            builder.target(Target::Pipe(Box::new(file)));
            builder.format(|out, record| {
                writeln!(out, "{} {:<5} {}", jiff::Timestamp::now(), record.level(), terminal::line(&record.args().to_string()))
            });
        }
        None => {
            builder.target(Target::Stderr);
            builder.format(|out, record| {
                let level = record.level().as_str().to_ascii_lowercase().replace("warn", "warning");
                writeln!(out, "undelfs: {level}: {}", terminal::line(&record.args().to_string()))
            });
        }
    }
    builder.try_init().map_err(|error| Error::Failed(format!("cannot start the log: {error}")))
}
