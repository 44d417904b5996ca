//! The gaps that files have, and filling them.

use super::claims::Seen;
use super::file::SizeFrom;
use super::fill::{self, Gap, Piece};
use super::placed::Basis;
use super::{FileId, Mapping, Recovery};
use crate::format::indirect;
use crate::run::Evidence;
use crate::units::{Block, FileBlock};
use roaring::RoaringTreemap;
use std::collections::HashMap;

/// Notes which files end with an IND that is named but lost.
#[derive(Default)]
pub struct Ends {
    /// Files by their index: the first file block of that IND.
    pub ends: HashMap<usize, FileBlock>,
}

impl Ends {
    /// Looks at an indirect block; a file's are given in the order of the file.
    pub fn see(&mut self, seen: &Seen) {
        if seen.level == 1 {
            match seen.table.entries.iter().all(Option::is_none) {
                true => _ = self.ends.entry(seen.file).or_insert(seen.first),
                false => _ = self.ends.remove(&seen.file),
            }
        }
    }
}

impl Recovery {
    /// Fills the gaps of all files, newest first, from what is `spare`; with `content` nothing that a file's content contradicts. Whether
    /// there was anything to be filled.
    pub(super) fn fill_gaps(&mut self, spare: &mut RoaringTreemap, ends: &HashMap<usize, FileBlock>, content: bool) -> bool {
        let mut found: Vec<(FileId, Vec<Piece>)> = vec![];
        let agreed = |id: FileId, pieces| if content { self.not_contradicted(id, pieces) } else { pieces };
        let mut take = |spare: &mut RoaringTreemap, id: FileId, pieces: Vec<Piece>| {
            for piece in &pieces {
                spare.remove_range(piece.block.get()..piece.block.plus(piece.length).get());
            }
            found.push((id, pieces));
        };
        for id in self.ids().filter(|id| self.file(*id).tally.of(Evidence::Unknown) > 0) {
            for gap in self.gaps(id) {
                let pieces = agreed(id, fill::fill(&gap, spare, self.block_size()));
                take(spare, id, pieces);
            }
        }
        for id in self.ids() {
            if let Some(gap) = ends.get(&(id.0 as usize)).and_then(|first| self.end_gap(id, *first)) {
                let pieces = agreed(id, fill::fill_end(&gap, spare));
                take(spare, id, pieces);
            }
        }
        found.retain(|(_, pieces)| !pieces.is_empty());
        for (id, pieces) in &found {
            if let Mapping::Indirect { placed, .. } = &mut self.files[id.0 as usize].mapping {
                let placed = placed.get_or_insert_default();
                pieces.iter().for_each(|piece| placed.put_data(piece.first, piece.block, piece.length, Basis::Allocation));
            }
        }
        !found.is_empty()
    }

    /// Where a file has no pointers, and blocks are known on one side at least. Gaps among the direct blocks only are left to those who
    /// know the allocators' habits there.
    fn gaps(&self, id: FileId) -> Vec<Gap> {
        let (mut gaps, mut known) = (vec![], 0);
        let file = self.file(id);
        let sparse = matches!(&file.mapping, Mapping::Indirect { placed: Some(placed), .. } if placed.sparse);
        if sparse || file.tally.of(Evidence::Hole) > 0 {
            return gaps;
        }
        let mut before: Option<Block> = None;
        let mut runs = self.runs(id).peekable();
        while let Some(run) = runs.next() {
            let is_gap = run.evidence == Evidence::Unknown && run.block.is_none() && run.end().0 > indirect::DIRECT;
            let after = runs.peek().and_then(|next| next.block);
            if is_gap && (before.is_some() || after.is_some()) {
                gaps.push(Gap { first: run.file_block, length: run.length, before, after });
            }
            before = run.block.map(|block| block.plus(run.length - 1));
            known += run.block.map_or(0, |_| run.length);
        }
        // A file that had fewer blocks than it has gaps was sparse.
        let missing: u64 = gaps.iter().map(|gap| gap.length).sum();
        if file.size_from == SizeFrom::Inode && missing > file.span.blocks.saturating_sub(known) {
            gaps.clear();
        }
        gaps
    }

    /// The gap at the end of a file whose size is not known, under a last IND that is lost.
    fn end_gap(&self, id: FileId, first: FileBlock) -> Option<Gap> {
        let file = self.file(id);
        let known = first.0.checked_mul(self.block_size())? >= file.size && file.size_from == SizeFrom::Chain;
        let last = self.run_at(id, FileBlock(first.0.checked_sub(1)?)).filter(|_| known)?.block?;
        Some(Gap { first, length: self.filesystem().pointers_per_block(), before: Some(last), after: None })
    }
}
