//! Fills gaps in a file's map for which no pointer is left, from what the allocators do. Only *spare* blocks come into question: free,
//! with content, and claimed by no file that is lost.
//!
//! * Where exactly as many spare blocks lie between the block before a gap and the block after it as the gap has, they are it, in order:
//!   both drivers go on upwards, and what lies between and is not the file's is in use or claimed by others.
//! * The ext4 driver allocates in chunks that stand on the disk as they stand in the file: block number and file block are congruent
//!   modulo 4 MiB (`ext4_mb_normalize_request`, fs/ext4/mballoc.c: chunks begin at multiples of their size, up to 8 MiB). Where the
//!   blocks before and after a gap are so, each spare block between them has one place in the gap only; the order has to fit as well.
//! * Else what goes on directly from the block before, and leads directly to the block after; and one run of spare blocks that is
//!   exactly as long as what then is left.

use crate::units::{Block, FileBlock};
use roaring::RoaringTreemap;

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

/// Bytes to which the ext4 driver aligns its chunks.
const CHUNK: u64 = 4 << 20;

/// How far from the ends of a gap a run of spare blocks is looked for that fits exactly, in blocks.
const REACH: u64 = 1 << 17;

/// The pieces that a gap can be filled with, in the order of the file, apart from each other.
pub fn fill(gap: &Gap, spare: &RoaringTreemap, block_size: u64) -> Vec<Piece> {
    if let (Some(before), Some(after)) = (gap.before, gap.after)
        && before < after
    {
        if spare.range_cardinality(before.get()..after.get()) == gap.length {
            return in_order(gap.first, runs(spare, before.get() + 1, after.get()));
        }
        let modulus = CHUNK / block_size;
        let offset = |block: Block, at: u64| (block.get() % modulus + modulus - at % modulus) % modulus;
        let end = gap.first.0 + gap.length;
        let congruent = gap.first.0.checked_sub(1).map(|at| offset(before, at)) == Some(offset(after, end));
        if congruent && gap.length <= modulus {
            return aligned(gap, runs(spare, before.get() + 1, after.get()), offset(after, end), modulus);
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

fn in_order(first: FileBlock, runs: Vec<(u64, u64)>) -> Vec<Piece> {
    let mut at = first;
    let piece = |(start, length): (u64, u64)| {
        let piece = Piece { first: at, block: Block::new(start)?, length };
        at = at.plus(length);
        Some(piece)
    };
    runs.into_iter().filter_map(piece).collect()
}

/// Puts runs where `block - offset` and the file block are congruent; of runs that are out of order, or in each other's place, the
/// shorter ones are left out.
fn aligned(gap: &Gap, runs: Vec<(u64, u64)>, offset: u64, modulus: u64) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = vec![];
    for (mut start, mut length) in runs {
        while length > 0 {
            let place = (start % modulus + 2 * modulus - offset - gap.first.0 % modulus) % modulus;
            // Up to the end of the gap, or up to where the place wraps around to its beginning.
            let part = length.min(modulus - place);
            let inside = part.min(gap.length.saturating_sub(place));
            if let (Some(block), 1..) = (Block::new(start), inside) {
                pieces.push(Piece { first: gap.first.plus(place), block, length: inside });
            }
            (start, length) = (start + part, length - part);
        }
    }
    heaviest_order(&pieces)
}

/// Of pieces in the order of the disk those that are in the order of the file too and hold most blocks. A piece that begins
/// before the one before it ends is out of order.
fn heaviest_order(pieces: &[Piece]) -> Vec<Piece> {
    // Most blocks of a sequence that ends with each piece, and the piece before it there.
    let mut best: Vec<(u64, Option<usize>)> = vec![];
    for (at, piece) in pieces.iter().enumerate() {
        let fits = |earlier: &usize| pieces[*earlier].first.plus(pieces[*earlier].length) <= piece.first;
        let before = (0..at).filter(fits).max_by_key(|earlier| best[*earlier].0);
        best.push((before.map_or(0, |before| best[before].0) + piece.length, before));
    }
    let mut chosen = vec![];
    let mut at = (0..pieces.len()).max_by_key(|at| best[*at].0);
    while let Some(piece) = at {
        chosen.push(pieces[piece]);
        at = best[piece].1;
    }
    chosen.reverse();
    chosen
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
    fn chunks_stand_as_in_the_file() {
        // As measured: file block 2060 at 10252, 2147 at 12387, 2679 at 17015, with a stranger in between.
        let found = filled((2060, 1024, 10251, 17420), &[10252..10339, 12387..12900, 13000..13003, 17015..17420]);
        assert_eq!(found, [(2060, 10252, 87), (2147, 12387, 513), (2679, 17015, 405)]);
    }

    #[test]
    fn ends_are_continued_and_a_fitting_run_taken() {
        assert_eq!(filled((12, 10, 100, 50), &[101..104, 48..50, 300..305, 400..407]), [(12, 101, 3), (15, 300, 5), (20, 48, 2)]);
        assert_eq!(filled((12, 10, 100, 50), &[101..104, 48..50, 300..305, 400..405]), [(12, 101, 3), (20, 48, 2)]);
        assert_eq!(filled((12, 10, 100, 0), &[101..150]), [(12, 101, 10)]);
    }
}
