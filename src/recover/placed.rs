//! Parts of a file's map that no pointer of its inode leads to any more, placed by other evidence.

use crate::scan::page::Source;
use crate::units::{Block, FileBlock};
use std::collections::{BTreeMap, BTreeSet};

/// An indirect block that was found without the pointer to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlacedTable {
    /// The block.
    pub block: Block,
    /// Where its content stands.
    pub sources: Vec<Source>,
}

/// Why data blocks were placed where they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Basis {
    /// The allocators' habits: what stands beside it, or nothing else is left.
    Allocation,
    /// The rows of a table go on in it, from a known block or to one.
    Rows,
    /// The values of a counting column, and that rows have one length, or how the allocator aligns what it gives out, leave no other place.
    Count,
    /// The keys of the table say which rows begin where.
    Keys,
    /// It is a page that says its own number, and whose checksum agrees.
    Page,
    /// It says that its file is exactly as long as this one.
    Head,
}

impl Basis {
    /// One clause for `show`.
    pub const fn reason(self) -> &'static str {
        match self {
            Basis::Allocation => "no pointer is left; placed between the blocks before and after it",
            Basis::Rows => "no pointer is left; the rows continue here",
            Basis::Count => {
                "no pointer is left; by its counting column, and the length of its rows or the allocator's alignment, there is no other place for it"
            }
            Basis::Keys => "no pointer is left; the table's keys name its rows at this place",
            Basis::Page => "no pointer is left; the page says that it stands here, and its checksum agrees",
            Basis::Head => "no pointer is left; this block says that the file which it begins is exactly this long",
        }
    }

    /// Whether the content itself proves that the block was not used since.
    pub const fn is_proof(self) -> bool {
        !matches!(self, Basis::Allocation)
    }
}

/// Consecutive data blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Data {
    first: FileBlock,
    block: Block,
    count: u64,
    basis: Basis,
}

/// What was placed.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Placed {
    /// Indirect blocks, by level (1 for an IND) and the first file block that they map.
    tables: BTreeMap<(u8, FileBlock), PlacedTable>,
    /// Data blocks for which no pointer is left; sorted, apart from each other.
    data: Vec<Data>,
    /// Data blocks whose content proves that they were not used again; sorted, apart from each other.
    confirmed: Vec<(FileBlock, u64)>,
    /// Indirect blocks that a pointer names but that are known to be another file's now.
    refused: BTreeSet<(u8, FileBlock)>,
    /// Zeros between pointers are holes.
    pub sparse: bool,
    /// The indirect blocks may be a later part of the file, as others that were found are: where they begin is a guess.
    pub torn: bool,
}

impl Placed {
    /// Puts an indirect block of `level` where it maps the file blocks from `first` on.
    pub fn put_table(&mut self, level: u8, first: FileBlock, table: PlacedTable) {
        self.tables.insert((level, first), table);
    }

    /// Says that the indirect block named at this place is not the file's any more.
    pub fn refuse(&mut self, level: u8, first: FileBlock) {
        self.refused.insert((level, first));
    }

    /// Puts data blocks where no pointer names any; they must not overlap others.
    pub fn put_data(&mut self, first: FileBlock, block: Block, count: u64, basis: Basis) {
        let at = self.data.partition_point(|known| known.first < first);
        self.data.insert(at, Data { first, block, count, basis });
    }

    /// Says which file blocks hold what the file had there, by their content: first and count, sorted.
    pub fn confirm(&mut self, ranges: Vec<(FileBlock, u64)>) {
        self.confirmed = ranges;
    }

    /// Whether the content of a block proves that it was not used again.
    pub fn is_confirmed(&self, at: FileBlock) -> bool {
        let range = self.confirmed.partition_point(|(first, _)| *first <= at).checked_sub(1).map(|range| self.confirmed[range]);
        range.is_some_and(|(first, count)| at.0 - first.0 < count)
    }

    /// Adds what was placed of the same file elsewhere.
    pub fn add(&mut self, other: Placed) {
        self.tables.extend(other.tables);
        self.refused.extend(other.refused);
        self.data.extend(other.data);
        self.data.sort_by_key(|data| data.first);
        self.confirmed.extend(other.confirmed);
        self.confirmed.sort_unstable();
        self.sparse |= other.sparse;
    }

    /// Adds so many file blocks to the place of everything.
    pub fn shift(&mut self, count: i64) {
        let moved = |at: FileBlock| FileBlock(at.0.saturating_add_signed(count));
        self.tables = std::mem::take(&mut self.tables).into_iter().map(|((level, at), table)| ((level, moved(at)), table)).collect();
        self.refused = std::mem::take(&mut self.refused).into_iter().map(|(level, at)| (level, moved(at))).collect();
        self.confirmed.iter_mut().for_each(|(at, _)| *at = moved(*at));
        self.data.iter_mut().for_each(|data| data.first = moved(data.first));
    }

    /// The indirect block placed there.
    pub fn table(&self, level: u8, first: FileBlock) -> Option<&PlacedTable> {
        self.tables.get(&(level, first))
    }

    /// Whether the indirect block named there is another file's.
    pub fn refuses(&self, level: u8, first: FileBlock) -> bool {
        self.refused.contains(&(level, first))
    }

    /// The data block placed there.
    pub fn data(&self, at: FileBlock) -> Option<Block> {
        self.placed_at(at).map(|data| data.block.plus(at.0 - data.first.0))
    }

    /// Why a data block was placed there.
    pub fn basis(&self, at: FileBlock) -> Option<Basis> {
        self.placed_at(at).map(|data| data.basis)
    }

    fn placed_at(&self, at: FileBlock) -> Option<&Data> {
        let data = self.data.get(self.data.partition_point(|data| data.first <= at).checked_sub(1)?)?;
        (at.0 - data.first.0 < data.count).then_some(data)
    }

    /// Whether anything was placed below `level` among the `count` file blocks from `first` on.
    pub fn covers(&self, level: u8, first: FileBlock, count: u64) -> bool {
        let end = first.plus(count);
        let data = self.data.partition_point(|data| data.first.plus(data.count) <= first);
        self.data.get(data).is_some_and(|data| data.first < end)
            || (1..=level).any(|level| self.tables.range((level, first)..(level, end)).next().is_some())
    }

    /// All indirect blocks that were placed, by level and first file block.
    pub fn tables(&self) -> impl Iterator<Item = (u8, FileBlock, &PlacedTable)> {
        self.tables.iter().map(|((level, first), table)| (*level, *first, table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_found_where_it_was_put() {
        let mut placed = Placed::default();
        placed.put_data(FileBlock(2060), Block::new(900).unwrap(), 3, Basis::Rows);
        placed.put_data(FileBlock(1036), Block::new(500).unwrap(), 1, Basis::Allocation);
        let found: Vec<_> = [1035, 1036, 1037, 2059, 2060, 2062, 2063].map(|at| placed.data(FileBlock(at)).map(Block::get)).into();
        assert_eq!(found, [None, Some(500), None, None, Some(900), Some(902), None]);
        let covers = |first, count| placed.covers(1, FileBlock(first), count);
        assert!(covers(12, 1025) && !covers(12, 1024) && covers(1037, 1024) && covers(2062, 1) && !covers(2063, 99));
    }

    #[test]
    fn tables_cover_what_they_map() {
        let mut placed = Placed::default();
        placed.put_table(1, FileBlock(2060), PlacedTable { block: Block::new(7).unwrap(), sources: vec![Source::Home] });
        assert!(placed.covers(2, FileBlock(1036), 1 << 20) && !placed.covers(2, FileBlock(12), 1024));
        assert!(placed.table(1, FileBlock(2060)).is_some() && placed.table(2, FileBlock(2060)).is_none());
    }
}
