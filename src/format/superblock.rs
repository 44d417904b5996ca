//! `struct ext3_super_block`: 1,024 bytes, at byte 1,024 of the filesystem and at the start of some block groups.

use crate::units::{Block, Ino};
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Byte at which the primary superblock stands, whatever the block size.
pub const OFFSET: u64 = 1024;
/// Bytes of it.
pub const SIZE: usize = 1024;
const MAGIC: u16 = 0xEF53;

/// `s_feature_incompat`: who does not know a bit must not read.
pub mod incompat {
    /// Folder entries hold the file type.
    pub const FILETYPE: u32 = 0x2;
    /// The journal must be replayed.
    pub const RECOVER: u32 = 0x4;
    /// This is an external journal, not a filesystem.
    pub const JOURNAL_DEV: u32 = 0x8;
    /// Group descriptors are spread over meta block groups.
    pub const META_BG: u32 = 0x10;
    /// Files map their blocks by extents.
    pub const EXTENTS: u32 = 0x40;
    /// Block numbers and group descriptors may be 64 bits wide.
    pub const BIT64: u32 = 0x80;
    /// Multiple mount protection.
    pub const MMP: u32 = 0x100;
    /// Bitmaps and inode tables of several groups lie together.
    pub const FLEX_BG: u32 = 0x200;
    /// The checksum seed stands in the superblock.
    pub const CSUM_SEED: u32 = 0x2000;
    /// Folders above 2 GiB or with three-level hash trees.
    pub const LARGEDIR: u32 = 0x4000;
    /// What this program can read.
    pub const SUPPORTED: u32 = FILETYPE | RECOVER | META_BG | BIT64 | MMP | FLEX_BG | CSUM_SEED | LARGEDIR;
}

/// `s_feature_ro_compat` and `s_feature_compat` bits that matter to a reader.
pub mod compat {
    /// `s_feature_compat`: there is a journal.
    pub const HAS_JOURNAL: u32 = 0x4;
    /// `s_feature_compat`: backup superblocks stand only in the two groups of `s_backup_bgs`.
    pub const SPARSE_SUPER2: u32 = 0x200;
    /// `s_feature_ro_compat`: backup superblocks only in groups 0, 1 and powers of 3, 5, 7.
    pub const RO_SPARSE_SUPER: u32 = 0x1;
    /// `s_feature_ro_compat`: groups may have uninitialised bitmaps and tables (`bg_flags`).
    pub const RO_GDT_CSUM: u32 = 0x10;
    /// `s_feature_ro_compat`: metadata checksums; implies what `RO_GDT_CSUM` does for `bg_flags`.
    pub const RO_METADATA_CSUM: u32 = 0x400;
    /// `s_feature_ro_compat`: the allocation unit of the bitmaps is a cluster of blocks.
    pub const RO_BIGALLOC: u32 = 0x200;
}

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    s_inodes_count: U32,         // 0x00
    s_blocks_count: U32,         // 0x04
    s_r_blocks_count: U32,       // 0x08
    s_free_blocks_count: U32,    // 0x0c
    s_free_inodes_count: U32,    // 0x10
    s_first_data_block: U32,     // 0x14
    s_log_block_size: U32,       // 0x18
    s_log_cluster_size: U32,     // 0x1c
    s_blocks_per_group: U32,     // 0x20
    s_clusters_per_group: U32,   // 0x24
    s_inodes_per_group: U32,     // 0x28
    s_mtime: U32,                // 0x2c
    s_wtime: U32,                // 0x30
    s_mnt_count: U16,            // 0x34
    s_max_mnt_count: U16,        // 0x36
    s_magic: U16,                // 0x38
    s_state: U16,                // 0x3a
    s_errors: U16,               // 0x3c
    s_minor_rev_level: U16,      // 0x3e
    s_lastcheck: U32,            // 0x40
    s_checkinterval: U32,        // 0x44
    s_creator_os: U32,           // 0x48
    s_rev_level: U32,            // 0x4c
    s_def_resuid: U16,           // 0x50
    s_def_resgid: U16,           // 0x52
    s_first_ino: U32,            // 0x54
    s_inode_size: U16,           // 0x58
    s_block_group_nr: U16,       // 0x5a
    s_feature_compat: U32,       // 0x5c
    s_feature_incompat: U32,     // 0x60
    s_feature_ro_compat: U32,    // 0x64
    s_uuid: [u8; 16],            // 0x68
    s_volume_name: [u8; 16],     // 0x78
    s_last_mounted: [u8; 64],    // 0x88
    s_algorithm_bitmap: U32,     // 0xc8
    s_prealloc_blocks: u8,       // 0xcc
    s_prealloc_dir_blocks: u8,   // 0xcd
    s_reserved_gdt_blocks: U16,  // 0xce
    s_journal_uuid: [u8; 16],    // 0xd0
    s_journal_inum: U32,         // 0xe0
    s_journal_dev: U32,          // 0xe4
    s_last_orphan: U32,          // 0xe8
    s_hash_seed: [U32; 4],       // 0xec
    s_def_hash_version: u8,      // 0xfc
    s_jnl_backup_type: u8,       // 0xfd
    s_desc_size: U16,            // 0xfe
    s_default_mount_opts: U32,   // 0x100
    s_first_meta_bg: U32,        // 0x104
    s_mkfs_time: U32,            // 0x108
    s_jnl_blocks: [U32; 17],     // 0x10c
    s_blocks_count_hi: U32,      // 0x150
    s_r_blocks_count_hi: U32,    // 0x154
    s_free_blocks_count_hi: U32, // 0x158
    s_min_extra_isize: U16,      // 0x15c
    s_want_extra_isize: U16,     // 0x15e
    s_flags: U32,                // 0x160
    s_raid_stride: U16,          // 0x164
    s_mmp_interval: U16,         // 0x166
    s_mmp_block: U64,            // 0x168
    s_raid_stripe_width: U32,    // 0x170
    s_log_groups_per_flex: u8,   // 0x174
    _rest: [u8; SIZE - 0x175],
}

/// What of a superblock this program uses, checked for sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Bytes of a block: 1,024 to 65,536.
    pub block_size: u64,
    /// Blocks of the filesystem.
    pub blocks: u64,
    /// Free blocks, as last written.
    pub free_blocks: u64,
    /// Inodes of the filesystem.
    pub inodes: u32,
    /// 1 with blocks of 1 KiB, else 0.
    pub first_data_block: u64,
    /// Blocks of a group.
    pub blocks_per_group: u64,
    /// Inodes of a group.
    pub inodes_per_group: u32,
    /// Bytes of an inode.
    pub inode_size: u64,
    /// First inode that is not reserved.
    pub first_ino: Ino,
    /// `s_feature_compat`.
    pub compat: u32,
    /// `s_feature_incompat`.
    pub incompat: u32,
    /// `s_feature_ro_compat`.
    pub ro_compat: u32,
    /// Bytes of a group descriptor: 32 or 64.
    pub descriptor_size: u64,
    /// First meta block group whose descriptors are spread (`META_BG`).
    pub first_meta_bg: u64,
    /// Blocks kept for the growth of the descriptor table.
    pub reserved_gdt_blocks: u64,
    /// `s_uuid`.
    pub uuid: [u8; 16],
    /// Volume name, raw, without trailing NULs.
    pub volume_name: Vec<u8>,
    /// Where it was last mounted, raw.
    pub last_mounted: Vec<u8>,
    /// Time of the last mount, seconds since 1970.
    pub mount_time: u32,
    /// Time of the last write.
    pub write_time: u32,
    /// Time of `mkfs`.
    pub mkfs_time: u32,
    /// Whether it was unmounted cleanly (`s_state & 1`).
    pub clean: bool,
    /// Inode of the journal; 0 for none or an external one.
    pub journal_inum: u32,
    /// UUID of an external journal.
    pub journal_uuid: [u8; 16],
    /// Device number of an external journal.
    pub journal_dev: u32,
    /// Head of the orphan list.
    pub last_orphan: u32,
    /// Copy of the journal inode's `i_block`, where `s_jnl_backup_type` says it is one.
    pub journal_backup: Option<[u32; 17]>,
    /// Group that this copy says it stands in.
    pub block_group: u16,
}

/// Why bytes are not a superblock that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// No `s_magic`.
    #[error("no ext superblock here (s_magic is not 0xEF53)")]
    NoMagic,
    /// A field makes no sense.
    #[error("superblock field {0} makes no sense")]
    Field(&'static str),
}

fn trimmed(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|&b| b == 0).next().unwrap_or_default().to_vec()
}

impl Superblock {
    /// Parses the 1,024 bytes of a superblock.
    pub fn parse(bytes: &[u8]) -> Result<Superblock, Unusable> {
        let (raw, _) = Raw::ref_from_prefix(bytes).map_err(|_| Unusable::NoMagic)?;
        if raw.s_magic.get() != MAGIC {
            return Err(Unusable::NoMagic);
        }
        if raw.s_log_block_size.get() > 6 {
            return Err(Unusable::Field("s_log_block_size"));
        }
        let block_size = 1024u64 << raw.s_log_block_size.get();
        let incompat = raw.s_feature_incompat.get();
        let high =
            |low: U32, high: U32| if incompat & incompat::BIT64 != 0 { u64::from(high.get()) << 32 } else { 0 } | u64::from(low.get());
        let dynamic = raw.s_rev_level.get() >= 1;
        let sb = Superblock {
            block_size,
            blocks: high(raw.s_blocks_count, raw.s_blocks_count_hi),
            free_blocks: high(raw.s_free_blocks_count, raw.s_free_blocks_count_hi),
            inodes: raw.s_inodes_count.get(),
            first_data_block: raw.s_first_data_block.get().into(),
            blocks_per_group: raw.s_blocks_per_group.get().into(),
            inodes_per_group: raw.s_inodes_per_group.get(),
            inode_size: if dynamic { raw.s_inode_size.get().into() } else { 128 },
            first_ino: Ino(if dynamic { raw.s_first_ino.get() } else { 11 }),
            compat: raw.s_feature_compat.get(),
            incompat,
            ro_compat: raw.s_feature_ro_compat.get(),
            descriptor_size: if incompat & incompat::BIT64 != 0 { raw.s_desc_size.get().into() } else { 32 },
            first_meta_bg: raw.s_first_meta_bg.get().into(),
            reserved_gdt_blocks: raw.s_reserved_gdt_blocks.get().into(),
            uuid: raw.s_uuid,
            volume_name: trimmed(&raw.s_volume_name),
            last_mounted: trimmed(&raw.s_last_mounted),
            mount_time: raw.s_mtime.get(),
            write_time: raw.s_wtime.get(),
            mkfs_time: raw.s_mkfs_time.get(),
            clean: raw.s_state.get() & 1 != 0,
            journal_inum: raw.s_journal_inum.get(),
            journal_uuid: raw.s_journal_uuid,
            journal_dev: raw.s_journal_dev.get(),
            last_orphan: raw.s_last_orphan.get(),
            journal_backup: (raw.s_jnl_backup_type == 1).then(|| raw.s_jnl_blocks.map(U32::get)),
            block_group: raw.s_block_group_nr.get(),
        };
        sb.check()?;
        Ok(sb)
    }

    /// The limits that `ext3_fill_super` (fs/ext3/super.c) sets too.
    fn check(&self) -> Result<(), Unusable> {
        let bits = self.block_size * 8;
        if self.first_data_block != u64::from(self.block_size == 1024) {
            return Err(Unusable::Field("s_first_data_block"));
        }
        if self.blocks_per_group == 0 || self.blocks_per_group > bits || !self.blocks_per_group.is_multiple_of(8) {
            return Err(Unusable::Field("s_blocks_per_group"));
        }
        if self.inode_size < 128 || !self.inode_size.is_power_of_two() || self.inode_size > self.block_size {
            return Err(Unusable::Field("s_inode_size"));
        }
        if self.inodes_per_group == 0 || u64::from(self.inodes_per_group) > bits {
            return Err(Unusable::Field("s_inodes_per_group"));
        }
        if self.blocks <= self.first_data_block || self.groups() > u64::from(u32::MAX) {
            return Err(Unusable::Field("s_blocks_count"));
        }
        if self.inodes == 0 || u64::from(self.inodes) > self.groups() * u64::from(self.inodes_per_group) {
            return Err(Unusable::Field("s_inodes_count"));
        }
        if self.descriptor_size < 32 || !self.descriptor_size.is_power_of_two() || self.descriptor_size > 1024 {
            return Err(Unusable::Field("s_desc_size"));
        }
        Ok(())
    }

    /// Number of block groups.
    pub fn groups(&self) -> u64 {
        (self.blocks - self.first_data_block).div_ceil(self.blocks_per_group)
    }

    /// First block of a group.
    pub fn group_start(&self, group: u64) -> u64 {
        self.first_data_block + group * self.blocks_per_group
    }

    /// Group that a block lies in.
    pub fn group_of(&self, block: Block) -> u64 {
        block.get().saturating_sub(self.first_data_block) / self.blocks_per_group
    }

    /// Group of an inode.
    pub fn group_of_inode(&self, ino: Ino) -> u64 {
        u64::from(ino.0.saturating_sub(1) / self.inodes_per_group)
    }

    /// Whether a group holds a copy of superblock and descriptors (`ext3_bg_has_super`, fs/ext3/balloc.c).
    pub fn has_backup(&self, group: u64) -> bool {
        let power_of = |base: u64| {
            let mut n = base;
            while n < group {
                n = n.saturating_mul(base);
            }
            n == group
        };
        group <= 1 || self.ro_compat & compat::RO_SPARSE_SUPER == 0 || group % 2 == 1 && (power_of(3) || power_of(5) || power_of(7))
    }

    /// Group descriptors in a block.
    pub fn descriptors_per_block(&self) -> u64 {
        self.block_size / self.descriptor_size
    }

    /// Whether this format uses `bg_flags` (uninitialised bitmaps and inode tables).
    pub fn has_group_flags(&self) -> bool {
        self.ro_compat & (compat::RO_GDT_CSUM | compat::RO_METADATA_CSUM) != 0
    }

    /// Whether a block number can be a data block of this filesystem.
    pub fn contains(&self, block: Block) -> bool {
        block.get() > self.first_data_block && block.get() < self.blocks
    }

    /// Names of the features, as `dumpe2fs` prints them; unknown ones as `FEATURE_C12`.
    pub fn feature_names(&self) -> Vec<String> {
        const COMPAT: [(u32, &str); 10] = [
            (0x1, "dir_prealloc"),
            (0x2, "imagic_inodes"),
            (0x4, "has_journal"),
            (0x8, "ext_attr"),
            (0x10, "resize_inode"),
            (0x20, "dir_index"),
            (0x200, "sparse_super2"),
            (0x400, "fast_commit"),
            (0x800, "stable_inodes"),
            (0x1000, "orphan_file"),
        ];
        const INCOMPAT: [(u32, &str); 17] = [
            (0x1, "compression"),
            (0x2, "filetype"),
            (0x4, "needs_recovery"),
            (0x8, "journal_dev"),
            (0x10, "meta_bg"),
            (0x40, "extent"),
            (0x80, "64bit"),
            (0x100, "mmp"),
            (0x200, "flex_bg"),
            (0x400, "ea_inode"),
            (0x1000, "dirdata"),
            (0x2000, "metadata_csum_seed"),
            (0x4000, "large_dir"),
            (0x8000, "inline_data"),
            (0x10000, "encrypt"),
            (0x20000, "casefold"),
            (0x40000, "uninit_journal"),
        ];
        const RO: [(u32, &str); 13] = [
            (0x1, "sparse_super"),
            (0x2, "large_file"),
            (0x4, "btree_dir"),
            (0x8, "huge_file"),
            (0x10, "uninit_bg"),
            (0x20, "dir_nlink"),
            (0x40, "extra_isize"),
            (0x100, "quota"),
            (0x200, "bigalloc"),
            (0x400, "metadata_csum"),
            (0x1000, "read-only"),
            (0x2000, "project"),
            (0x8000, "verity"),
        ];
        let mut names = vec![];
        let mut add = |word: u32, letter: char, known: &[(u32, &str)]| {
            for bit in (0..32).filter(|bit| word >> bit & 1 != 0) {
                let name = known.iter().find(|(mask, _)| *mask == 1 << bit).map(|(_, name)| (*name).to_owned());
                names.push(name.unwrap_or_else(|| format!("FEATURE_{letter}{bit}")));
            }
        };
        add(self.compat, 'C', &COMPAT);
        add(self.incompat, 'I', &INCOMPAT);
        add(self.ro_compat, 'R', &RO);
        names
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A superblock of a 64 MiB filesystem, as bytes; `edit` gets (offset, value) of 32-bit fields to change.
    pub(crate) fn sample(edit: &[(usize, u32)]) -> Vec<u8> {
        let mut bytes = vec![0; SIZE];
        let fields: [(usize, u32); 10] = [
            (0x00, 16384),
            (0x04, 65536),
            (0x14, 1),
            (0x18, 0),
            (0x20, 8192),
            (0x28, 2048),
            (0x38, MAGIC.into()),
            (0x4c, 1),
            (0x54, 11),
            (0x58, 128),
        ];
        for (at, value) in fields.iter().chain(edit) {
            bytes[*at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn raw_struct_has_the_documented_layout() {
        assert_eq!(size_of::<Raw>(), SIZE);
        assert_eq!(std::mem::offset_of!(Raw, s_jnl_blocks), 0x10c);
        assert_eq!(std::mem::offset_of!(Raw, s_log_groups_per_flex), 0x174);
    }

    #[test]
    fn parses_and_derives_geometry() {
        let sb = Superblock::parse(&sample(&[])).unwrap();
        assert_eq!((sb.block_size, sb.groups(), sb.group_start(1)), (1024, 8, 8193));
        assert_eq!(sb.group_of(Block::new(8193).unwrap()), 1);
        assert_eq!(sb.group_of_inode(Ino(2049)), 1);
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        for (at, value, field) in [
            (0x18, 7, "s_log_block_size"),
            (0x14, 0, "s_first_data_block"),
            (0x20, 0, "s_blocks_per_group"),
            (0x20, 8200, "s_blocks_per_group"),
            (0x58, 100, "s_inode_size"),
            (0x58, 2048, "s_inode_size"),
            (0x28, 0, "s_inodes_per_group"),
            (0x04, 1, "s_blocks_count"),
            (0x00, u32::MAX, "s_inodes_count"),
        ] {
            assert_eq!(Superblock::parse(&sample(&[(at, value)])), Err(Unusable::Field(field)), "{at:#x} = {value}");
        }
        assert_eq!(Superblock::parse(&[0; SIZE]), Err(Unusable::NoMagic));
        assert_eq!(Superblock::parse(&[]), Err(Unusable::NoMagic));
    }

    #[test]
    fn backups_stand_in_powers_of_3_5_7() {
        let sb = Superblock::parse(&sample(&[(0x64, 1)])).unwrap();
        let groups: Vec<u64> = (0..130).filter(|g| sb.has_backup(*g)).collect();
        assert_eq!(groups, [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125]);
    }
}
