//! Fills gaps in a file's map for which no pointer is left, from what the allocators do. Only *spare* blocks come into question: free,
//! with content, and claimed by no file that is lost.
//!
//! * Where exactly as many spare blocks lie between the block before a gap and the block after it as the gap has, they are it, in order:
//!   both drivers go on upwards, and what lies between and is not the file's is in use or claimed by others.
//! * The ext4 driver allocates in chunks that stand on the disk as they stand in the file: block number and file block are congruent
//!   modulo 4 or 8 MiB (`ext4_mb_normalize_request`, fs/ext4/mballoc.c: chunks begin at multiples of their size, up to 8 MiB). Where the
//!   blocks before and after a gap are so, the runs of spare blocks between them tile the gap, but for what was overwritten.
//! * Where the whole filesystem has exactly as many spare blocks as the gap, they are it, in the order in which the allocators search:
//!   upwards from the block before, and from the beginning again.
//! * Else what goes on directly from the block before, and leads directly to the block after; and one run of spare blocks that is
//!   exactly as long as what then is left.

use crate::units::{Block, FileBlock};
use roaring::RoaringTreemap;
use std::collections::BTreeMap;

/// Consecutive file blocks without pointers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap {
    /// The first.
    pub first: FileBlock,
    /// How many.
    pub length: u64,
    /// The block of the file block before.
    pub before: Option<Block>,
    /// The block of the file block after.
    pub after: Option<Block>,
}

/// Consecutive blocks for consecutive file blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// The first file block.
    pub first: FileBlock,
    /// Its block.
    pub block: Block,
    /// How many.
    pub length: u64,
}

/// Bytes to which the ext4 driver aligns its chunks: the first for files beyond 8 MiB, the second from 4 MiB on.
const CHUNKS: [u64; 2] = [8 << 20, 4 << 20];

/// Blocks more or less that do not tell one way to place runs from another.
const SLACK: u64 = 32;

/// Blocks of the smallest chunks that it takes for a file of more than 64 KiB.
const SMALLEST: u64 = 16;

/// Runs between the ends of a gap that are tried; more take too long, since each is held against each.
const MOST_RUNS: usize = 512;

/// A run that goes on from one end of a gap whose other end is not known has to be so long: short ones may be the next file's.
const ALONE: u64 = 64;

/// How far from the ends of a gap a run of spare blocks is looked for that fits exactly, in blocks.
const REACH: u64 = 1 << 17;

/// The pieces that a gap can be filled with, in the order of the file, apart from each other.
pub fn fill(gap: &Gap, spare: &RoaringTreemap, block_size: u64) -> Vec<Piece> {
    if spare.len() == gap.length
        && let Some(pieces) = in_search_order(gap, spare)
    {
        return pieces;
    }
    if let (Some(before), Some(after)) = (gap.before, gap.after)
        && before < after
    {
        if spare.range_cardinality(before.get()..after.get()) == gap.length {
            return in_order(gap.first, runs(spare, before.get() + 1, after.get()));
        }
        let pieces = tiled(gap, before, after, &runs(spare, before.get() + 1, after.get()), block_size);
        if !pieces.is_empty() {
            return pieces;
        }
    }
    adjacent(gap, spare)
}

/// Runs of spare blocks from `start` up to, not including, `end`: first block and length.
fn runs(spare: &RoaringTreemap, start: u64, end: u64) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = vec![];
    let mut blocks = spare.iter();
    blocks.advance_to(start);
    for block in blocks.take_while(|block| *block < end) {
        match runs.last_mut() {
            Some((first, length)) if *first + *length == block => *length += 1,
            _ => runs.push((block, 1)),
        }
    }
    runs
}

/// All spare blocks, upwards from the block before, or so that they end at the block after. `None` where more than one run lies apart
/// from both ends, so that their order is a guess, unless all stand as the ext4 driver's smallest chunks do.
fn in_search_order(gap: &Gap, spare: &RoaringTreemap) -> Option<Vec<Piece>> {
    let from = gap.before.or(gap.after)?;
    let goes_on = |(start, _): &(u64, u64)| gap.before.is_some_and(|before| before.get() + 1 == *start);
    let leads = |(start, length): &(u64, u64)| gap.after.is_some_and(|after| after.get() == start + length);
    let (first, rest): (Vec<_>, Vec<_>) = runs(spare, 1, u64::MAX).into_iter().partition(goes_on);
    let (last, apart): (Vec<_>, Vec<_>) = rest.into_iter().partition(leads);
    let certain = apart.len() <= 1;
    let (below, above): (Vec<_>, Vec<_>) = apart.into_iter().partition(|(start, _)| *start < from.get());
    let pieces = in_order(gap.first, [first, above, below, last].concat());
    let chunked = |piece: &Piece| piece.first.0 < SMALLEST || piece.block.get() % SMALLEST == piece.first.0 % SMALLEST;
    (certain || pieces.iter().all(chunked)).then_some(pieces)
}

/// Pieces for the end of a file of which only the beginning of the gap is known, and at most how long it is: what goes on from the block
/// before, or all spare blocks of the filesystem where they are not more than that.
pub fn fill_end(gap: &Gap, spare: &RoaringTreemap) -> Vec<Piece> {
    let all = if spare.len() <= gap.length { in_search_order(gap, spare) } else { None };
    all.unwrap_or_else(|| adjacent(gap, spare))
}

fn in_order(first: FileBlock, runs: Vec<(u64, u64)>) -> Vec<Piece> {
    let mut at = first;
    let piece = |(start, length): (u64, u64)| {
        let piece = Piece { first: at, block: Block::new(start)?, length };
        at = at.plus(length);
        Some(piece)
    };
    runs.into_iter().filter_map(piece).collect()
}

/// Where runs can stand in a gap: each congruent to the ends, in the order of the disk, and apart from each other by no more than the
/// blocks between them that are in use now, which can have been the file's.
struct Tiling {
    modulus: u64,
    offset: u64,
    end: u64,
    /// First block and length; the first and the last are the ends of the gap, without blocks.
    nodes: Vec<(u64, u64)>,
    /// Blocks of the nodes before each.
    spare_before: Vec<u64>,
    /// For each node the places that it can have, with the most blocks that can be placed up to and with it there.
    upto: Vec<BTreeMap<u64, u64>>,
    /// The same from it on.
    from: Vec<BTreeMap<u64, u64>>,
}

impl Tiling {
    fn new(gap: &Gap, before: Block, after: Block, runs: &[(u64, u64)], modulus: u64) -> Tiling {
        let end = gap.first.0 + gap.length;
        let mut nodes = vec![(before.get() + 1, 0)];
        nodes.extend(runs);
        nodes.push((after.get(), 0));
        let mut spare_before: Vec<u64> = vec![0];
        nodes.iter().for_each(|(_, length)| spare_before.push(spare_before[spare_before.len() - 1] + length));
        let none = vec![BTreeMap::new(); nodes.len()];
        let offset = offset(after, end, modulus);
        let mut tiling = Tiling { modulus, offset, end, nodes, spare_before, upto: none.clone(), from: none };
        tiling.upto[0].insert(gap.first.0, 0);
        for at in 1..tiling.nodes.len() {
            for before in 0..at {
                for (place, placed) in tiling.upto[before].clone() {
                    for next in tiling.next(before, place, at) {
                        let placed = placed + tiling.nodes[at].1;
                        let known = tiling.upto[at].entry(next).or_default();
                        *known = placed.max(*known);
                    }
                }
            }
        }
        let last = tiling.nodes.len() - 1;
        if tiling.upto[last].contains_key(&end) {
            tiling.from[last].insert(end, 0);
        }
        for at in (0..last).rev() {
            for place in tiling.upto[at].keys().copied().collect::<Vec<_>>() {
                let ways = (at + 1..=last).flat_map(|next| tiling.next(at, place, next).map(move |place| (next, place)));
                let most = ways.filter_map(|(next, place)| tiling.from[next].get(&place)).max();
                if let Some(placed) = most.map(|placed| placed + tiling.nodes[at].1) {
                    tiling.from[at].insert(place, placed);
                }
            }
        }
        tiling
    }

    /// The places that node `at` can have if the nodes between it and `before`, which stands at `place`, are not the file's.
    fn next(&self, before: usize, place: u64, at: usize) -> impl Iterator<Item = u64> + use<> {
        let ((start, length), (from_start, from_length)) = (self.nodes[at], self.nodes[before]);
        let in_use = (start - from_start - from_length).saturating_sub(self.spare_before[at] - self.spare_before[before + 1]);
        let (least, most) = (place + from_length, (place + from_length + in_use).min(self.end.saturating_sub(length)));
        let residue = (start % self.modulus + self.modulus - self.offset) % self.modulus;
        let next = least + (residue + self.modulus - least % self.modulus) % self.modulus;
        (next..=most).step_by(self.modulus as usize)
    }

    /// What is placed for certain: in every way that places nearly as many blocks as the best one, a run stands there and nowhere else. A
    /// run so short that it hardly counts has to touch another one in the file, or an end.
    fn certain(&self) -> Vec<Piece> {
        let Some(best) = self.from[0].values().max().copied() else { return vec![] };
        let total = |at: usize, place: u64| Some(self.upto[at].get(&place)? + self.from[at].get(&place)? - self.nodes[at].1);
        let last = self.nodes.len() - 1;
        let mut likely: Vec<(usize, u64)> = vec![];
        for at in 1..last {
            let mut near = self.upto[at].keys().filter(|place| total(at, **place).is_some_and(|total| total + SLACK >= best));
            if let (Some(place), None) = (near.next(), near.next())
                && total(at, *place) == Some(best)
            {
                likely.push((at, *place));
            }
        }
        let first = self.upto[0].keys().next().copied().unwrap_or_default();
        let begins = |place: u64| place == self.end || likely.iter().any(|(_, known)| *known == place);
        let ends = |place: u64| place == first || likely.iter().any(|(at, known)| known + self.nodes[*at].1 == place);
        let certain = |(at, place): &&(usize, u64)| {
            let length = self.nodes[*at].1;
            length > SLACK || begins(place + length) || ends(*place)
        };
        let piece = |(at, place): &(usize, u64)| {
            Some(Piece { first: FileBlock(*place), block: Block::new(self.nodes[*at].0)?, length: self.nodes[*at].1 })
        };
        let mut pieces: Vec<Piece> = likely.iter().filter(certain).filter_map(piece).collect();
        // What is the only place of each run can still be the same place for two.
        pieces.sort_by_key(|piece| piece.first);
        let apart = |pair: &[Piece]| pair[0].first.plus(pair[0].length) <= pair[1].first && pair[0].block < pair[1].block;
        if pieces.windows(2).all(apart) { pieces } else { vec![] }
    }
}

/// By how much a block and its file block differ, modulo `modulus`.
const fn offset(block: Block, at: u64, modulus: u64) -> u64 {
    (block.get() % modulus + modulus - at % modulus) % modulus
}

/// Places the runs between two ends that are congruent, modulo the largest chunk for which they are.
fn tiled(gap: &Gap, before: Block, after: Block, runs: &[(u64, u64)], block_size: u64) -> Vec<Piece> {
    let end = gap.first.0 + gap.length;
    let congruent = |modulus: &u64| gap.first.0 > 0 && offset(before, gap.first.0 - 1, *modulus) == offset(after, end, *modulus);
    let moduli = CHUNKS.map(|bytes| bytes / block_size);
    let tiling = |modulus: u64| Tiling::new(gap, before, after, runs, modulus).certain();
    let mut ways = moduli.into_iter().filter(congruent).filter(|_| runs.len() <= MOST_RUNS).map(tiling);
    ways.find(|pieces| !pieces.is_empty()).unwrap_or_default()
}

/// What goes on from the block before and leads to the block after, and one run that fits exactly between.
fn adjacent(gap: &Gap, spare: &RoaringTreemap) -> Vec<Piece> {
    let forward = gap.before.map_or(0, |before| {
        // The indirect block of the gap itself may stand in between.
        (1..=gap.length).take_while(|n| spare.contains(before.get() + n)).count() as u64
    });
    let backward = gap.after.map_or(0, |after| {
        let most = gap.length.min(after.get() - 1);
        (1..=most).take_while(|n| spare.contains(after.get() - n)).count() as u64
    });
    let end = gap.first.0 + gap.length;
    let mut pieces = vec![];
    if (gap.before.is_none() || gap.after.is_none()) && forward + backward < ALONE {
        return pieces;
    }
    if forward + backward > gap.length {
        // The two meet only if they are the same blocks.
        let joined = gap.before.zip(gap.after).is_some_and(|(before, after)| before.get() + gap.length + 1 == after.get());
        if !joined {
            return pieces;
        }
    }
    let forward = forward.min(gap.length);
    let backward = backward.min(gap.length - forward);
    pieces.extend(gap.before.filter(|_| forward > 0).map(|before| Piece { first: gap.first, block: before.plus(1), length: forward }));
    let left = gap.length - forward - backward;
    if left > 0
        && let (Some(before), Some(after)) = (gap.before, gap.after)
    {
        let (low, high) = (before.min(after).get(), before.max(after).get());
        let fits = |(start, length): &(u64, u64)| *length == left && *start != before.get() + 1 && start + length != after.get();
        let mut exact = runs(spare, low.saturating_sub(REACH).max(1), high.saturating_add(REACH)).into_iter().filter(fits);
        if let (Some((start, length)), None) = (exact.next(), exact.next())
            && let Some(block) = Block::new(start)
        {
            pieces.push(Piece { first: gap.first.plus(forward), block, length });
        }
    }
    if let Some(after) = gap.after.filter(|_| backward > 0)
        && let Some(block) = Block::new(after.get() - backward)
    {
        pieces.push(Piece { first: FileBlock(end - backward), block, length: backward });
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(gap: (u64, u64, u64, u64), spare: &[std::ops::Range<u64>]) -> Vec<(u64, u64, u64)> {
        let mut blocks = RoaringTreemap::new();
        for range in spare {
            blocks.insert_range(range.clone());
        }
        let gap = Gap { first: FileBlock(gap.0), length: gap.1, before: Block::new(gap.2), after: Block::new(gap.3) };
        fill(&gap, &blocks, 4096).iter().map(|piece| (piece.first.0, piece.block.get(), piece.length)).collect()
    }

    #[test]
    fn exactly_as_many_are_the_gap() {
        assert_eq!(filled((12, 10, 100, 130), &[101..105, 120..126, 140..150]), [(12, 101, 4), (16, 120, 6)]);
    }

    #[test]
    fn all_that_is_left_is_the_gap() {
        assert_eq!(filled((12, 10, 100, 27), &[101..105, 25..27, 7..11]), [(12, 101, 4), (16, 7, 4), (20, 25, 2)]);
        assert_eq!(filled((0, 10, 0, 27), &[110..114, 25..27, 7..11]), [(0, 110, 4), (4, 7, 4), (8, 25, 2)]);
        assert_eq!(filled((100, 10, 95, 30), &[110..114, 25..27, 7..11]), []);
    }

    #[test]
    fn chunks_stand_as_in_the_file() {
        // As measured: file block 2060 at 10252, 2147 at 12387, 2679 at 17015, with a stranger in between.
        let found = filled((2060, 1024, 10251, 17420), &[10252..10339, 12387..12900, 13000..13003, 17015..17420]);
        assert_eq!(found, [(2060, 10252, 87), (2147, 12387, 513), (2679, 17015, 405)]);
        // Two INDs lost: 2,048 file blocks, the last 600 of them overwritten where they stood.
        let found = filled((2060, 2048, 10251, 71692), &[10252..10339, 12387..12919, 17015..17844, 25000..25100]);
        assert_eq!(found, [(2060, 10252, 87), (2147, 12387, 532), (2679, 17015, 829)]);
    }

    #[test]
    fn ends_are_continued_and_a_fitting_run_taken() {
        assert_eq!(filled((12, 10, 100, 50), &[101..104, 48..50, 300..305, 400..407]), [(12, 101, 3), (15, 300, 5), (20, 48, 2)]);
        assert_eq!(filled((12, 10, 100, 50), &[101..104, 48..50, 300..305, 400..405]), [(12, 101, 3), (20, 48, 2)]);
        assert_eq!(filled((12, 70, 100, 0), &[101..201]), [(12, 101, 70)]);
        assert_eq!(filled((12, 70, 100, 0), &[101..164]), []);
    }
}
