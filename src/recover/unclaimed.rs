//! Free space that no lost file explains: what is left for programs that look for files by their content.

use super::Recovery;
use crate::fs::test_bit;
use roaring::RoaringTreemap;
use std::ops::Range;

impl Recovery {
    /// All blocks that lost files show, with their indirect blocks.
    pub fn claimed(&self) -> &RoaringTreemap {
        &self.claimed
    }

    /// Bytes of the whole filesystem. No file can be larger than `i64::MAX`, whatever a damaged superblock says.
    pub fn filesystem_bytes(&self) -> u64 {
        self.fs.geometry().superblock.blocks.saturating_mul(self.block_size()).min(i64::MAX as u64)
    }

    /// Bytes of all unclaimed ranges together. Looks at every bitmap.
    pub fn unclaimed_bytes(&self) -> u64 {
        let size = self.filesystem_bytes();
        let mut at = 0;
        let ranges = std::iter::from_fn(|| {
            let range = self.unclaimed(at..size)?;
            at = range.end;
            Some(range.end - range.start)
        });
        ranges.sum()
    }

    /// The first range of bytes inside `within` that lies in free blocks which no lost file claims: whole blocks, cut at the ends of
    /// `within`. What cannot be read, and holes of a sparse image, are no part of it. As long as one lookup tells: the next may go on
    /// where it ends.
    pub fn unclaimed(&self, within: Range<u64>) -> Option<Range<u64>> {
        let (sb, block_size) = (&self.fs.geometry().superblock, self.block_size());
        let end = within.end.min(self.filesystem_bytes()).min(self.image().len() / block_size * block_size);
        // Block 0 is never free: it is the boot sector's or the superblock's.
        let mut at = (within.start / block_size).max(sb.first_data_block).max(1);
        while at.checked_mul(block_size)? < end {
            let group = (at - sb.first_data_block) / sb.blocks_per_group;
            let start = sb.group_start(group);
            let limit = start.saturating_add(sb.blocks_per_group).min(sb.blocks);
            let bitmap = self.fs.block_bitmap(group);
            let Some(free) = bitmap.and_then(|bitmap| free_run(&bitmap, (at - start) as usize..(limit - start) as usize)) else {
                at = limit;
                continue;
            };
            let free = start + free.start as u64..start + free.end as u64;
            let left = outside(free, &self.fs.geometry().metadata_in(group));
            let left = self.readable(not_in(left, &self.claimed));
            if !left.is_empty() {
                let bytes = (left.start * block_size).max(within.start)..(left.end * block_size).min(end);
                return (!bytes.is_empty()).then_some(bytes);
            }
            at = left.end;
        }
        None
    }

    /// The first part of these blocks that can be read and is not a hole of the image; else an empty range, where to look further.
    fn readable(&self, blocks: Range<u64>) -> Range<u64> {
        let (image, block_size) = (self.image(), self.block_size());
        if blocks.is_empty() {
            return blocks;
        }
        let Some(data) = image.next_data(blocks.start * block_size) else { return u64::MAX..u64::MAX };
        let start = blocks.start.max(data / block_size);
        let end = blocks.end.min(image.next_hole(data).div_ceil(block_size));
        if start >= end {
            return start..start;
        }
        if !image.is_unread(start * block_size, (end - start) * block_size) {
            return start..end;
        }
        let is_unread = |block: &u64| image.is_unread(block * block_size, block_size);
        let start = (start..end).find(|block| !is_unread(block)).unwrap_or(end);
        start..(start..end).find(is_unread).unwrap_or(end)
    }
}

/// The first run of bits in `within` that are not set.
fn free_run(bitmap: &[u8], within: Range<usize>) -> Option<Range<usize>> {
    // The first bit from `at` on that has the value, whole bytes at a time where they cannot hold it.
    let next = |mut at: usize, set: bool| {
        let skip = if set { 0 } else { 0xff };
        while at < within.end && test_bit(bitmap, at) != set {
            at += if at.is_multiple_of(8) && bitmap.get(at / 8) == Some(&skip) { 8 } else { 1 };
        }
        at.min(within.end)
    };
    let start = next(within.start, false);
    let end = next(start, true);
    (start < end).then_some(start..end)
}

/// The first part of `run` that lies in none of the ranges, which are sorted by their start; else an empty range at its end.
fn outside(mut run: Range<u64>, ranges: &[Range<u64>]) -> Range<u64> {
    for range in ranges.iter().filter(|range| range.end > range.start) {
        if range.start > run.start {
            run.end = run.end.min(range.start);
            break;
        }
        run.start = run.start.max(range.end).min(run.end);
    }
    run
}

/// The first part of `run` that is not in the set; else an empty range at its end.
fn not_in(mut run: Range<u64>, set: &RoaringTreemap) -> Range<u64> {
    let mut members = set.iter();
    members.advance_to(run.start);
    for member in members.take_while(|member| *member < run.end) {
        if member > run.start {
            run.end = member;
            break;
        }
        run.start += 1;
    }
    run
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_free_bits() {
        let bitmap = [0b0000_0111, 0xff, 0xff, 0xff, 0b1111_1110, 0, 0b1000_0000];
        for (within, expected) in [
            (0..56, Some(3..8)),
            (5..56, Some(5..8)),
            (5..7, Some(5..7)),
            (8..56, Some(32..33)),
            (33..56, Some(40..55)),
            (41..42, Some(41..42)),
            (55..56, None),
            (8..24, None),
            (9..9, None),
            (50..90, Some(50..55)),
            (56..90, None),
        ] {
            assert_eq!(free_run(&bitmap, within.clone()), expected, "{within:?}");
        }
    }

    #[test]
    fn what_is_left_of_a_run() {
        let ranges = [5..7, 10..14, 12..13, 14..15, 20..21];
        for (run, expected) in
            [(0..30, 0..5), (5..30, 7..10), (6..9, 7..9), (10..30, 15..20), (11..14, 14..14), (21..30, 21..30), (8..8, 8..8)]
        {
            assert_eq!(outside(run.clone(), &ranges), expected, "{run:?}");
            let set: RoaringTreemap = ranges.iter().cloned().flatten().collect();
            assert_eq!(not_in(run.clone(), &set), expected, "{run:?}");
        }
    }
}
