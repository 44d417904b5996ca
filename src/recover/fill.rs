//! Fills gaps in a file's map for which no pointer is left, from what the allocators do. Only *spare* blocks come into question: free,
//! with content, and claimed by no file that is lost.
//!
//! * Where exactly as many spare blocks lie between the block before a gap and the block after it as the gap has, they are it, and in order
//!   if the allocator went upwards: always with the old driver; with the ext4 driver if at most one run lies apart from the ends, or the ends
//!   are congruent.
//! * The ext4 driver allocates in chunks that stand on the disk as they stand in the file: block number and file block are congruent
//!   modulo 4 or 8 MiB (`ext4_mb_normalize_request`, fs/ext4/mballoc.c: chunks begin at multiples of their size, up to 8 MiB). Where the
//!   blocks before and after a gap are so, the runs of spare blocks between them tile the gap, but for what was overwritten ([`super::tiling`]).
//! * At the beginning of a file these chunks double, so that their length tells their place.
//! * Where the whole filesystem has exactly as many spare blocks as the gap, they are it, in the order in which the allocators search:
//!   upwards from the block before, and from the beginning again.
//! * Else what goes on directly from the block before, and leads directly to the block after; and one run of spare blocks that is
//!   exactly as long as what then is left.

use super::tiling::{are_congruent, tiled};
use crate::format::indirect;
use crate::units::{Block, FileBlock, consecutive};
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

/// Blocks of the smallest chunks that the ext4 driver takes for a file of which it thinks that it will grow (`s_mb_stream_request`): those
/// before stand with other small files.
const SMALLEST: u64 = 16;

/// What is placed by the length of runs reaches down to this file block at least, so that several lengths agree.
const FEWEST: u64 = 64;

/// A run that goes on from one end of a gap whose other end is not known has to be so long: short ones may be the next file's.
const ALONE: u64 = 64;

/// How far from the ends of a gap a run of spare blocks is looked for that fits exactly, in blocks.
const REACH: u64 = 1 << 17;

/// The pieces that a gap can be filled with, in the order of the file, apart from each other. `inline` says that the file's indirect blocks
/// stand among its data, as the old driver lays them out.
pub fn fill(gap: &Gap, spare: &RoaringTreemap, block_size: u64, inline: bool) -> Vec<Piece> {
    if spare.len() == gap.length
        && let Some(pieces) = in_search_order(gap, spare)
    {
        return pieces;
    }
    let pieces = if inline { beginning(gap, spare) } else { by_length(gap, spare) };
    if !pieces.is_empty() {
        return pieces;
    }
    if let (Some(before), Some(after)) = (gap.before, gap.after)
        && before < after
    {
        let between = runs(spare, before.get() + 1, after.get());
        if between.iter().map(|(_, length)| length).sum::<u64>() == gap.length && (inline || is_in_order(gap, before, after, &between)) {
            return in_order(gap.first, between);
        }
        let pieces = tiled(gap, before, after, &between, block_size);
        if !pieces.is_empty() {
            return pieces;
        }
    }
    adjacent(gap, spare)
}

/// Whether runs that are a gap are it in the order of the disk. In fragmented space the ext4 driver takes those that fit best first
/// (`ext4_mb_measure_extent`): of 93 gaps of INDs in several runs apart whose ends were not congruent, 56 were in order, of 55 whose ends were, all.
fn is_in_order(gap: &Gap, before: Block, after: Block, runs: &[(u64, u64)]) -> bool {
    let apart = runs.iter().filter(|(start, length)| *start != before.get() + 1 && start + length != after.get()).count();
    apart <= 1 || gap.first.0 > 0 && are_congruent((before, gap.first.0 - 1), (after, gap.first.0 + gap.length))
}

/// Pieces for the beginning of a file by the length of spare runs. A file that the ext4 driver lays out as it grows gets a chunk of as many
/// blocks as it has, again and again (`ext4_mb_normalize_request`): its file blocks 16 to 31 stand together, then 32 to 63, and so on. So
/// a run of 2^n - 2^m blocks begins at file block 2^m. What is placed so has to lead to the end of the gap without a break, and each
/// length must be there once only. Measured: 384 beginnings, all of them right.
fn by_length(gap: &Gap, spare: &RoaringTreemap) -> Vec<Piece> {
    let (Some(after), end) = (gap.after.filter(|_| gap.first.0 <= SMALLEST), gap.first.0 + gap.length) else { return vec![] };
    let (low, high) = (gap.before.unwrap_or(after).min(after).get(), gap.before.unwrap_or(after).max(after).get());
    let mut by_end: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
    for (start, length) in runs(spare, low.saturating_sub(REACH).max(1), high.saturating_add(REACH)) {
        let place = 1u64 << length.trailing_zeros();
        let is_span = place >= SMALLEST && (length + place).is_power_of_two();
        let at = if start + length == after.get() { Some(end) } else { is_span.then_some(length + place) };
        by_end.entry(at.unwrap_or_default()).or_default().push((start, length));
    }
    let (mut at, mut pieces) = (end, vec![]);
    while let Some([(start, length)]) = by_end.get(&at).map(Vec::as_slice)
        && let Some(place) = at.checked_sub(*length).filter(|place| *place >= SMALLEST.max(gap.first.0))
    {
        pieces.extend(Block::new(*start).map(|block| Piece { first: FileBlock(place), block, length: *length }));
        at = place;
    }
    pieces.reverse();
    if at <= FEWEST && pieces.len() > 1 { pieces } else { vec![] }
}

/// Pieces for the beginning of a file whose indirect blocks stand among its data and whose first IND is lost: its block lies between the direct
/// blocks and the rest.
fn beginning(gap: &Gap, spare: &RoaringTreemap) -> Vec<Piece> {
    let mapped = gap.length.checked_sub(indirect::DIRECT).filter(|mapped| gap.first.0 == 0 && gap.before.is_none() && *mapped > 0);
    let (Some(mapped), Some(after)) = (mapped, gap.after) else { return vec![] };
    let below = |end: u64, most: u64| (1..=most.min(end.saturating_sub(1))).take_while(|n| spare.contains(end - n)).count() as u64;
    let piece = |end: u64, at: u64, length: u64| Some(Piece { first: FileBlock(at - length), block: Block::new(end - length)?, length });
    if below(after.get(), mapped) < mapped {
        return vec![];
    }
    let direct = after.get().checked_sub(mapped + 1).and_then(|end| piece(end, indirect::DIRECT, below(end, indirect::DIRECT)));
    direct.into_iter().chain(piece(after.get(), gap.length, mapped)).filter(|piece| piece.length > 0).collect()
}

/// Runs of spare blocks from `start` up to, not including, `end`: first block and length.
fn runs(spare: &RoaringTreemap, start: u64, end: u64) -> Vec<(u64, u64)> {
    let mut blocks = spare.iter();
    blocks.advance_to(start);
    consecutive(blocks.take_while(|block| *block < end), u64::MAX).map(|run| (run.start, run.end - run.start)).collect()
}

/// All spare blocks, upwards from the block before, or so that they end at the block after. `None` where more than one run lies apart
/// from both ends, so that their order is a guess, unless all stand on the disk as in the file, but for whole chunks.
fn in_search_order(gap: &Gap, spare: &RoaringTreemap) -> Option<Vec<Piece>> {
    let from = gap.before.or(gap.after)?;
    let goes_on = |(start, _): &(u64, u64)| gap.before.is_some_and(|before| before.get() + 1 == *start);
    let leads = |(start, length): &(u64, u64)| gap.after.is_some_and(|after| after.get() == start + length);
    let (first, rest): (Vec<_>, Vec<_>) = runs(spare, 1, u64::MAX).into_iter().partition(goes_on);
    let (last, apart): (Vec<_>, Vec<_>) = rest.into_iter().partition(leads);
    let certain = apart.len() <= 1;
    let (below, above): (Vec<_>, Vec<_>) = apart.into_iter().partition(|(start, _)| *start < from.get());
    let pieces = in_order(gap.first, [first, above, below, last].concat());
    let known = gap.before.map_or((from, gap.first.0 + gap.length), |before| (before, gap.first.0.saturating_sub(1)));
    let chunked = |piece: &Piece| are_congruent((piece.block, piece.first.0), known);
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
    // Where they are the same blocks, nothing tells where in the file those of one end stop, unless they are the whole gap.
    let same = gap.before.zip(gap.after).is_some_and(|(before, after)| before.get() + forward + 1 == after.get());
    let fits = if same { forward == gap.length } else { forward + backward <= gap.length };
    if !fits {
        return pieces;
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
        fill(&gap, &blocks, 4096, false).iter().map(|piece| (piece.first.0, piece.block.get(), piece.length)).collect()
    }

    #[test]
    fn exactly_as_many_are_the_gap() {
        assert_eq!(filled((12, 10, 100, 130), &[101..105, 120..126, 140..150]), [(12, 101, 4), (16, 120, 6)]);
    }

    #[test]
    fn several_runs_apart_are_in_order_between_congruent_ends_only() {
        let three = [101..104, 108..110, 115..118, 128..130];
        assert_eq!(filled((12, 10, 100, 130), &three), [(12, 101, 3), (20, 128, 2)]);
        let three = [101..104, 108..110, 115..118, 632..634];
        assert_eq!(filled((22, 10, 100, 622), &three[..3]), [(22, 101, 3)]);
        assert_eq!(
            filled((22, 10, 100, 623), &[101..104, 108..110, 115..118, 621..623]),
            [(22, 101, 3), (25, 108, 2), (27, 115, 3), (30, 621, 2)]
        );
    }

    #[test]
    fn chunks_at_the_beginning_are_told_by_their_length() {
        let chunks = [700..748, 500..628, 300..364, 900..1156, 2000..2524];
        let found = [(16, 700, 48), (64, 300, 64), (128, 500, 128), (256, 900, 256), (512, 2000, 524)];
        assert_eq!(filled((0, 1036, 0, 2524), &chunks), found);
        // Two of one length: from there down nothing is certain.
        let doubled = [700..748, 500..628, 300..364, 900..1156, 2000..2524, 3000..3128];
        assert_eq!(filled((0, 1036, 0, 2524), &doubled), [(512, 2000, 524)]);
    }

    #[test]
    fn a_lost_ind_stands_between_the_direct_blocks_and_the_rest() {
        let mut blocks = RoaringTreemap::new();
        // With something else in the IND's block, and another file's blocks below.
        blocks.insert_range(900..2000);
        let gap = Gap { first: FileBlock(0), length: 1036, before: None, after: Block::new(2000) };
        let found: Vec<_> = fill(&gap, &blocks, 4096, true).iter().map(|piece| (piece.first.0, piece.block.get(), piece.length)).collect();
        assert_eq!(found, [(0, 963, 12), (12, 976, 1024)]);
    }

    #[test]
    fn all_that_is_left_is_the_gap() {
        assert_eq!(filled((12, 10, 100, 27), &[101..105, 25..27, 7..11]), [(12, 101, 4), (16, 7, 4), (20, 25, 2)]);
        assert_eq!(filled((0, 10, 0, 27), &[110..114, 25..27, 7..11]), []);
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
        // The same blocks follow one end and lead to the other.
        assert_eq!(filled((12, 30, 100, 111), &[101..111, 900_000..900_001]), []);
        assert_eq!(filled((12, 10, 100, 111), &[101..111, 900_000..900_001]), [(12, 101, 10)]);
        assert_eq!(filled((12, 70, 100, 0), &[101..201, 900..901]), [(12, 101, 70)]);
        assert_eq!(filled((12, 70, 100, 0), &[101..164, 900..901]), []);
    }
}
