//! One block of a dynamic row, or of a deleted one, as it stands in a `.MYD` (MariaDB storage/myisam/mi_dynrec.c:
//! `_mi_get_block_info` reads them, `_mi_write_part_record` and `delete_dynamic_record` write them).

use super::super::bytes::{all_zero, be16, be24, be32, be64};

/// `MI_DYN_ALIGN_SIZE`: row blocks begin and end at multiples of this.
pub const ALIGN: usize = 4;
/// `MI_MIN_BLOCK_LENGTH`: the shortest row block, header included; a deleted one must fit.
pub const MIN_LENGTH: u32 = 20;
/// The longest header (`MI_BLOCK_INFO_HEADER_LENGTH`), that of a deleted block.
pub const MAX_HEADER: usize = 20;
/// The most unused bytes at the end of a row block. `_mi_write_part_record` splits what is more than `MI_SPLIT_LENGTH` (48)
/// longer than the rest of the row, and 4 of these are the header.
pub const MAX_SLACK: u8 = 44;
/// From this length on, of the block or of the row, the headers with 3-byte lengths are used.
const LONG: u32 = 65520;
/// `MI_MAX_BLOCK_LENGTH`: a row above it begins with a block of type 13.
const MAX_LENGTH: u32 = ((1 << 24) - 1) & !3;
/// Links are file offsets; `max_data_file_length` is at most 2^(8 × 6) with pointers of 6 bytes, the default, and 2^56 with 7,
/// the most (`myisam_data_pointer_size`).
const MAX_OFFSET: u64 = 1 << 56;

/// What a row block is in its row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Holds no row (type 0).
    Deleted,
    /// A whole row (1 to 4).
    Whole,
    /// Begins a row that goes on elsewhere (5, 6, 13).
    First,
    /// Goes on with a row, and does not end it (11, 12).
    Middle,
    /// Ends a row (7 to 10).
    Last,
}

/// A row block's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RowBlock {
    /// What it is in its row.
    pub role: Role,
    /// Bytes of the header.
    pub header: u8,
    /// Bytes of the row in it; 0 for a deleted one.
    pub data: u32,
    /// Zeros behind them.
    pub slack: u8,
    /// Bytes from this header to the next; a multiple of [`ALIGN`].
    pub total: u32,
    /// Bytes of the whole row, in a block that begins one; else 0.
    pub row: u32,
    /// File offset at which the row goes on, or of the next deleted block (older in the list).
    pub next: Option<u64>,
    /// File offset of the deleted block before it in the list.
    pub prev: Option<u64>,
}

/// Why bytes are not a row block's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoBlock {
    /// The bytes end within the header.
    Cut,
    /// MyISAM never writes this.
    Wrong,
}

impl RowBlock {
    /// Parses the header at the start of `bytes`, which may reach beyond the block or end within it. Stricter than MyISAM's own
    /// reader: what `_mi_write_part_record` would not have written is wrong (short forms of long lengths and the other way
    /// round, links that are not aligned, too much slack).
    pub fn parse(bytes: &[u8]) -> Result<RowBlock, NoBlock> {
        let kind = *bytes.first().ok_or(NoBlock::Cut)?;
        let be16 = |at| be16(bytes, at).map(u32::from).ok_or(NoBlock::Cut);
        let be24 = |at| be24(bytes, at).ok_or(NoBlock::Cut);
        let be64 = |at| be64(bytes, at).ok_or(NoBlock::Cut);
        let slack = |at: usize| bytes.get(at).copied().ok_or(NoBlock::Cut);
        let long = kind == 13 || kind != 0 && kind.is_multiple_of(2);
        let (role, header, data, slack, row, next) = match kind {
            0 => return Self::deleted(bytes),
            1 => (Role::Whole, 3, be16(1)?, 0, be16(1)?, None),
            2 => (Role::Whole, 4, be24(1)?, 0, be24(1)?, None),
            3 => (Role::Whole, 4, be16(1)?, slack(3)?, be16(1)?, None),
            4 => (Role::Whole, 5, be24(1)?, slack(4)?, be24(1)?, None),
            5 => (Role::First, 13, be16(3)?, 0, be16(1)?, Some(be64(5)?)),
            6 => (Role::First, 15, be24(4)?, 0, be24(1)?, Some(be64(7)?)),
            7 => (Role::Last, 3, be16(1)?, 0, 0, None),
            8 => (Role::Last, 4, be24(1)?, 0, 0, None),
            9 => (Role::Last, 4, be16(1)?, slack(3)?, 0, None),
            10 => (Role::Last, 5, be24(1)?, slack(4)?, 0, None),
            11 => (Role::Middle, 11, be16(1)?, 0, 0, Some(be64(3)?)),
            12 => (Role::Middle, 12, be24(1)?, 0, 0, Some(be64(4)?)),
            13 => (Role::First, 16, be24(5)?, 0, be32(bytes, 1).ok_or(NoBlock::Cut)?, Some(be64(8)?)),
            _ => return Err(NoBlock::Wrong),
        };
        let block = RowBlock { role, header, data, slack, total: u32::from(header) + data + u32::from(slack), row, next, prev: None };
        // A middle block (12) may be short: the rest of the row decides, which it does not say.
        let lengths = match kind {
            6 => block.total >= LONG || row >= LONG,
            12 => true,
            13 => row > MAX_LENGTH,
            _ => (block.total >= LONG || row >= LONG) == long,
        };
        let first = role != Role::First || data < row;
        let linked = next.is_none_or(is_offset);
        (lengths && first && linked && slack <= MAX_SLACK && data > 0 && block.is_aligned()).then_some(block).ok_or(NoBlock::Wrong)
    }

    fn deleted(bytes: &[u8]) -> Result<RowBlock, NoBlock> {
        let total = be24(bytes, 1).ok_or(NoBlock::Cut)?;
        let link = |at| be64(bytes, at).map(|n| Some(n).filter(|&n| n != u64::MAX)).ok_or(NoBlock::Cut);
        let block = RowBlock { role: Role::Deleted, header: 20, data: 0, slack: 0, total, row: 0, next: None, prev: None };
        if !block.is_aligned() {
            return Err(NoBlock::Wrong);
        }
        let block = RowBlock { next: link(4)?, prev: link(12)?, ..block };
        (block.next.is_none_or(is_offset) && block.prev.is_none_or(is_offset)).then_some(block).ok_or(NoBlock::Wrong)
    }

    fn is_aligned(&self) -> bool {
        self.total >= MIN_LENGTH && self.total.is_multiple_of(ALIGN as u32)
    }

    /// Whether the slack, as far as it stands in `bytes` (which start with the header), is zero: MyISAM always writes it so.
    pub fn slack_is_zero(&self, bytes: &[u8]) -> bool {
        let from = (self.total - u32::from(self.slack)) as usize;
        bytes.get(from..bytes.len().min(self.total as usize)).is_none_or(all_zero)
    }
}

fn is_offset(link: u64) -> bool {
    link < MAX_OFFSET && link.is_multiple_of(ALIGN as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type() {
        let link = 0x1000u64.to_be_bytes();
        let with = |head: &[u8], tail: &[u8]| [head, tail].concat();
        for (bytes, role, header, data, slack, total, row, next) in [
            (vec![1, 0, 21], Role::Whole, 3, 21, 0, 24, 21, None),
            (vec![2, 1, 0, 0], Role::Whole, 4, 65536, 0, 65540, 65536, None),
            (vec![3, 0, 8, 8], Role::Whole, 4, 8, 8, 20, 8, None),
            (vec![4, 1, 0, 0, 3], Role::Whole, 5, 65536, 3, 65544, 65536, None),
            (with(&[5, 1, 0, 0, 11], &link), Role::First, 13, 11, 0, 24, 256, Some(0x1000)),
            (with(&[6, 1, 0, 0, 0, 0, 9], &link), Role::First, 15, 9, 0, 24, 65536, Some(0x1000)),
            (vec![7, 0, 21], Role::Last, 3, 21, 0, 24, 0, None),
            (vec![8, 1, 0, 0], Role::Last, 4, 65536, 0, 65540, 0, None),
            (vec![9, 0, 19, 1], Role::Last, 4, 19, 1, 24, 0, None),
            (vec![10, 1, 0, 0, 3], Role::Last, 5, 65536, 3, 65544, 0, None),
            (with(&[11, 0, 13], &link), Role::Middle, 11, 13, 0, 24, 0, Some(0x1000)),
            (with(&[12, 0, 0, 12], &link), Role::Middle, 12, 12, 0, 24, 0, Some(0x1000)),
            (with(&[13, 1, 0, 0, 0, 0, 0, 16], &link), Role::First, 16, 16, 0, 32, 1 << 24, Some(0x1000)),
        ] {
            let expected = RowBlock { role, header, data, slack, total, row, next, prev: None };
            assert_eq!(RowBlock::parse(&bytes), Ok(expected), "{bytes:?}");
            assert_eq!(RowBlock::parse(&bytes[..bytes.len() - 1]), Err(NoBlock::Cut), "{bytes:?}");
        }
        let deleted = [&[0, 0, 0, 24][..], &[0xff; 8], &link].concat();
        let parsed = RowBlock::parse(&deleted).unwrap();
        assert_eq!((parsed.role, parsed.total, parsed.next, parsed.prev), (Role::Deleted, 24, None, Some(0x1000)));
    }

    #[test]
    fn what_is_never_written() {
        for (bytes, why) in [
            (vec![14, 0, 21, 0, 0], "no such type"),
            (vec![1, 0, 20], "not aligned"),
            (vec![1, 0, 13], "shorter than a deleted block"),
            (vec![3, 0, 3, 49], "more slack than MyISAM leaves"),
            (vec![2, 0, 0, 24], "a long header for a short row"),
            (vec![5, 0, 11, 0, 11, 0, 0, 0, 0, 0, 0, 16, 0], "the row ends in its first part"),
            (vec![5, 1, 0, 0, 11, 0, 0, 0, 0, 0, 0, 16, 1], "a link that is not aligned"),
            (vec![0; 20], "zeros"),
        ] {
            assert_eq!(RowBlock::parse(&bytes), Err(NoBlock::Wrong), "{why}");
        }
    }

    #[test]
    fn slack() {
        let block = RowBlock::parse(&[3, 0, 8, 8]).unwrap();
        let mut bytes = [[3, 0, 8, 8].as_slice(), &[7; 8], &[0; 8], &[9; 4]].concat();
        assert!(block.slack_is_zero(&bytes) && block.slack_is_zero(&bytes[..14]) && block.slack_is_zero(&bytes[..3]));
        bytes[19] = 1;
        assert!(!block.slack_is_zero(&bytes));
        assert!(block.slack_is_zero(&bytes[..19]));
    }
}
