//! A column that counts up from row to row, as `AUTO_INCREMENT` does: it tells which of many blocks with rows at the right
//! places is the next.

use super::super::Verdict;
use super::super::bytes::{array, le32, le64};
use std::ops::Range;

/// Bytes from the start of a row within which the column must stand: flags and a few short columns before it.
const LOOK_AT: usize = 24;
/// Rows without which nothing is learnt.
const MIN_ROWS: usize = 64;
/// Rows that are remembered to learn from.
const MAX_ROWS: usize = 1024;
/// The values may have gaps, of so many for each row on average, but not more: other numbers that rise are no counters.
const MAX_STEP: u64 = 16;
/// Values at the end of a block whose median stands for the block: single rows that were moved into the space of deleted ones
/// do no harm.
const MEDIAN_OF: usize = 7;

/// Where in a row the column stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Column {
    at: usize,
    wide: usize,
}

impl Column {
    fn value(self, row: &[u8]) -> Option<u64> {
        match self.wide {
            8 => le64(row, self.at),
            4 => le32(row, self.at).map(u64::from),
            _ => array(row, self.at).map(|[a, b, c]| u64::from(u32::from_le_bytes([a, b, c, 0]))),
        }
    }

    /// Rows per rise, if it counts: at least 9 of 10 values are above the one before, and the span is dense.
    fn step(self, rows: &[Vec<u8>]) -> Option<u64> {
        // A few rows are cut by the end of a block.
        let values: Vec<_> = rows.iter().filter_map(|row| self.value(row)).collect();
        if values.len() * 10 < rows.len() * 9 {
            return None;
        }
        let rises = values.windows(2).filter(|pair| pair[0] < pair[1]).count();
        // What is taken for the first rows may be none.
        let span = median(&values[values.len().checked_sub(MEDIAN_OF)?..])?.checked_sub(median(&values[..MEDIAN_OF])?)?;
        let rows = values.len() as u64;
        // What rises from row to row but not on the whole begins again and again: the low byte of a number.
        (rises * 10 >= (values.len() - 1) * 9 && span * 2 >= rows && span / rows <= MAX_STEP).then(|| (span / rows).max(1))
    }
}

/// Learns which column counts, and follows it.
#[derive(Clone, Debug, Default)]
pub struct Counter {
    rows: Vec<Vec<u8>>,
    column: Option<(Column, u64)>,
    recent: Vec<u64>,
    highest: u64,
}

impl Counter {
    /// The next row in the file, from its first byte of data; as many bytes as are at hand.
    pub fn row(&mut self, row: &[u8]) {
        if let Some((column, _)) = self.column {
            self.remember(column.value(row));
            return;
        }
        if self.rows.len() == MAX_ROWS {
            return;
        }
        self.rows.push(row[..row.len().min(LOOK_AT)].to_vec());
        if self.rows.len() >= MIN_ROWS && self.rows.len().is_power_of_two() {
            self.learn();
        }
    }

    fn learn(&mut self) {
        // 4 bytes before 8 and 3: the low half of a BIGINT counts as well, and where 3 bytes count but 4 do not, it is a MEDIUMINT.
        let places = [4, 8, 3].into_iter().flat_map(|wide| (0..=LOOK_AT - wide).map(move |at| Column { at, wide }));
        self.column = places.filter_map(|column| Some((column, column.step(&self.rows)?))).next();
        if let Some((column, _)) = self.column {
            for row in std::mem::take(&mut self.rows) {
                self.remember(column.value(&row));
            }
        }
    }

    fn remember(&mut self, value: Option<u64>) {
        let Some(value) = value else { return };
        self.highest = self.highest.max(value);
        if self.recent.len() == MEDIAN_OF {
            self.recent.remove(0);
        }
        self.recent.push(value);
    }

    /// The same column, at another place.
    pub fn anew(&self) -> Counter {
        Counter { rows: vec![], column: self.column, recent: vec![], highest: self.highest }
    }

    /// Whether these rows come next, by their first values; `None` where no column is known to count, nothing is known of its place, or
    /// there are fewer than 3 rows.
    pub fn goes_on<'a>(&self, rows: impl Iterator<Item = &'a [u8]> + Clone) -> Option<bool> {
        self.reached()?;
        (rows.clone().take(3).count() == 3).then(|| self.fits(rows) != Verdict::POSSIBLE)
    }

    /// Bytes of a row at which the column stands, once one that counts is known.
    pub fn column(&self) -> Option<Range<usize>> {
        self.column.map(|(column, _)| column.at..column.at + column.wide)
    }

    /// The value of the column in a row, once a column that counts is known.
    pub fn value(&self, row: &[u8]) -> Option<u64> {
        self.column?.0.value(row)
    }

    /// The value that the counter has reached, once a column that counts is known.
    pub fn reached(&self) -> Option<u64> {
        self.column.and(median(&self.recent))
    }

    /// The first value in these rows (median of a few), once a column that counts is known.
    pub fn first<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Option<u64> {
        let (column, _) = self.column?;
        median(&rows.filter_map(|row| column.value(row)).take(MEDIAN_OF).collect::<Vec<_>>())
    }

    /// How much it says that these rows (at least 3) come next: their first values must lie a little above the last ones.
    /// Blocks of the same table lie in that window with the chance that it has among all values seen. Never contradicts: rows
    /// go into the space of deleted ones in any order.
    pub fn fits<'a>(&self, rows: impl Iterator<Item = &'a [u8]> + Clone) -> Verdict {
        let (Some((_, step)), Some(reached)) = (self.column, self.reached()) else { return Verdict::POSSIBLE };
        let Some(first) = self.first(rows.clone()) else { return Verdict::POSSIBLE };
        let window = step * 4 * MEDIAN_OF as u64;
        if rows.take(3).count() < 3 || first <= reached || first - reached > window {
            return Verdict::POSSIBLE;
        }
        Verdict::Fits { bits: (self.highest.max(first) / window).checked_ilog2().unwrap_or(0) }
    }
}

fn median(values: &[u64]) -> Option<u64> {
    let mut values = values.to_vec();
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows with flags, a counter of 4 bytes and noise.
    fn rows(ids: impl Iterator<Item = u32>) -> Vec<Vec<u8>> {
        ids.map(|id| [&[0xfe][..], &id.to_le_bytes(), &id.wrapping_mul(id).wrapping_mul(0x9e37_79b9).to_le_bytes(), &[7; 8]].concat())
            .collect()
    }

    fn learnt(ids: impl Iterator<Item = u32>) -> Counter {
        let mut counter = Counter::default();
        rows(ids).iter().for_each(|row| counter.row(row));
        counter
    }

    #[test]
    fn finds_and_follows_the_column() {
        let counter = learnt((100_000..).filter(|id| id % 17 != 0).take(500));
        assert_eq!(counter.column.map(|(column, step)| (column.at, column.wide, step)), Some((1, 4, 1)));
        let reached = counter.reached().unwrap();
        let fits = |from: u32| counter.fits(rows(from..from + 20).iter().map(Vec::as_slice));
        assert!(fits(reached as u32 + 5).bits() >= 11);
        for from in [100_000, reached as u32 - 30, reached as u32 + 500, 5_000_000] {
            assert_eq!(fits(from), Verdict::POSSIBLE, "{from}");
        }
        let few = rows(reached as u32 + 1..reached as u32 + 3);
        assert_eq!(counter.fits(few.iter().map(Vec::as_slice)), Verdict::POSSIBLE);
    }

    #[test]
    fn what_does_not_count() {
        assert_eq!(learnt((0..500).map(|id: u32| id.wrapping_mul(0x9e37_79b9))).reached(), None, "random numbers");
        assert_eq!(learnt((0..500).map(|id| id * 5_000_000)).reached(), None, "numbers that leap");
        assert_eq!(learnt(0..63).reached(), None, "too few rows");
        assert_eq!(learnt((0..500).map(|id| id % 30)).reached(), None, "numbers that begin again");
        let mut short = Counter::default();
        (0..100).for_each(|_| short.row(&[1, 2]));
        assert_eq!(short.reached(), None);
    }
}
