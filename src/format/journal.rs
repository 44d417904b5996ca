//! Blocks of the journal (include/linux/jbd2.h, fs/jbd2/recovery.c). Big-endian throughout.

use crate::units::{Block, Sequence};
use zerocopy::byteorder::big_endian::U32;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// `JFS_MAGIC_NUMBER`.
pub const MAGIC: u32 = 0xC03B_3998;
/// `s_feature_compat`: commit blocks hold a checksum of all that the transaction wrote (version 1).
const COMPAT_CHECKSUM: u32 = 0x1;
/// `s_feature_incompat`: revoke records are used.
const INCOMPAT_REVOKE: u32 = 0x1;
/// Block numbers are 64 bits wide.
const INCOMPAT_64BIT: u32 = 0x2;
/// Commit blocks may be written before the blocks that they commit.
const INCOMPAT_ASYNC_COMMIT: u32 = 0x4;
/// Tags hold 16 bits of a checksum.
const INCOMPAT_CSUM_V2: u32 = 0x8;
/// Tags hold 32 bits of a checksum.
const INCOMPAT_CSUM_V3: u32 = 0x10;
/// The journal's end holds fast commits.
const INCOMPAT_FAST_COMMIT: u32 = 0x20;

/// `JFS_FLAG_ESCAPE`: the copy's first 4 bytes were the magic, and are zero in the log.
const TAG_ESCAPE: u32 = 1;
/// `JFS_FLAG_SAME_UUID`: no UUID follows the tag.
const TAG_SAME_UUID: u32 = 2;
/// `JFS_FLAG_LAST_TAG`.
const TAG_LAST: u32 = 8;

/// What a journal block is by its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockType {
    /// Tags: which blocks the following ones are copies of.
    Descriptor,
    /// The transaction is complete.
    Commit,
    /// `journal_superblock_t` versions 1 and 2.
    Superblock,
    /// Blocks whose earlier copies must not be replayed.
    Revoke,
}

/// `journal_header_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The kind.
    pub block_type: BlockType,
    /// The transaction.
    pub sequence: Sequence,
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl Header {
    /// Parses the first 12 bytes of a log block; `None` for a copy, which never begins with the magic.
    pub fn parse(bytes: &[u8]) -> Option<Header> {
        if u32_at(bytes, 0)? != MAGIC {
            return None;
        }
        let block_type = match u32_at(bytes, 4)? {
            1 => BlockType::Descriptor,
            2 => BlockType::Commit,
            3 | 4 => BlockType::Superblock,
            5 => BlockType::Revoke,
            _ => return None,
        };
        Some(Header { block_type, sequence: Sequence(u32_at(bytes, 8)?) })
    }
}

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawSuperblock {
    h_magic: U32,             // 0x00
    h_blocktype: U32,         // 0x04
    h_sequence: U32,          // 0x08
    s_blocksize: U32,         // 0x0c
    s_maxlen: U32,            // 0x10
    s_first: U32,             // 0x14
    s_sequence: U32,          // 0x18
    s_start: U32,             // 0x1c
    s_errno: U32,             // 0x20
    s_feature_compat: U32,    // 0x24
    s_feature_incompat: U32,  // 0x28
    s_feature_ro_compat: U32, // 0x2c
    s_uuid: [u8; 16],         // 0x30
    s_nr_users: U32,          // 0x40
    s_dynsuper: U32,          // 0x44
    s_max_transaction: U32,   // 0x48
    s_max_trans_data: U32,    // 0x4c
    s_checksum_type: u8,      // 0x50
    _padding2: [u8; 3],       // 0x51
    s_num_fc_blks: U32,       // 0x54
}

/// `journal_superblock_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Bytes of a log block.
    pub block_size: u64,
    /// Blocks of the journal, this one included, those of fast commits not.
    pub length: u32,
    /// First block of the log.
    pub first: u32,
    /// First transaction that replay expects.
    pub sequence: Sequence,
    /// Where it begins; 0 when the journal is clean.
    pub start: u32,
    /// How tags are laid out.
    pub layout: Layout,
    /// `s_uuid`.
    pub uuid: [u8; 16],
}

/// What the journal's features say of its blocks' layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Layout {
    /// Block numbers of 64 bits.
    pub wide: bool,
    /// Checksums: 0, 2 or 3.
    pub csum: u8,
    /// Checksums of version 1: of whole transactions, in their commit blocks.
    pub csum_v1: bool,
    /// Start value of the checksums of version 2 and 3: crc32c of `s_uuid`.
    pub csum_seed: u32,
    /// Commit blocks may come before the data that they commit (`ASYNC_COMMIT`): only a checksum tells.
    pub async_commit: bool,
}

impl Superblock {
    /// Parses block 0 of a journal; `None` if it is none that can be used.
    pub fn parse(bytes: &[u8]) -> Option<Superblock> {
        let (raw, _) = RawSuperblock::ref_from_prefix(bytes).ok()?;
        let version = raw.h_blocktype.get();
        if raw.h_magic.get() != MAGIC || !(3..=4).contains(&version) {
            return None;
        }
        let (compat, incompat) = if version == 4 { (raw.s_feature_compat.get(), raw.s_feature_incompat.get()) } else { (0, 0) };
        let known = INCOMPAT_REVOKE | INCOMPAT_64BIT | INCOMPAT_ASYNC_COMMIT | INCOMPAT_CSUM_V2 | INCOMPAT_CSUM_V3 | INCOMPAT_FAST_COMMIT;
        let fast_commit = if incompat & INCOMPAT_FAST_COMMIT != 0 { raw.s_num_fc_blks.get() } else { 0 };
        let length = raw.s_maxlen.get().saturating_sub(fast_commit);
        (incompat & !known == 0 && raw.s_first.get() > 0 && raw.s_first.get() < length && raw.s_start.get() < length).then(|| Superblock {
            block_size: raw.s_blocksize.get().into(),
            length,
            first: raw.s_first.get(),
            sequence: Sequence(raw.s_sequence.get()),
            start: raw.s_start.get(),
            layout: Layout {
                wide: incompat & INCOMPAT_64BIT != 0,
                csum: if incompat & INCOMPAT_CSUM_V3 != 0 { 3 } else { u8::from(incompat & INCOMPAT_CSUM_V2 != 0) * 2 },
                csum_v1: compat & COMPAT_CHECKSUM != 0,
                csum_seed: crc32c(!0, &raw.s_uuid),
                async_commit: incompat & INCOMPAT_ASYNC_COMMIT != 0,
            },
            uuid: raw.s_uuid,
        })
    }
}

/// A tag of a descriptor block: one copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// The block that was copied.
    pub block: Block,
    /// The copy's first 4 bytes stand for the magic.
    pub escaped: bool,
    /// Checksum of the copy: 32 bits with version 3, the lower 16 with version 2.
    pub checksum: u32,
}

impl Layout {
    /// Bytes of a tag without UUID (`journal_tag_bytes`, fs/jbd2/journal.c).
    fn tag_size(self) -> usize {
        match (self.csum, self.wide) {
            (3, _) => 16,
            (2, wide) => 10 + 4 * usize::from(wide),
            (_, wide) => 8 + 4 * usize::from(wide),
        }
    }

    /// The tags of a descriptor block, `None` for one that names block 0. Ends at the last tag or where the block ends.
    pub fn tags(self, bytes: &[u8]) -> Vec<Option<Tag>> {
        let end = bytes.len().saturating_sub(if self.csum != 0 { 4 } else { 0 });
        let (mut tags, mut at, size) = (vec![], 12, self.tag_size());
        while at + size <= end {
            let half = |at: usize| bytes.get(at..at + 2).map_or(0, |b| u32::from(u16::from_be_bytes([b[0], b[1]])));
            let word = |at: usize| u32_at(bytes, at).unwrap_or(0);
            let (flags, checksum) = if self.csum == 3 { (word(at + 4), word(at + 12)) } else { (half(at + 6), half(at + 4)) };
            let high = if self.wide { u64::from(word(at + 8)) } else { 0 };
            let block = Block::new(high << 32 | u64::from(word(at)));
            tags.push(block.map(|block| Tag { block, escaped: flags & TAG_ESCAPE != 0, checksum }));
            at += size + if flags & TAG_SAME_UUID != 0 { 0 } else { 16 };
            if flags & TAG_LAST != 0 {
                break;
            }
        }
        tags
    }

    /// Whether a copy, as it stands in the log, is the one that the tag was written for (`jbd2_block_tag_csum_verify`).
    /// True where the journal has no such checksums.
    pub fn copy_matches(self, tag: &Tag, sequence: Sequence, copy: &[u8]) -> bool {
        if self.csum == 0 {
            return true;
        }
        let sum = crc32c(crc32c(self.csum_seed, &sequence.0.to_be_bytes()), copy);
        if self.csum == 3 { sum == tag.checksum } else { sum & 0xffff == tag.checksum }
    }

    /// Whether a commit block is the one that its transaction ended with: `sum` is the transaction's [`crc32_be`] over its
    /// descriptor blocks and copies in the order of the log, which only version 1 needs (`do_one_pass`, fs/jbd2/recovery.c).
    /// True where the journal has no checksums.
    pub fn commit_matches(self, bytes: &[u8], sum: u32) -> bool {
        let stored = u32_at(bytes, 0x10);
        if self.csum_v1 {
            // JBD2_CRC32_CHKSUM and its size, or a commit written while the journal had no checksums.
            let (kind, size) = (bytes.get(0xc), bytes.get(0xd));
            return (kind, size, stored) == (Some(&1), Some(&4), Some(sum)) || (kind, size, stored) == (Some(&0), Some(&0), Some(0));
        }
        let matches = |end: usize| {
            let mut plain = bytes.to_vec();
            plain[0x10..0x14].fill(0);
            plain[end..].fill(0);
            stored == Some(crc32c(self.csum_seed, &plain))
        };
        // What lies behind struct commit_header need not count (jbd2_commit_block_csum_verify_partial).
        self.csum == 0 || bytes.len() >= 0x3c && (matches(bytes.len()) || matches(0x3c))
    }

    /// The blocks that a revoke block names.
    pub fn revoked(self, bytes: &[u8]) -> Vec<Block> {
        let size = if self.wide { 8 } else { 4 };
        let tail = if self.csum != 0 { 4 } else { 0 };
        let end = u32_at(bytes, 12).map_or(0, |n| n as usize).min(bytes.len().saturating_sub(tail));
        let records = bytes.get(16..end).unwrap_or_default().chunks_exact(size);
        records.filter_map(|raw| Block::new(raw.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))).collect()
    }
}

/// Time of a commit block in seconds and nanoseconds since 1970 (`h_commit_sec`); `None` where jbd (version 1) left it zero.
pub fn commit_time(bytes: &[u8]) -> Option<(i64, u32)> {
    let seconds = i64::from(u32_at(bytes, 0x30)?) << 32 | i64::from(u32_at(bytes, 0x34)?);
    (seconds > 0 && seconds < 1 << 40).then(|| (seconds, u32_at(bytes, 0x38).filter(|nanos| *nanos < 1_000_000_000).unwrap_or(0)))
}

/// CRC-32C (Castagnoli) as the kernel's `crc32c(seed, …)`: no inversion at either end.
pub fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, bytes)
}

/// CRC-32 as the kernel's `crc32_be(seed, …)`: most significant bit first, no inversion at either end.
pub fn crc32_be(seed: u32, bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let (mut table, mut byte) = ([0; 256], 0);
        while byte < 256 {
            let (mut value, mut bit) = ((byte as u32) << 24, 0);
            while bit < 8 {
                value = value << 1 ^ if value >> 31 != 0 { 0x04C1_1DB7 } else { 0 };
                bit += 1;
            }
            table[byte] = value;
            byte += 1;
        }
        table
    };
    bytes.iter().fold(seed, |sum, byte| sum << 8 ^ TABLE[usize::from((sum >> 24) as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn be(words: &[u32], size: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
        bytes.resize(size, 0);
        bytes
    }

    #[test]
    fn header() {
        let commit = be(&[MAGIC, 2, 9], 1024);
        assert_eq!(Header::parse(&commit), Some(Header { block_type: BlockType::Commit, sequence: Sequence(9) }));
        assert_eq!(Header::parse(&be(&[MAGIC, 6, 9], 1024)), None);
        assert_eq!(Header::parse(&be(&[0, 2, 9], 1024)), None);
        assert_eq!(Header::parse(&[]), None);
    }

    #[test]
    fn tags_narrow_with_uuid_behind_the_first() {
        let bytes = be(&[MAGIC, 1, 9, 100, 0, 1, 2, 3, 4, 200, TAG_SAME_UUID | TAG_ESCAPE, 300, TAG_SAME_UUID | TAG_LAST, 400, 2], 1024);
        let tags: Vec<_> = Layout::default().tags(&bytes).into_iter().flatten().map(|t| (t.block.get(), t.escaped)).collect();
        assert_eq!(tags, [(100, false), (200, true), (300, false)]);
    }

    #[test]
    fn tags_of_version_3() {
        let layout = Layout { wide: true, csum: 3, ..Layout::default() };
        let bytes = be(&[MAGIC, 1, 9, 100, TAG_SAME_UUID, 1, 77, 0, TAG_SAME_UUID | TAG_LAST, 0, 0], 64);
        let tags = layout.tags(&bytes);
        assert_eq!(tags, [Some(Tag { block: Block::new(1 << 32 | 100).unwrap(), escaped: false, checksum: 77 }), None]);
    }

    #[test]
    fn tags_end_with_the_block() {
        assert_eq!(Layout::default().tags(&be(&[MAGIC, 1, 9], 1024)).len(), (1024 - 12) / 24);
        assert!(Layout::default().tags(&[]).is_empty());
    }

    #[test]
    fn revokes_are_bounded_by_the_block() {
        let bytes = be(&[MAGIC, 5, 9, 24, 7, 8, 9], 1024);
        assert_eq!(Layout::default().revoked(&bytes).iter().map(|b| b.get()).collect::<Vec<_>>(), [7, 8]);
        assert_eq!(Layout::default().revoked(&be(&[MAGIC, 5, 9, u32::MAX, 7], 24)).len(), 1);
        assert_eq!(Layout { wide: true, ..Layout::default() }.revoked(&bytes)[0].get(), 7 << 32 | 8);
    }

    #[test]
    fn crcs_are_the_kernels() {
        assert_eq!(!crc32c(!0, b"123456789"), 0xE306_9283);
        // CRC-32/MPEG-2.
        assert_eq!(crc32_be(!0, b"123456789"), 0x0376_E6E7);
    }

    #[test]
    fn commits_of_version_1() {
        let layout = Layout { csum_v1: true, ..Layout::default() };
        let commit = |word: u32, sum: u32| be(&[MAGIC, 2, 9, word, sum], 1024);
        assert!(layout.commit_matches(&commit(0x0104_0000, 77), 77) && layout.commit_matches(&commit(0, 0), 77));
        for (word, sum) in [(0x0104_0000, 78), (0x0204_0000, 77), (0x0100_0000, 77), (0, 77)] {
            assert!(!layout.commit_matches(&commit(word, sum), 77), "{word:x} {sum}");
        }
        assert!(!layout.commit_matches(&[], 0) && Layout::default().commit_matches(&[], 0));
    }

    #[test]
    fn commits_of_later_versions() {
        let layout = Layout { csum: 3, csum_seed: 5, ..Layout::default() };
        let mut commit = be(&[MAGIC, 2, 9], 1024);
        let sum = crc32c(5, &commit);
        commit[0x10..0x14].copy_from_slice(&sum.to_be_bytes());
        assert!(layout.commit_matches(&commit, 0));
        commit[900] = 1;
        assert!(layout.commit_matches(&commit, 0));
        commit[0x30] = 1;
        assert!(!layout.commit_matches(&commit, 0) && !layout.commit_matches(&[0; 8], 0));
    }
}
