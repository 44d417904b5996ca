//! Indirect blocks: arrays of 32-bit block numbers, one page of a file's table of contents each.

use crate::units::Block;

/// The pointers of an indirect block; `None` where it has a hole.
pub fn parse(bytes: &[u8]) -> impl ExactSizeIterator<Item = Option<Block>> + '_ {
    bytes.as_chunks::<4>().0.iter().map(|raw| Block::new(u32::from_le_bytes(*raw).into()))
}

/// Direct pointers of an inode (`EXT3_NDIR_BLOCKS`).
pub const DIRECT: u64 = 12;

/// First file block that the inode's pointer in `slot` (12 IND, 13 DIND, 14 TIND; else direct) maps, with `per`
/// pointers to a block. As `ext3_block_to_path` (fs/ext3/inode.c).
pub const fn first_file_block(slot: usize, per: u64) -> u64 {
    match slot {
        0..=12 => slot as u64,
        13 => 12 + per,
        _ => 12 + per + per * per,
    }
}

/// File blocks that one pointer maps which has `level` levels of indirect blocks below it: 1 for a data block, `per` for an IND.
pub const fn span(level: u8, per: u64) -> u64 {
    per.pow(level as u32)
}

/// Blocks that a file can have at most.
pub const fn max_file_blocks(per: u64) -> u64 {
    12 + per + per * per + per * per * per
}

/// Indirect blocks, of all levels, of a file of so many blocks without holes.
pub const fn tables(blocks: u64, per: u64) -> u64 {
    let left = blocks.saturating_sub(DIRECT);
    let (doubly, triply) = (left.saturating_sub(per), left.saturating_sub(per + per * per));
    left.div_ceil(per) + if doubly > 0 { 1 } else { 0 } + if triply > 0 { 1 + triply.div_ceil(per * per) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn geometry_of_4k_blocks() {
        assert_eq!(first_file_block(12, 1024), 12);
        assert_eq!(first_file_block(13, 1024), 1036);
        assert_eq!(first_file_block(14, 1024), 1036 + 1024 * 1024);
        assert_eq!(span(0, 1024), 1);
        assert_eq!(span(2, 1024), 1 << 20);
        assert_eq!(first_file_block(14, 1024) + span(3, 1024), max_file_blocks(1024));
    }

    #[test]
    fn tables_of_whole_files() {
        let (per, count) = (1024, |blocks| tables(blocks, 1024));
        assert_eq!([count(12), count(13), count(12 + per), count(13 + per), count(12 + 2 * per)], [0, 1, 1, 3, 3]);
        assert_eq!((count(max_file_blocks(per) - per * per * per), count(max_file_blocks(per))), (per + 2, 3 + 2 * per + per * per));
        assert_eq!(count(13 + per + per * per), per + 2 + 3);
    }

    #[test]
    fn zero_is_a_hole_and_a_tail_is_ignored() {
        let pointers: Vec<_> = parse(&[1, 0, 0, 0, 0, 0, 0, 0, 9, 9]).collect();
        assert_eq!(pointers, [Block::new(1), None]);
    }
}
