//! The pointers of one indirect block: the union of its copies in the journal and of what still stands on the disk, since
//! truncation only ever zeroes pointers (`ext3_free_branches`, fs/ext3/inode.c), and of what was placed without a pointer.

use super::chain::{Cache, Chain, Claims, Spot};
use super::fate::Fate;
use super::file::{Mapping, Pointer, SizeFrom};
use super::placed::{Placed, PlacedTable};
use crate::format::indirect;
use crate::journal::Copy;
use crate::run::Evidence;
use crate::scan::page::Source;
use crate::units::{Block, FileBlock, Moment};
use std::collections::HashSet;

/// An indirect block's pointers, resolved.
pub struct Table {
    /// One for each pointer of the block; all `None` where it is lost.
    pub entries: Vec<Option<Pointer>>,
    /// What an absent pointer means.
    pub absent: Absent,
}

/// What the absence of a pointer means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Absent {
    /// How the gap is known.
    pub evidence: Evidence,
    /// Why it is there.
    pub reason: &'static str,
}

pub const HOLE: Absent = Absent { evidence: Evidence::Hole, reason: "" };
pub const UNCERTAIN: Absent = Absent { evidence: Evidence::Unknown, reason: "no copy of the pointer survives" };

/// The table of an indirect block that the medium does not give.
fn unreadable(per: usize) -> Table {
    Table { entries: vec![None; per], absent: Absent { evidence: Evidence::Unreadable, reason: "its indirect block cannot be read" } }
}

impl<C: Claims + ?Sized, K: Cache + ?Sized> Chain<'_, C, K> {
    /// The pointers of the indirect block of `level` (1 for an IND) that maps the file blocks from `first` on. `pointer` is what
    /// names it, if anything does; `absent` is what a missing pointer means.
    pub(super) fn table_at(&self, level: u8, first: FileBlock, pointer: Option<Pointer>, absent: Absent) -> Table {
        let per = self.fs.pointers_per_block();
        let nothing = |absent| Table { entries: vec![None; per as usize], absent };
        let Some(placed) = self.placed() else {
            return pointer.map_or_else(|| nothing(absent), |pointer| self.table(pointer, level, first));
        };
        let mut table = match (placed.table(level, first), pointer) {
            (Some(found), _) => self.placed_table(found, placed),
            (None, _) if placed.refuses(level, first) => {
                nothing(Absent { evidence: Evidence::Unknown, reason: "its indirect block belongs to another file now" })
            }
            (None, Some(pointer)) => self.table(pointer, level, first),
            (None, None) => nothing(absent),
        };
        let span = indirect::span(level - 1, per);
        for (entry, at) in table.entries.iter_mut().zip(0..).filter(|(entry, _)| entry.is_none()) {
            let at = first.plus(at * span);
            let block = if level == 1 { placed.data(at) } else { placed.table(level - 1, at).map(|table| table.block) };
            *entry = block.map(|block| Pointer { block, evidence: Evidence::Inferred, since: Moment::NOW });
        }
        table
    }

    /// Whether the inode was seen before its truncate began, so that what it lacks it did not have.
    pub(super) fn is_certain(&self) -> bool {
        matches!(self.file.mapping, Mapping::Indirect { certain: true, .. })
    }

    /// The pointers of an indirect block that was found without an inode.
    fn placed_table(&self, found: &PlacedTable, placed: &Placed) -> Table {
        let per = self.fs.pointers_per_block() as usize;
        let absent = if placed.sparse { HOLE } else { UNCERTAIN };
        let mut table = Table { entries: vec![None; per], absent };
        for source in &found.sources {
            let (bytes, evidence) = match source {
                Source::Home => (self.fs.read_home(found.block), Evidence::Chain),
                Source::Log(copy) => (self.fs.journal().read_copy(self.fs.image(), *copy), Evidence::Journal),
            };
            let Ok(bytes) = bytes else { continue };
            for (entry, pointer) in table.entries.iter_mut().zip(indirect::parse(&bytes)) {
                let legal = pointer.filter(|block| self.fs.geometry().superblock.contains(*block));
                *entry = entry.or(legal.map(|block| Pointer { block, evidence, since: Moment::NOW }));
            }
        }
        table
    }

    /// The pointers of an indirect block of `level` that a pointer names and that maps the file blocks from `first` on.
    fn table(&self, pointer: Pointer, level: u8, first: FileBlock) -> Table {
        let (fs, span, block) = (self.fs, &self.file.span, pointer.block);
        let per = fs.pointers_per_block() as usize;
        let lost = |reason| Table { entries: vec![None; per], absent: Absent { evidence: Evidence::Unknown, reason } };
        let legal = |pointer: &Option<Block>| pointer.is_none_or(|p| fs.geometry().superblock.contains(p));
        let mut entries: Vec<Option<Pointer>> = vec![None; per];
        // Where transactions are missing after a copy, the block can have changed hands since, unless the file had it before.
        let ours = |copy: &Copy| fs.journal().covers_since(copy.moment) || copy.moment >= pointer.since;
        // One that stayed with the file was logged for it later too: what it maps behind that is new. And what it mapped before an earlier
        // loss is old, but for what stayed then.
        let entries_before = |end: u64| end.saturating_sub(first.0).div_ceil(indirect::span(level - 1, fs.pointers_per_block()));
        let (stayed, kept) = (entries_before(span.stayed), entries_before(span.kept));
        let until = if kept > 0 { self.owned_until().max(span.kept_until) } else { self.owned_until() };
        let cut = |bytes: &mut [u8], left: u64| bytes.iter_mut().skip(left.saturating_mul(4) as usize).for_each(|byte| *byte = 0);
        let mut copies = self.reuse.copies_of_owner(fs, block, span.since(), until);
        copies.retain(ours);
        if copies.is_empty() && level == 1 {
            copies.extend(self.loose_copy(first));
        }
        // What was cut off and written anew in one transaction has other pointers in its copy: those before count.
        copies.sort_by_key(|copy| copy.moment > span.last);
        let (mut seen, mut absent) = (false, UNCERTAIN);
        for copy in copies {
            let Ok(mut bytes) = fs.journal().read_copy(fs.image(), copy) else { continue };
            if copy.moment > self.owned_until() {
                cut(&mut bytes, kept);
            } else if copy.moment < span.first {
                cut(&mut bytes, stayed);
            }
            if !indirect::parse(&bytes).all(|pointer| legal(&pointer)) {
                continue;
            }
            // The last state before the loss, unless a truncate had begun in it or later states are missing.
            if self.is_certain() && copy.moment < span.freed && (copy.moment >= span.last || fs.journal().covers_since(copy.moment)) {
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
            // What stands there then is all of it; how long it stood there is asked of indirect blocks only.
            if absent == HOLE && level == 1 {
                break;
            }
        }
        if absent == HOLE {
            // Nothing can be added: the block itself may never have been written since, and still hold an older life's pointers.
            return Table { entries, absent };
        }
        let home = match self.fate(block, Spot::Indirect(level, first)) {
            Fate::Absurd => return lost("its indirect block is named by a damaged pointer"),
            // Whoever had it since need not have written it.
            Fate::Overwritten(_) => fs.read_home(block).ok().filter(|home| level == 1 && self.continues(home, first)),
            Fate::Stands | Fate::Likely => match fs.read_home(block) {
                Err(_) if !seen => return unreadable(per),
                home => home.ok(),
            },
        };
        let Some(mut home) = home else {
            return if seen { Table { entries, absent } } else { lost("its indirect block was used again") };
        };
        if kept > 0 {
            cut(&mut home, kept);
        }
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

    /// A block of the log of which nothing tells whose copy it is, but whose pointers say it.
    fn loose_copy(&self, first: FileBlock) -> Option<Copy> {
        let Mapping::Indirect { pointers, .. } = &self.file.mapping else { return None };
        let before = pointers[indirect::DIRECT as usize - 1].filter(|_| first.0 == indirect::DIRECT)?;
        let read = |copy: &Copy| self.fs.journal().read_copy(self.fs.image(), *copy);
        let mut copies = self.reuse.loose(self.fs, before.block.plus(1)).iter().rev();
        copies.find(|copy| read(copy).is_ok_and(|bytes| self.continues(&bytes, first))).copied()
    }

    /// Whether the pointers in a block say themselves that they are what this file had from its file block `first` on: the first of them
    /// follows the last direct one, and they are as many as the file's size asks for, without a hole. Where these are all that a block can hold,
    /// and both of these blocks are taken, a later file may have had all three in their places.
    fn continues(&self, home: &[u8], first: FileBlock) -> bool {
        let Mapping::Indirect { pointers, .. } = &self.file.mapping else { return false };
        let before = pointers[indirect::DIRECT as usize - 1].filter(|_| first.0 == indirect::DIRECT);
        let wanted = self.file_blocks().saturating_sub(first.0).min(self.fs.pointers_per_block());
        let mut named = indirect::parse(home);
        let follows = before.is_some_and(|before| named.next() == Some(Some(before.block.plus(1))));
        let count = 1 + named.by_ref().take_while(Option::is_some).count() as u64;
        let stands = |block, at| matches!(self.fate(block, Spot::Data(FileBlock(at))), Fate::Stands | Fate::Likely);
        let both_stand = before.is_some_and(|before| stands(before.block, first.0 - 1) && stands(before.block.plus(1), first.0));
        let is_telling = wanted < self.fs.pointers_per_block() || both_stand;
        let is_whole = self.file.size_from == SizeFrom::Inode && self.file.span.blocks >= self.file_blocks();
        is_whole && follows && count == wanted && named.all(|pointer| pointer.is_none()) && is_telling
    }

    /// Whether a block of which no copy proves it can be this file's: its pointers are blocks that were in use before
    /// the file was lost, and none twice.
    fn is_plausible(&self, home: &[u8]) -> bool {
        let mut seen = HashSet::new();
        let span = &self.file.span;
        let was_free = |pointer, before| self.reuse.was_allocated_before(self.fs, pointer, before) == Some(false);
        indirect::parse(home).flatten().all(|pointer| {
            !self.fs.geometry().is_metadata(pointer)
                && seen.insert(pointer)
                // Where transactions before that are missing, it can have been lost long before.
                && !(was_free(pointer, span.freed) && (span.covered || was_free(pointer, Moment(span.last.0.saturating_add(1)))))
        })
    }
}
