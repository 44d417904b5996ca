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

/// What was placed.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Placed {
    /// Indirect blocks, by level (1 for an IND) and the first file block that they map.
    tables: BTreeMap<(u8, FileBlock), PlacedTable>,
    /// Data blocks for which no pointer is left: first file block, first block, count; sorted, apart from each other.
    data: Vec<(FileBlock, Block, u64)>,
    /// Indirect blocks that a pointer names but that are known to be another file's now.
    refused: BTreeSet<(u8, FileBlock)>,
    /// Zeros between pointers are holes.
    pub sparse: bool,
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
    pub fn put_data(&mut self, first: FileBlock, block: Block, count: u64) {
        let at = self.data.partition_point(|(known, ..)| *known < first);
        self.data.insert(at, (first, block, count));
    }

    /// Moves everything so many file blocks towards the end of the file.
    pub fn shift(&mut self, count: u64) {
        self.tables = std::mem::take(&mut self.tables).into_iter().map(|((level, at), table)| ((level, at.plus(count)), table)).collect();
        self.refused = std::mem::take(&mut self.refused).into_iter().map(|(level, at)| (level, at.plus(count))).collect();
        self.data.iter_mut().for_each(|(at, ..)| *at = at.plus(count));
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
        let (first, block, count) = *self.data.get(self.data.partition_point(|(first, ..)| *first <= at).checked_sub(1)?)?;
        (at.0 - first.0 < count).then(|| block.plus(at.0 - first.0))
    }

    /// Whether anything was placed below `level` among the `count` file blocks from `first` on.
    pub fn covers(&self, level: u8, first: FileBlock, count: u64) -> bool {
        let end = first.plus(count);
        let data = self.data.partition_point(|(at, _, count)| at.plus(*count) <= first);
        self.data.get(data).is_some_and(|(at, ..)| *at < end)
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
        placed.put_data(FileBlock(2060), Block::new(900).unwrap(), 3);
        placed.put_data(FileBlock(1036), Block::new(500).unwrap(), 1);
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
