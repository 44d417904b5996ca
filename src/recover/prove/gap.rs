//! The gaps of a file, and which stretches fill them.

use super::super::{FileId, Progress, Recovery};
use super::index::{Found, Index};
use super::state::{self, End, Start};
use super::subject::Subject;
use super::walk::{Node, walk};
use super::{Basis, Piece};
use crate::content::{Order, Verdict};
use crate::run::Evidence;
use crate::units::Block;
use std::collections::HashMap;

/// Consecutive file blocks without pointers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap {
    /// The first.
    pub first: u64,
    /// How many.
    pub length: u64,
    /// The block of the file block before it, if it is known and there.
    pub before: Option<Block>,
    /// The same behind it.
    pub after: Option<Block>,
    /// The nearest known blocks before it: first file block and count.
    pub known_before: Option<(u64, u64)>,
    /// The same behind it.
    pub known_after: Option<(u64, u64)>,
}

/// The gaps of a file.
pub fn of(recovery: &Recovery, id: FileId) -> Vec<Gap> {
    let mut gaps: Vec<Gap> = vec![];
    let mut known: Option<(u64, u64)> = None;
    let mut before: Option<Block> = None;
    for run in recovery.runs(id) {
        let (first, length) = (run.file_block.0, run.length);
        if run.evidence.is_data() {
            let waits = |gap: &&mut Gap| gap.known_after.is_none();
            for gap in gaps.iter_mut().rev().take_while(waits) {
                gap.known_after = Some((first, length));
                if gap.first + gap.length == first {
                    gap.after = run.block;
                }
            }
            known = Some((first, length));
        } else if run.evidence == Evidence::Unknown && run.block.is_none() {
            match gaps.last_mut() {
                Some(gap) if gap.first + gap.length == first => gap.length += length,
                _ => gaps.push(Gap { first, length, before, after: None, known_before: known, known_after: None }),
            }
        }
        before = run.block.filter(|_| run.evidence.is_data()).map(|block| block.plus(length - 1));
    }
    gaps
}

/// What comes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    Node(usize),
    End,
}

/// One gap, and all that may be in it.
struct Solver<'a> {
    subject: &'a Subject,
    gap: &'a Gap,
    nodes: Vec<Node>,
    end: Option<End>,
}

/// Finds what fills the gaps of a file.
pub fn solve(recovery: &Recovery, subject: &Subject, gaps: &[Gap], index: &Index, progress: &dyn Progress) -> Vec<Piece> {
    let ranks = if subject.stride.is_some() { ranked(recovery, subject, index) } else { vec![] };
    let mut pieces = vec![];
    for (at, gap) in gaps.iter().enumerate() {
        progress.step("placing rows", at as u64, gaps.len() as u64);
        let start = state::before(recovery, subject, gap);
        let end = state::after(recovery, subject, gap);
        let found = match subject.stride {
            Some(_) => in_ranks(&ranks, index, state::ranks(recovery, subject, gap), subject.window()),
            None => beside(index, start.as_ref().and_then(|start| start.next), end.as_ref().map(|end| end.block), gap.length),
        };
        let mut nodes: Vec<Node> = found.iter().flat_map(|found| walk(recovery.filesystem(), subject, found)).collect();
        nodes.sort_by_key(|node| (node.rank, node.first));
        pieces.extend(Solver { subject, gap, nodes, end }.solve(start));
    }
    pieces
}

/// All stretches with the rank of their first rows, sorted by it.
fn ranked(recovery: &Recovery, subject: &Subject, index: &Index) -> Vec<(u64, usize)> {
    let size = recovery.block_size();
    let rank = |(at, found): (usize, &Found)| {
        let bytes =
            super::index::read(recovery.filesystem(), found.first..found.first + u64::from(found.blocks).min(super::walk::LOOK_AT as u64));
        Some((subject.order.rank_from(&bytes.filter(|bytes| bytes.len() as u64 >= size)?, found.head as usize)?, at))
    };
    let mut ranks: Vec<(u64, usize)> = index.found.iter().enumerate().filter_map(rank).collect();
    ranks.sort_unstable();
    ranks
}

fn in_ranks(ranks: &[(u64, usize)], index: &Index, (low, high): (u64, u64), window: u64) -> Vec<Found> {
    let from = ranks.partition_point(|(rank, _)| rank.saturating_add(window) < low);
    ranks[from..].iter().take_while(|(rank, _)| *rank <= high.saturating_add(window)).map(|(_, at)| index.found[*at]).collect()
}

/// The stretches that go on directly from one end of a gap, or lead directly to the other.
fn beside(index: &Index, next: Option<u64>, end: Option<u64>, length: u64) -> Vec<Found> {
    let mut found = vec![];
    let mut at = next;
    while let Some(one) = at.and_then(|block| index.beginning(block)).map(|at| index.found[at]) {
        found.push(one);
        at = Some(one.first + u64::from(one.blocks)).filter(|block| next.is_some_and(|first| block - first < length));
    }
    let mut at = end;
    while let Some(one) = at.and_then(|block| index.ending(block)).map(|at| index.found[at]) {
        found.push(one);
        at = Some(one.first).filter(|block| end.is_some_and(|end| end - block < length));
    }
    found.sort_unstable();
    found.dedup();
    found
}

impl Solver<'_> {
    /// What comes behind a place, if only one thing can. `next` is the block that goes on directly.
    fn successor(&self, order: &dyn Order, next: Option<u64>) -> Option<Next> {
        let reached = order.reached();
        let is_next = |rank: Option<u64>| match (reached, rank) {
            (Some(reached), Some(rank)) => rank > reached && rank - reached <= self.subject.window(),
            _ => false,
        };
        let (mut candidates, mut fitting): (u64, Vec<(Next, u64)>) = (0, vec![]);
        let nodes = self.nodes.iter().enumerate().map(|(at, node)| (Next::Node(at), node.first, node.rank, &node.head));
        for (which, block, rank, head) in nodes.chain(self.end.iter().map(|end| (Next::End, end.block, end.rank, &end.bytes))) {
            let direct = next == Some(block);
            if !direct && !is_next(rank) {
                continue;
            }
            candidates += 1;
            let verdict = order.fits(head);
            let counts = order.counts_on(head);
            if verdict != Verdict::Contradicted && (direct && counts != Some(false) || verdict.proves(candidates)) {
                fitting.push((which, block));
            }
        }
        match fitting[..] {
            [(one, _)] => Some(one),
            _ => fitting.iter().find(|(_, block)| Some(*block) == next).map(|(one, _)| *one),
        }
    }

    fn solve(self, start: Option<Start>) -> Vec<Piece> {
        let from_start = start.and_then(|start| self.successor(&*start.order, start.next));
        let mut next: Vec<Option<Next>> = self.nodes.iter().map(|node| self.successor(&*node.end, Some(node.behind()))).collect();
        let mut before: HashMap<usize, usize> = HashMap::new();
        for (at, one) in next.iter().enumerate() {
            if let Some(Next::Node(to)) = one {
                *before.entry(*to).or_default() += 1;
                let _ = at;
            }
        }
        if let Some(Next::Node(to)) = from_start {
            *before.entry(to).or_default() += 1;
        }
        // What two places lead to belongs to one of them only.
        let unique = |one: &Option<Next>, behind: Option<u64>| match one {
            Some(Next::Node(to)) => before.get(to) == Some(&1) || behind == Some(self.nodes[*to].first),
            _ => true,
        };
        let from_start = from_start.filter(|one| unique(&Some(*one), None));
        for at in 0..next.len() {
            if !unique(&next[at], Some(self.nodes[at].behind())) {
                next[at] = None;
            }
        }
        let (front, closed) = self.chain(from_start, &next);
        let last: Vec<usize> = (0..next.len()).filter(|at| next[*at] == Some(Next::End)).collect();
        let back = match last[..] {
            [last] if !closed => self.chain_to(last, &next),
            _ => vec![],
        };
        let (front, back) = (self.forwards(&front, closed), self.backwards(&back));
        let length: u64 = front.iter().chain(&back).map(|piece| piece.blocks).sum();
        if length > self.gap.length || closed && length != self.gap.length {
            return vec![];
        }
        [front, back].concat()
    }

    /// The nodes that follow each other from one on, and whether they lead to the gap's end.
    fn chain(&self, from: Option<Next>, next: &[Option<Next>]) -> (Vec<usize>, bool) {
        let mut nodes = vec![];
        let mut at = from;
        while let Some(Next::Node(one)) = at {
            if nodes.len() == next.len() {
                break;
            }
            nodes.push(one);
            at = next[one];
        }
        (nodes, at == Some(Next::End))
    }

    /// The nodes that lead to one, in order.
    fn chain_to(&self, last: usize, next: &[Option<Next>]) -> Vec<usize> {
        let before: HashMap<usize, usize> =
            next.iter().enumerate().filter_map(|(at, one)| if let Some(Next::Node(to)) = one { Some((*to, at)) } else { None }).collect();
        let mut nodes = vec![last];
        while let Some(one) = before.get(&nodes[nodes.len() - 1]).filter(|_| nodes.len() < next.len()) {
            nodes.push(*one);
        }
        nodes.reverse();
        nodes
    }

    fn forwards(&self, nodes: &[usize], closed: bool) -> Vec<Piece> {
        let mut at = self.gap.first;
        let mut pieces = vec![];
        for (nth, node) in nodes.iter().map(|node| &self.nodes[*node]).enumerate() {
            let open = nth + 1 == nodes.len() && !closed;
            let blocks = node.blocks - if open { node.weak_end.min(node.blocks) } else { 0 };
            pieces.push(Piece { at, first: node.first, blocks, basis: Basis::Rows });
            at += node.blocks;
        }
        pieces.retain(|piece| piece.blocks > 0);
        pieces
    }

    fn backwards(&self, nodes: &[usize]) -> Vec<Piece> {
        let all: u64 = nodes.iter().map(|node| self.nodes[*node].blocks).sum();
        let Some(mut at) = self.gap.length.checked_sub(all).map(|before| self.gap.first + before) else { return vec![] };
        let mut pieces = vec![];
        for (nth, node) in nodes.iter().map(|node| &self.nodes[*node]).enumerate() {
            let weak = if nth == 0 { node.weak_start.min(node.blocks) } else { 0 };
            pieces.push(Piece { at: at + weak, first: node.first + weak, blocks: node.blocks - weak, basis: Basis::Rows });
            at += node.blocks;
        }
        pieces.retain(|piece| piece.blocks > 0);
        pieces
    }
}
