//! `struct ext3_inode` and the extra fields of larger ones (`struct ext4_inode`).

use crate::units::{Block, Generation, Time};
use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// `i_flags`: folder has a hash tree (`EXT3_INDEX_FL`).
pub const FLAG_INDEX: u32 = 0x1000;
/// `i_flags`: mapped by extents (`EXT4_EXTENTS_FL`).
pub const FLAG_EXTENTS: u32 = 0x8_0000;
/// `i_flags`: `i_blocks` counts filesystem blocks (`EXT4_HUGE_FILE_FL`).
pub const FLAG_HUGE_FILE: u32 = 0x4_0000;

/// `i_mode & S_IFMT`.
pub const S_IFMT: u16 = 0o170000;
/// A folder.
pub const S_IFDIR: u16 = 0o040000;
/// A regular file.
pub const S_IFREG: u16 = 0o100000;
/// A symbolic link.
pub const S_IFLNK: u16 = 0o120000;

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    i_mode: U16,            // 0x00
    i_uid: U16,             // 0x02
    i_size: U32,            // 0x04
    i_atime: U32,           // 0x08
    i_ctime: U32,           // 0x0c
    i_mtime: U32,           // 0x10
    i_dtime: U32,           // 0x14
    i_gid: U16,             // 0x18
    i_links_count: U16,     // 0x1a
    i_blocks: U32,          // 0x1c
    i_flags: U32,           // 0x20
    l_i_reserved1: U32,     // 0x24
    i_block: [U32; 15],     // 0x28
    i_generation: U32,      // 0x64
    i_file_acl: U32,        // 0x68
    i_dir_acl: U32,         // 0x6c, i_size_high of regular files
    i_faddr: U32,           // 0x70
    l_i_blocks_high: U16,   // 0x74
    l_i_file_acl_high: U16, // 0x76
    l_i_uid_high: U16,      // 0x78
    l_i_gid_high: U16,      // 0x7a
    l_i_checksum_lo: U16,   // 0x7c
    l_i_reserved2: U16,     // 0x7e
}

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawExtra {
    i_extra_isize: U16,  // 0x80
    i_checksum_hi: U16,  // 0x82
    i_ctime_extra: U32,  // 0x84
    i_mtime_extra: U32,  // 0x88
    i_atime_extra: U32,  // 0x8c
    i_crtime: U32,       // 0x90
    i_crtime_extra: U32, // 0x94
}

/// One copy of an inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// `i_mode`: type and permissions.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Last access.
    pub atime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// Last change of the content.
    pub mtime: Time,
    /// Time of deletion in seconds, or the next inode of the orphan list, or 0.
    pub dtime: u32,
    /// Creation, where the inode is large enough to say.
    pub crtime: Option<Time>,
    /// Hard links.
    pub links: u16,
    /// Space in units of 512 bytes (of filesystem blocks with `FLAG_HUGE_FILE`), indirect blocks included.
    pub blocks: u64,
    /// `i_flags`.
    pub flags: u32,
    /// `i_block`, raw.
    pub block: [u32; 15],
    /// Which life of the inode this is.
    pub generation: Generation,
    /// Block of the extended attributes.
    pub file_acl: Option<Block>,
}

/// `ext4_decode_extra_time` (fs/ext4/ext4.h): two more bits of seconds, then nanoseconds.
fn time(seconds: U32, extra: Option<U32>) -> Time {
    let extra = extra.map_or(0, U32::get);
    let nanos = extra >> 2;
    Time { seconds: i64::from(seconds.get() as i32) + (i64::from(extra & 3) << 32), nanos: if nanos < 1_000_000_000 { nanos } else { 0 } }
}

impl Inode {
    /// Parses an inode of `s_inode_size` bytes; `None` if there are fewer than 128.
    pub fn parse(bytes: &[u8]) -> Option<Inode> {
        let (raw, rest) = Raw::ref_from_prefix(bytes).ok()?;
        // Kernels write an i_extra_isize of 28 or 32; below the size of RawExtra its fields hold extended attributes.
        let extra = RawExtra::ref_from_prefix(rest)
            .ok()
            .map(|(extra, _)| extra)
            .filter(|extra| (size_of::<RawExtra>()..=rest.len()).contains(&usize::from(extra.i_extra_isize.get())));
        let regular = raw.i_mode.get() & S_IFMT == S_IFREG;
        let wide = |low: U16, high: U16| u32::from(high.get()) << 16 | u32::from(low.get());
        Some(Inode {
            mode: raw.i_mode.get(),
            uid: wide(raw.i_uid, raw.l_i_uid_high),
            gid: wide(raw.i_gid, raw.l_i_gid_high),
            size: u64::from(raw.i_size.get()) | if regular { u64::from(raw.i_dir_acl.get()) << 32 } else { 0 },
            atime: time(raw.i_atime, extra.map(|e| e.i_atime_extra)),
            ctime: time(raw.i_ctime, extra.map(|e| e.i_ctime_extra)),
            mtime: time(raw.i_mtime, extra.map(|e| e.i_mtime_extra)),
            dtime: raw.i_dtime.get(),
            crtime: extra.map(|e| time(e.i_crtime, Some(e.i_crtime_extra))).filter(|t| t.seconds != 0),
            links: raw.i_links_count.get(),
            blocks: u64::from(raw.i_blocks.get()) | u64::from(raw.l_i_blocks_high.get()) << 32,
            flags: raw.i_flags.get(),
            block: raw.i_block.map(U32::get),
            generation: Generation(raw.i_generation.get()),
            file_acl: Block::new(u64::from(raw.i_file_acl.get()) | u64::from(raw.l_i_file_acl_high.get()) << 32),
        })
    }

    /// `i_mode & S_IFMT`.
    pub fn file_type(&self) -> u16 {
        self.mode & S_IFMT
    }

    /// A folder.
    pub fn is_dir(&self) -> bool {
        self.file_type() == S_IFDIR
    }

    /// Whether it is in use: something links to it.
    pub fn is_live(&self) -> bool {
        self.links > 0 && self.mode != 0
    }

    /// Nothing was ever here, or it is wiped.
    pub fn is_blank(&self) -> bool {
        self.mode == 0 && self.links == 0 && self.dtime == 0 && self.generation.0 == 0
    }

    /// A symbolic link whose target stands in `i_block` (`ext3_inode_is_fast_symlink`).
    pub fn is_fast_symlink(&self) -> bool {
        self.file_type() == S_IFLNK && self.size < 60 && self.data_blocks_512() == 0
    }

    /// `i_blocks` without the block of the extended attributes, where that is present (its size is not known here, so only zero or not matters).
    fn data_blocks_512(&self) -> u64 {
        if self.file_acl.is_some() { 0 } else { self.blocks }
    }

    /// `i_block` as bytes, which a fast symbolic link's target is.
    pub fn inline_bytes(&self) -> [u8; 60] {
        let mut bytes = [0; 60];
        for (to, from) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(self.block) {
            *to = from.to_le_bytes();
        }
        bytes
    }

    /// The pointers of `i_block`, for inodes that are mapped by them.
    pub fn pointers(&self) -> [Option<Block>; 15] {
        if self.is_fast_symlink() || self.flags & FLAG_EXTENTS != 0 || !matches!(self.file_type(), S_IFREG | S_IFDIR | S_IFLNK) {
            return [None; 15];
        }
        self.block.map(|pointer| Block::new(pointer.into()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The 128 bytes of a regular file's inode.
    pub(crate) fn sample(size: u32, first_block: u32) -> Vec<u8> {
        let mut bytes = vec![0; 128];
        bytes[0..2].copy_from_slice(&(S_IFREG | 0o644).to_le_bytes());
        bytes[4..8].copy_from_slice(&size.to_le_bytes());
        bytes[0x1a] = 1;
        bytes[0x1c] = 8;
        bytes[0x28..0x2c].copy_from_slice(&first_block.to_le_bytes());
        bytes[0x64] = 7;
        bytes
    }

    #[test]
    fn layout() {
        assert_eq!(size_of::<Raw>(), 128);
        assert_eq!(std::mem::offset_of!(Raw, i_generation), 0x64);
    }

    #[test]
    fn parses_small_and_large() {
        let mut bytes = sample(5000, 77);
        let small = Inode::parse(&bytes).unwrap();
        assert_eq!((small.size, small.pointers()[0], small.generation), (5000, Block::new(77), Generation(7)));
        assert_eq!(small.crtime, None);
        bytes.resize(256, 0);
        bytes[0x80] = 32;
        bytes[0x10..0x14].copy_from_slice(&1_600_000_000u32.to_le_bytes());
        bytes[0x88..0x8c].copy_from_slice(&(123u32 << 2 | 1).to_le_bytes());
        let large = Inode::parse(&bytes).unwrap();
        assert_eq!(large.mtime, Time { seconds: 1_600_000_000 + (1 << 32), nanos: 123 });
        assert!(Inode::parse(&bytes[..127]).is_none());
    }

    #[test]
    fn fast_symlink_has_no_pointers() {
        let mut bytes = sample(4, 0x6162_6364);
        bytes[0..2].copy_from_slice(&(S_IFLNK | 0o777).to_le_bytes());
        bytes[0x1c] = 0;
        let link = Inode::parse(&bytes).unwrap();
        assert!(link.is_fast_symlink());
        assert_eq!(link.pointers(), [None; 15]);
        assert_eq!(&link.inline_bytes()[..4], b"dcba");
    }
}
