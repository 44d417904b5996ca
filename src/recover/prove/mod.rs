//! Places blocks that no pointer names any more by what their content proves: the records of a file tile it, and a column that counts
//! says which comes next.
//!
//! Before that, chains that are parts of one table are joined (`join`, by what `joints` finds between `part`s).
//!
//! Candidates are *spare* blocks: free, with content, and claimed by no file that is lost. `index` finds stretches of records among them
//! in one pass, which is made only if a file of such a kind can have lost some. `walk` follows a stretch with what was learnt of the file
//! (`subject`), `solver` finds which of the `candidates` follow each other (`next`), from both ends of a `gap`. Pages of InnoDB say
//! themselves where they stand (`numbered`). A stretch is placed only where
//!
//! * it goes on directly from a known block, or leads directly to one: next to it on the disk, or found as the only one that fits, by the
//!   places of its records and by the counting column together ([`Verdict::proves`](crate::content::Verdict::proves)); or the values of that
//!   column, and the rows' length (`count`) or the table's `keys`, leave no other place;
//! * and everything that is placed in a gap agrees: what leads from one end to the other has exactly the gap's length.
//!
//! What fits in two places, or claims the same block twice, is left out.

mod build;
mod candidates;
mod check;
mod confirm;
mod count;
mod first;
mod gap;
mod index;
mod join;
mod joints;
mod keys;
mod next;
mod numbered;
mod part;
mod solver;
mod state;
mod subject;
mod walk;

use super::placed::Basis;
use super::{FileId, Mapping, Progress, Recovery, fill};
use crate::run::Evidence;
use crate::units::{Block, FileBlock};
use gap::Gap;
use index::Index;
use keys::Leaves;
use roaring::RoaringTreemap;
use std::cell::OnceCell;
use std::collections::HashSet;
use subject::Subject;

/// Blocks of files that are read to confirm what is in doubt: it must not take longer than the scan did.
const MOST_CONFIRMED: u64 = 1 << 20;

/// Consecutive blocks for consecutive file blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// First file block.
    pub at: u64,
    /// First block.
    pub first: u64,
    /// How many.
    pub blocks: u64,
    /// What proves it.
    pub basis: Basis,
}

impl Recovery {
    /// Confirms blocks that pointers name but of which nothing tells whether they were used since. Whether any were.
    pub(super) fn confirm(&mut self, progress: &dyn Progress) -> bool {
        let (mut left, mut confirmed) = (MOST_CONFIRMED, vec![]);
        for id in self.ids().filter(|id| subject::may_be_rows(self, *id) && self.file(*id).tally.of(Evidence::Unknown) > 0) {
            let blocks = if confirm::doubtful(self, id) > 0 { self.file(id).size / self.block_size() } else { 0 };
            if blocks == 0 || blocks > left {
                continue;
            }
            if let Some(subject) = Subject::of(self, id) {
                progress.step("reading doubtful blocks", MOST_CONFIRMED - left, 0);
                left -= blocks;
                confirmed.push((id, confirm::confirm(self, &subject)));
            }
        }
        confirmed.extend(self.confirm_pages(left));
        confirmed.retain(|(_, ranges)| !ranges.is_empty());
        for (id, ranges) in &mut confirmed {
            if let Mapping::Indirect { placed, .. } = &mut self.files[id.0 as usize].mapping {
                placed.get_or_insert_default().confirm(std::mem::take(ranges));
            }
        }
        !confirmed.is_empty()
    }

    /// Fills gaps of files whose content tells the order of its blocks, from what is `spare`. Whether anything was placed; what was is
    /// spare no more. Rows that the scan knows stand among `rows`.
    pub(super) fn prove(&mut self, spare: &mut RoaringTreemap, rows: &RoaringTreemap, progress: &dyn Progress) -> bool {
        let mut subjects = vec![];
        for id in self.ids().filter(|id| subject::may_be_rows(self, *id)) {
            let gaps = gap::with_end(self, id);
            if !gaps.is_empty()
                && let Some(subject) = Subject::of(self, id)
            {
                subjects.push((subject, gaps));
            }
        }
        if subjects.is_empty() {
            return false;
        }
        // Tables that look the same are looked for together.
        for at in 1..subjects.len() {
            let like = subjects[..at].iter().find(|(other, _)| other.tiling.is_like(&subjects[at].0.tiling));
            if let Some(tiling) = like.map(|(other, _)| other.tiling.clone()) {
                subjects[at].0.tiling = tiling;
            }
        }
        let mut indexes: Vec<Index> = vec![];
        let keys = OnceCell::new();
        let mut found: Vec<(FileId, Vec<Piece>)> = vec![];
        for (subject, gaps) in &subjects {
            let at = indexes.iter().position(|index| index.tiling == subject.tiling).unwrap_or_else(|| {
                let gaps = || subjects.iter().filter(|(other, _)| other.tiling == subject.tiling).flat_map(|(_, gaps)| gaps);
                let near = index::near(spare, gaps());
                let blocks = if subject.is_known_to_scan(self) { near & rows } else { near };
                indexes.push(Index::new(&self.fs, subject.tiling.clone(), &blocks, progress));
                indexes.len() - 1
            });
            let keys = || keys.get_or_init(|| self.keys(&subjects, spare));
            found.push((subject.id, candidates::solve(self, subject, gaps, &indexes[at], &keys, progress)));
        }
        drop_rivals(&mut found);
        self.place(&found, spare)
    }

    /// Puts pieces into files, and takes them out of `spare`. Whether there were any.
    fn place(&mut self, found: &[(FileId, Vec<Piece>)], spare: &mut RoaringTreemap) -> bool {
        let mut any = false;
        for (id, pieces) in found.iter().filter(|(_, pieces)| !pieces.is_empty()) {
            if let Mapping::Indirect { placed, .. } = &mut self.files[id.0 as usize].mapping {
                let placed = placed.get_or_insert_default();
                for piece in pieces {
                    spare.remove_range(piece.first..piece.first + piece.blocks);
                    if let Some(block) = Block::new(piece.first) {
                        placed.put_data(FileBlock(piece.at), block, piece.blocks, piece.basis);
                        any = true;
                    }
                }
            }
        }
        any
    }
}

impl Recovery {
    /// The parts of `pieces`, which the allocators' habits placed in a file, that its content does not contradict.
    pub(super) fn not_contradicted(&self, id: FileId, pieces: Vec<fill::Piece>) -> Vec<fill::Piece> {
        let subject = if pieces.is_empty() || !subject::may_be_rows(self, id) { None } else { Subject::of(self, id) };
        let Some(subject) = subject else { return pieces };
        let ruler = count::Ruler::new(self, &subject);
        let agreeing = |piece: fill::Piece| check::agreeing(self, &subject, ruler.as_ref(), piece.first.0, piece.block, piece.length);
        let piece = |(at, block, length)| fill::Piece { first: FileBlock(at), block, length };
        pieces.into_iter().flat_map(agreeing).map(piece).collect()
    }

    /// All leaves of keys that can be found.
    fn keys(&self, subjects: &[(Subject, Vec<Gap>)], spare: &RoaringTreemap) -> Leaves {
        let rows: HashSet<FileId> = subjects.iter().map(|(subject, _)| subject.id).collect();
        let free = index::near(spare, subjects.iter().flat_map(|(_, gaps)| gaps));
        Leaves::find(self, &free, |id| !rows.contains(&id) && subject::may_be_index(self, id))
    }
}

/// Takes out the pieces that want a block which another one wants as well.
fn drop_rivals(found: &mut [(FileId, Vec<Piece>)]) {
    let mut wanted: Vec<(u64, u64)> =
        found.iter().flat_map(|(_, pieces)| pieces).map(|piece| (piece.first, piece.first + piece.blocks)).collect();
    wanted.sort_unstable();
    let mut twice = RoaringTreemap::new();
    let mut end = 0;
    for (from, to) in wanted {
        if from < end {
            twice.insert_range(from..to.min(end));
        }
        end = end.max(to);
    }
    if !twice.is_empty() {
        let is_rival = |piece: &Piece| twice.range_cardinality(piece.first..piece.first + piece.blocks) > 0;
        found.iter_mut().for_each(|(_, pieces)| pieces.retain(|piece| !is_rival(piece)));
    }
}
