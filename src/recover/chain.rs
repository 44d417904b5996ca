//! Where a lost file's blocks are: its pointers followed through indirect blocks, each block's fate decided on the way.

use super::fate::Fate;
use super::file::{LostFile, Mapping, Pointer};
use super::placed::{Basis, Placed};
use super::reuse::Reuse;
use super::table::{Absent, HOLE, Table, UNCERTAIN};
use crate::format::indirect;
use crate::fs::{Filesystem, path_to};
use crate::run::{self, Evidence, Place, Run};
use crate::units::{Block, FileBlock, Moment};
use std::borrow::Cow;
use std::sync::Arc;

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

/// Keeps pieces, by the level of an indirect block (1 for an IND) and the first file block that it maps.
pub trait Cache {
    /// Looks one up.
    fn get(&self, key: (u8, FileBlock)) -> Option<Piece>;
    /// Keeps one.
    fn put(&self, key: (u8, FileBlock), piece: Piece);
}

/// Where a file has a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spot {
    /// Data, at this file block.
    Data(FileBlock),
    /// An indirect block of this level (1 for an IND) that maps the file blocks from this one on.
    Indirect(u8, FileBlock),
}

impl Spot {
    /// The first file block that it holds or maps.
    pub fn first(self) -> FileBlock {
        match self {
            Spot::Data(at) | Spot::Indirect(_, at) => at,
        }
    }
}

/// Whether a block that one file claims was claimed by another later.
pub trait Claims {
    /// Asked of each block of the file.
    fn lost_to_newer(&self, block: Block, spot: Spot) -> bool;

    /// Asked of each block that was in use after the loss: whether a later epoch of the same life had it in the same place, and not
    /// somebody else.
    fn was_kept(&self, block: Block, spot: Spot) -> bool;
}

/// What is known of the time since a loss that the journal does not cover.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Since {
    /// No file came or went: what is free was not used.
    Quiet,
    /// Something happened, but little, or its traces are found; except in these block groups, sorted, where files came and went that left
    /// no trace of where they were.
    Likely(Vec<u64>),
}

impl Default for Since {
    fn default() -> Self {
        Since::Likely(vec![])
    }
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
    /// What the time since the loss that the journal does not cover can have done to free blocks.
    pub since: &'a Since,
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
        // Data that is freed in the transaction that writes it is not logged (`jbd2_journal_forget`): such a copy is the next owner's.
        let copies = self.reuse.copies_of_owner(self.fs, pointer.block, span.since(), self.owned_until());
        if let Some(copy) = copies.iter().find(|copy| copy.moment < span.freed)
            && self.fs.journal().covers_since(copy.moment)
        {
            let evidence = if self.is_adrift(self.since) { Evidence::Inferred } else { pointer.evidence };
            return run(evidence, Place::Log { index: copy.index, escaped: copy.escaped }, "the data itself is in the journal");
        }
        let basis = self.placed().and_then(|placed| placed.basis(at)).filter(|_| pointer.evidence == Evidence::Inferred);
        let doubtful = |groups: &[u64]| groups.binary_search(&self.fs.bit_of(pointer.block).0).is_ok();
        match (self.fate(pointer.block, Spot::Data(at)), self.since) {
            (Fate::Stands | Fate::Likely, _) if let Some(basis) = basis.filter(|basis| basis.is_proof()) => {
                run(Evidence::Inferred, Place::Home, basis.reason())
            }
            (Fate::Likely, Since::Likely(groups)) if doubtful(groups) && self.placed().is_some_and(|placed| placed.is_confirmed(at)) => {
                run(
                    Evidence::Inferred,
                    Place::Home,
                    "files came and went since that left no trace, but the rows in it continue those around",
                )
            }
            (Fate::Stands | Fate::Likely, Since::Likely(groups)) if doubtful(groups) && self.file.is_dubious() => {
                run(Evidence::Unknown, Place::Home, "nothing speaks for it that its indirect block is more than a table of numbers")
            }
            (Fate::Likely, Since::Likely(groups)) if doubtful(groups) => {
                run(Evidence::Unknown, Place::Home, "nothing tells whether the block was used after the loss")
            }
            // A truncate and a write in one transaction leave one date.
            (Fate::Stands | Fate::Likely, _) if at.0 < span.kept => {
                run(Evidence::Inferred, Place::Home, "the file kept the block when it was cut: it may have been changed in place since")
            }
            (Fate::Stands | Fate::Likely, _) if pointer.evidence == Evidence::Inferred && self.was_freed_apart(pointer.block) => {
                run(Evidence::Unknown, Place::Home, "the block would fit, but it was not freed together with the file's indirect blocks")
            }
            (Fate::Stands | Fate::Likely, _) if pointer.evidence == Evidence::Inferred => {
                run(Evidence::Inferred, Place::Home, Basis::Allocation.reason())
            }
            (Fate::Stands | Fate::Likely, since) if self.is_adrift(since) => run(
                Evidence::Inferred,
                Place::Home,
                "nothing is known to have used the block since; but nothing tells where in the file its indirect block stood",
            ),
            (Fate::Stands, _) | (Fate::Likely, Since::Quiet) => run(pointer.evidence, Place::Home, ""),
            (Fate::Likely, Since::Likely(_)) => run(
                Evidence::Inferred,
                Place::Home,
                "nothing is known to have used the block since, but the journal does not reach back to the loss",
            ),
            (Fate::Overwritten(reason), _) => run(Evidence::Overwritten, Place::Home, reason),
            (Fate::Absurd, _) => Run::absent(at, 1, Evidence::Unknown, "the pointer is damaged"),
        }
    }

    /// Whether nothing tells where in the file its indirect blocks stood. With all direct blocks before it, and nothing used since, an IND is
    /// the file's first, unless there are others that are none.
    fn is_adrift(&self, since: &Since) -> bool {
        self.placed().is_some_and(|placed| placed.torn) || self.file.is_adrift() && !(*since == Since::Quiet && self.begins())
    }

    /// Whether all direct blocks are known.
    fn begins(&self) -> bool {
        matches!(&self.file.mapping, Mapping::Indirect { pointers, .. } if pointers[..indirect::DIRECT as usize].iter().all(Option::is_some))
    }

    fn leaf(&self, pointer: Option<Pointer>, first: FileBlock, absent: Absent) -> Arc<[Run]> {
        if let Some(Piece::Leaf(runs)) = self.cache.get((1, first)) {
            return runs;
        }
        let table = self.table_at(1, first, pointer, absent);
        let runs: Arc<[Run]> = self.runs_of(&table.entries, table.absent, first).into();
        self.cache.put((1, first), Piece::Leaf(Arc::clone(&runs)));
        runs
    }

    fn inner(&self, level: u8, pointer: Option<Pointer>, first: FileBlock, absent: Absent) -> Arc<Table> {
        if let Some(Piece::Inner(table)) = self.cache.get((level, first)) {
            return table;
        }
        let table = Arc::new(self.table_at(level, first, pointer, absent));
        self.cache.put((level, first), Piece::Inner(Arc::clone(&table)));
        table
    }

    /// What was placed of the file without pointers.
    pub(super) fn placed(&self) -> Option<&Placed> {
        match &self.file.mapping {
            Mapping::Indirect { placed, .. } => placed.as_deref(),
            Mapping::Inline(_) => None,
        }
    }

    /// The data block that was placed for a direct pointer.
    fn placed_at(&self, slot: u64) -> Option<Pointer> {
        let block = self.placed()?.data(FileBlock(slot))?;
        Some(Pointer { block, evidence: Evidence::Inferred, since: Moment::NOW })
    }

    /// Whether anything is known of the file blocks under an absent pointer.
    fn is_covered(&self, level: u8, first: u64) -> bool {
        let count = indirect::span(level, self.fs.pointers_per_block());
        self.placed().is_some_and(|placed| placed.covers(level, FileBlock(first), count))
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
        let Mapping::Indirect { pointers, certain, .. } = &self.file.mapping else { return None };
        if at.0 >= end {
            return None;
        }
        let per = self.fs.pointers_per_block();
        let root = if *certain { HOLE } else { UNCERTAIN };
        let (slot, level) = path_to(at, per)?;
        if level == 0 {
            let direct: Vec<Option<Pointer>> = (slot..12).map(|slot| pointers[slot].or_else(|| self.placed_at(slot as u64))).collect();
            let runs = self.runs_of(&direct, root, at);
            return runs.into_iter().next()?.part(at, end - at.0);
        }
        let (mut first, mut pointer, mut absent) = (indirect::first_file_block(slot, per), pointers[slot], root);
        for below in (0..level).rev() {
            let span = indirect::span(below + 1, per);
            if pointer.is_none() && !self.is_covered(below + 1, first) {
                return Run::absent(at, first + span - at.0, absent.evidence, absent.reason).part(at, end - at.0);
            }
            if below == 0 {
                let runs = self.leaf(pointer, FileBlock(first), absent);
                let index = runs.partition_point(|run| run.end() <= at);
                return runs.get(index)?.part(at, end - at.0);
            }
            let table = self.inner(below + 1, pointer, FileBlock(first), absent);
            let index = (at.0 - first) / indirect::span(below, per);
            pointer = table.entries.get(index as usize).copied()?;
            absent = table.absent;
            first += index * indirect::span(below, per);
        }
        None
    }

    /// The indirect block that maps the file blocks from `first` on, if it stands.
    pub fn indirect_at(&self, level: u8, first: FileBlock) -> Option<Block> {
        let Mapping::Indirect { pointers, .. } = &self.file.mapping else { return None };
        let per = self.fs.pointers_per_block();
        let (slot, top) = path_to(first, per)?;
        let (mut base, mut pointer) = (indirect::first_file_block(slot, per), pointers[slot]?);
        for above in (level + 1..=top).rev() {
            let (span, table) = (indirect::span(above - 1, per), self.inner(above, Some(pointer), FileBlock(base), UNCERTAIN));
            let index = (first.0 - base) / span;
            pointer = (*table.entries.get(index as usize)?)?;
            base += index * span;
        }
        let stands = matches!(self.fate(pointer.block, Spot::Indirect(level, first)), Fate::Stands | Fate::Likely);
        (level <= top && base == first.0 && stands).then_some(pointer.block)
    }

    /// Every indirect block and every data block that the file's pointers name, in file order; a block that is met
    /// twice as an indirect block is given again but not followed.
    /// `read` is given each indirect block that has a place of its own, with its pointers.
    pub fn visit(&self, visit: &mut dyn FnMut(Block, Option<FileBlock>) -> bool, read: &mut dyn FnMut(u8, FileBlock, Block, &Table)) {
        let Mapping::Indirect { pointers, .. } = &self.file.mapping else { return };
        let (per, end) = (self.fs.pointers_per_block(), self.file_blocks());
        let mut todo: Vec<(u64, u8, Option<Pointer>)> = vec![];
        for slot in (0..15).rev() {
            let first = indirect::first_file_block(slot, per);
            let pointer = pointers[slot].or_else(|| if slot < 12 { self.placed_at(first) } else { None });
            todo.push((first, (slot as u8).saturating_sub(11), pointer));
        }
        while let Some((first, level, pointer)) = todo.pop() {
            if pointer.is_none() && (level == 0 || !self.is_covered(level, first)) {
                continue;
            }
            if level == 0 {
                if let Some(pointer) = pointer {
                    visit(pointer.block, Some(FileBlock(first)));
                }
                continue;
            }
            if first >= end && self.file.size_from != super::file::SizeFrom::Chain {
                continue;
            }
            let placed = self.placed().and_then(|placed| placed.table(level, FileBlock(first))).map(|table| table.block);
            let block = placed.or(pointer.map(|pointer| pointer.block));
            if !block.is_none_or(|block| visit(block, None)) {
                continue;
            }
            let table = self.inner(level, pointer, FileBlock(first), UNCERTAIN);
            if let Some(block) = block {
                read(level, FileBlock(first), block, &table);
            }
            let span = indirect::span(level - 1, per);
            todo.extend(table.entries.iter().enumerate().rev().map(|(i, entry)| (first + i as u64 * span, level - 1, *entry)));
        }
    }
}
