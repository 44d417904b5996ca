//! What is known at the two ends of a gap.

use super::super::Recovery;
use super::gap::Gap;
use super::subject::{self, Subject};
use super::walk::LOOK_AT;
use crate::content::{Order, Verdict};
use crate::units::FileBlock;

/// Known blocks beside a gap that are looked at to find where records begin.
const BESIDE: u64 = 64;

/// The place behind the last known block.
pub struct Start {
    /// What comes next.
    pub order: Box<dyn Order>,
    /// The block that would go on directly, if the file's last one is known.
    pub next: Option<u64>,
    /// The rank of the last record that has one.
    pub last: Option<u64>,
}

/// The first known block behind a gap.
pub struct End {
    /// It.
    pub block: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its byte at which a record begins.
    pub phase: Option<usize>,
    /// The rank of its first rows.
    pub rank: Option<u64>,
    /// That of the very first.
    pub first: Option<u64>,
}

/// The state at a gap's first block; `None` where nothing tells where records begin.
pub fn before(recovery: &Recovery, subject: &Subject, gap: &Gap) -> Option<Start> {
    if gap.first == 0 {
        return Some(Start { order: subject.order.resume_at(0, usize::try_from(subject.tiling.start()).ok()?), next: None, last: None });
    }
    let is_data = |at: u64| recovery.run_at(subject.id, FileBlock(at)).is_some_and(|run| run.evidence.is_data());
    let blocks = (1..=BESIDE.min(gap.first)).take_while(|back| is_data(gap.first - back)).count() as u64;
    let first = gap.first - blocks;
    let bytes = subject::read(recovery, subject.id, FileBlock(first), blocks)?;
    let size = recovery.block_size() as usize;
    let mut order = if first == 0 {
        subject.order.resume_at(0, usize::try_from(subject.tiling.start()).ok()?)
    } else {
        let last = subject.tiling.stretches(&bytes, size).pop().filter(|last| (last.first + last.blocks) * size == bytes.len())?;
        let mut order = subject.order.resume_at(0, last.head);
        // The last one is fed below, as the first is.
        bytes[last.first * size..].chunks(size).for_each(|block| _ = order.feed(block));
        let last = last_rank(subject, &bytes[last.first * size..], last.head);
        return Some(Start { order, next: gap.before.map(|block| block.get() + 1), last });
    };
    let sound = bytes.chunks(size).all(|block| order.feed(block) != Verdict::Contradicted);
    let last = last_rank(subject, &bytes, usize::try_from(subject.tiling.start()).ok()?);
    sound.then(|| Start { order, next: gap.before.map(|block| block.get() + 1), last })
}

fn last_rank(subject: &Subject, bytes: &[u8], head: usize) -> Option<u64> {
    subject.order.ranks(bytes, head).last().map(|(rank, _)| *rank)
}

/// The first known block behind a gap, if there is one directly behind it.
pub fn after(recovery: &Recovery, subject: &Subject, gap: &Gap) -> Option<End> {
    let block = gap.after?.get();
    let at = FileBlock(gap.first + gap.length);
    let run = recovery.run_at(subject.id, at).filter(|run| run.evidence.is_data())?;
    let mut bytes = subject::read(recovery, subject.id, at, run.length.min(BESIDE))?;
    let size = recovery.block_size() as usize;
    let head = subject.tiling.stretches(&bytes, size).first().filter(|stretch| stretch.first == 0).map(|stretch| stretch.head);
    let rank = head.and_then(|head| subject.order.rank_from(&bytes[..bytes.len().min(LOOK_AT * size)], head));
    let first = head.and_then(|head| subject.order.ranks(&bytes[..bytes.len().min(LOOK_AT * size)], head).first().map(|(rank, _)| *rank));
    bytes.truncate(size);
    Some(End { block, bytes, phase: head, rank, first })
}

/// The ranks between which those of the blocks in a gap lie.
pub fn ranks(recovery: &Recovery, subject: &Subject, gap: &Gap) -> (u64, u64) {
    let rank_in = |first: u64, blocks: u64| {
        let bytes = subject::read(recovery, subject.id, FileBlock(first), blocks)?;
        let stretch = subject.tiling.stretches(&bytes, recovery.block_size() as usize).first().copied()?;
        subject.order.rank_from(&bytes[stretch.first * recovery.block_size() as usize..], stretch.head)
    };
    let low = gap.known_before.and_then(|(first, blocks)| rank_in(first + blocks - blocks.min(BESIDE), blocks.min(BESIDE)));
    let high = gap.known_after.and_then(|(first, blocks)| rank_in(first, blocks.min(BESIDE)));
    (low.unwrap_or(0), high.unwrap_or(u64::MAX))
}
