//! The units that must not be mixed: physical blocks, file blocks, inode numbers, generations and moments.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::Range;

/// A physical block of the filesystem, counted in filesystem blocks from its start. Never 0: block 0 holds the boot
/// sector and, with blocks larger than 1 KiB, the superblock, and a pointer of 0 is a hole (`ext3_get_branch`,
/// fs/ext3/inode.c).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block(NonZeroU64);

impl Block {
    /// The block with this number; `None` for 0.
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// The block `count` blocks further on. Saturates, so that a hostile number ends up out of the filesystem, not wrapped into it.
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {}", self.0)
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Runs of consecutive numbers of blocks, which are sorted, at most `most` blocks long each.
pub fn consecutive(blocks: impl IntoIterator<Item = u64>, most: u64) -> impl Iterator<Item = Range<u64>> {
    let mut blocks = blocks.into_iter().peekable();
    std::iter::from_fn(move || {
        let first = blocks.next()?;
        let mut end = first + 1;
        while end - first < most && blocks.next_if_eq(&end).is_some() {
            end += 1;
        }
        Some(first..end)
    })
}

/// A block of a file, counted in filesystem blocks from the file's start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct FileBlock(pub u64);

impl FileBlock {
    /// The file block `count` blocks further on (saturating).
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

/// An inode number; the first inode is 1 (`EXT3_BAD_INO`), the root folder 2.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ino(pub u32);

impl Ino {
    /// `EXT3_ROOT_INO`.
    pub const ROOT: Ino = Ino(2);
    /// `EXT3_JOURNAL_INO`.
    pub const JOURNAL: Ino = Ino(8);
}

impl fmt::Display for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// `i_generation`: tells the lives of one inode apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Generation(pub u32);

/// A sequence number of the journal, which wraps at 32 bits (`tid_t`; compared as in `tid_gt`, include/linux/jbd.h).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Sequence(pub u32);

impl Sequence {
    /// How many transactions `self` lies after `other`; negative before it.
    pub const fn since(self, other: Sequence) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }

    /// The sequence `count` transactions further on.
    pub const fn plus(self, count: u32) -> Self {
        Self(self.0.wrapping_add(count))
    }
}

/// A point in the filesystem's history: the end of one journal transaction, unwrapped so that later is greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Moment(pub u64);

impl Moment {
    /// Before everything that the journal remembers.
    pub const PAST: Moment = Moment(0);
    /// What stands on the disk today, after replay of the journal.
    pub const NOW: Moment = Moment(u64::MAX);
}

/// Seconds since 1970 with nanoseconds, as inodes hold them (`i_mtime`, `i_mtime_extra`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Time {
    /// Seconds since 1970-01-01 UTC.
    pub seconds: i64,
    /// Nanoseconds, below 10^9.
    pub nanos: u32,
}
