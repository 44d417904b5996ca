//! Stretches of records among the spare blocks of the whole filesystem.

use super::super::Progress;
use super::gap::Gap;
use crate::content::Tiling;
use crate::fs::Filesystem;
use crate::units::consecutive;
use rayon::iter::{ParallelBridge, ParallelIterator};
use roaring::RoaringTreemap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes looked at together: a stretch is no longer.
const PIECE: u64 = 4 << 20;
/// Blocks that are looked through however few are missing, and how many for each missing one.
const FEWEST: u64 = 1 << 20;
const FOR_EACH: u64 = 64;
/// As so many blocks counts what may be missing behind the last one that is known.
const BEHIND: u64 = 4096;
/// Blocks on both sides of each end of a gap that are looked through where not all can be.
const REACH: u64 = 1 << 15;
/// Stretches that are kept: of what a larger disk holds, most are other files.
const MOST: usize = 1 << 20;

/// Consecutive spare blocks whose records follow each other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Found {
    /// First block.
    pub first: u64,
    /// How many.
    pub blocks: u32,
    /// Byte of the first block at which a record begins.
    pub head: u32,
    /// So many blocks at its start hold so few heads that chance may have put them there.
    pub weak_start: u32,
    /// The same at its end.
    pub weak_end: u32,
}

/// What was found for one way to tell records apart.
pub struct Index {
    /// The way.
    pub tiling: Tiling,
    /// Sorted by their first block.
    pub found: Vec<Found>,
}

/// The spare blocks to look through: all, or on disks on which that would take much longer than it can be worth, those near gaps.
pub fn near<'a>(spare: &RoaringTreemap, gaps: impl Iterator<Item = &'a Gap> + Clone) -> RoaringTreemap {
    // What is behind a file's end may be nothing.
    let length = |gap: &Gap| if gap.known_after.is_some() { gap.length } else { gap.length.min(BEHIND) };
    let missing: u64 = gaps.clone().map(length).fold(0, u64::saturating_add);
    let most = missing.saturating_mul(FOR_EACH).max(FEWEST);
    if spare.len() <= most {
        return spare.clone();
    }
    let ends = gaps.flat_map(|gap| [gap.before, gap.after]).flatten();
    let mut near = RoaringTreemap::new();
    for end in ends.map(|block| block.get()) {
        near.insert_range(end.saturating_sub(REACH)..end.saturating_add(REACH));
    }
    near & spare
}

impl Index {
    /// Looks through `blocks`, in the order of the disk, on all processors.
    pub fn new(fs: &Filesystem, tiling: Tiling, blocks: &RoaringTreemap, progress: &dyn Progress) -> Index {
        let size = fs.block_size();
        let (done, total) = (AtomicU64::new(0), blocks.len().saturating_mul(size));
        let pieces = consecutive(blocks, (PIECE / size).max(1)).par_bridge();
        let mut found: Vec<Found> = pieces
            .flat_map_iter(|run| {
                let at = done.fetch_add((run.end - run.start) * size, Ordering::Relaxed);
                progress.step("looking for rows in free blocks", at, total);
                in_run(fs, &tiling, run)
            })
            .collect();
        found.sort_unstable();
        found.truncate(MOST);
        Index { tiling, found }
    }

    /// The one that begins with this block.
    pub fn beginning(&self, block: u64) -> Option<usize> {
        self.found.binary_search_by_key(&block, |found| found.first).ok()
    }

    /// The one that ends before this block.
    pub fn ending(&self, block: u64) -> Option<usize> {
        let at = self.found.partition_point(|found| found.first < block).checked_sub(1)?;
        (self.found[at].first + u64::from(self.found[at].blocks) == block).then_some(at)
    }
}

fn in_run(fs: &Filesystem, tiling: &Tiling, run: Range<u64>) -> Vec<Found> {
    let Some(bytes) = read(fs, run.clone()) else {
        // A block that cannot be read ends what leads to it.
        let single = run.clone().count() == 1;
        return if single { vec![] } else { run.flat_map(|block| in_run(fs, tiling, block..block + 1)).collect() };
    };
    let found = |stretch: crate::content::Stretch| Found {
        first: run.start + stretch.first as u64,
        blocks: stretch.blocks as u32,
        head: stretch.head as u32,
        weak_start: stretch.weak_start as u32,
        weak_end: stretch.weak_end as u32,
    };
    tiling.stretches(&bytes, fs.block_size() as usize).into_iter().map(found).collect()
}

/// The bytes of consecutive blocks.
pub fn read(fs: &Filesystem, blocks: Range<u64>) -> Option<Vec<u8>> {
    let size = fs.block_size();
    let mut bytes = vec![0; usize::try_from(blocks.end.checked_sub(blocks.start)?.checked_mul(size)?).ok()?];
    fs.image().read_exact_at(&mut bytes, blocks.start.checked_mul(size)?).ok()?;
    Some(bytes)
}
