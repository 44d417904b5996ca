//! Where the journal's blocks lie: in the inode of the journal, or on a device of its own.

use super::Copy;
use crate::error::{Error, Result};
use crate::format::indirect;
use crate::format::inode::Inode;
use crate::format::journal::{MAGIC, Superblock};
use crate::format::superblock::{self, compat, incompat};
use crate::geometry::Geometry;
use crate::image::{Image, ImageOptions};
use crate::units::{Block, Ino};
use std::io;
use std::path::Path;

/// The largest journal that is read: `JBD2` block counts are 32 bits, mke2fs makes at most 10,240,000 blocks.
const MAX_BLOCKS: u64 = 1 << 26;

/// The log's blocks in order.
pub struct Log {
    /// The device of an external journal.
    device: Option<Image>,
    /// (first log block, its physical block, count), sorted, contiguous in log blocks but for holes.
    map: Vec<(u32, Block, u32)>,
    /// The blocks of the filesystem that it takes: first and count, sorted. One of 1 GiB is a run for each of its indirect blocks.
    areas: Vec<(Block, u32)>,
    block_size: u64,
}

/// The runs of a log's map by their physical blocks.
fn areas(map: &[(u32, Block, u32)]) -> Vec<(Block, u32)> {
    let mut areas: Vec<(Block, u32)> = map.iter().map(|(_, start, count)| (*start, *count)).collect();
    areas.sort_unstable();
    areas
}

impl Log {
    /// Finds the journal and its superblock. `None` if there is none, or none that can be read, which is recorded as damage.
    pub fn find(
        image: &Image,
        geometry: &Geometry,
        external: Option<&Path>,
        damage: &mut Vec<String>,
    ) -> Result<Option<(Log, Superblock)>> {
        let sb = &geometry.superblock;
        let log = if let Some(path) = external {
            Log::external(path, geometry)?
        } else if sb.compat & compat::HAS_JOURNAL == 0 {
            return Ok(None);
        } else if sb.journal_inum == 0 {
            damage.push("the journal is on another device; without --journal DEVICE its history is missing".into());
            return Ok(None);
        } else {
            match Log::internal(image, geometry) {
                Some(log) => log,
                None => {
                    damage.push("the journal's inode is damaged, and so is its backup; the journal's history is missing".into());
                    return Ok(None);
                }
            }
        };
        let parsed = log.read(image, 0).ok().and_then(|bytes| Superblock::parse(&bytes)).filter(|found| found.block_size == log.block_size);
        match parsed {
            Some(superblock) => Ok(Some((log, superblock))),
            None => {
                damage.push("the journal's superblock is damaged; the journal's history is missing".into());
                Ok(None)
            }
        }
    }

    fn internal(image: &Image, geometry: &Geometry) -> Option<Log> {
        let sb = &geometry.superblock;
        let from_inode = || {
            let (block, at) = geometry.inode_location(Ino(sb.journal_inum))?;
            let bytes = read_at(image, block, sb.block_size).ok()?;
            let inode = Inode::parse(bytes.get(at..)?)?;
            Some((inode.pointers(), inode.size))
        };
        let from_backup = || {
            let words = sb.journal_backup?;
            let pointers = std::array::from_fn(|slot| Block::new(words[slot].into()));
            Some((pointers, u64::from(words[15]) << 32 | u64::from(words[16])))
        };
        let begins_with_magic = |log: &Log| log.read(image, 0).is_ok_and(|bytes| bytes.starts_with(&MAGIC.to_be_bytes()));
        [from_inode(), from_backup()].into_iter().flatten().find_map(|(pointers, size)| {
            let map = map_of(image, geometry, &pointers, size / sb.block_size);
            Some(Log { device: None, areas: areas(&map), map, block_size: sb.block_size }).filter(begins_with_magic)
        })
    }

    /// An external journal: its superblock block follows the device's own superblock (`ext3_get_dev_journal`, fs/ext3/super.c).
    fn external(path: &Path, geometry: &Geometry) -> Result<Log> {
        let device = Image::open(&ImageOptions { offset: Some(0), ..ImageOptions::new(path) })?;
        let mut bytes = [0; superblock::SIZE];
        let wrong = |why: &str| Error::Usage(format!("{}: {why}", path.display()));
        device.read_exact_at(&mut bytes, superblock::OFFSET).map_err(|_| wrong("not a journal device: too short"))?;
        let word = |at: usize| bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |raw| u32::from_le_bytes(*raw));
        if bytes[0x38..0x3a] != [0x53, 0xEF] || word(0x60) & incompat::JOURNAL_DEV == 0 {
            return Err(wrong("not a journal device (no ext superblock with the journal_dev feature)"));
        }
        if bytes[0x68..0x78] != geometry.superblock.journal_uuid {
            return Err(wrong("this journal belongs to another filesystem (its UUID differs)"));
        }
        let block_size = geometry.superblock.block_size;
        let first = Block::new(superblock::OFFSET / block_size + 1).ok_or_else(|| wrong("no journal"))?;
        let blocks = (device.len() / block_size).saturating_sub(first.get()).min(MAX_BLOCKS);
        Ok(Log { device: Some(device), map: vec![(0, first, blocks as u32)], areas: vec![], block_size })
    }

    /// Physical place of a log block.
    fn place(&self, index: u32) -> Option<Block> {
        Some(self.run_at(index)?.0)
    }

    /// Physical place of a log block, and how many lie together from there on.
    fn run_at(&self, index: u32) -> Option<(Block, u32)> {
        let at = self.map.partition_point(|(first, ..)| *first <= index).checked_sub(1)?;
        let (first, block, count) = self.map[at];
        let within = index - first;
        (within < count).then(|| (block.plus(u64::from(within)), count - within))
    }

    /// Whether a block of the filesystem is one of the log's.
    pub fn occupies(&self, block: Block) -> bool {
        let before = self.areas.partition_point(|(start, _)| *start <= block).checked_sub(1);
        before.is_some_and(|at| block < self.areas[at].0.plus(self.areas[at].1.into()))
    }

    /// Byte of the image at which a log block stands; `None` for an external journal.
    pub fn image_offset(&self, index: u32) -> Option<u64> {
        if self.device.is_some() { None } else { Some(self.place(index)?.get() * self.block_size) }
    }

    /// Reads a log block as it stands.
    pub fn read(&self, image: &Image, index: u32) -> io::Result<Vec<u8>> {
        let block = self.place(index).ok_or(io::ErrorKind::UnexpectedEof)?;
        read_at(self.device.as_ref().unwrap_or(image), block, self.block_size)
    }

    /// Reads as many log blocks from `index` on as lie together, at most `count`, at least one, with `buffer` as the room for them.
    pub fn read_many<'b>(&self, image: &Image, index: u32, count: u32, buffer: &'b mut Vec<u8>) -> io::Result<&'b [u8]> {
        let (block, together) = self.run_at(index).ok_or(io::ErrorKind::UnexpectedEof)?;
        let length = (u64::from(together.min(count)) * self.block_size) as usize;
        buffer.resize(buffer.len().max(length), 0);
        let offset = block.get().checked_mul(self.block_size).ok_or(io::ErrorKind::InvalidInput)?;
        self.device.as_ref().unwrap_or(image).read_exact_at(&mut buffer[..length], offset)?;
        Ok(&buffer[..length])
    }

    /// How many log blocks from `index` on, at most `count`, lie together in a hole of a sparse image.
    pub fn hole_at(&self, image: &Image, index: u32, count: u32) -> u32 {
        let image = self.device.as_ref().unwrap_or(image);
        let Some((block, together)) = self.run_at(index) else { return 0 };
        let (start, length) = (block.get().saturating_mul(self.block_size), u64::from(together) * self.block_size);
        // What the image does not hold is no hole.
        if start.saturating_add(length) > image.len() || image.is_unread(start, length) {
            return 0;
        }
        let blocks = image.next_data(start).map_or(u64::from(together), |data| (data - start.min(data)) / self.block_size);
        together.min(count).min(u32::try_from(blocks).unwrap_or(u32::MAX))
    }

    /// Reads a copy and undoes its escape.
    pub fn read_copy(&self, image: &Image, copy: Copy) -> io::Result<Vec<u8>> {
        let mut bytes = self.read(image, copy.index)?;
        if copy.escaped {
            bytes[..4].copy_from_slice(&MAGIC.to_be_bytes());
        }
        Ok(bytes)
    }

    /// Bytes of the whole log.
    pub fn size(&self) -> u64 {
        self.map.iter().map(|(.., count)| u64::from(*count)).sum::<u64>() * self.block_size
    }

    /// Bytes of a log block.
    pub fn block_size(&self) -> u64 {
        self.block_size
    }
}

/// Reads a block of `size` bytes.
fn read_at(image: &Image, block: Block, size: u64) -> io::Result<Vec<u8>> {
    let offset = block.get().checked_mul(size).ok_or(io::ErrorKind::InvalidInput)?;
    let mut bytes = vec![0; size as usize];
    image.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// Walks the pointers of the journal's inode as they stand on the disk: the journal is never journaled itself.
fn map_of(image: &Image, geometry: &Geometry, pointers: &[Option<Block>; 15], blocks: u64) -> Vec<(u32, Block, u32)> {
    let per = geometry.superblock.block_size / 4;
    let blocks = blocks.min(MAX_BLOCKS).min(geometry.superblock.blocks);
    let mut map: Vec<(u32, Block, u32)> = vec![];
    let mut add = |at: u64, block: Block| match map.last_mut() {
        Some((first, start, count)) if start.plus(u64::from(*count)) == block && u64::from(*first + *count) == at => *count += 1,
        _ => map.push((at as u32, block, 1)),
    };
    let mut todo: Vec<(u64, u8, Block)> = vec![];
    for slot in (0..15).rev() {
        if let Some(block) = pointers[slot] {
            todo.push((indirect::first_file_block(slot, per), (slot as u8).saturating_sub(11), block));
        }
    }
    let mut visited = 0;
    while let Some((at, level, block)) = todo.pop() {
        visited += 1;
        if at >= blocks || visited > 2 * blocks || !geometry.superblock.contains(block) {
            continue;
        }
        if level == 0 {
            add(at, block);
            continue;
        }
        let Ok(bytes) = read_at(image, block, geometry.superblock.block_size) else { continue };
        let span = indirect::span(level - 1, per);
        let below: Vec<_> = indirect::parse(&bytes).zip(0..).filter_map(|(p, i)| Some((at + i * span, level - 1, p?))).collect();
        todo.extend(below.into_iter().rev());
    }
    map
}
