//! Finds superblock and group descriptors, with their backups where the first ones are damaged.

use crate::error::{Error, Result};
use crate::format::group::GroupDescriptor;
use crate::format::superblock::{self, Superblock, compat, incompat};
use crate::image::Image;
use crate::units::{Block, Ino};
use std::ops::Range;

/// Where everything lies: superblock and group descriptors.
pub struct Geometry {
    /// The superblock that is used.
    pub superblock: Superblock,
    /// The block in which it stands.
    pub superblock_block: u64,
    /// One descriptor a group; `None` where no copy of it makes sense.
    groups: Vec<Option<GroupDescriptor>>,
    /// First blocks of the inode tables with their groups, sorted.
    tables: Vec<(Block, u64)>,
}

fn superblock_at(image: &Image, offset: u64) -> Option<Superblock> {
    let mut bytes = [0; superblock::SIZE];
    image.read_exact_at(&mut bytes, offset).ok()?;
    Superblock::parse(&bytes).ok()
}

/// A backup by itself: in the groups that hold one, for each block size; the first that says itself that it stands there.
fn find_backup(image: &Image) -> Option<(Superblock, u64)> {
    let sizes = [4096u64, 1024, 2048, 8192, 16384, 32768, 65536];
    sizes.into_iter().find_map(|size| {
        [1u64, 3, 5, 7, 9, 25, 27, 49, 81].into_iter().find_map(|group| {
            let block = u64::from(size == 1024) + group * size * 8;
            let found = superblock_at(image, block * size)?;
            (found.block_size == size && u64::from(found.block_group) == group).then_some((found, block))
        })
    })
}

fn named_superblock(image: &Image, block: u64) -> Option<Superblock> {
    (0..=6).map(|log| 1024u64 << log).find_map(|size| {
        let offset = if block == 0 { superblock::OFFSET } else { block.checked_mul(size)? };
        superblock_at(image, offset).filter(|found| found.block_size == size || block == 0)
    })
}

impl Geometry {
    /// Reads superblock (the one at `wanted`, in filesystem blocks, if given) and group descriptors. What was damaged is added to `damage`.
    pub fn read(image: &Image, wanted: Option<u64>, damage: &mut Vec<String>) -> Result<Geometry> {
        let name = image.path().display();
        let mut superblock_block = wanted.unwrap_or(0);
        let superblock = match (wanted, superblock_at(image, superblock::OFFSET)) {
            (Some(block), _) => named_superblock(image, block).ok_or_else(|| {
                Error::Image(format!("{name}: no ext superblock in block {block}; leave out --superblock to have one searched"))
            })?,
            (None, Some(primary)) => primary,
            (None, None) => {
                let (backup, block) = find_backup(image).ok_or_else(|| {
                    Error::Image(format!("{name}: no ext2/ext3 filesystem here: neither the superblock nor any of its backups was found"))
                })?;
                damage.push(format!("the primary superblock is damaged; using the backup in block {block}"));
                superblock_block = block;
                backup
            }
        };
        let unsupported = superblock.incompat & !incompat::SUPPORTED;
        if unsupported & incompat::EXTENTS != 0 {
            return Err(Error::Image(format!(
                "{name}: this is ext4 with extents, which undelfs does not support yet (ext2 and ext3 only)"
            )));
        }
        if unsupported & incompat::JOURNAL_DEV != 0 {
            return Err(Error::Image(format!("{name}: this is an external journal, not a filesystem; give it with --journal")));
        }
        if unsupported != 0 || superblock.ro_compat & compat::RO_BIGALLOC != 0 {
            let names = superblock.feature_names().join(", ");
            return Err(Error::Image(format!("{name}: uses features that undelfs does not support (has {names})")));
        }
        if superblock.blocks.saturating_mul(superblock.block_size) > image.len() {
            let (have, want) = (image.len(), superblock.blocks.saturating_mul(superblock.block_size));
            damage.push(format!("the image is truncated: {have} bytes of {want}; what lay behind its end counts as unreadable"));
        }
        let groups = read_groups(image, &superblock, damage);
        let mut tables: Vec<(Block, u64)> =
            groups.iter().zip(0..).filter_map(|(group, number)| group.map(|group| (group.inode_table, number))).collect();
        tables.sort_unstable();
        Ok(Geometry { superblock, superblock_block, groups, tables })
    }

    /// The descriptor of a group.
    pub fn group(&self, group: u64) -> Option<&GroupDescriptor> {
        self.groups.get(usize::try_from(group).ok()?)?.as_ref()
    }

    /// Inodes in a block of an inode table.
    pub fn inodes_per_block(&self) -> u64 {
        self.superblock.block_size / self.superblock.inode_size
    }

    /// Blocks of a group's inode table.
    pub fn table_blocks(&self) -> u64 {
        u64::from(self.superblock.inodes_per_group).div_ceil(self.inodes_per_block())
    }

    /// Block of the inode table and byte in it where an inode stands.
    pub fn inode_location(&self, ino: Ino) -> Option<(Block, usize)> {
        let index = ino.0.checked_sub(1).filter(|index| *index < self.superblock.inodes)?;
        let group = self.group(u64::from(index / self.superblock.inodes_per_group))?;
        let within = u64::from(index % self.superblock.inodes_per_group);
        let byte = within % self.inodes_per_block() * self.superblock.inode_size;
        Some((group.inode_table.plus(within / self.inodes_per_block()), byte as usize))
    }

    /// The last inode table that begins at a block or before it, with its group. Asked for millions of blocks: without `flex_bg`, what is
    /// not in the block's own group need not be searched (see [`plausible`]).
    fn table_before(&self, block: Block) -> Option<(Block, u64)> {
        if self.superblock.incompat & incompat::FLEX_BG == 0 {
            let group = self.superblock.group_of(block);
            return self.group(group).map(|descriptor| (descriptor.inode_table, group)).filter(|(start, _)| *start <= block);
        }
        Some(self.tables[self.tables.partition_point(|(start, _)| *start <= block).checked_sub(1)?])
    }

    /// The first inode of a block of an inode table; `None` for any other block.
    pub fn first_inode_of(&self, block: Block) -> Option<Ino> {
        let (start, group) = self.table_before(block)?;
        let within = (block.get() - start.get()).checked_mul(self.inodes_per_block())?;
        if within >= u64::from(self.superblock.inodes_per_group) {
            return None;
        }
        let ino = group * u64::from(self.superblock.inodes_per_group) + within + 1;
        u32::try_from(ino).ok().filter(|ino| *ino <= self.superblock.inodes).map(Ino)
    }

    /// Whether a block is a group's bitmap or part of its inode table, superblock or descriptor table: never a file's.
    pub fn is_metadata(&self, block: Block) -> bool {
        let sb = &self.superblock;
        if !sb.contains(block) || self.first_inode_of(block).is_some() {
            return true;
        }
        let number = sb.group_of(block);
        let within = block.get() - sb.group_start(number);
        let bitmap = |group: &GroupDescriptor| group.block_bitmap == block || group.inode_bitmap == block;
        self.group(number).is_some_and(bitmap) || sb.has_backup(number) && within <= self.descriptor_blocks()
    }

    /// The metadata that lies in a group, as sorted ranges of block numbers, which may overlap: what [`Geometry::is_metadata`] says block
    /// by block. The bitmap of a group that was never written to does not have it (`BLOCK_UNINIT`).
    pub fn metadata_in(&self, number: u64) -> Vec<Range<u64>> {
        let sb = &self.superblock;
        let (start, end) = (sb.group_start(number), sb.group_start(number).saturating_add(sb.blocks_per_group));
        let length = self.table_blocks();
        let first = self.tables.partition_point(|(table, _)| table.get().saturating_add(length) <= start);
        let tables = self.tables[first..].iter().map(|(table, _)| table.get()).take_while(|table| *table < end);
        let mut ranges: Vec<Range<u64>> = tables.map(|table| table..table.saturating_add(length)).collect();
        if let Some(group) = self.group(number) {
            ranges.extend([group.block_bitmap, group.inode_bitmap].map(|block| block.get()..block.get() + 1));
        }
        if sb.has_backup(number) {
            ranges.push(start..start + 1 + self.descriptor_blocks());
        }
        ranges.sort_by_key(|range| range.start);
        ranges
    }

    /// Blocks behind a superblock that hold group descriptors, or are kept for them.
    fn descriptor_blocks(&self) -> u64 {
        let sb = &self.superblock;
        match sb.incompat & incompat::META_BG != 0 {
            false => (self.groups.len() as u64).div_ceil(sb.descriptors_per_block()) + sb.reserved_gdt_blocks,
            true => sb.first_meta_bg.min(1),
        }
    }
}

/// Block that holds the descriptor of `group`, in its `copy`-th copy (0 is the first). Linear tables lie behind the
/// superblock of the groups that have one, spread ones (`META_BG`) in the first, second and last group of their meta group
/// (`descriptor_loc`, fs/ext4/super.c).
fn descriptor_block(sb: &Superblock, group: u64, copy: u64) -> Option<Block> {
    let per = sb.descriptors_per_block();
    let meta = group / per;
    if sb.incompat & incompat::META_BG != 0 && meta >= sb.first_meta_bg {
        let holder = meta * per + *[0, 1, per - 1].get(copy as usize)?;
        return (holder < sb.groups()).then(|| Block::new(sb.group_start(holder) + u64::from(sb.has_backup(holder))))?;
    }
    let holder = (0..sb.groups()).filter(|group| sb.has_backup(*group)).nth(copy as usize)?;
    Block::new(sb.group_start(holder) + 1 + meta)
}

/// Whether a descriptor can be true: everything inside the filesystem and, without flex_bg, inside its own group.
fn plausible(sb: &Superblock, group: u64, descriptor: &GroupDescriptor) -> bool {
    let own = sb.incompat & incompat::FLEX_BG == 0;
    let table = u64::from(sb.inodes_per_group).div_ceil(sb.block_size / sb.inode_size);
    let ends = [descriptor.block_bitmap, descriptor.inode_bitmap, descriptor.inode_table, descriptor.inode_table.plus(table - 1)];
    ends.into_iter().all(|block| sb.contains(block) && (!own || sb.group_of(block) == group))
        && descriptor.block_bitmap != descriptor.inode_bitmap
}

fn read_groups(image: &Image, sb: &Superblock, damage: &mut Vec<String>) -> Vec<Option<GroupDescriptor>> {
    let per = sb.descriptors_per_block();
    let wide = sb.descriptor_size >= 64;
    let mut groups = vec![];
    let mut table: [Option<(Block, Vec<u8>)>; 4] = Default::default();
    let (mut replaced, mut lost) = (0u64, 0u64);
    for group in 0..sb.groups() {
        let mut descriptor = None;
        for (copy, cached) in (0u64..).zip(&mut table) {
            let Some(block) = descriptor_block(sb, group, copy) else { break };
            if cached.as_ref().is_none_or(|(held, _)| *held != block) {
                let mut bytes = vec![0; sb.block_size as usize];
                *cached = image.read_exact_at(&mut bytes, block.get() * sb.block_size).ok().map(|()| (block, bytes));
            }
            let Some((_, bytes)) = cached else { continue };
            let at = (group % per * sb.descriptor_size) as usize;
            descriptor = GroupDescriptor::parse(&bytes[at..], wide).filter(|found| plausible(sb, group, found));
            if descriptor.is_some() {
                replaced += u64::from(copy > 0);
                break;
            }
        }
        lost += u64::from(descriptor.is_none());
        groups.push(descriptor);
    }
    if replaced > 0 {
        damage.push(format!("{replaced} of {} group descriptors are damaged; using their backups", groups.len()));
    }
    if lost > 0 {
        damage.push(format!("{lost} of {} group descriptors are damaged in every copy; their groups' inodes cannot be read", groups.len()));
    }
    groups
}
