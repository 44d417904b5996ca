//! Where a stretch stands that is joined to nothing: how many rows are missing before it and behind it says how many bytes, up to what
//! the lengths of rows differ; which block exactly, how the allocator aligns what it gives out.

use super::super::Recovery;
use super::subject::{self, Subject};
use super::walk::{MARKS, typical};
use crate::run::Run;
use crate::units::FileBlock;
use std::collections::BTreeMap;

/// Bytes at multiples of which the ext4 driver begins its chunks for large files (`ext4_mb_normalize_request`, fs/ext4/mballoc.c): a
/// block's number and its file block are congruent.
const CHUNK: u64 = 4 << 20;
/// Runs of a file by which it is learnt whether they are.
const RUNS: usize = 4096;
/// Blocks that a run needs to count among them.
const LONG: u64 = 8;
/// By how many standard deviations an estimate may be wrong.
const DEVIATIONS: f64 = 5.0;
/// Blocks by which an estimate may be wrong at most, for a place that another stretch confirms.
const WIDEST: u64 = 64;
/// One in how many placements may be wrong.
const ODDS: f64 = 4000.0;
/// Rows by which keys are checked.
const EXACT: usize = 1 << 18;
/// Of rows of one length, one place in so many can be right by chance.
const SELDOM: u64 = 8;
/// Blocks between marks by which it is learnt how lengths differ.
const LAG: usize = 16;

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The first of these rows, as many as tell which rank is typical.
fn first_of(rows: &[(u64, usize)]) -> &[(u64, usize)] {
    &rows[..rows.len().min(MARKS)]
}

/// Rows whose rank and byte in the file are known.
pub struct Ruler {
    marks: BTreeMap<u64, u64>,
    /// Ranks of known blocks: first and last.
    known: Vec<(u64, u64)>,
    block_size: u64,
    /// Rows by which keys are checked, by rank.
    exact: Vec<(u64, u64)>,
    /// Standard deviation of the length of a row, in bytes.
    deviation: f64,
    /// What block numbers and file blocks differ by, modulo the chunk, and for which share of the runs they do not.
    alignment: Option<(u64, f64)>,
    chunk: u64,
    /// Bytes of each row, where all have the same.
    length: Option<u64>,
}

impl Ruler {
    /// Learns from the known runs of a file. `None` where nothing counts, or too little is known.
    pub fn new(recovery: &Recovery, subject: &Subject) -> Option<Ruler> {
        Ruler::of(recovery, subject, |run| run.evidence.is_data())
    }

    /// The same from runs of which it may be in doubt whether they were used since.
    pub fn of_named(recovery: &Recovery, subject: &Subject) -> Option<Ruler> {
        Ruler::of(recovery, subject, subject::is_named)
    }

    fn of(recovery: &Recovery, subject: &Subject, is_known: impl Fn(&Run) -> bool) -> Option<Ruler> {
        subject.stride?;
        let block_size = recovery.block_size();
        let (chunk, length) = (CHUNK / block_size, subject.tiling.length());
        let mut ruler =
            Ruler { marks: BTreeMap::new(), known: vec![], exact: vec![], block_size, deviation: 0.0, alignment: None, chunk, length };
        let (mut offsets, mut runs): (BTreeMap<u64, u64>, u64) = (BTreeMap::new(), 0);
        let mut squares: Vec<f64> = vec![];
        for run in recovery.runs(subject.id).take(RUNS).filter(is_known) {
            if let Some(block) = run.block.filter(|_| run.length >= LONG) {
                runs += 1;
                *offsets.entry((block.get() % chunk + chunk - run.file_block.0 % chunk) % chunk).or_default() += 1;
            }
            ruler.measure(recovery, subject, run.file_block.0, run.length, &mut squares);
        }
        if squares.len() < 3 && length.is_none() {
            return None;
        }
        ruler.drop_strange();
        ruler.exact.sort_unstable();
        ruler.deviation = (squares.iter().sum::<f64>() / squares.len().max(1) as f64).sqrt();
        ruler.alignment =
            offsets.into_iter().max_by_key(|(_, count)| *count).map(|(offset, count)| (offset, 1.0 - count as f64 / runs as f64));
        Some(ruler)
    }

    /// Notes where a file of rows of one length begins: ranks count from 1 on.
    pub fn begin(&mut self) {
        let agrees =
            |length: u64| self.marks.iter().next().is_some_and(|(rank, byte)| rank.saturating_sub(1).saturating_mul(length) >= *byte);
        if self.length.is_some_and(agrees) {
            self.put(1, 0);
        }
    }

    /// Leaves of the marks the most that rise together: others are of rows that were moved, or of none at all.
    fn drop_strange(&mut self) {
        let all: Vec<(u64, u64)> = self.marks.iter().map(|(rank, byte)| (*rank, *byte)).collect();
        // For each length the mark that ends such a row of marks with the smallest byte; for each mark the one before it.
        let (mut ends, mut before): (Vec<usize>, Vec<Option<usize>>) = (vec![], vec![]);
        for (at, (_, byte)) in all.iter().enumerate() {
            let length = ends.partition_point(|end| all[*end].1 < *byte);
            before.push(length.checked_sub(1).map(|last| ends[last]));
            match ends.get_mut(length) {
                Some(end) => *end = at,
                None => ends.push(at),
            }
        }
        self.marks = std::iter::successors(ends.last().copied(), |at| before[*at]).map(|at| all[at]).collect();
    }

    /// Nothing is known yet, nor of the lengths of rows: only keys can tell places.
    pub fn of_rows(block_size: u64) -> Ruler {
        let (marks, deviation, chunk) = (BTreeMap::new(), f64::INFINITY, CHUNK / block_size);
        Ruler { marks, known: vec![], exact: vec![], block_size, deviation, alignment: None, chunk, length: None }
    }

    /// Notes rows by which keys are checked.
    pub fn know(&mut self, rows: Vec<(u64, u64)>) {
        if self.exact.len() < EXACT {
            self.exact.extend(rows);
            self.exact.sort_unstable();
        }
    }

    /// Takes marks at both ends of known blocks, and learns from those between.
    fn measure(&mut self, recovery: &Recovery, subject: &Subject, first: u64, blocks: u64, squares: &mut Vec<f64>) {
        let size = self.block_size as usize;
        let most = 1024.min(blocks);
        let Some(bytes) = subject::read(recovery, subject.id, FileBlock(first), most) else { return };
        let mut marks: Vec<(u64, u64)> = vec![];
        for stretch in subject.tiling.stretches(&bytes, size) {
            let own = &bytes[stretch.first * size..((stretch.first + stretch.blocks) * size).min(bytes.len())];
            let mut next = 0;
            // What the file begins with need not be rows.
            let before = subject.tiling.start().saturating_sub((first * self.block_size).saturating_add((stretch.first * size) as u64));
            let mut rows = subject.order.ranks(own, stretch.head);
            rows.retain(|(_, at)| *at as u64 >= before);
            if self.exact.len() < EXACT {
                self.exact.extend(rows.iter().map(|(rank, at)| (*rank, first * self.block_size + (stretch.first * size + at) as u64)));
            }
            for rows in rows.chunks(MARKS) {
                if let Some((rank, at)) = typical(rows).filter(|(_, at)| *at >= next) {
                    marks.push((rank, first * self.block_size + (stretch.first * size + at) as u64));
                    next = at + LAG * size;
                }
            }
        }
        for triple in marks.windows(3) {
            let [(r0, b0), (r1, b1), (r2, b2)] = triple else { continue };
            if r0 < r1 && r1 < r2 {
                let (left, right) = ((r1 - r0) as f64, (r2 - r1) as f64);
                let expected = *b0 as f64 + (b2 - b0) as f64 * left / (left + right);
                squares.push((*b1 as f64 - expected).powi(2) * (left + right) / (left * right));
            }
        }
        self.known.extend(marks.first().zip(marks.last()).map(|(first, last)| (first.0, last.0)));
        for (rank, byte) in marks.first().into_iter().chain(marks.last()) {
            self.put(*rank, *byte);
        }
        if most < blocks {
            // Of a long run the other end.
            let from = first + blocks - LAG as u64 * 2;
            if let Some(bytes) = subject::read(recovery, subject.id, FileBlock(from), LAG as u64 * 2)
                && let Some(stretch) = subject.tiling.stretches(&bytes, size).last()
                && let Some((rank, at)) = typical(first_of(&subject.order.ranks(&bytes[stretch.first * size..], stretch.head)))
            {
                self.put(rank, from * self.block_size + (stretch.first * size + at) as u64);
            }
        }
    }

    /// By how many bytes the place of a row differs from its rank times the length of a row, where nearly all that is known has the same
    /// difference: rows of one length that count without gaps.
    pub fn line(&self) -> Option<i64> {
        let length = self.length?;
        let difference = |(rank, byte): (&u64, &u64)| i64::try_from(*byte).ok()?.checked_sub_unsigned(rank.checked_mul(length)?);
        let mut all: Vec<i64> = self.marks.iter().filter_map(difference).collect();
        all.sort_unstable();
        let middle = *all.get(all.len() / 2)?;
        (all.len() > 1 && all.iter().filter(|one| **one == middle).count() * 10 >= self.marks.len() * 9).then_some(middle)
    }

    /// Bytes from row to row, and how many rows tell it.
    fn mean(&self) -> Option<(f64, f64)> {
        let ((r0, b0), (r1, b1)) = self.marks.first_key_value().zip(self.marks.last_key_value())?;
        let rows = r1.checked_sub(*r0).filter(|rows| *rows > 0)? as f64;
        Some((b1.checked_sub(*b0)? as f64 / rows, rows))
    }

    /// What must be added to the places of another part of the table, whose rows come behind some of this one's, so that they are this one's;
    /// and by how much that may be wrong. In bytes.
    pub fn behind(&self, other: &Ruler) -> Option<(f64, f64)> {
        let ((own, own_rows), (others, others_rows)) = (self.mean()?, other.mean()?);
        let (rank, byte) = other.marks.first_key_value()?;
        let (before, at) = self.marks.range(..rank).next_back()?;
        let (missing, deviation) = ((rank - before) as f64, self.deviation.max(other.deviation));
        let mean = (own * own_rows + others * others_rows) / (own_rows + others_rows);
        let error = missing * (own - others).abs() + DEVIATIONS * deviation * (missing.sqrt() + missing / (own_rows + others_rows).sqrt());
        Some((*at as f64 + missing * mean - *byte as f64, error))
    }

    /// Bytes of a block.
    pub const fn block_size(&self) -> u64 {
        self.block_size
    }

    /// Whether rows of this rank stand in blocks that are known.
    pub fn is_known(&self, rank: u64) -> bool {
        self.known.iter().any(|(first, last)| (first..last).contains(&&rank))
    }

    /// The byte at which a row of known rank begins; `None` for other ranks.
    pub fn exact(&self, rank: u64) -> Option<u64> {
        self.exact.binary_search_by_key(&rank, |(known, _)| *known).ok().map(|at| self.exact[at].1)
    }

    /// Notes a row.
    pub fn put(&mut self, rank: u64, byte: u64) {
        self.marks.insert(rank, byte);
    }

    /// The byte of the file at which the row of this rank begins, and how far that may be wrong.
    pub fn estimate(&self, rank: u64) -> Option<(f64, f64)> {
        let (r0, b0) = self.marks.range(..=rank).next_back()?;
        let (r1, b1) = self.marks.range(rank..).next()?;
        if r0 == r1 {
            return Some((*b0 as f64, 0.0));
        }
        if let Some(length) = self.length {
            let (low, high) = self.bounds(rank, length)?;
            return Some((low.midpoint(high) as f64, (high - low) as f64 / 2.0));
        }
        let (left, right) = ((rank - r0) as f64, (r1 - rank) as f64);
        let rise = b1.checked_sub(*b0)? as f64;
        Some((*b0 as f64 + rise * left / (left + right), DEVIATIONS * self.deviation * (left * right / (left + right)).sqrt()))
    }

    /// The bytes between which the row of this rank begins, where each row takes so many: no two have the same rank, so as many rows at most
    /// stand on either side of it as there are ranks. `None` where the rows on both sides contradict that.
    fn bounds(&self, rank: u64, length: u64) -> Option<(u64, u64)> {
        let (r0, b0) = self.marks.range(..=rank).next_back()?;
        let (r1, b1) = self.marks.range(rank..).next()?;
        let most = (rank - r0).checked_mul(length)?.checked_add(*b0)?;
        let least = b1.saturating_sub((r1 - rank).checked_mul(length)?);
        let (low, high) = (least.max(*b0), most.min(*b1));
        (low <= high && b1.checked_sub(*b0)?.is_multiple_of(length)).then_some((low, high))
    }

    /// The same as [`place`](Self::place) for rows of one length: the only place between the bounds at which rows begin where they must.
    fn place_of_fixed(&self, mark: (u64, usize), length: u64, beside: &[u64]) -> Option<u64> {
        let (low, high) = self.bounds(mark.0, length)?;
        let (_, known) = self.marks.first_key_value()?;
        let byte = mark.1 as u64;
        let (from, to) = (low.saturating_sub(byte).div_ceil(self.block_size), high.checked_sub(byte)? / self.block_size);
        if to.checked_sub(from)? > self.chunk {
            return None;
        }
        let begins = |place: &u64| (place * self.block_size + byte) % length == known % length;
        let mut places: Vec<u64> = (from..=to).filter(begins).collect();
        // Between blocks at which rows begin alike lie so many.
        let apart = length / gcd(length, self.block_size);
        if (to - from) * SELDOM > apart {
            places.retain(|place| beside.contains(place));
        }
        match places[..] {
            [place] => Some(place),
            _ => None,
        }
    }

    /// The file block at which a stretch begins: `mark` is a row in it, `first` its block; `beside` are the places that it has if it goes on
    /// with the same difference as the stretches placed before and behind it. `None` where that is none, or more than one.
    pub fn place(&self, mark: (u64, usize), first: u64, beside: &[u64]) -> Option<u64> {
        if let Some(length) = self.length {
            return self.place_of_fixed(mark, length, beside);
        }
        let (byte, error) = self.estimate(mark.0)?;
        let (at, wrong) = ((byte - mark.1 as f64) / self.block_size as f64, error / self.block_size as f64);
        let fits = |place: u64| (place as f64 - at).abs() <= wrong + 0.05;
        if wrong > WIDEST as f64 || at < -1.0 {
            return None;
        }
        let mut places: Vec<u64> = beside.iter().copied().filter(|place| fits(*place)).collect();
        let likely = |share: f64| share * (2.0 * wrong + 1.0) / self.chunk as f64 * ODDS <= 1.0;
        if let Some((offset, _)) = self.alignment.filter(|(_, share)| likely(*share)) {
            let low = (at - wrong).max(0.0) as u64;
            let residue = (first % self.chunk + self.chunk - offset) % self.chunk;
            let place = low + (residue + self.chunk - low % self.chunk) % self.chunk;
            places.extend(Some(place).filter(|place| fits(*place)));
        }
        if wrong < 0.4 {
            places.extend(Some(at.round().max(0.0) as u64).filter(|place| (*place as f64 - at).abs() <= wrong + 0.05));
        }
        places.sort_unstable();
        places.dedup();
        match places[..] {
            [place] => Some(place),
            _ => None,
        }
    }
}
