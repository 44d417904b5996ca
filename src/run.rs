//! The one currency: recovery makes runs, reading consumes them, `show` prints them, tests compare them.

use crate::units::{Block, FileBlock};
use serde::Serialize;
use std::borrow::Cow;

/// How it is known what stands in a range of a lost file, best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Evidence {
    /// The pointer stands in a journal copy of the inode or of an indirect block.
    Journal,
    /// The pointer stands in an indirect block (or inode) that is still on the disk.
    Chain,
    /// No pointer is left, or its place in the file is a guess, or it could not be proven that the block was not used again; the reason is named.
    Inferred,
    /// The file was sparse here.
    Hole,
    /// The block belongs to something newer; served as zeros.
    Overwritten,
    /// Nothing says which block it was; served as zeros.
    Unknown,
    /// The medium gives an error here; served as zeros.
    Unreadable,
}

impl Evidence {
    /// Every word, best first.
    pub const ALL: [Evidence; 7] = [
        Evidence::Journal,
        Evidence::Chain,
        Evidence::Inferred,
        Evidence::Hole,
        Evidence::Overwritten,
        Evidence::Unknown,
        Evidence::Unreadable,
    ];

    /// The word as it stands in JSON and on the terminal.
    pub const fn word(self) -> &'static str {
        match self {
            Evidence::Journal => "journal",
            Evidence::Chain => "chain",
            Evidence::Inferred => "inferred",
            Evidence::Hole => "hole",
            Evidence::Overwritten => "overwritten",
            Evidence::Unknown => "unknown",
            Evidence::Unreadable => "unreadable",
        }
    }

    /// Whether the range is missing: its bytes are served as zeros although the file had others.
    pub const fn is_missing(self) -> bool {
        matches!(self, Evidence::Overwritten | Evidence::Unknown | Evidence::Unreadable)
    }

    /// Whether the range's bytes are read from the image.
    pub const fn is_data(self) -> bool {
        matches!(self, Evidence::Journal | Evidence::Chain | Evidence::Inferred)
    }
}

/// Where the bytes of a run are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// At the run's own physical blocks.
    Home,
    /// In the journal, from this block of the log on (a copy that `data=journal` left there).
    Log {
        /// Index of the log block, counted from the journal's start.
        index: u32,
        /// The copy's first 4 bytes were the journal's magic and stand as zeros in the log (`JFS_FLAG_ESCAPE`).
        escaped: bool,
    },
}

/// Consecutive file blocks that lie in consecutive physical blocks, known in one way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run {
    /// First block of the file.
    pub file_block: FileBlock,
    /// The physical block of the first; `None` for holes and where nothing says which it was.
    pub block: Option<Block>,
    /// Length in blocks; never 0.
    pub length: u64,
    /// How it is known.
    pub evidence: Evidence,
    /// Where the bytes are read.
    pub place: Place,
    /// Why, where the word alone does not say it: one short clause; empty otherwise.
    pub reason: Cow<'static, str>,
}

impl Run {
    /// A run without blocks: a hole, or missing.
    pub fn absent(file_block: FileBlock, length: u64, evidence: Evidence, reason: &'static str) -> Self {
        Run { file_block, block: None, length, evidence, place: Place::Home, reason: Cow::Borrowed(reason) }
    }

    /// The first file block after it.
    pub const fn end(&self) -> FileBlock {
        self.file_block.plus(self.length)
    }

    /// Whether `next` continues this run: next in the file, next on the disk, known in the same way.
    fn continues(&self, next: &Run) -> bool {
        let blocks = match (self.block, next.block) {
            (None, None) => true,
            (Some(a), Some(b)) => a.plus(self.length) == b,
            _ => false,
        };
        self.end() == next.file_block
            && blocks
            && self.evidence == next.evidence
            && self.place == Place::Home
            && next.place == Place::Home
            && (self.reason.is_empty() && next.reason.is_empty() || self.reason == next.reason)
    }

    /// The part of it from `first` on, at most `length` blocks; `None` where they do not meet.
    pub fn part(&self, first: FileBlock, length: u64) -> Option<Run> {
        let start = self.file_block.max(first);
        let end = self.end().min(first.plus(length));
        let skip = start.0 - self.file_block.0;
        (start < end && (skip == 0 || self.place == Place::Home)).then(|| Run {
            file_block: start,
            block: self.block.map(|b| b.plus(skip)),
            length: end.0 - start.0,
            ..self.clone()
        })
    }
}

/// Appends `run` to `runs`, coalescing it with the last one where it continues it.
pub fn push(runs: &mut Vec<Run>, run: Run) {
    if run.length == 0 {
        return;
    }
    if let Some(last) = runs.last_mut()
        && last.continues(&run)
    {
        last.length += run.length;
        return;
    }
    runs.push(run);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(file_block: u64, block: u64, length: u64) -> Run {
        Run {
            file_block: FileBlock(file_block),
            block: Block::new(block),
            length,
            evidence: Evidence::Chain,
            place: Place::Home,
            reason: Cow::Borrowed(""),
        }
    }

    #[test]
    fn push_coalesces_only_what_continues() {
        let mut runs = vec![];
        for r in [run(0, 100, 2), run(2, 102, 1), run(3, 200, 1), run(5, 201, 1), run(6, 0, 1), run(7, 0, 3)] {
            push(&mut runs, r);
        }
        assert_eq!(runs, [run(0, 100, 3), run(3, 200, 1), run(5, 201, 1), run(6, 0, 4)]);
    }

    #[test]
    fn part_cuts_both_ends() {
        assert_eq!(run(10, 100, 5).part(FileBlock(12), 2), Some(run(12, 102, 2)));
        assert_eq!(run(10, 100, 5).part(FileBlock(0), 11), Some(run(10, 100, 1)));
        assert_eq!(run(10, 100, 5).part(FileBlock(15), 9), None);
    }
}
