//! What a file misses, range by range: why, and who has the blocks now.

use std::borrow::Cow;
use std::collections::BTreeMap;
use undelfs::recover::{FileId, Range, Recovery, Taker};
use undelfs::run::Evidence;
use undelfs::units::Block;

/// A range of bytes that are missing in one way.
#[derive(Debug, PartialEq, Eq)]
pub struct Gap {
    /// First byte in the file.
    pub offset: u64,
    /// Bytes; never 0.
    pub length: u64,
    /// The word for it.
    pub evidence: Evidence,
    /// Why, where the word does not say it.
    pub reason: Cow<'static, str>,
    /// Who has the blocks: index of the taker.
    pub taker: Option<usize>,
}

/// The blocks of takers: first block of each stretch to the block behind it and the taker's index.
struct Taken(BTreeMap<u64, (u64, usize)>);

impl Taken {
    /// Where several have a block, the first counts.
    fn by(takers: &[Taker]) -> Taken {
        let mut first: BTreeMap<u64, (u64, usize)> = BTreeMap::new();
        let mut all = roaring::RoaringTreemap::new();
        for (index, taker) in takers.iter().enumerate() {
            let mut last = None;
            for block in (&taker.blocks - &all).iter() {
                match last.and_then(|start| first.get_mut(&start)) {
                    Some((end, _)) if *end == block => *end += 1,
                    _ => {
                        first.insert(block, (block + 1, index));
                        last = Some(block);
                    }
                }
            }
            all |= &taker.blocks;
        }
        Taken(first)
    }

    /// Who has `block`, and how many blocks from there on it is so, at most `count`.
    fn at(&self, block: u64, count: u64) -> (Option<usize>, u64) {
        if let Some((_, (end, taker))) = self.0.range(..=block).next_back().filter(|(_, (end, _))| *end > block) {
            return (Some(*taker), count.min(end - block));
        }
        let next = self.0.range(block..).next().map_or(u64::MAX, |(start, _)| *start);
        (None, count.min(next - block))
    }
}

/// The missing ranges of a file. What lies side by side, is missing for the same reason and taken by the same is one.
pub fn of(recovery: &Recovery, id: FileId, takers: &[Taker]) -> impl Iterator<Item = Gap> {
    let (taken, size) = (Taken::by(takers), recovery.block_size());
    let missing = recovery.ranges(id).filter(|range| range.evidence.is_missing());
    coalesce(missing.flat_map(move |range| parts(&range, &taken, size)))
}

/// A range, cut where the taker changes.
fn parts(range: &Range, taken: &Taken, size: u64) -> Vec<Gap> {
    let gap = |offset, length, taker| Gap { offset, length, evidence: range.evidence, reason: range.reason.clone(), taker };
    let Some(first) = range.block.filter(|_| range.evidence == Evidence::Overwritten).map(Block::get) else {
        return vec![gap(range.offset, range.length, None)];
    };
    let (mut gaps, end, mut at, mut block) = (vec![], range.offset.saturating_add(range.length), range.offset, first);
    while at < end {
        // A range can begin within a block.
        let count = (at % size + (end - at)).div_ceil(size);
        let (taker, blocks) = taken.at(block, count);
        let next = ((at / size + blocks) * size).min(end);
        gaps.push(gap(at, next - at, taker));
        (at, block) = (next, block + blocks);
    }
    gaps
}

fn coalesce(gaps: impl Iterator<Item = Gap>) -> impl Iterator<Item = Gap> {
    let mut gaps = gaps.peekable();
    std::iter::from_fn(move || {
        let mut gap = gaps.next()?;
        let alike = |gap: &Gap, next: &Gap| (gap.evidence, &gap.reason, gap.taker) == (next.evidence, &next.reason, next.taker);
        while let Some(next) = gaps.next_if(|next| alike(&gap, next) && gap.offset.checked_add(gap.length) == Some(next.offset)) {
            gap.length = gap.length.saturating_add(next.length);
        }
        Some(gap)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use undelfs::run::Place;

    fn taker(blocks: &[u64]) -> Taker {
        Taker { ino: None, path: None, lost: false, blocks: blocks.iter().copied().collect() }
    }

    #[test]
    fn ranges_are_cut_where_the_taker_changes() {
        let taken = Taken::by(&[taker(&[11, 12, 20]), taker(&[12, 13])]);
        let range = |offset, length, evidence| Range {
            offset,
            length,
            evidence,
            block: Block::new(10),
            place: Place::Home,
            reason: Cow::Borrowed("in use now"),
        };
        let cut = |range: Range| parts(&range, &taken, 1024).iter().map(|gap| (gap.offset, gap.length, gap.taker)).collect::<Vec<_>>();
        let whole = cut(range(2048, 5000, Evidence::Overwritten));
        assert_eq!(whole, [(2048, 1024, None), (3072, 2048, Some(0)), (5120, 1024, Some(1)), (6144, 904, None)]);
        assert_eq!(cut(range(2548, 1000, Evidence::Overwritten)), [(2548, 524, None), (3072, 476, Some(0))]);
        assert_eq!(cut(range(0, 5000, Evidence::Unknown)), [(0, 5000, None)]);
    }

    #[test]
    fn only_what_is_alike_is_one_gap() {
        let gap = |offset, reason, taker| Gap { offset, length: 10, evidence: Evidence::Unknown, reason: Cow::Borrowed(reason), taker };
        let gaps = [gap(0, "a", None), gap(10, "a", None), gap(20, "b", None), gap(30, "b", Some(1)), gap(50, "b", Some(1))];
        let joined: Vec<_> = coalesce(gaps.into_iter()).map(|gap| (gap.offset, gap.length)).collect();
        assert_eq!(joined, [(0, 20), (20, 10), (30, 10), (50, 10)]);
    }
}
