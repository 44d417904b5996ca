//! The gaps of a file.

use super::super::file::SizeFrom;
use super::super::{FileId, Recovery};
use crate::run::Evidence;
use crate::units::{Block, FileBlock};

/// Consecutive file blocks without pointers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap {
    /// The first.
    pub first: u64,
    /// How many.
    pub length: u64,
    /// The block of the file block before it, if it is known and there.
    pub before: Option<Block>,
    /// The same behind it.
    pub after: Option<Block>,
    /// The nearest known blocks before it: first file block and count.
    pub known_before: Option<(u64, u64)>,
    /// The same behind it.
    pub known_after: Option<(u64, u64)>,
}

/// Blocks that may be missing behind the last that is known.
const BEHIND: u64 = 1 << 20;

/// The gaps of a file, and what is behind its end where only its last block tells how long it is.
pub fn with_end(recovery: &Recovery, id: FileId) -> Vec<Gap> {
    let mut gaps = of(recovery, id);
    let file = recovery.file(id);
    let end = file.size.div_ceil(recovery.block_size());
    let last = end.checked_sub(1).and_then(|last| recovery.run_at(id, FileBlock(last))).filter(|run| run.evidence.is_data());
    if let Some(last) = last.filter(|_| file.size_from == SizeFrom::Chain) {
        let run = recovery.runs(id).last().map(|run| (run.file_block.0, run.length));
        gaps.push(Gap { first: end, length: BEHIND, before: last.block, after: None, known_before: run, known_after: None });
    }
    gaps
}

/// The gaps of a file.
pub fn of(recovery: &Recovery, id: FileId) -> Vec<Gap> {
    let mut gaps: Vec<Gap> = vec![];
    let mut known: Option<(u64, u64)> = None;
    let mut before: Option<Block> = None;
    for run in recovery.runs(id) {
        let (first, length) = (run.file_block.0, run.length);
        if run.evidence.is_data() {
            let waits = |gap: &&mut Gap| gap.known_after.is_none();
            for gap in gaps.iter_mut().rev().take_while(waits) {
                gap.known_after = Some((first, length));
                if gap.first + gap.length == first {
                    gap.after = run.block;
                }
            }
            known = Some((first, length));
        } else if run.evidence == Evidence::Unknown && run.block.is_none() {
            match gaps.last_mut() {
                Some(gap) if gap.first + gap.length == first => gap.length += length,
                _ => gaps.push(Gap { first, length, before, after: None, known_before: known, known_after: None }),
            }
        }
        before = run.block.filter(|_| run.evidence.is_data()).map(|block| block.plus(length - 1));
    }
    gaps
}
