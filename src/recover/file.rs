//! What is known of one lost file.

use super::placed::Placed;
use crate::run::Evidence;
pub use crate::units::Time;
use crate::units::{Block, Generation, Ino, Moment};
use serde::Serialize;
use std::sync::Arc;

/// Index of a lost file in [`crate::recover::Recovery::files`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FileId(pub u32);

/// The kinds of lost files that are shown. Devices, FIFOs and sockets have no content and are not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// A symbolic link.
    Symlink,
}

/// What a file's size rests on, best first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SizeFrom {
    /// `i_size` of the inode's last good copy.
    Inode,
    /// The user's word.
    Hint,
    /// The content says its own length.
    Content,
    /// The last block that a pointer names.
    Chain,
}

/// How a file was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Loss {
    /// The last link was removed.
    Deleted,
    /// The inode lives on, but shorter or with other blocks.
    Truncated,
}

/// Whether a file is all there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Every byte is there (also when the file had none).
    Complete,
    /// Some bytes are missing.
    Partial,
    /// Nothing of the content is there.
    Empty,
}

/// A pointer from an inode, and what it rests on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pointer {
    /// The block it names.
    pub block: Block,
    /// `Journal`, `Chain` or `Inferred`.
    pub evidence: Evidence,
    /// The first moment at which it is known to have stood there.
    pub since: Moment,
}

/// Where a lost file's bytes are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mapping {
    /// `i_block[15]`: 12 direct blocks, then IND, DIND and TIND. A `None` is a hole where `certain`, else unknown.
    Indirect {
        /// The pointers.
        pointers: Box<[Option<Pointer>; 15]>,
        /// Whether an absent pointer is known to have been absent.
        certain: bool,
        /// What was found without a pointer to it.
        placed: Option<Box<Placed>>,
    },
    /// The content itself (a fast symbolic link's target).
    Inline(Box<[u8]>),
}

/// Bytes of a file by evidence, in the order of [`Evidence::ALL`], and how many runs they lie in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Bytes, indexed by `Evidence as usize`.
    pub bytes: [u64; 7],
    /// Number of runs.
    pub runs: u64,
}

impl Tally {
    /// Bytes known in this way.
    pub fn of(&self, evidence: Evidence) -> u64 {
        self.bytes[evidence as usize]
    }

    /// Bytes that are missing.
    pub fn missing(&self) -> u64 {
        Evidence::ALL.into_iter().filter(|e| e.is_missing()).map(|e| self.of(e)).sum()
    }
}

/// The end of a block that a truncate wrote zeros over (`ext3_block_truncate_page`, fs/ext3/inode.c).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Zeroed {
    /// First byte in the file.
    pub offset: u64,
    /// Bytes up to the end of the block, or of the file.
    pub length: u64,
    /// The file was seen to grow over it later, or can have been: what stands there may be newer.
    pub grown: bool,
    /// The zeros never reached the disk, since something else stands there: the file was gone before they were written.
    pub stands: bool,
}

/// The moments of a lost life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// It began after this: the inode's life before, if any, was over by then.
    pub born: Moment,
    /// The first moment at which the inode was seen so.
    pub first: Moment,
    /// The last moment at which the inode was seen as it was.
    pub last: Moment,
    /// Whether the journal holds every transaction since `last`.
    pub covered: bool,
    /// The first moment at which the loss shows; from then on its blocks may be free.
    pub freed: Moment,
    /// The moment by which all of them were.
    pub freed_by: Moment,
    /// The moment at which the last name was removed; for a file that lives on, `freed`.
    pub unlinked: Moment,
    /// When the file was made by the inode's own word (`i_crtime`), where that stands.
    pub made: Option<Time>,
    /// When it ended by the inode's own word (`i_dtime`; the change time of a truncated inode), where that stands.
    pub ended: Option<Time>,
    /// What the same life of the inode maps today, if it still holds blocks.
    pub successor: Option<Box<[Option<Block>; 15]>>,
    /// File blocks from here on were cut off, so that whatever the successor has there is new.
    pub cut: u64,
    /// The moments are the inode's own word: by `freed_by` all that it lost was free.
    pub dated: bool,
    /// File blocks before this one it had already when the same life lost something earlier.
    pub stayed: u64,
    /// File blocks before this one stayed with the file when it lost the others.
    pub kept: u64,
    /// Until when it still had these, as far as is known: the last moment at which it was seen with the size that the loss left, or more.
    pub kept_until: Moment,
    /// Filesystem blocks that the inode said it had (`i_blocks`), indirect blocks included.
    pub blocks: u64,
}

impl Span {
    /// The first moment of which what the log holds can be this life's: of a transaction in which the inode's life before ended it is, if
    /// the inode was seen so at its end.
    pub fn since(&self) -> Moment {
        if self.first <= self.born { self.first } else { Moment(self.born.0.saturating_add(1)) }
    }

    /// Whether its indirect blocks tell when it was lost: the journal was told to forget them.
    pub fn is_revoked(&self) -> bool {
        !self.dated && self.freed.0 > self.last.0.saturating_add(1)
    }

    /// Whether nothing tells when it was lost: only indirect blocks are left, of which the journal says nothing.
    pub fn is_undated(&self) -> bool {
        !self.dated && self.last == Moment::PAST && self.freed <= Moment(Moment::PAST.0 + 1)
    }
}

/// One lost life of a file: what was lost when an inode was deleted, truncated or rewritten.
#[derive(Clone, Debug)]
pub struct LostFile {
    /// The inode; `None` for a chain found without one.
    pub ino: Option<Ino>,
    /// The generation of this life.
    pub generation: Option<Generation>,
    /// 0 for the newest lost life of the inode, 1 for the one before, and so on.
    pub version: u32,
    /// What it was.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// What the size rests on.
    pub size_from: SizeFrom,
    /// `i_mode & 07777`.
    pub mode: u16,
    /// Hard links that it had.
    pub links: u16,
    /// Owner (`i_uid`, `l_i_uid_high`).
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last access.
    pub atime: Time,
    /// Last change of the content, as the file had it.
    pub mtime: Time,
    /// Last change of the inode, as the file had it.
    pub ctime: Time,
    /// When it was lost, where anything says so.
    pub deleted: Option<Time>,
    /// How it was lost.
    pub loss: Loss,
    /// When this life lived and how it ended.
    pub span: Span,
    /// Where its bytes are.
    pub mapping: Mapping,
    /// Ranges within one block each that truncates wrote zeros over, sorted.
    pub zeroed: Vec<Zeroed>,
    /// Full paths it had when it was lost, best known first, raw bytes, each beginning with `/`. More than one for hard links.
    /// A folder whose own path is unknown stands as `#INODE` at the root.
    pub paths: Vec<Vec<u8>>,
    /// What of it is there.
    pub tally: Tally,
    /// Its place among what the inodes tell, the same however often what was lost is found; `None` for what only chains tell.
    pub number: Option<u32>,
    /// For a chain found without its inode's pointers: its topmost indirect block, and whose it may be.
    pub orphan: Option<Orphan>,
}

/// A chain that was found without an inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// Its topmost indirect block that is left: what it is named by.
    pub top: Block,
    /// Inodes that may have been its own, where more than one fits equally; empty where none does, or where one is its own. Orphans for
    /// which very many fit share all that were lost in their block group.
    pub candidates: Arc<[Candidate]>,
    /// Nothing tells where in the file its blocks stood: no DIND or TIND is left that names its INDs. They are shown as if they began it.
    pub adrift: bool,
    /// Nothing speaks for it that its indirect blocks are more than tables of numbers: what it names is told, and not shown.
    pub dubious: bool,
    /// Free space is still being looked through: more may belong to it, or it to another.
    pub unfinished: bool,
}

/// An inode that may have been an orphan's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The inode.
    pub ino: Ino,
    /// Its path, as it was when it was lost or is today, where known.
    pub path: Option<Vec<u8>>,
    /// When it was deleted or truncated.
    pub when: Option<Time>,
}

/// What a lost file is known by, in every look at one filesystem.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Key {
    /// Its number.
    Number(u32),
    /// The topmost indirect block of its chain.
    Chain(Block),
}

impl LostFile {
    /// What it is known by.
    pub fn key(&self) -> Option<Key> {
        self.number.map(Key::Number).or(self.orphan.as_ref().map(|orphan| Key::Chain(orphan.top)))
    }

    /// Whether nothing tells where in the file its blocks stood.
    pub fn is_adrift(&self) -> bool {
        self.orphan.as_ref().is_some_and(|orphan| orphan.adrift)
    }

    /// Whether nothing speaks for it that its indirect blocks are more than tables of numbers.
    pub fn is_dubious(&self) -> bool {
        self.orphan.as_ref().is_some_and(|orphan| orphan.dubious)
    }

    /// Whether more may belong to it than what was found so far.
    pub fn is_unfinished(&self) -> bool {
        self.orphan.as_ref().is_some_and(|orphan| orphan.unfinished)
    }

    /// Whether all, some or nothing of its content is there. What is unfinished is not complete.
    pub fn state(&self) -> State {
        let missing = self.tally.missing();
        if self.is_unfinished() {
            return if missing < self.size { State::Partial } else { State::Empty };
        }
        if missing == 0 && self.has_trace() {
            State::Complete
        } else if missing < self.size {
            State::Partial
        } else {
            State::Empty
        }
    }

    /// Bytes that are there: data and holes.
    pub fn recovered(&self) -> u64 {
        self.size.saturating_sub(self.tally.missing())
    }

    /// Whether any copy of the inode told where its content was; without one even the size is unknown.
    pub fn has_trace(&self) -> bool {
        !matches!(&self.mapping, Mapping::Indirect { pointers, certain: false, placed: None } if pointers.iter().all(Option::is_none))
    }
}
