//! What became of a block after it was freed: whether it still holds what the lost file wrote there.
//!
//! A block is lost to a file as soon as anything else had it, also if that is gone again. Evidence, all of it block by
//! block: the bitmap of today, the bitmap's copies in the journal, copies and revokes of the block itself.

use crate::bitmaps::Bitmaps;
use crate::format::indirect;
use crate::fs::{Filesystem, test_bit};
use crate::journal::Copy;
use crate::units::{Block, Moment};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// By group and index of the first copy that counts.
type Derived = Bitmaps<(u64, usize)>;

/// Answers what happened to blocks over time.
#[derive(Default)]
pub struct Reuse {
    /// Blocks that were taken again after having been seen free.
    retaken: Derived,
    /// Blocks that a copy of the bitmap shows in use.
    used: Derived,
    /// Copies of bitmaps.
    copies: Derived,
    /// Copies of which nothing tells whose they are, by the pointer with which they begin.
    loose: OnceLock<HashMap<Block, Vec<Copy>>>,
}

impl Reuse {
    fn bitmap_copies<'a>(&self, fs: &'a Filesystem, group: u64) -> &'a [Copy] {
        fs.geometry().group(group).map_or(&[], |descriptor| fs.journal().copies(descriptor.block_bitmap))
    }

    fn bitmap_copy(&self, fs: &Filesystem, group: u64, index: usize) -> Option<Arc<Vec<u8>>> {
        if let Some(bitmap) = self.copies.get((group, index)) {
            return Some(bitmap);
        }
        let copy = *self.bitmap_copies(fs, group).get(index)?;
        Some(self.copies.put((group, index), fs.journal().read_copy(fs.image(), copy).ok()?))
    }

    /// The copies in the log of which nothing tells whose they are and that begin with a pointer to this block, in the order of the log.
    pub fn loose(&self, fs: &Filesystem, first: Block) -> &[Copy] {
        let all = || {
            let mut loose: HashMap<Block, Vec<Copy>> = HashMap::new();
            for copy in fs.journal().loose() {
                let bytes = fs.journal().read_copy(fs.image(), *copy).unwrap_or_default();
                if let Some(first) = indirect::parse(&bytes).next().flatten().filter(|first| fs.geometry().superblock.contains(*first)) {
                    loose.entry(first).or_default().push(*copy);
                }
            }
            loose
        };
        self.loose.get_or_init(all).get(&first).map_or(&[], Vec::as_slice)
    }

    /// Whether a block that was freed at `freed` (in the transaction that ended then, or later) was seen free and after that in use again.
    pub fn was_retaken(&self, fs: &Filesystem, block: Block, freed: Moment) -> bool {
        let (group, bit) = fs.bit_of(block);
        let first = self.bitmap_copies(fs, group).partition_point(|copy| copy.moment < freed);
        test_bit(&self.retaken_since(fs, group, first), bit)
    }

    fn retaken_since(&self, fs: &Filesystem, group: u64, first: usize) -> Arc<Vec<u8>> {
        if let Some(bitmap) = self.retaken.get((group, first)) {
            return bitmap;
        }
        let size = fs.block_size() as usize;
        let (mut free, mut retaken) = (vec![0u8; size], vec![0u8; size]);
        let mut see = |bitmap: &[u8]| {
            for ((free, retaken), now) in free.iter_mut().zip(&mut retaken).zip(bitmap) {
                *retaken |= *free & now;
                *free |= !now;
            }
        };
        for index in first..self.bitmap_copies(fs, group).len() {
            if let Some(bitmap) = self.bitmap_copy(fs, group, index) {
                see(&bitmap);
            }
        }
        if let Some(bitmap) = fs.block_bitmap(group) {
            see(&bitmap);
        }
        self.retaken.put((group, first), retaken)
    }

    /// Whether a copy of the bitmap from `freed_by` on shows a block in use: by then it was free, so somebody else had it.
    pub fn was_used_since(&self, fs: &Filesystem, block: Block, freed_by: Moment) -> bool {
        let (group, bit) = fs.bit_of(block);
        let first = self.bitmap_copies(fs, group).partition_point(|copy| copy.moment < freed_by);
        if let Some(used) = self.used.get((group, first)) {
            return test_bit(&used, bit);
        }
        let mut used = vec![0u8; fs.block_size() as usize];
        for index in first..self.bitmap_copies(fs, group).len() {
            if let Some(bitmap) = self.bitmap_copy(fs, group, index) {
                used.iter_mut().zip(bitmap.iter()).for_each(|(used, now)| *used |= now);
            }
        }
        test_bit(&self.used.put((group, first), used), bit)
    }

    /// Whether a block was in use at the last moment before `freed` that a bitmap copy shows; `None` where none does.
    pub fn was_allocated_before(&self, fs: &Filesystem, block: Block, freed: Moment) -> Option<bool> {
        let (group, bit) = fs.bit_of(block);
        let before = self.bitmap_copies(fs, group).partition_point(|copy| copy.moment < freed).checked_sub(1)?;
        Some(test_bit(&self.bitmap_copy(fs, group, before)?, bit))
    }

    /// Whether a block was in use just before `from`, and seen free by `to`.
    pub fn was_freed_between(&self, fs: &Filesystem, block: Block, from: Moment, to: Moment) -> bool {
        self.was_allocated_before(fs, block, from) == Some(true) && self.was_free_between(fs, block, from, Moment(to.0.saturating_add(1)))
    }

    /// Whether a block was seen free at some moment from `from` up to, not including, `to`.
    fn was_free_between(&self, fs: &Filesystem, block: Block, from: Moment, to: Moment) -> bool {
        let (group, bit) = fs.bit_of(block);
        let copies = self.bitmap_copies(fs, group);
        let first = copies.partition_point(|copy| copy.moment < from);
        let last = copies.partition_point(|copy| copy.moment < to);
        (first..last).any(|index| self.bitmap_copy(fs, group, index).is_some_and(|bitmap| !test_bit(&bitmap, bit)))
    }

    /// Whether the journal shows the block as something else's metadata after `freed_by`.
    pub fn was_metadata_since(&self, fs: &Filesystem, block: Block, freed_by: Moment) -> bool {
        let journal = fs.journal();
        journal.copies(block).last().is_some_and(|copy| copy.moment > freed_by)
            || journal.revokes(block).last().is_some_and(|at| *at > freed_by)
    }

    /// Whether a block that was freed at `freed` went to metadata of which every write is still in the log and none has
    /// reached the block itself.
    pub fn is_only_in_the_log(&self, fs: &Filesystem, block: Block, freed: Moment) -> bool {
        let copies = fs.journal().copies(block);
        let since = &copies[copies.partition_point(|copy| copy.moment < freed)..];
        let (Some(first), Some(_)) = (since.first(), fs.journal().replayed(block)) else { return false };
        let (group, bit) = fs.bit_of(block);
        let bitmaps = self.bitmap_copies(fs, group);
        let before = bitmaps.partition_point(|copy| copy.moment < freed)..bitmaps.partition_point(|copy| copy.moment < first.moment);
        let used_before = before.into_iter().any(|index| self.bitmap_copy(fs, group, index).is_none_or(|bitmap| test_bit(&bitmap, bit)));
        let Ok(home) = fs.read_home(block) else { return false };
        !used_before && since.iter().all(|copy| fs.journal().read_copy(fs.image(), *copy).is_ok_and(|bytes| bytes != home))
    }

    /// The journal's copies of a block that belong to the owner it had from the end of transaction `since` until `freed`, newest first:
    /// neither revoked nor seen free in between.
    pub fn copies_of_owner(&self, fs: &Filesystem, block: Block, since: Moment, freed: Moment) -> Vec<Copy> {
        let journal = fs.journal();
        let revoked = |from: Moment| journal.revokes(block).iter().any(|at| *at >= from && *at < freed);
        let copies = journal.copies(block).iter().rev().filter(|copy| copy.moment >= since && copy.moment <= freed);
        copies.take_while(|copy| !revoked(copy.moment) && !self.was_free_between(fs, block, copy.moment, freed)).copied().collect()
    }
}
