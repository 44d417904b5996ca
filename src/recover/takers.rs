//! Who has the blocks that a lost file no longer has: named for people, on demand, since it needs a walk over all inodes.

use super::Recovery;
use super::file::FileId;
use super::inodes::Inodes;
use super::names::live_path;
use crate::format::indirect;
use crate::format::inode::Inode;
use crate::fs::Filesystem;
use crate::run::Evidence;
use crate::units::{Block, FileBlock, Ino};
use roaring::RoaringTreemap;
use std::collections::BTreeMap;

/// Somebody who has blocks that were a lost file's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taker {
    /// The inode; for a lost file, its own.
    pub ino: Option<Ino>,
    /// Its path: today's of a file that is in use, the former one of a lost file; where known.
    pub path: Option<Vec<u8>>,
    /// Whether it is itself lost.
    pub lost: bool,
    /// Those of the blocks that it has, as data or indirect blocks.
    pub blocks: RoaringTreemap,
}

impl Recovery {
    /// Who has the overwritten blocks of a file: files in use, then files lost later. Blocks that were freed again, or
    /// hold the filesystem's own structures, are nobody's.
    pub fn takers(&self, id: FileId) -> Vec<Taker> {
        let mut blocks = RoaringTreemap::new();
        for run in self.runs(id).filter(|run| run.evidence == Evidence::Overwritten) {
            if let Some(first) = run.block {
                blocks.insert_range(first.get()..first.plus(run.length).get());
            }
        }
        if blocks.is_empty() {
            return vec![];
        }
        let fs = self.filesystem();
        let mut held: BTreeMap<Ino, RoaringTreemap> = BTreeMap::new();
        Inodes::each_live(fs, &mut |ino, inode| {
            let taken = taken_by(fs, &inode, &blocks);
            if !taken.is_empty() {
                held.insert(ino, taken);
            }
        });
        let mut paths = live_path(fs, &held.keys().copied().collect());
        let live = held.into_iter().map(|(ino, blocks)| Taker { ino: Some(ino), path: paths.remove(&ino), lost: false, blocks });
        let mut takers: Vec<Taker> = live.collect();
        for newer in self.ids().take_while(|newer| *newer < id) {
            let mut taken = RoaringTreemap::new();
            for run in self.runs(newer) {
                if let Some(first) = run.block {
                    taken.insert_range(first.get()..first.plus(run.length).get());
                }
            }
            taken &= &blocks;
            if !taken.is_empty() {
                let file = self.file(newer);
                takers.push(Taker { ino: file.ino, path: file.paths.first().cloned(), lost: true, blocks: taken });
            }
        }
        takers
    }
}

/// Those of `blocks` that a live inode has.
fn taken_by(fs: &Filesystem, inode: &Inode, blocks: &RoaringTreemap) -> RoaringTreemap {
    let per = fs.pointers_per_block();
    let (mut taken, mut seen) = (RoaringTreemap::new(), RoaringTreemap::new());
    let mut todo: Vec<(u8, Block)> = vec![];
    for (slot, pointer) in inode.pointers().into_iter().enumerate() {
        todo.extend(pointer.map(|block| ((slot as u8).saturating_sub(11), block)));
    }
    while let Some((level, block)) = todo.pop() {
        if blocks.contains(block.get()) {
            taken.insert(block.get());
        }
        if level == 0
            || !fs.geometry().superblock.contains(block)
            || !seen.insert(block.get())
            || seen.len() > fs.geometry().superblock.blocks / per
        {
            continue;
        }
        if let Ok(bytes) = fs.read_block(block) {
            todo.extend(indirect::parse(&bytes).flatten().map(|below| (level - 1, below)));
        }
    }
    taken
}

/// The blocks of a live folder, in order.
pub(super) fn folder_blocks<'a>(fs: &'a Filesystem, inode: &Inode) -> impl Iterator<Item = Block> + use<'a> {
    let (pointers, end) = (inode.pointers(), inode.size.min(fs.image().len()).div_ceil(fs.block_size()));
    (0..end).filter_map(move |at| fs.current_block(&pointers, FileBlock(at)))
}
