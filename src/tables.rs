//! The inode tables, block by block. On a large filesystem they are gigabytes, and blank for the most part.

use crate::format::group::INODE_UNINIT;
use crate::format::is_blank;
use crate::fs::Filesystem;
use crate::progress::Progress;
use crate::units::{Block, Ino, consecutive};
use roaring::RoaringTreemap;
use std::collections::BTreeSet;

/// Blocks that are read at a time: 1 MiB with blocks of 4 KiB.
const AT_ONCE: u64 = 256;

/// Gives every block of the inode tables that holds anything to `visit`, with its first inode and as it would be after replay. Returns how
/// many cannot be read. The first pass looks for them and notes them in [`Filesystem::written_tables`], the others know where they are.
pub fn each_block(fs: &Filesystem, progress: &dyn Progress, visit: &mut dyn FnMut(Block, Ino, &[u8])) -> u64 {
    let mut bytes = vec![];
    if let Some(written) = fs.written_tables().get() {
        for run in consecutive(written, AT_ONCE) {
            read_blocks(fs, run.start, run.end - run.start, &mut bytes);
            visit_blocks(fs, run.start, &bytes, visit);
        }
        return 0;
    }
    let (geometry, size) = (fs.geometry(), fs.block_size());
    let groups = geometry.superblock.groups();
    let (mut unreadable, mut written) = (0, RoaringTreemap::new());
    let mut visit = |block: Block, first: Ino, bytes: &[u8]| {
        if !is_blank(bytes) {
            written.insert(block.get());
            visit(block, first, bytes);
        }
    };
    let replayed: BTreeSet<u64> = match fs.journal().is_dirty() {
        true => fs.journal().copied_blocks().filter(|(block, _)| fs.journal().replayed(*block).is_some()).map(|(at, _)| at.get()).collect(),
        false => BTreeSet::new(),
    };
    // The hole that was met last: most groups of a sparse image lie in few of them.
    let mut hole = 0..0;
    for number in 0..groups {
        progress.step("reading inodes", number, groups);
        let Some(group) = geometry.group(number) else { continue };
        if geometry.superblock.has_group_flags() && group.flags & INODE_UNINIT != 0 {
            continue;
        }
        let (mut at, end) = (group.inode_table.get(), group.inode_table.get().saturating_add(geometry.table_blocks()));
        while at < end {
            // Holes of a sparse image hold no inodes, but what is replayed over them may.
            if !hole.contains(&at) {
                hole = at..fs.image().next_data(at * size).map_or(u64::MAX, |data| data / size);
            }
            let data = hole.end;
            let next = replayed.range(at..end).next().copied().unwrap_or(u64::MAX);
            at = at.max(data.min(next));
            if at >= end {
                break;
            }
            let count = (end - at).min(AT_ONCE);
            unreadable += read_blocks(fs, at, count, &mut bytes);
            visit_blocks(fs, at, &bytes, &mut visit);
            at += count;
        }
    }
    let _ = fs.written_tables().set(written);
    unreadable
}

/// Gives the blocks from `at` on, whose bytes on the disk these are, to `visit`.
fn visit_blocks(fs: &Filesystem, at: u64, bytes: &[u8], visit: &mut dyn FnMut(Block, Ino, &[u8])) {
    for (home, number) in bytes.chunks_exact(fs.block_size() as usize).zip(at..) {
        let Some(block) = Block::new(number) else { continue };
        let copy = if fs.journal().replayed(block).is_some() { fs.read_block(block).ok() } else { None };
        if let Some(first) = fs.geometry().first_inode_of(block) {
            visit(block, first, copy.as_deref().unwrap_or(home));
        }
    }
}

/// Reads blocks as they stand; zeros for those that cannot be read. Returns how many these are.
fn read_blocks(fs: &Filesystem, at: u64, count: u64, bytes: &mut Vec<u8>) -> u64 {
    let size = fs.block_size();
    let mut unreadable = 0;
    bytes.resize((size * count) as usize, 0);
    if fs.image().read_exact_at(bytes, at * size).is_err() {
        for (block, number) in bytes.chunks_exact_mut(size as usize).zip(at..) {
            if fs.image().read_exact_at(block, number * size).is_err() {
                block.fill(0);
                unreadable += 1;
            }
        }
    }
    unreadable
}
