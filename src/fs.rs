//! The filesystem as it stands, with the journal replayed in memory: blocks, bitmaps, inodes, current block maps.

use crate::bitmaps::Bitmaps;
use crate::error::{Error, Result};
use crate::format::inode::Inode;
use crate::format::{group, indirect};
use crate::geometry::Geometry;
use crate::image::Image;
use crate::journal::Journal;
use crate::units::{Block, FileBlock, Ino};
use roaring::RoaringTreemap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// An open filesystem. Shared by all threads.
pub struct Filesystem {
    image: Image,
    geometry: Geometry,
    journal: Journal,
    damage: Vec<String>,
    bitmaps: Bitmaps<u64>,
    written_tables: OnceLock<RoaringTreemap>,
}

/// Locks a cache; a panic elsewhere cannot have left one in a state that matters.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Filesystem {
    /// Opens what `image` holds. `superblock` is the block of the superblock to use, `journal` the device of an external journal.
    pub fn open(image: Image, superblock: Option<u64>, journal: Option<&Path>) -> Result<Filesystem> {
        let mut damage = vec![];
        let geometry = Geometry::read(&image, superblock, &mut damage)?;
        let journal = Journal::read(&image, &geometry, journal, &mut damage)?;
        for line in &damage {
            log::warn!("{line}");
        }
        Ok(Filesystem { image, geometry, journal, damage, bitmaps: Bitmaps::default(), written_tables: OnceLock::new() })
    }

    /// The image.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Superblock and groups.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The journal.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// What was found damaged on opening, one line each.
    pub fn damage(&self) -> &[String] {
        &self.damage
    }

    /// Bytes of a block.
    pub fn block_size(&self) -> u64 {
        self.geometry.superblock.block_size
    }

    /// Pointers in an indirect block.
    pub fn pointers_per_block(&self) -> u64 {
        self.block_size() / 4
    }

    /// Reads a block as it stands on the disk, without the journal.
    pub fn read_home(&self, block: Block) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.block_size() as usize];
        let offset = block.get().checked_mul(self.block_size()).ok_or(io::ErrorKind::InvalidInput)?;
        self.image.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// Reads a block as it would be after replay of the journal.
    pub fn read_block(&self, block: Block) -> io::Result<Vec<u8>> {
        match self.journal.replayed(block) {
            Some(copy) => self.journal.read_copy(&self.image, copy),
            None => self.read_home(block),
        }
    }

    /// The inode as it would be after replay.
    pub fn read_inode(&self, ino: Ino) -> Result<Inode> {
        let (block, at) =
            self.geometry.inode_location(ino).ok_or_else(|| Error::NotFound(format!("there is no inode {ino} on this filesystem")))?;
        let read =
            |source| Error::Read { what: format!("inode {ino}"), offset: self.image.base() + block.get() * self.block_size(), source };
        let bytes = self.read_block(block).map_err(read)?;
        let inode = bytes.get(at..at + self.geometry.superblock.inode_size as usize).and_then(Inode::parse);
        inode.ok_or_else(|| read(io::ErrorKind::InvalidData.into()))
    }

    /// The block bitmap of a group after replay; `None` where it cannot be read.
    pub fn block_bitmap(&self, number: u64) -> Option<Arc<Vec<u8>>> {
        if let Some(bitmap) = self.bitmaps.get(number) {
            return Some(bitmap);
        }
        let descriptor = self.geometry.group(number)?;
        let uninit = self.geometry.superblock.has_group_flags() && descriptor.flags & group::BLOCK_UNINIT != 0;
        let bitmap = match uninit {
            true => vec![0; self.block_size() as usize],
            false => self.read_block(descriptor.block_bitmap).ok()?,
        };
        Some(self.bitmaps.put(number, bitmap))
    }

    /// Blocks of the inode tables that hold anything, once somebody has read them all; nearly all are blank on a large filesystem.
    pub fn written_tables(&self) -> &OnceLock<RoaringTreemap> {
        &self.written_tables
    }

    /// Group of a block and its bit in the group's bitmap.
    pub fn bit_of(&self, block: Block) -> (u64, usize) {
        let sb = &self.geometry.superblock;
        let group = sb.group_of(block);
        (group, (block.get() - sb.group_start(group).min(block.get())) as usize)
    }

    /// Whether a block is in use now. Where the bitmap cannot be read, and outside the filesystem, it counts as used.
    pub fn is_allocated(&self, block: Block) -> bool {
        let (group, bit) = self.bit_of(block);
        !self.geometry.superblock.contains(block) || self.block_bitmap(group).is_none_or(|bitmap| test_bit(&bitmap, bit))
    }

    /// Whether a file can ever have had this block: inside the filesystem, and neither metadata nor the journal's.
    pub fn can_hold_data(&self, block: Block) -> bool {
        !self.geometry.is_metadata(block) && !self.journal.occupies(block)
    }

    /// The block that a live inode's pointers map `at` to now.
    pub fn current_block(&self, pointers: &[Option<Block>; 15], at: FileBlock) -> Option<Block> {
        let per = self.pointers_per_block();
        let (slot, level) = path_to(at, per)?;
        let mut block = pointers[slot]?;
        let mut within = at.0 - indirect::first_file_block(slot, per);
        for below in (0..level).rev() {
            let bytes = self.read_block(block).ok()?;
            let span = indirect::span(below, per);
            block = indirect::parse(&bytes).nth((within / span) as usize)??;
            within %= span;
        }
        Some(block)
    }
}

/// Slot of `i_block` that maps a file block, and the levels of indirect blocks under it (`ext3_block_to_path`). `None` past the largest file.
pub fn path_to(at: FileBlock, per: u64) -> Option<(usize, u8)> {
    (0..15).rev().find(|slot| at.0 >= indirect::first_file_block(*slot, per)).and_then(|slot| {
        let level = (slot as u8).saturating_sub(11);
        (slot < 12 || at.0 - indirect::first_file_block(slot, per) < indirect::span(level, per)).then_some((slot, level))
    })
}

/// Whether a bit of a bitmap is set; beyond its end, it is.
pub fn test_bit(bitmap: &[u8], bit: usize) -> bool {
    bitmap.get(bit / 8).is_none_or(|byte| byte >> (bit % 8) & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (at, want) in [
            (0, Some((0, 0))),
            (11, Some((11, 0))),
            (12, Some((12, 1))),
            (1035, Some((12, 1))),
            (1036, Some((13, 2))),
            (1036 + (1 << 20), Some((14, 3))),
            (indirect::max_file_blocks(1024) - 1, Some((14, 3))),
            (indirect::max_file_blocks(1024), None),
            (u64::MAX, None),
        ] {
            assert_eq!(path_to(FileBlock(at), 1024), want, "{at}");
        }
    }

    #[test]
    fn bits() {
        assert!(test_bit(&[0b100], 2) && !test_bit(&[0b100], 1) && test_bit(&[0], 8));
    }
}
