//! Blocks that pointers name but of which nothing tells whether they were used again since: the content does, where records go on over
//! their borders in the file's order.

use super::super::{FileId, Recovery};
use super::subject::{self, Subject};
use crate::run::{Evidence, Run};
use crate::units::FileBlock;

/// Bytes looked at together.
const PIECE: u64 = 4 << 20;
/// Blocks in a row that prove each other where no rank says that they are this file's.
const FEWEST: usize = 2;

/// Whether a pointer names these blocks, and nothing tells what became of them.
pub fn is_doubtful(run: &Run) -> bool {
    run.evidence == Evidence::Unknown && run.block.is_some()
}

/// How many blocks of a file are in doubt.
pub fn doubtful(recovery: &Recovery, id: FileId) -> u64 {
    recovery.runs(id).filter(is_doubtful).map(|run| run.length).sum()
}

/// Ranges of file blocks that hold what the file had there. Reads all of them that are named.
pub fn confirm(recovery: &Recovery, subject: &Subject) -> Vec<(FileBlock, u64)> {
    let most = (PIECE / recovery.block_size()).max(1);
    let mut found = vec![];
    let mut rank = None;
    let mut piece: Option<(u64, u64)> = None;
    let mut runs = recovery.runs(subject.id).filter(subject::is_named).peekable();
    while let Some(run) = runs.next() {
        let (first, mut count) = piece.take().unwrap_or((run.file_block.0, 0));
        count += run.length;
        if runs.peek().is_some_and(|next| next.file_block.0 == first + count) && count < most {
            piece = Some((first, count));
            continue;
        }
        let mut at = first;
        while at < first + count {
            let blocks = (first + count - at).min(most);
            look(recovery, subject, at, blocks, &mut rank, &mut found);
            at += blocks;
        }
    }
    found
}

/// Looks at consecutive file blocks; `rank` is the last one seen, and its file block.
fn look(recovery: &Recovery, subject: &Subject, first: u64, blocks: u64, rank: &mut Option<(u64, u64)>, found: &mut Vec<(FileBlock, u64)>) {
    let size = recovery.block_size() as usize;
    let Some(bytes) = subject::read(recovery, subject.id, FileBlock(first), blocks) else { return };
    for stretch in subject.tiling.stretches(&bytes, size) {
        let (from, to) = (stretch.first, stretch.first + stretch.blocks);
        let own = &bytes[from * size..(to * size).min(bytes.len())];
        let ranked = subject.stride.and_then(|_| subject.order.rank_from(own, stretch.head));
        let at = first + from as u64;
        let fits = ranked.map(|ranked| rank.is_none_or(|(before, since)| !subject.leaps(before, ranked, at.saturating_sub(since))));
        if fits == Some(false) || fits.is_none() && stretch.blocks < FEWEST {
            continue;
        }
        // Within a row longer than a block anything may stand.
        let mut heads: Vec<usize> = subject.tiling.heads(own, stretch.head).into_iter().map(|head| head / size).collect();
        heads.dedup();
        for block in heads.into_iter().filter(|block| (stretch.weak_start..stretch.blocks - stretch.weak_end).contains(block)) {
            match found.last_mut() {
                Some((last, count)) if last.0 + *count == at + block as u64 => *count += 1,
                _ => found.push((FileBlock(at + block as u64), 1)),
            }
        }
        *rank = ranked.map(|ranked| (ranked, at)).or(*rank);
    }
}
