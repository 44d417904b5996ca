//! Where runs of spare blocks stand in a gap, by how the ext4 driver aligns what it gives out (see [`super::fill`]).

use super::fill::{Gap, Piece};
use crate::units::{Block, FileBlock};
use std::collections::BTreeMap;

/// Bytes to which the ext4 driver aligns its chunks: the first for files beyond 8 MiB, the second from 4 MiB on.
const CHUNKS: [u64; 2] = [8 << 20, 4 << 20];

/// Blocks of the smallest of them.
const CHUNK: u64 = 512;

/// Blocks more or less that do not tell one way to place runs from another.
const SLACK: u64 = 32;

/// Runs between the ends of a gap that are tried; more take too long, since each is held against each.
const MOST_RUNS: usize = 512;

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

/// Whether two blocks stand on the disk as far apart as in the file, but for whole chunks of a file beyond some MiB.
pub const fn are_congruent(one: (Block, u64), other: (Block, u64)) -> bool {
    offset(one.0, one.1, CHUNK) == offset(other.0, other.1, CHUNK)
}

/// Places the runs between two ends that are congruent, modulo the largest chunk for which they are. Where there are more blocks than can be
/// the gap's, some are another gap's, and any run has a place somewhere: then all of it has to be filled.
pub fn tiled(gap: &Gap, before: Block, after: Block, runs: &[(u64, u64)], block_size: u64) -> Vec<Piece> {
    let end = gap.first.0 + gap.length;
    let congruent = |modulus: &u64| gap.first.0 > 0 && offset(before, gap.first.0 - 1, *modulus) == offset(after, end, *modulus);
    let moduli = CHUNKS.map(|bytes| bytes / block_size);
    let tiling = |modulus: u64| Tiling::new(gap, before, after, runs, modulus).certain();
    let blocks = |pieces: &[Piece]| pieces.iter().map(|piece| piece.length).sum::<u64>();
    let surplus = runs.iter().map(|(_, length)| length).sum::<u64>() > gap.length;
    let mut ways = moduli.into_iter().filter(congruent).filter(|_| runs.len() <= MOST_RUNS).map(tiling);
    match surplus {
        true => ways.next().filter(|pieces| blocks(pieces) == gap.length),
        false => ways.find(|pieces| !pieces.is_empty()),
    }
    .unwrap_or_default()
}
