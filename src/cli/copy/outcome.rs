//! What became of a copy, and how it is said.

use crate::cli::messages;
use crate::cli::terminal::{count, size};
use undelfs::{Error, Result};

/// So many incomplete files are named one by one; of more, the sum says more.
const NAMED: u64 = 20;

/// Counts of what was copied, and what is to be said of it.
#[derive(Default)]
pub struct Outcome {
    /// Files and links copied.
    pub copied: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that an earlier run had copied.
    pub already: u64,
    /// Copied files with zeros in place of missing bytes.
    partial: u64,
    /// Those bytes.
    missing: u64,
    notes: Vec<String>,
    problems: Vec<String>,
}

impl Outcome {
    /// A file was copied in which `missing` of `bytes` are zeros.
    pub fn partial(&mut self, path: &str, missing: u64, bytes: u64) {
        self.partial += 1;
        self.missing = self.missing.saturating_add(missing);
        if self.partial <= NAMED {
            self.notes.push(format!("{path}: {missing} of {bytes} bytes are missing, with zeros in their place"));
        }
    }

    /// Something was not copied.
    pub fn problem(&mut self, path: &str, why: impl std::fmt::Display) {
        let problem = format!("{path}: {why}");
        log::debug!("{problem}");
        self.problems.push(problem);
    }

    /// Says it all, the sums last.
    ///
    /// # Errors
    /// What ended the copy, if anything did; else [`Error::Failed`] where anything was not copied.
    pub fn conclude(mut self, ended: Result<()>, quiet: bool) -> Result<()> {
        // Of a single file, the reason is all there is to say.
        if self.copied + self.already == 0 && self.problems.len() == 1 && ended.is_ok() {
            return Err(Error::Failed(self.problems.remove(0)));
        }
        if self.partial > NAMED {
            let more = self.partial - NAMED;
            self.notes.push(format!("… and {more} more; {} are missing in all", size(self.missing)));
        }
        if !quiet {
            self.notes.iter().for_each(|note| messages::note(&format!("undelfs: {note}")));
        }
        self.problems.iter().for_each(|problem| messages::error(problem));
        if !quiet && self.copied + self.already > 0 {
            messages::note(&self.summary());
        }
        ended?;
        match self.problems.len() as u64 {
            0 => Ok(()),
            problems => Err(Error::Failed(format!("{} not copied", count(problems, "file was", "files were")))),
        }
    }

    fn summary(&self) -> String {
        let mut text = format!("{} copied, {}", count(self.copied, "file", "files"), size(self.bytes));
        if self.partial > 0 {
            text += &format!("; {} incomplete", self.partial);
        }
        if self.already > 0 {
            text += &format!("; {} already there", self.already);
        }
        text
    }
}
