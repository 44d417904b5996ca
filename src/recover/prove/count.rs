//! Where a stretch stands that is joined to nothing: how many rows are missing before it and behind it says how many bytes, up to what
//! the lengths of rows differ; which block exactly, how the allocator aligns what it gives out.

use super::super::Recovery;
use super::subject::{self, Subject};
use super::walk::{MARKS, typical};
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
/// Blocks between marks by which it is learnt how lengths differ.
const LAG: usize = 16;

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
}

impl Ruler {
    /// Learns from the known runs of a file. `None` where nothing counts, or too little is known.
    pub fn new(recovery: &Recovery, subject: &Subject) -> Option<Ruler> {
        subject.stride?;
        let block_size = recovery.block_size();
        let chunk = CHUNK / block_size;
        let mut ruler = Ruler { marks: BTreeMap::new(), known: vec![], exact: vec![], block_size, deviation: 0.0, alignment: None, chunk };
        let (mut offsets, mut runs): (BTreeMap<u64, u64>, u64) = (BTreeMap::new(), 0);
        let mut squares: Vec<f64> = vec![];
        for run in recovery.runs(subject.id).take(RUNS).filter(|run| run.evidence.is_data()) {
            if let Some(block) = run.block.filter(|_| run.length >= LONG) {
                runs += 1;
                *offsets.entry((block.get() % chunk + chunk - run.file_block.0 % chunk) % chunk).or_default() += 1;
            }
            ruler.measure(recovery, subject, run.file_block.0, run.length, &mut squares);
        }
        if squares.len() < 3 {
            return None;
        }
        ruler.exact.sort_unstable();
        ruler.deviation = (squares.iter().sum::<f64>() / squares.len() as f64).sqrt();
        ruler.alignment =
            offsets.into_iter().max_by_key(|(_, count)| *count).map(|(offset, count)| (offset, 1.0 - count as f64 / runs as f64));
        Some(ruler)
    }

    /// Nothing is known yet, nor of the lengths of rows: only keys can tell places.
    pub fn of_rows(block_size: u64) -> Ruler {
        let (marks, deviation, chunk) = (BTreeMap::new(), f64::INFINITY, CHUNK / block_size);
        Ruler { marks, known: vec![], exact: vec![], block_size, deviation, alignment: None, chunk }
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
            let rows = subject.order.ranks(own, stretch.head);
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
        let (left, right) = ((rank - r0) as f64, (r1 - rank) as f64);
        let rise = b1.checked_sub(*b0)? as f64;
        Some((*b0 as f64 + rise * left / (left + right), DEVIATIONS * self.deviation * (left * right / (left + right)).sqrt()))
    }

    /// The file block at which a stretch begins: `mark` is a row in it, `first` its block; `beside` are the places that it has if it goes on
    /// with the same difference as the stretches placed before and behind it. `None` where that is none, or more than one.
    pub fn place(&self, mark: (u64, usize), first: u64, beside: &[u64]) -> Option<u64> {
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
