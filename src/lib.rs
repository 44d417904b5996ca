//! undelfs: what ext2/ext3 filesystems lost, as ordinary files.
//!
//! # How a byte gets from the image to the reader
//!
//! ```text
//! image ─► format ─► geometry ─► journal ─► fs ─► scan ─► forest ─► recover ─► behind ─► tree ─► fuse, cli
//! bytes    records    places       history     now   free     chains    lost files  later    names    readers
//!                                                    blocks                         finds
//! ```
//!
//! Dependencies point from right to left only.
//!
//! * [`image`] opens a file or device, finds the partition, and lends bytes: by `pread` to everything that looks at them,
//!   as slices of a memory map only to be handed on to the kernel. [`sys`] holds all `unsafe` code.
//! * [`format`](mod@format) turns bytes into records, one file for each noun on the disk. Pure functions: no I/O, no panics.
//! * [`geometry`] says where everything lies: superblock and group descriptors, or their backups.
//! * [`journal`] reads the whole log as history: transactions, copies of blocks over time, revokes, what replay would
//!   write, and since when nothing is missing. A [`units::Moment`] is a transaction's place in time.
//! * [`fs`] is the filesystem as it would be after replay: bitmaps, inodes, current block maps. [`tables`] goes through all inode tables.
//! * [`scan`] looks through free blocks for *pages*, what can be indirect blocks, and on the way for rows of tables and for beginnings of
//!   files; [`catalog`] keeps what it found, so that this is done once. [`forest`] grows chains from pages: IND under DIND under TIND by who names whom, then the trees of one file by what
//!   begins where something else ends.
//! * [`recover`] finds what was lost. [`recover::Past`] is what inodes and journal tell; with a survey of free space, or of what was looked
//!   through of it so far, it becomes a [`recover::Recovery`]. Copies of an inode over time become lives, lives end in losses (`history`), each a
//!   [`recover::LostFile`] with pointers. `chain` follows pointers through indirect blocks, merging their copies, and asks for
//!   each block what became of it: `reuse` from bitmaps, copies and revokes, `claims` from the other lost files. `folders` and
//!   `names` follow folder entries through time to paths. `rebuild` then goes over what chains tell: it extends known files,
//!   finds owners for the rest (`owners`, `cut`), their direct blocks (`chains`), and fills gaps from what the allocators do (`fill`, `tiling`,
//!   `gaps`) unless content places them first, or speaks against that (`prove`); `hint` adds what the user knows. `stillness` says what free
//!   blocks are worth where the journal does not reach back, `turnover` how fast they are used again where it does, `wear` how much of
//!   what was lost before all that is known is seen to be used again. `read` turns it into bytes, `unclaimed` what
//!   none of them claims of free space.
//! * [`content`] knows formats of files by their bytes alone: kind, length, and which block comes next. It knows no image and no block numbers.
//!   `recover::prove` asks it: which chains are parts of one table, which free blocks go on with its rows or are its pages, whether blocks in doubt still hold
//!   them, how long a file is.
//! * [`run`] is the currency between all of them: file block, physical block, length, [`run::Evidence`].
//!   "Where are a file's blocks" has one answer, [`recover::Recovery::run_at`]. What no pointer leads to is [`recover::Placed`] in
//!   the file's [`recover::Mapping`]; what is mapped in another way (extents) becomes another one behind it.
//! * [`behind`] lets a scan go on in a thread of its own, and gives a new recovery now and then; until the last one, no chain in it is
//!   complete, and none is anybody's.
//! * [`tree`] arranges lost files under names. A tree never changes; one that follows another gives what has not changed the same node, and
//!   what has changed another one with the same inode number. [`fuse`] shows the newest tree as a mount, and the one before for as long as
//!   something is open in it that has changed; the program's `cli` module lists, shows
//!   and copies it; [`report`] and [`xattr`] say in words and JSON what is known.
//!
//! # What is kept in memory
//!
//! What was lost (files, their names, blocks that two of them claim), some hundred bytes for each indirect block that stands in free
//! space, compressed bitmaps of free blocks with content, the journal's index, and bounded caches of bitmaps and of pieces of block maps. A file's map is never held whole: opening costs nothing, and a read resolves the indirect blocks
//! that it needs. While a scan goes on behind a mount, the history is kept beside the tree, and there are two trees for a moment.
//!
//! # Never lie
//!
//! Damage is evidence, not an error: what cannot be known becomes a missing range with a reason. A block is served only
//! if a pointer names it, or nothing else fits its place, and nothing speaks against it. Where most of the transactions since the loss
//! are missing from the journal, and files came and went that left no trace of where they were, it is not. It is named then, with the
//! reason, as is what only a block names that may be a table of numbers and no indirect block.

pub mod behind;
mod bitmaps;
pub mod catalog;
pub mod content;
pub mod error;
pub mod forest;
pub mod format;
pub mod fs;
pub mod fuse;
pub mod geometry;
pub mod image;
pub mod journal;
pub mod progress;
pub mod recover;
pub mod report;
pub mod run;
pub mod scan;
pub mod sys;
pub mod tables;
pub mod tree;
pub mod units;
pub mod xattr;

pub use error::{Error, Result};
