//! How fast this filesystem uses free blocks again, measured where the journal is whole: what may have happened where it is not.

use crate::fs::Filesystem;
use crate::units::Moment;

/// Transactions of the journal that are looked at together at least: with fewer nothing can be said.
const LEAST: u64 = 4;

/// So many times the transactions that follow each other can be missing, and the measure still says something of them.
const REACH: u64 = 4;

/// What was measured.
#[derive(Clone, Default)]
pub struct Turnover {
    /// Of the blocks that were free at a window's beginning and end, in groups that changed, the part that was in use in between.
    part: f64,
    /// Length of a window in transactions; 0 if there was none.
    window: u64,
    /// The longest row of transactions that survives.
    row: u64,
}

impl Turnover {
    /// Looks at the copies of all bitmaps.
    pub fn measure(fs: &Filesystem) -> Turnover {
        let rows = rows(fs.journal().transactions().iter().map(|transaction| transaction.moment.0));
        let row = rows.iter().map(|(first, end)| end - first).max().unwrap_or(0);
        if row < LEAST {
            return Turnover { row, ..Turnover::default() };
        }
        // The longest windows that are not measured by chance alone.
        let window = 1 << (row / 2).ilog2();
        let (mut used, mut all) = (0u64, 0u64);
        for (first, end) in rows {
            let mut start = first;
            while start + window < end {
                for group in 0..fs.geometry().superblock.groups() {
                    let (between, free) = used_between(fs, group, Moment(start), Moment(start + window));
                    (used, all) = (used + between, all + free);
                }
                // Windows overlap, so that it matters less where they begin.
                start += (window / 4).max(1);
            }
        }
        Turnover { part: used as f64 / all.max(1) as f64, window, row }
    }

    /// The chance that a block that is known to have been free, or the file's, before and free after was somebody else's in the course of
    /// `missing` transactions; `None` if too little is left to tell. It has to have been given out and freed again in that time, so the chance
    /// grows with the square.
    pub fn chance(&self, missing: u64) -> Option<f64> {
        let measured = self.window > 0 && missing <= self.row * REACH;
        (measured || missing == 0).then(|| self.at_least(missing))
    }

    /// What that chance is at least, also where more is missing than the measure reaches.
    pub fn at_least(&self, missing: u64) -> f64 {
        let missing = missing.min(self.row * REACH);
        (self.part * (missing as f64 / self.window.max(1) as f64).powi(2)).min(1.0)
    }
}

/// Rows of numbers that follow each other: first, and one past the last.
fn rows(numbers: impl Iterator<Item = u64>) -> Vec<(u64, u64)> {
    let mut rows: Vec<(u64, u64)> = vec![];
    for number in numbers {
        match rows.last_mut() {
            Some((_, end)) if *end == number => *end += 1,
            _ => rows.push((number, number + 1)),
        }
    }
    rows
}

/// How many blocks of a group were in use at some moment between two at which they were free, and how many were free at both. None
/// where the group did not change in between.
fn used_between(fs: &Filesystem, group: u64, start: Moment, end: Moment) -> (u64, u64) {
    let Some(descriptor) = fs.geometry().group(group) else { return (0, 0) };
    let copies = fs.journal().copies(descriptor.block_bitmap);
    let (first, last) = (copies.partition_point(|copy| copy.moment <= start), copies.partition_point(|copy| copy.moment <= end));
    if first == last {
        return (0, 0);
    }
    let read = |index: usize| fs.journal().read_copy(fs.image(), copies[index]).ok();
    let Some(before) = read(first.saturating_sub(1)) else { return (0, 0) };
    let (mut between, mut after) = (before.clone(), before.clone());
    for bitmap in (first..last).filter_map(read) {
        between.iter_mut().zip(&bitmap).for_each(|(between, now)| *between |= now);
        after = bitmap;
    }
    let bits = before.iter().zip(&between).zip(&after);
    bits.fold((0, 0), |(used, all), ((before, between), after)| {
        let free = !before & !after;
        (used + u64::from((free & between).count_ones()), all + u64::from(free.count_ones()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_end_at_gaps() {
        assert_eq!(rows([3, 4, 5, 9, 11, 12].into_iter()), [(3, 6), (9, 10), (11, 13)]);
        assert_eq!(rows(std::iter::empty()), []);
    }

    #[test]
    fn what_is_measured_reaches_only_so_far() {
        let turnover = Turnover { part: 0.01, window: 8, row: 20 };
        assert_eq!(turnover.chance(0), Some(0.0));
        assert!(turnover.chance(16).is_some_and(|chance| (chance - 0.04).abs() < 1e-9));
        assert!(turnover.chance(81).is_none() && turnover.at_least(81) == turnover.at_least(80));
        assert_eq!((Turnover::default().chance(1), Turnover::default().chance(0), Turnover::default().at_least(9)), (None, Some(0.0), 0.0));
    }
}
