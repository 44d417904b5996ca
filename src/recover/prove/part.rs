//! A part of a table: what one chain leads to.

use super::super::{FileId, Mapping, Recovery};
use super::count::Ruler;
use super::gap::{self, Gap};
use super::numbered::{self, Tablespace};
use super::state::{self, Start};
use super::subject::{self, Subject};
use super::walk::LOOK_AT;
use crate::format::indirect;
use crate::units::FileBlock;

/// Places in one part behind which another is looked for.
const TAILS: usize = 64;

/// A chain that leads to rows, or to pages of a tablespace.
pub struct Part {
    /// The file that it is shown as.
    pub id: FileId,
    /// What was learnt of its rows.
    pub rows: Option<Subject>,
    /// What its pages say, if it is a tablespace.
    pub pages: Option<Tablespace>,
    /// The first file block under its first indirect block, where it is now.
    pub first: u64,
    /// Its indirect blocks are all INDs, so that they can stand anywhere in the file.
    pub is_movable: bool,
    /// It has no inode, so that it can be a part of another file.
    pub is_loose: bool,
    /// File blocks behind which an IND can follow: where nothing is known, and no block is named.
    pub tails: Vec<u64>,
    /// Ranges of file blocks that are known or named.
    pub taken: Vec<(u64, u64)>,
}

impl Part {
    /// What a lost file tells; `None` for what has no map of its own.
    pub fn of(recovery: &Recovery, id: FileId) -> Option<Part> {
        let file = recovery.file(id);
        let Mapping::Indirect { certain, placed, .. } = &file.mapping else { return None };
        let tables: Vec<(u8, u64)> = placed.iter().flat_map(|placed| placed.tables()).map(|(level, first, _)| (level, first.0)).collect();
        let first = tables.iter().map(|(_, first)| *first).min();
        let is_loose = file.orphan.is_some() && !certain && first.is_some();
        let first = first.unwrap_or(indirect::DIRECT);
        let per = recovery.filesystem().pointers_per_block();
        let taken = taken(recovery, id);
        let pages = if numbered::may_be_pages(recovery, id) { Tablespace::of(recovery, id) } else { None };
        let rows = if pages.is_none() && subject::may_be_rows(recovery, id) { Subject::of(recovery, id) } else { None };
        let end = taken.last().map_or(0, |(_, end)| *end);
        let gaps = gap::of(recovery, id).into_iter().map(|gap| gap.first).chain([end]);
        let begins = |at: &u64| *at >= indirect::DIRECT && (at - indirect::DIRECT).is_multiple_of(per);
        let tails = gaps.filter(begins).take(TAILS).collect();
        Some(Part { id, rows, pages, first, is_movable: tables.iter().all(|(level, _)| *level == 1), is_loose, tails, taken })
    }

    /// Whether its rows look like these, as far as anything is known of them.
    pub fn may_be_like(&self, rows: &Subject) -> bool {
        self.rows.as_ref().map_or(self.pages.is_none(), |own| own.tiling.is_like(&rows.tiling))
    }

    /// Whether nothing is known of what is in it.
    pub const fn is_blank(&self) -> bool {
        self.rows.is_none() && self.pages.is_none()
    }

    /// Whether they surely do.
    pub fn is_like(&self, rows: &Subject) -> bool {
        self.rows.is_some() && self.may_be_like(rows)
    }

    /// File blocks from the first under its indirect blocks to its last.
    pub fn length(&self) -> u64 {
        self.taken.last().map_or(0, |(_, end)| end.saturating_sub(self.first))
    }

    /// Whether nothing of it is known, or named, in a range of file blocks.
    pub fn has_room(&self, first: u64, length: u64) -> bool {
        let at = self.taken.partition_point(|(_, end)| *end <= first);
        self.taken.get(at).is_none_or(|(from, _)| *from >= first.saturating_add(length))
    }

    /// Its first block, and the bytes from there on; `None` where it is not known.
    pub fn head(&self, recovery: &Recovery) -> Option<(u64, Vec<u8>)> {
        let run = recovery.run_at(self.id, FileBlock(self.first)).filter(subject::is_named)?;
        Some((run.block?.get(), subject::read(recovery, self.id, FileBlock(self.first), run.length.min(LOOK_AT as u64))?))
    }

    /// The place behind its file block `at - 1`.
    pub fn tail(&self, recovery: &Recovery, at: u64) -> Option<Start> {
        let before = recovery.run_at(self.id, FileBlock(at.checked_sub(1)?)).filter(subject::is_named)?.block;
        let gap = Gap { first: at, length: 0, before, after: None, known_before: None, known_after: None };
        state::before(recovery, self.rows.as_ref()?, &gap)
    }

    /// What is known of the places of its rows, as those of `subject`.
    pub fn ruler(&self, recovery: &Recovery, subject: &Subject) -> Option<Ruler> {
        Ruler::of_named(recovery, &Subject { id: self.id, ..subject.same() })
    }
}

/// Ranges of file blocks that are known or named, from first to end.
fn taken(recovery: &Recovery, id: FileId) -> Vec<(u64, u64)> {
    let mut found: Vec<(u64, u64)> = vec![];
    for run in recovery.runs(id).filter(|run| run.block.is_some() || run.evidence.is_data()) {
        match found.last_mut() {
            Some((_, end)) if *end == run.file_block.0 => *end = run.end().0,
            _ => found.push((run.file_block.0, run.end().0)),
        }
    }
    found
}
