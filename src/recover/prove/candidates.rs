//! Which stretches fill the gaps of a file.

use super::super::{FileId, Progress, Recovery};
use super::Piece;
use super::count::Ruler;
use super::gap::Gap;
use super::index::{Found, Index};
use super::keys::Leaves;
use super::solver::Solver;
use super::state;
use super::subject::{self, Subject};
use super::walk::{Node, walk};

/// Stretches that are looked at for one gap: each takes some 10 KiB.
const MOST_NODES: usize = 4096;
/// Stretches with known ranks that are looked at for rivals.
const RIVALS: usize = 256;
/// Blocks by which a rival is told.
pub const BLOCKS_ALIKE: u64 = 8;

/// Finds what fills the gaps of a file.
pub fn solve<'k>(
    recovery: &Recovery,
    subject: &Subject,
    gaps: &[Gap],
    index: &Index,
    keys: &dyn Fn() -> &'k Leaves,
    progress: &dyn Progress,
) -> Vec<Piece> {
    let ranks = if subject.stride.is_some() { ranked(recovery, subject, index) } else { vec![] };
    let mut ruler = Ruler::new(recovery, subject);
    ruler.iter_mut().for_each(Ruler::begin);
    let has_rivals = ruler.as_ref().is_some_and(|ruler| has_rivals(recovery, subject, &ranks, index, ruler));
    let mut pieces = vec![];
    for (at, gap) in gaps.iter().enumerate() {
        progress.step("placing rows", at as u64, gaps.len() as u64);
        let start = state::before(recovery, subject, gap);
        let end = state::after(recovery, subject, gap);
        let found = match subject.stride {
            Some(_) => in_ranks(&ranks, index, state::ranks(recovery, subject, gap), subject.window()),
            None => beside(index, start.as_ref().and_then(|start| start.next), end.as_ref().map(|end| end.block), gap.length),
        };
        let mut nodes: Vec<Node> = found.iter().take(MOST_NODES).flat_map(|found| walk(recovery.filesystem(), subject, found)).collect();
        nodes.sort_by_key(|node| (node.rank, node.first));
        pieces.extend(Solver { subject, gap, nodes, end, has_rivals }.solve(start, ruler.as_mut(), keys));
    }
    pieces
}

/// Whether there is another table whose rows count as this one's do: among free blocks with ranks that are known here, or another file.
fn has_rivals(recovery: &Recovery, subject: &Subject, ranks: &[(u64, usize)], index: &Index, ruler: &Ruler) -> bool {
    let size = recovery.block_size();
    let known = ranks.iter().filter(|(rank, _)| ruler.is_known(*rank)).map(|(_, at)| &index.found[*at]);
    let alike = |found: &Found| {
        let blocks = found.first..found.first + u64::from(found.blocks).min(BLOCKS_ALIKE);
        let bytes = super::index::read(recovery.filesystem(), blocks).unwrap_or_default();
        subject.is_alike(&subject.order.ranks(&bytes, found.head as usize))
    };
    let is_alike = |id: FileId| {
        let Some(bytes) = subject::sample(recovery, id, BLOCKS_ALIKE) else { return false };
        let stretch = subject.tiling.stretches(&bytes, size as usize).into_iter().max_by_key(|stretch| stretch.blocks);
        stretch.is_some_and(|stretch| subject.is_alike(&subject.order.ranks(&bytes[stretch.first * size as usize..], stretch.head)))
    };
    known.take(RIVALS).any(alike) || recovery.ids().filter(|id| *id != subject.id && subject::may_be_rows(recovery, *id)).any(is_alike)
}

/// All stretches with the rank of their first rows, sorted by it.
fn ranked(recovery: &Recovery, subject: &Subject, index: &Index) -> Vec<(u64, usize)> {
    let size = recovery.block_size();
    let rank = |(at, found): (usize, &Found)| {
        let bytes =
            super::index::read(recovery.filesystem(), found.first..found.first + u64::from(found.blocks).min(super::walk::LOOK_AT as u64));
        Some((subject.order.rank_from(&bytes.filter(|bytes| bytes.len() as u64 >= size)?, found.head as usize)?, at))
    };
    let mut ranks: Vec<(u64, usize)> = index.found.iter().enumerate().filter_map(rank).collect();
    ranks.sort_unstable();
    ranks
}

fn in_ranks(ranks: &[(u64, usize)], index: &Index, (low, high): (u64, u64), window: u64) -> Vec<Found> {
    let from = ranks.partition_point(|(rank, _)| rank.saturating_add(window) < low);
    ranks[from..].iter().take_while(|(rank, _)| *rank <= high.saturating_add(window)).map(|(_, at)| index.found[*at]).collect()
}

/// The stretches that go on directly from one end of a gap, or lead directly to the other.
fn beside(index: &Index, next: Option<u64>, end: Option<u64>, length: u64) -> Vec<Found> {
    let mut found = vec![];
    let mut at = next;
    while let Some(one) = at.and_then(|block| index.beginning(block)).map(|at| index.found[at]) {
        found.push(one);
        at = Some(one.first + u64::from(one.blocks)).filter(|block| next.is_some_and(|first| block - first < length));
    }
    let mut at = end;
    while let Some(one) = at.and_then(|block| index.ending(block)).map(|at| index.found[at]) {
        found.push(one);
        at = Some(one.first).filter(|block| end.is_some_and(|end| end - block < length));
    }
    found.sort_unstable();
    found.dedup();
    found
}
