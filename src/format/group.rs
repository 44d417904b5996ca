//! `struct ext3_group_desc` (32 bytes) and its 64-byte form with high halves (`struct ext4_group_desc`).

use crate::units::Block;
use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// `bg_flags`: the inode table and bitmap were never written (`EXT4_BG_INODE_UNINIT`).
pub const INODE_UNINIT: u16 = 0x1;
/// `bg_flags`: the block bitmap was never written (`EXT4_BG_BLOCK_UNINIT`).
pub const BLOCK_UNINIT: u16 = 0x2;

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    bg_block_bitmap: U32,      // 0x00
    bg_inode_bitmap: U32,      // 0x04
    bg_inode_table: U32,       // 0x08
    bg_free_blocks_count: U16, // 0x0c
    bg_free_inodes_count: U16, // 0x0e
    bg_used_dirs_count: U16,   // 0x10
    bg_flags: U16,             // 0x12
    _rest: [u8; 12],           // 0x14
}

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHigh {
    bg_block_bitmap_hi: U32, // 0x20
    bg_inode_bitmap_hi: U32, // 0x24
    bg_inode_table_hi: U32,  // 0x28
    _rest: [u8; 20],         // 0x2c
}

/// Where a block group keeps its bitmaps and inodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupDescriptor {
    /// Block of the block bitmap.
    pub block_bitmap: Block,
    /// Block of the inode bitmap.
    pub inode_bitmap: Block,
    /// First block of the inode table.
    pub inode_table: Block,
    /// `bg_flags`; meaningful only with [`super::superblock::Superblock::has_group_flags`].
    pub flags: u16,
}

impl GroupDescriptor {
    /// Parses one descriptor of 32 or, with `wide`, 64 bytes. `None` if it names block 0 or is too short.
    pub fn parse(bytes: &[u8], wide: bool) -> Option<GroupDescriptor> {
        let (raw, rest) = Raw::ref_from_prefix(bytes).ok()?;
        let high = match wide {
            true => Some(RawHigh::ref_from_prefix(rest).ok()?.0),
            false => None,
        };
        let block = |low: U32, high: Option<U32>| Block::new(u64::from(high.map_or(0, U32::get)) << 32 | u64::from(low.get()));
        Some(GroupDescriptor {
            block_bitmap: block(raw.bg_block_bitmap, high.map(|h| h.bg_block_bitmap_hi))?,
            inode_bitmap: block(raw.bg_inode_bitmap, high.map(|h| h.bg_inode_bitmap_hi))?,
            inode_table: block(raw.bg_inode_table, high.map(|h| h.bg_inode_table_hi))?,
            flags: raw.bg_flags.get(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_and_wide() {
        let mut bytes = [0u8; 64];
        for (i, at) in [0, 4, 8, 0x20, 0x24, 0x28].into_iter().enumerate() {
            bytes[at] = i as u8 + 1;
        }
        let narrow = GroupDescriptor::parse(&bytes[..32], false).unwrap();
        assert_eq!((narrow.block_bitmap.get(), narrow.inode_bitmap.get(), narrow.inode_table.get()), (1, 2, 3));
        let wide = GroupDescriptor::parse(&bytes, true).unwrap();
        assert_eq!(wide.inode_table.get(), 6 << 32 | 3);
        assert_eq!(GroupDescriptor::parse(&bytes[..32], true), None);
        assert_eq!(GroupDescriptor::parse(&[0; 32], false), None);
    }
}
