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

/// What filling gaps needs to know of files' indirect blocks.
#[derive(Default)]
pub struct Ends {
    /// Files that end with an IND that is named but lost, by their index: the first file block of that IND.
    ends: HashMap<usize, FileBlock>,
    /// All indirect blocks.
    indirect: RoaringTreemap,
    /// For each file, how many of its INDs stand directly before what they map, and how many do not.
    inds: HashMap<usize, (u32, u32)>,
}

impl Ends {
    /// Looks at an indirect block; a file's are given in the order of the file.
    pub fn see(&mut self, seen: &Seen) {
        self.indirect.insert(seen.block.get());
        if seen.level == 1 {
            if let Some(first) = seen.table.entries.first().copied().flatten() {
                let (inline, apart) = self.inds.entry(seen.file).or_default();
                *if first.block == seen.block.plus(1) { inline } else { apart } += 1;
            }
            match seen.table.entries.iter().all(Option::is_none) {
                true => _ = self.ends.entry(seen.file).or_insert(seen.first),
                false => _ = self.ends.remove(&seen.file),
            }
        }
    }

    /// Whether a file's indirect blocks stand among its data, as the old driver lays them out (`ext3_alloc_branch`, fs/ext3/inode.c).
    fn is_inline(&self, id: FileId) -> bool {
        self.inds.get(&(id.0 as usize)).is_some_and(|(inline, apart)| inline > apart)
    }

    /// The gap of a file whose indirect blocks stand among its data: less those that stand at its ends.
    fn less_indirect(&self, mut gap: Gap) -> Gap {
        // At most one of each level.
        for _ in 0..3 {
            gap.before = gap.before.map(|before| if self.indirect.contains(before.get() + 1) { before.plus(1) } else { before });
            let below = gap.after.and_then(|after| Block::new(after.get() - 1)).filter(|below| self.indirect.contains(below.get()));
            gap.after = below.or(gap.after);
        }
        gap
    }
}

/// The ext4 driver gives blocks to a file in chunks that begin at multiples of so many file blocks, or of twice, four times as many
/// (`ext4_mb_normalize_request`, fs/ext4/mballoc.c).
const CHUNK: u64 = 16;

/// Leaves of what fills a gap a single run that goes on from one of its ends, or else what goes on from the ends up to where a chunk ends:
/// the next one can be anywhere, and the blocks there are as likely those of another lost file. Where inodes and their dates are left, there
/// are many of which nothing tells where they were.
fn within_chunks(gap: &Gap, pieces: &mut Vec<Piece>) {
    let end = gap.first.0 + gap.length;
    let goes_on = |piece: &Piece| piece.first == gap.first && gap.before.is_some_and(|before| before.plus(1) == piece.block);
    let leads = |piece: &Piece| piece.first.0 + piece.length == end && gap.after == Some(piece.block.plus(piece.length));
    pieces.retain(|piece| goes_on(piece) || leads(piece));
    if pieces.iter().any(|piece| piece.length == gap.length) {
        return;
    }
    let (first, last) = (gap.first.0.next_multiple_of(CHUNK), end - end % CHUNK);
    pieces.retain_mut(|piece| {
        let (from, to) = (piece.first.0, piece.first.0 + piece.length);
        if from == gap.first.0 {
            piece.length = piece.length.min(first.saturating_sub(from));
        } else {
            let skip = last.saturating_sub(from);
            (piece.first, piece.block) = (piece.first.plus(skip), piece.block.plus(skip));
            piece.length = to.saturating_sub(piece.first.0);
        }
        piece.length > 0
    });
}

impl Recovery {
    /// Fills the gaps of all files, newest first, from what is `spare`; with `content` nothing that a file's content contradicts. Whether
    /// there was anything to be filled.
    pub(super) fn fill_gaps(&mut self, spare: &mut RoaringTreemap, ends: &Ends, content: bool) -> bool {
        let mut found: Vec<(FileId, Vec<Piece>)> = vec![];
        let agreed = |id: FileId, pieces| if content { self.not_contradicted(id, pieces) } else { pieces };
        let mut take = |spare: &mut RoaringTreemap, id: FileId, pieces: Vec<Piece>| {
            for piece in &pieces {
                spare.remove_range(piece.block.get()..piece.block.plus(piece.length).get());
            }
            found.push((id, pieces));
        };
        for id in self.ids().filter(|id| self.file(*id).tally.of(Evidence::Unknown) > 0) {
            let inline = ends.is_inline(id);
            for gap in self.gaps(id) {
                let gap = if inline { ends.less_indirect(gap) } else { gap };
                let mut pieces = fill::fill(&gap, spare, self.block_size(), inline);
                if self.file(id).span.dated && !self.filesystem().journal().is_of_old_driver() {
                    within_chunks(&gap, &mut pieces);
                }
                let pieces = agreed(id, pieces);
                take(spare, id, pieces);
            }
        }
        for id in self.ids() {
            if let Some(gap) = ends.ends.get(&(id.0 as usize)).and_then(|first| self.end_gap(id, *first)) {
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
        let tables = indirect::tables(file.size.div_ceil(self.block_size()), self.filesystem().pointers_per_block());
        if file.size_from == SizeFrom::Inode && missing > file.span.blocks.saturating_sub(known + tables) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_gaps_end_with_chunks() {
        let left = |pieces: &[(u64, u64, u64)]| {
            let gap = Gap { first: FileBlock(12), length: 102, before: Block::new(499), after: Block::new(740) };
            let piece = |&(first, block, length): &_| Piece { first: FileBlock(first), block: Block::new(block).unwrap(), length };
            let mut pieces = pieces.iter().map(piece).collect();
            within_chunks(&gap, &mut pieces);
            pieces.iter().map(|piece| (piece.first.0, piece.block.get(), piece.length)).collect::<Vec<_>>()
        };
        assert_eq!(left(&[(12, 500, 62), (74, 700, 40)]), [(12, 500, 4), (112, 738, 2)]);
        assert_eq!(left(&[(12, 500, 3), (40, 800, 8), (90, 700, 24)]), [(12, 500, 3)]);
        assert_eq!(left(&[(12, 500, 102)]), [(12, 500, 102)]);
        assert_eq!(left(&[(12, 900, 102)]), []);
    }
}
