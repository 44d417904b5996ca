//! The pass itself: reads what is free, in the order of the disk, and judges it on all processors.
//!
//! One group at a time is cut into stretches of at most [`CHUNK`] bytes, and each processor takes the next one of them: so a disk sees one
//! sequential stream, however many processors look at what it delivers.

use super::page::{Finding, Page, examine};
use crate::content::{Kind, holds_rows, identify_anywhere};
use crate::format::{group, is_blank};
use crate::fs::{Filesystem, test_bit};
use crate::progress::Progress;
use crate::units::{Block, consecutive};
use rayon::iter::{ParallelBridge, ParallelIterator};
use roaring::RoaringTreemap;
use std::cell::RefCell;
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes read at a time: large enough to be sequential, small enough to be still in the processor's cache when they are judged.
const CHUNK: u64 = 1 << 20;

/// Used blocks between free ones that are read with them: below some 64 KiB, reading on is cheaper than a call (and a disk's head) more.
const GAP: u64 = 64 << 10;

/// Bytes that are looked at together for rows: as many as some rows of 16 KiB take.
pub const UNIT: u64 = 64 << 10;

/// Places of a group that are asked for whether they are in the page cache.
const PROBES: usize = 8;

/// What one group holds.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Part {
    /// Candidates, by block.
    pub pages: Vec<Page>,
    /// Tables of consecutive integers: block, and the first integer.
    pub integers: Vec<(Block, u32)>,
    /// Free blocks that are not all zeros.
    pub written: RoaringTreemap,
    /// Those of them that stand among rows of MyISAM tables ([`holds_rows`]).
    pub rows: RoaringTreemap,
    /// Those that begin as files of a known kind do, and which.
    pub heads: Vec<(Block, Kind)>,
    /// Free blocks.
    pub free: u64,
    /// Free blocks that cannot be read.
    pub unreadable: u64,
}

/// How far a pass is. Shared by all threads that work on it.
#[derive(Default)]
pub struct Tally {
    /// Free blocks that were looked at, or need not be.
    pub blocks: AtomicU64,
    /// Candidates found.
    pub pages: AtomicU64,
}

impl Tally {
    /// Adds what a group holds.
    pub fn add(&self, part: &Part) {
        self.blocks.fetch_add(part.free, Ordering::Relaxed);
        self.pages.fetch_add(part.pages.len() as u64, Ordering::Relaxed);
    }

    fn tell(&self, fs: &Filesystem, progress: &dyn Progress) {
        let blocks = self.blocks.load(Ordering::Relaxed);
        // The superblock's count is as old as its last write.
        let total = fs.geometry().superblock.free_blocks.max(blocks);
        let bytes = |blocks: u64| blocks.saturating_mul(fs.block_size());
        progress.scan(bytes(blocks), bytes(total), self.pages.load(Ordering::Relaxed));
    }
}

/// Looks through the free blocks of `groups`, in this order. `found` is told of each as soon as it is done, and may end the pass; `tally`
/// counts on. Ends early also where `progress` says that nobody wants it any more.
pub fn sweep(
    fs: &Filesystem,
    groups: impl IntoIterator<Item = u64>,
    tally: &Tally,
    found: &mut dyn FnMut(u64, Part) -> ControlFlow<()>,
    progress: &dyn Progress,
) {
    for group in groups {
        let part = sweep_group(fs, group, tally, progress);
        // Of a group that was not looked through to its end nothing is known.
        if !progress.is_wanted() || found(group, part).is_break() {
            return;
        }
    }
}

/// Whether no file can ever have had a block of this group: its bitmap was never written since mke2fs. `ext2fs_set_gdt_csum`
/// (lib/ext2fs/csum.c) gives that mark also to groups that were used, when all their blocks are free again; that cannot be where some
/// of them are the group's own metadata.
fn was_never_used(fs: &Filesystem, number: u64) -> bool {
    let geometry = fs.geometry();
    let is_marked = geometry.group(number).is_some_and(|descriptor| descriptor.flags & group::BLOCK_UNINIT != 0);
    is_marked && geometry.superblock.has_group_flags() && !geometry.metadata_in(number).is_empty()
}

fn sweep_group(fs: &Filesystem, group: u64, tally: &Tally, progress: &dyn Progress) -> Part {
    let mut part = Part::default();
    let Some(bitmap) = fs.block_bitmap(group) else { return part };
    let sb = &fs.geometry().superblock;
    let count = sb.blocks_per_group.min(sb.blocks.saturating_sub(sb.group_start(group)));
    part.free = free_in(&bitmap, count);
    let chunks = if was_never_used(fs, group) { vec![] } else { chunks(fs, group, count, &bitmap) };
    let is_cold = is_cold(fs, group, &chunks);
    let looked_at = AtomicU64::new(0);
    let judge = |(index, chunk): (usize, Range<u64>)| {
        if !progress.is_wanted() {
            return (index, Chunk::default());
        }
        let found = sweep_chunk(fs, group, &bitmap, &chunk);
        let free = chunk.filter(|at| !test_bit(&bitmap, *at as usize)).count() as u64;
        looked_at.fetch_add(free, Ordering::Relaxed);
        tally.blocks.fetch_add(free, Ordering::Relaxed);
        tally.pages.fetch_add(found.pages.len() as u64, Ordering::Relaxed);
        tally.tell(fs, progress);
        (index, found)
    };
    let mut found: Vec<(usize, Chunk)> = chunks.iter().cloned().enumerate().par_bridge().map(judge).collect();
    found.sort_unstable_by_key(|(index, _)| *index);
    for (_, chunk) in found {
        part.pages.extend(chunk.pages);
        part.integers.extend(chunk.integers);
        part.unreadable += chunk.unreadable;
        part.written.extend(chunk.written);
        part.heads.extend(chunk.heads);
        chunk.rows.into_iter().for_each(|run| _ = part.rows.insert_range(run));
    }
    if is_cold && let (Some(first), Some(last)) = (chunks.first(), chunks.last()) {
        let bytes = |at: u64| (sb.group_start(group) + at) * sb.block_size;
        fs.image().forget(bytes(first.start), bytes(last.end) - bytes(first.start));
    }
    // Holes of the image count as looked at.
    tally.blocks.fetch_add(part.free - looked_at.into_inner().min(part.free), Ordering::Relaxed);
    tally.tell(fs, progress);
    part
}

/// How many of the first `count` bits are not set.
fn free_in(bitmap: &[u8], count: u64) -> u64 {
    let whole = &bitmap[..bitmap.len().min((count / 8) as usize)];
    let rest = (count / 8 * 8..count).filter(|bit| !test_bit(bitmap, *bit as usize)).count();
    whole.iter().map(|byte| u64::from(byte.count_zeros())).sum::<u64>() + rest as u64
}

/// The stretches of a group that are to be read, counted from its start: each begins and ends with a free block.
fn chunks(fs: &Filesystem, group: u64, count: u64, bitmap: &[u8]) -> Vec<Range<u64>> {
    let (start, size) = (fs.geometry().superblock.group_start(group), fs.block_size());
    let (most, gap) = ((CHUNK / size).max(1), GAP / size);
    let mut chunks = vec![];
    let mut at = 0;
    while at < count {
        if test_bit(bitmap, at as usize) {
            at += 1;
            continue;
        }
        // Holes of a sparse image are blank.
        let Some(data) = fs.image().next_data((start + at) * size) else { break };
        let data = (data / size).saturating_sub(start);
        if data > at {
            at = data;
            continue;
        }
        let mut end = at + 1;
        for next in at + 1..count.min(at + most) {
            match test_bit(bitmap, next as usize) {
                false => end = next + 1,
                true if next - end >= gap => break,
                true => {}
            }
        }
        chunks.push(at..end);
        at = end;
    }
    chunks
}

/// Whether reading these stretches of a group fills the page cache with what was not in it. Asked before the first is read.
fn is_cold(fs: &Filesystem, group: u64, chunks: &[Range<u64>]) -> bool {
    let (start, size) = (fs.geometry().superblock.group_start(group), fs.block_size());
    chunks.iter().step_by(chunks.len().div_ceil(PROBES).max(1)).any(|chunk| !fs.image().is_cached((start + chunk.start) * size))
}

/// What one stretch holds.
#[derive(Default)]
struct Chunk {
    pages: Vec<Page>,
    integers: Vec<(Block, u32)>,
    written: Vec<u64>,
    rows: Vec<Range<u64>>,
    heads: Vec<(Block, Kind)>,
    unreadable: u64,
}

/// Room that a thread needs again and again.
#[derive(Default)]
struct Room {
    bytes: Vec<u8>,
    /// The runs of a page.
    runs: Vec<(u32, u32)>,
}

thread_local! {
    static ROOM: RefCell<Room> = RefCell::default();
}

fn sweep_chunk(fs: &Filesystem, group: u64, bitmap: &[u8], chunk: &Range<u64>) -> Chunk {
    let (start, size) = (fs.geometry().superblock.group_start(group), fs.block_size());
    let mut found = Chunk::default();
    ROOM.with_borrow_mut(|Room { bytes: buffer, runs }| {
        let length = (chunk.end - chunk.start) * size;
        buffer.resize(buffer.len().max(length as usize), 0);
        let buffer = &mut buffer[..length as usize];
        let whole = fs.image().read_exact_at(buffer, (start + chunk.start) * size).is_ok();
        for (bytes, at) in buffer.chunks_exact_mut(size as usize).zip(chunk.clone()) {
            let number = start + at;
            let Some(block) = Block::new(number).filter(|_| !test_bit(bitmap, at as usize)) else { continue };
            if !whole && fs.image().read_exact_at(bytes, number * size).is_err() {
                found.unreadable += 1;
                continue;
            }
            if is_blank(bytes) {
                continue;
            }
            found.written.push(number);
            found.heads.extend(identify_anywhere(bytes).map(|kind| (block, kind)));
            match examine(bytes, block, fs, runs) {
                Finding::Blank | Finding::Other => {}
                Finding::Integers { first } => found.integers.push((block, first)),
                Finding::Page(page) => found.pages.push(page),
            }
        }
        let unit = (UNIT / size).max(1);
        for run in consecutive(found.written.iter().copied(), unit) {
            let bytes = |block: u64| ((block - start - chunk.start) * size) as usize;
            if holds_rows(&buffer[bytes(run.start)..bytes(run.end)]) {
                found.rows.push(run);
            }
        }
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_bits() {
        for (bitmap, count, free) in
            [(&[0u8, 0][..], 16, 16), (&[0xff, 0b1010_0000], 16, 6), (&[0, 0b1111_0101], 12, 10), (&[0], 16, 8), (&[], 9, 0)]
        {
            assert_eq!(free_in(bitmap, count), free, "{bitmap:?}");
        }
    }
}
