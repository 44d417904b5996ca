//! Where a lost file's blocks are: its pointers followed through indirect blocks, each block's fate decided on the way.
//!
//! An indirect block's pointers are the union of its copies in the journal and of what still stands on the disk, since
//! truncation only ever zeroes pointers (`ext3_free_branches`, fs/ext3/inode.c).

use super::file::{LostFile, Mapping, Pointer};
use super::reuse::Reuse;
use crate::format::indirect;
use crate::fs::{Filesystem, path_to};
use crate::journal::Copy;
use crate::run::{self, Evidence, Place, Run};
use crate::units::{Block, FileBlock, Moment};
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

/// An indirect block's pointers, resolved.
pub struct Table {
    /// One for each pointer of the block; all `None` where it is lost.
    entries: Vec<Option<Pointer>>,
    /// What an absent pointer means.
    absent: Absent,
}

/// What the absence of a pointer means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Absent {
    evidence: Evidence,
    reason: &'static str,
}

const HOLE: Absent = Absent { evidence: Evidence::Hole, reason: "" };
const UNCERTAIN: Absent = Absent { evidence: Evidence::Unknown, reason: "no copy of the pointer survives" };

/// The table of an indirect block that the medium does not give.
fn unreadable(per: usize) -> Table {
    Table { entries: vec![None; per], absent: Absent { evidence: Evidence::Unreadable, reason: "its indirect block cannot be read" } }
}

/// A piece of a file's map that is kept in the cache.
#[derive(Clone)]
pub enum Piece {
    /// The runs under one IND.
    Leaf(Arc<[Run]>),
    /// The pointers of a DIND or TIND.
    Inner(Arc<Table>),
}

impl Piece {
    /// Bytes that it takes in memory, with its place in a cache.
    pub fn bytes(&self) -> usize {
        // Key, links of the list and of the hash table, reference counts.
        const ENTRY: usize = 160;
        ENTRY
            + match self {
                Piece::Leaf(runs) => size_of_val(&**runs),
                Piece::Inner(table) => size_of_val(&*table.entries),
            }
    }
}

/// Keeps pieces, by indirect block and the first file block that it maps.
pub trait Cache {
    /// Looks one up.
    fn get(&self, key: (Block, FileBlock)) -> Option<Piece>;
    /// Keeps one.
    fn put(&self, key: (Block, FileBlock), piece: Piece);
}

/// Whether a block that one file claims was claimed by another later.
pub trait Claims {
    /// Asked of each block of the file, with its place where it is a data block.
    fn lost_to_newer(&self, block: Block, at: Option<FileBlock>) -> bool;
}

/// What became of a block.
enum Fate {
    Stands,
    /// It stands, unless something happened that the journal no longer tells.
    Likely,
    Overwritten(&'static str),
    /// No block that a file can have.
    Absurd,
}

/// Everything that is needed to follow one file's pointers.
pub struct Chain<'a, C: ?Sized, K: ?Sized> {
    /// The filesystem.
    pub fs: &'a Filesystem,
    /// What became of blocks.
    pub reuse: &'a Reuse,
    /// The file.
    pub file: &'a LostFile,
    /// Whether zeros in an indirect block of which only the disk's copy is left are holes: all blocks are accounted for without them.
    pub zeros_are_holes: bool,
    /// Whether files came and went since the loss, in a time of which the journal tells nothing, and left no trace of where they were.
    pub doubtful: bool,
    /// Later claims.
    pub claims: &'a C,
    /// Resolved pieces.
    pub cache: &'a K,
}

impl<C: Claims + ?Sized, K: Cache + ?Sized> Chain<'_, C, K> {
    /// Blocks that the file's size spans.
    pub fn file_blocks(&self) -> u64 {
        self.file.size.div_ceil(self.fs.block_size())
    }

    fn fate(&self, block: Block, at: Option<FileBlock>) -> Fate {
        let (fs, span) = (self.fs, &self.file.span);
        if fs.geometry().is_metadata(block) {
            return Fate::Absurd;
        }
        if self.reuse.was_retaken(fs, block, self.freed_from()) && !self.is_untouched(block) {
            return Fate::Overwritten("in use again since");
        }
        if self.reuse.was_metadata_since(fs, block, span.freed_by) && !self.is_untouched(block) {
            return Fate::Overwritten("held metadata since");
        }
        if fs.is_allocated(block) && !self.is_held_by_successor(block, at) && !self.is_untouched(block) {
            return Fate::Overwritten("in use now");
        }
        if self.claims.lost_to_newer(block, at) {
            return Fate::Overwritten("belonged to a file lost later");
        }
        if span.covered { Fate::Stands } else { Fate::Likely }
    }

    /// The first moment at which a block can have been free: the first at which the loss shows, unless transactions
    /// before that are missing.
    fn freed_from(&self) -> Moment {
        let span = &self.file.span;
        if span.covered { span.freed } else { Moment(span.last.0.saturating_add(1)).min(span.freed) }
    }

    /// The last moment at which a block was certainly still the file's.
    fn owned_until(&self) -> Moment {
        if self.file.span.covered { self.file.span.freed } else { self.file.span.last }
    }

    /// Whether a block was given to new metadata that has not left the journal yet, so that its old content still stands.
    fn is_untouched(&self, block: Block) -> bool {
        let (fs, span) = (self.fs, &self.file.span);
        fs.journal().is_dirty() && span.covered && self.reuse.is_only_in_the_log(fs, block, span.freed)
    }

    /// Whether the same life of the inode still has the block, where it had it.
    fn is_held_by_successor(&self, block: Block, at: Option<FileBlock>) -> bool {
        let Some(successor) = &self.file.span.successor else { return false };
        match at {
            Some(at) => at.0 < self.file.span.cut && self.fs.current_block(successor, at) == Some(block),
            None => successor[12..].contains(&Some(block)) || self.is_current_indirect(successor, block),
        }
    }

    /// Whether `block` is an IND or DIND that the successor still uses.
    fn is_current_indirect(&self, successor: &[Option<Block>; 15], block: Block) -> bool {
        let pointers = |of: Option<Block>| -> Vec<Block> {
            let bytes = of.and_then(|of| self.fs.read_block(of).ok()).unwrap_or_default();
            indirect::parse(&bytes).flatten().collect()
        };
        let second = pointers(successor[13]);
        if second.contains(&block) {
            return true;
        }
        let third = pointers(successor[14]);
        third.contains(&block) || third.into_iter().any(|below| pointers(Some(below)).contains(&block))
    }

    /// The pointers of an indirect block with `level` levels below it (1 for an IND).
    fn table(&self, pointer: Pointer) -> Table {
        let (fs, span, block) = (self.fs, &self.file.span, pointer.block);
        let per = fs.pointers_per_block() as usize;
        let lost = |reason| Table { entries: vec![None; per], absent: Absent { evidence: Evidence::Unknown, reason } };
        let legal = |pointer: &Option<Block>| pointer.is_none_or(|p| fs.geometry().superblock.contains(p));
        let mut entries: Vec<Option<Pointer>> = vec![None; per];
        // Where transactions are missing after a copy, the block can have changed hands since, unless the file had it before.
        let ours = |copy: &Copy| fs.journal().covers_since(copy.moment) || copy.moment >= pointer.since;
        let copies = self.reuse.copies_of_owner(fs, block, span.born, self.owned_until());
        let (mut seen, mut absent) = (false, UNCERTAIN);
        for copy in copies.into_iter().filter(ours) {
            let Ok(bytes) = fs.journal().read_copy(fs.image(), copy) else { continue };
            if !indirect::parse(&bytes).all(|pointer| legal(&pointer)) {
                continue;
            }
            // The last state before the loss, unless a truncate had begun in it or later states are missing.
            if copy.moment < span.freed && (copy.moment >= span.last || fs.journal().covers_since(copy.moment)) {
                absent = HOLE;
            }
            seen = true;
            for (entry, pointer) in entries.iter_mut().zip(indirect::parse(&bytes)) {
                match (entry.as_mut(), pointer) {
                    // The same pointer in an older copy: it has stood there longer.
                    (Some(known), Some(block)) if known.block == block => known.since = copy.moment,
                    (None, Some(block)) => *entry = Some(Pointer { block, evidence: Evidence::Journal, since: copy.moment }),
                    _ => {}
                }
            }
        }
        if absent == HOLE {
            // Nothing can be added: the block itself may never have been written since, and still hold an older life's pointers.
            return Table { entries, absent };
        }
        let home = match self.fate(block, None) {
            Fate::Absurd => return lost("its indirect block is named by a damaged pointer"),
            Fate::Overwritten(_) => None,
            Fate::Stands | Fate::Likely => match fs.read_home(block) {
                Err(_) if !seen => return unreadable(per),
                home => home.ok(),
            },
        };
        let Some(home) = home else {
            return if seen { Table { entries, absent } } else { lost("its indirect block was used again") };
        };
        let same = indirect::parse(&home).zip(&entries).all(|(p, known)| match (p, known) {
            (Some(p), Some(known)) => p == known.block,
            _ => legal(&p),
        });
        if same && (seen || self.is_plausible(&home)) {
            for (entry, pointer) in entries.iter_mut().zip(indirect::parse(&home)) {
                *entry = entry.or(pointer.map(|block| Pointer { block, evidence: Evidence::Chain, since: Moment::NOW }));
            }
        } else if !seen {
            return lost("its indirect block no longer holds pointers");
        }
        Table { entries, absent: if self.zeros_are_holes { HOLE } else { absent } }
    }

    /// Whether a block of which no copy proves it can be this file's: its pointers are blocks that were in use before
    /// the file was lost, and none twice.
    fn is_plausible(&self, home: &[u8]) -> bool {
        let mut seen = HashSet::new();
        indirect::parse(home).flatten().all(|pointer| {
            !self.fs.geometry().is_metadata(pointer)
                && seen.insert(pointer)
                && self.reuse.was_allocated_before(self.fs, pointer, self.file.span.freed) != Some(false)
        })
    }

    /// The run of one data block.
    fn block_run(&self, at: FileBlock, pointer: Pointer) -> Run {
        let span = &self.file.span;
        let run = |evidence, place, reason| Run {
            file_block: at,
            block: Some(pointer.block),
            length: 1,
            evidence,
            place,
            reason: Cow::Borrowed(reason),
        };
        if let Some(copy) = self.reuse.copies_of_owner(self.fs, pointer.block, span.born, self.owned_until()).first()
            && self.fs.journal().covers_since(copy.moment)
        {
            return run(pointer.evidence, Place::Log { index: copy.index, escaped: copy.escaped }, "the data itself is in the journal");
        }
        match self.fate(pointer.block, Some(at)) {
            Fate::Stands => run(pointer.evidence, Place::Home, ""),
            Fate::Likely if self.doubtful => {
                Run::absent(at, 1, Evidence::Unknown, "the journal does not tell whether the block was used after the loss")
            }
            Fate::Likely => run(
                Evidence::Inferred,
                Place::Home,
                "nothing is known to have used the block since, but the journal does not reach back to the loss",
            ),
            Fate::Overwritten(reason) => run(Evidence::Overwritten, Place::Home, reason),
            Fate::Absurd => Run::absent(at, 1, Evidence::Unknown, "the pointer is damaged"),
        }
    }

    fn leaf(&self, pointer: Pointer, first: FileBlock) -> Arc<[Run]> {
        if let Some(Piece::Leaf(runs)) = self.cache.get((pointer.block, first)) {
            return runs;
        }
        let table = self.table(pointer);
        let runs: Arc<[Run]> = self.runs_of(&table.entries, table.absent, first).into();
        self.cache.put((pointer.block, first), Piece::Leaf(Arc::clone(&runs)));
        runs
    }

    fn inner(&self, pointer: Pointer, first: FileBlock) -> Arc<Table> {
        if let Some(Piece::Inner(table)) = self.cache.get((pointer.block, first)) {
            return table;
        }
        let table = Arc::new(self.table(pointer));
        self.cache.put((pointer.block, first), Piece::Inner(Arc::clone(&table)));
        table
    }

    /// The runs of data pointers that map the file blocks from `first` on.
    fn runs_of(&self, entries: &[Option<Pointer>], absent: Absent, first: FileBlock) -> Vec<Run> {
        let mut runs = vec![];
        for (entry, at) in entries.iter().zip(first.0..) {
            let at = FileBlock(at);
            run::push(
                &mut runs,
                match entry {
                    Some(pointer) => self.block_run(at, *pointer),
                    None => Run::absent(at, 1, absent.evidence, absent.reason),
                },
            );
        }
        runs
    }

    /// The run that `at` lies in, from `at` on, as far as one lookup tells. `None` past the file's end.
    pub fn run_at(&self, at: FileBlock) -> Option<Run> {
        self.pointed_at(at).map(|run| self.readable(run))
    }

    /// Cuts a run before what the image does not hold (areas that a rescue never read, the end of a truncated image), or
    /// marks its beginning as unreadable.
    fn readable(&self, mut run: Run) -> Run {
        let (image, size) = (self.fs.image(), self.fs.block_size());
        let Some(block) = run.block.filter(|_| run.evidence.is_data() && run.place == Place::Home) else { return run };
        let held = |block: Block, count: u64| {
            let (offset, length) = (block.get().saturating_mul(size), count.saturating_mul(size));
            offset.saturating_add(length) <= image.len() && !image.is_unread(offset, length)
        };
        if held(block, run.length) {
            return run;
        }
        let first = held(block, 1);
        run.length = (1..run.length).take_while(|n| held(block.plus(*n), 1) == first).count() as u64 + 1;
        if !first {
            run.evidence = Evidence::Unreadable;
            run.reason = Cow::Borrowed("the image does not hold this block");
        }
        run
    }

    fn pointed_at(&self, at: FileBlock) -> Option<Run> {
        let end = self.file_blocks();
        let Mapping::Indirect { pointers, certain } = &self.file.mapping else { return None };
        if at.0 >= end {
            return None;
        }
        let per = self.fs.pointers_per_block();
        let root = if *certain { HOLE } else { UNCERTAIN };
        let (slot, level) = path_to(at, per)?;
        if level == 0 {
            let runs = self.runs_of(&pointers[slot..12], root, at);
            return runs.into_iter().next()?.part(at, end - at.0);
        }
        let (mut first, mut pointer, mut absent) = (indirect::first_file_block(slot, per), pointers[slot], root);
        for below in (0..level).rev() {
            let span = indirect::span(below + 1, per);
            let Some(known) = pointer else {
                return Run::absent(at, first + span - at.0, absent.evidence, absent.reason).part(at, end - at.0);
            };
            if below == 0 {
                let runs = self.leaf(known, FileBlock(first));
                let index = runs.partition_point(|run| run.end() <= at);
                return runs.get(index)?.part(at, end - at.0);
            }
            let table = self.inner(known, FileBlock(first));
            let index = (at.0 - first) / indirect::span(below, per);
            pointer = table.entries.get(index as usize).copied()?;
            absent = table.absent;
            first += index * indirect::span(below, per);
        }
        None
    }

    /// Every indirect block and every data block that the file's pointers name, in file order; a block that is met
    /// twice as an indirect block is given again but not followed.
    pub fn visit(&self, visit: &mut dyn FnMut(Block, Option<FileBlock>) -> bool) {
        let Mapping::Indirect { pointers, .. } = &self.file.mapping else { return };
        let (per, end) = (self.fs.pointers_per_block(), self.file_blocks());
        let mut todo: Vec<(u64, u8, Pointer)> = vec![];
        for slot in (0..15).rev() {
            if let Some(pointer) = pointers[slot] {
                todo.push((indirect::first_file_block(slot, per), (slot as u8).saturating_sub(11), pointer));
            }
        }
        while let Some((first, level, pointer)) = todo.pop() {
            if level == 0 {
                visit(pointer.block, Some(FileBlock(first)));
                continue;
            }
            if first >= end && self.file.size_from != super::file::SizeFrom::Chain || !visit(pointer.block, None) {
                continue;
            }
            let table = self.inner(pointer, FileBlock(first));
            let span = indirect::span(level - 1, per);
            let below = table.entries.iter().zip(0..).filter_map(|(entry, i)| Some((first + i * span, level - 1, (*entry)?)));
            let mut below: Vec<_> = below.collect();
            below.reverse();
            todo.append(&mut below);
        }
    }
}
