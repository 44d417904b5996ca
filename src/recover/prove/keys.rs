//! What keys say: leaves of the key on the counting column name for each of its values the byte of the file at which its row begins. They
//! are found wherever they stand, also where their `.MYI` is lost.

use super::super::{FileId, Recovery};
use super::count::Ruler;
use super::index;
use super::subject;
use crate::content::myisam::leaf;
use crate::units::consecutive;
use roaring::RoaringTreemap;
use std::collections::HashMap;

/// Entries that are kept: 64 MiB of them.
const MOST: usize = 1 << 22;
/// Rows that must agree on a place.
const FEWEST: usize = 6;
/// Known rows that a `.MYI` must name rightly.
const CHECKED: usize = 16;
/// Bytes read at a time.
const PIECE: u64 = 1 << 20;

/// Leaves that were found: values of a column and offsets of their rows, and where.
pub struct Leaves(Vec<Leaf>);

/// The entries of a leaf, and the file in which it stands.
type Leaf = (Option<FileId>, Vec<(u64, u64)>);

/// Values of a file's column and offsets of their rows, sorted.
pub struct Keys(Vec<(u64, u64)>);

impl Leaves {
    /// Looks through free blocks, and through the blocks of lost files that `may_be` such a file.
    pub fn find(recovery: &Recovery, free: &RoaringTreemap, may_be: impl Fn(FileId) -> bool) -> Leaves {
        let mut leaves: Vec<Leaf> = vec![];
        let mut left = MOST;
        let mut look = |source: Option<FileId>, blocks: &RoaringTreemap| {
            let piece = (PIECE / recovery.block_size()).max(1);
            for run in consecutive(blocks, piece) {
                let bytes = if left > 0 { index::read(recovery.filesystem(), run) } else { None };
                for entries in leaf::leaves(&bytes.unwrap_or_default()) {
                    left = left.saturating_sub(entries.len());
                    leaves.push((source, entries));
                }
            }
        };
        for id in recovery.ids().filter(|id| may_be(*id)) {
            let mut blocks = RoaringTreemap::new();
            for run in recovery.runs(id).filter(subject::is_named) {
                let first = run.block.map_or(0, |block| block.get());
                blocks.insert_range(first..first.saturating_add(run.length));
            }
            look(Some(id), &blocks);
        }
        look(None, free);
        Leaves(leaves)
    }

    /// Those of a file of which some rows are known: leaves of a `.MYI` of which others agree with these rows; and free ones, unless another
    /// table counts in the same way, so that they may be that one's. `None` where nothing agrees.
    pub fn of(&self, ruler: &Ruler, has_rivals: bool) -> Option<Keys> {
        let mut agreed: HashMap<Option<FileId>, (usize, usize)> = HashMap::new();
        for (source, entries) in &self.0 {
            let checked = entries.iter().filter_map(|(value, offset)| Some(ruler.exact(*value)? == *offset));
            let (right, all) = checked.fold((0, 0), |(right, all), is_right| (right + usize::from(is_right), all + 1));
            let known = agreed.entry(*source).or_default();
            *known = (known.0 + right, known.1 + all);
        }
        let is_own = |source: &Option<FileId>| {
            let (right, all) = agreed.get(source).copied().unwrap_or_default();
            match source {
                Some(_) => right >= CHECKED && right * 10 >= all * 9,
                None => !has_rivals && right * 10 >= all * 9,
            }
        };
        let mut entries: Vec<(u64, u64)> =
            self.0.iter().filter(|(source, _)| is_own(source)).flat_map(|(_, entries)| entries.iter().copied()).collect();
        entries.sort_unstable();
        entries.dedup();
        (!entries.is_empty()).then_some(Keys(entries))
    }
}

impl Keys {
    /// The file block at which a stretch begins of which these rows are known, by value and by byte from its start. `None` where fewer
    /// rows than are needed agree on it, or others on another place.
    pub fn place(&self, rows: &[(u64, usize)], block_size: u64) -> Option<u64> {
        let mut votes: HashMap<u64, usize> = HashMap::new();
        for (value, byte) in rows {
            let from = self.0.partition_point(|(known, _)| known < value);
            for (_, offset) in self.0[from..].iter().take_while(|(known, _)| known == value) {
                let place = offset.checked_sub(*byte as u64).filter(|start| start.is_multiple_of(block_size));
                place.into_iter().for_each(|start| *votes.entry(start / block_size).or_default() += 1);
            }
        }
        let (place, count) = votes.iter().max_by_key(|(_, count)| **count).map(|(place, count)| (*place, *count))?;
        let rivals = votes.iter().filter(|(other, count)| **other != place && **count >= FEWEST.min(2)).count();
        (count >= FEWEST && rivals == 0).then_some(place)
    }
}
