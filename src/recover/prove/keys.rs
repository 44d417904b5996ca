//! What keys say: leaves of the key on the counting column name for each of its values the byte of the file at which its row begins. They
//! are found wherever they stand, also where their `.MYI` is lost.

use super::super::{FileId, Recovery};
use super::index;
use super::subject;
use crate::content::myisam::leaf;
use roaring::RoaringTreemap;
use std::collections::HashMap;

/// Entries that are kept: 64 MiB of them.
const MOST: usize = 1 << 22;
/// Rows that must agree on a place.
const FEWEST: usize = 6;
/// Bytes read at a time.
const PIECE: u64 = 1 << 20;

/// Values of the column and offsets of their rows, sorted.
pub struct Keys(Vec<(u64, u64)>);

impl Keys {
    /// Looks through free blocks, and through the blocks of lost files that `may_be` such a file.
    pub fn find(recovery: &Recovery, free: &RoaringTreemap, may_be: impl Fn(FileId) -> bool) -> Keys {
        let mut blocks = free.clone();
        for id in recovery.ids().filter(|id| may_be(*id)) {
            for run in recovery.runs(id).filter(subject::is_named) {
                let first = run.block.map_or(0, |block| block.get());
                blocks.insert_range(first..first.saturating_add(run.length));
            }
        }
        let size = recovery.block_size();
        let mut entries = vec![];
        for run in index::runs(&blocks, (PIECE / size).max(1)) {
            let Some(bytes) = index::read(recovery.filesystem(), run) else { continue };
            entries.extend(leaf::entries(&bytes));
            if entries.len() > MOST {
                break;
            }
        }
        entries.sort_unstable();
        entries.dedup();
        Keys(entries)
    }

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

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
