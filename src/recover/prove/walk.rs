//! Following a stretch of free blocks with what was learnt of one file.

use super::index::{self, Found};
use super::subject::Subject;
use crate::content::{Order, Verdict};
use crate::fs::Filesystem;

/// How often a stretch is cut where it does not go on as the file would.
const CUTS: usize = 16;
/// Rows of a node that are kept.
const ROWS: usize = 256;
/// Rows among which one with a typical rank is looked for.
pub const MARKS: usize = 7;
/// Blocks of which the first rows tell the rank: rows may be longer than one.
pub const LOOK_AT: usize = 4;

/// Consecutive blocks that can be a part of the file.
pub struct Node {
    /// First block.
    pub first: u64,
    /// How many.
    pub blocks: u64,
    /// Blocks at its start that only what leads to it proves.
    pub weak_start: u64,
    /// Blocks at its end that only what follows it proves.
    pub weak_end: u64,
    /// Its first bytes, a block or less.
    pub head: Vec<u8>,
    /// Byte of the first block at which a record begins.
    pub phase: usize,
    /// The rank of its first rows.
    pub rank: Option<u64>,
    /// Rows from all over it: rank, and byte counted from the node's first.
    pub rows: Vec<(u64, usize)>,
    /// The ranks of its first and its last record that have one.
    pub outer: Option<(u64, u64)>,
    /// The place behind it.
    pub end: Box<dyn Order>,
}

impl Node {
    /// A row near its start whose rank is typical.
    pub fn mark(&self) -> Option<(u64, usize)> {
        typical(&self.rows[..self.rows.len().min(MARKS)])
    }

    /// The same near its end.
    pub fn last_mark(&self) -> Option<(u64, usize)> {
        typical(&self.rows[self.rows.len().saturating_sub(MARKS)..])
    }

    /// The block behind its last one.
    pub const fn behind(&self) -> u64 {
        self.first + self.blocks
    }
}

/// Follows a stretch; where ranks leap in it, each side is a node of its own.
pub fn walk(fs: &Filesystem, subject: &Subject, found: &Found) -> Vec<Node> {
    let size = fs.block_size() as usize;
    let Some(bytes) = index::read(fs, found.first..found.first + u64::from(found.blocks)) else { return vec![] };
    let mut nodes: Vec<Node> = vec![];
    let (mut at, mut head, mut weak_start, mut weak_end) = (0, found.head as usize, found.weak_start.into(), found.weak_end.into());
    for _ in 0..CUTS {
        let rest = &bytes[at * size..];
        // What only something before it proves is a node of its own.
        let most = if weak_start > 0 { weak_start as usize } else { usize::MAX };
        let blocks = follow(subject, rest, head, size, most);
        let whole = at + blocks.0 == found.blocks as usize;
        let rows = subject.order.ranks(&rest[..(blocks.0 * size).min(rest.len())], head);
        nodes.push(Node {
            first: found.first + at as u64,
            blocks: blocks.0 as u64,
            weak_start,
            weak_end: if whole { weak_end } else { 0 },
            head: rest[..size.min(rest.len())].to_vec(),
            phase: head,
            rank: subject.order.rank_from(&rest[..rest.len().min(LOOK_AT * size)], head),
            outer: rows.first().zip(rows.last()).map(|(first, last)| (first.0, last.0)),
            rows: some(rows),
            end: blocks.1,
        });
        at += blocks.0;
        let Some(next) = subject.tiling.stretches(&bytes[at * size..], size).first().copied() else { break };
        (at, head, weak_start, weak_end) = (at + next.first, next.head, next.weak_start as u64, next.weak_end as u64);
    }
    nodes
}

/// Of a few rows the one with the median rank: single ones may have been moved.
pub fn typical(rows: &[(u64, usize)]) -> Option<(u64, usize)> {
    let mut rows = rows.to_vec();
    rows.sort_unstable();
    rows.get(rows.len() / 2).copied()
}

/// At most [`ROWS`] of these, from all over them.
fn some<T>(rows: Vec<T>) -> Vec<T> {
    let step = rows.len().div_ceil(ROWS).max(1);
    rows.into_iter().step_by(step).collect()
}

/// How many blocks from the first on, at most `most`, go on as the file would, and the place behind them.
fn follow(subject: &Subject, bytes: &[u8], head: usize, size: usize, most: usize) -> (usize, Box<dyn Order>) {
    let mut order = subject.order.resume_at(0, head);
    let mut known: Option<(usize, u64)> = None;
    for (at, block) in bytes.chunks(size).enumerate() {
        let begins = order.boundary().map(|at| usize::try_from(at).unwrap_or(usize::MAX));
        let rank = subject.stride.and_then(|_| begins.map_or_else(|| order.rank(block), |at| order.rank_from(block, at)));
        let leaps = known.zip(rank).is_some_and(|((since, before), rank)| subject.leaps(before, rank, (at - since) as u64));
        if at == most || at > 0 && (leaps || order.fits(block) == Verdict::Contradicted) {
            return (at, order);
        }
        known = rank.map(|rank| (at, rank)).or(known);
        order.feed(block);
    }
    (bytes.len().div_ceil(size), order)
}
