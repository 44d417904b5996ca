//! What comes behind a place in a file, by its content.

use super::subject::Subject;
use super::walk::Node;
use crate::content::{Order, Verdict};

/// What comes next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Next {
    /// One of several stretches.
    Node(usize),
    /// What is known behind the gap.
    End,
}

/// A place that something comes behind.
pub struct From<'a> {
    /// What must come next.
    pub order: &'a dyn Order,
    /// The block that would go on directly.
    pub next: Option<u64>,
    /// The rank of the last record that has one.
    pub last: Option<u64>,
    /// Chance may have led to it.
    pub weak: bool,
}

impl From<'_> {
    /// The place behind a stretch.
    pub fn behind(node: &Node) -> From<'_> {
        let last = node.outer.map(|(_, last)| last);
        From { order: &*node.end, next: Some(node.behind()), last, weak: node.weak_start >= node.blocks }
    }
}

/// What may come behind a place.
#[derive(Clone, Copy)]
pub struct To<'a> {
    /// It.
    pub which: Next,
    /// Its first block.
    pub block: u64,
    /// The rank of the first record that has one.
    pub first: Option<u64>,
    /// That of its first rows.
    pub rank: Option<u64>,
    /// Byte of the block at which a record begins.
    pub phase: Option<usize>,
    /// Its first bytes, a block or less.
    pub head: &'a [u8],
}

/// What comes behind a place, if only one thing can.
pub fn successor<'a>(subject: &Subject, place: &From<'_>, all: impl Iterator<Item = To<'a>>) -> Option<Next> {
    let (mut candidates, mut fitting): (u64, Vec<(Next, u64)>) = (0, vec![]);
    for to in all {
        let direct = place.next == Some(to.block);
        let is_next = match (place.last, to.first) {
            (Some(last), Some(first)) => subject.follows(last, first),
            _ => place.order.reached().zip(to.rank).is_some_and(|(reached, rank)| rank > reached && rank - reached <= subject.window()),
        };
        // Records that begin before the last one ends speak against it.
        let begins = place.order.boundary().zip(to.phase).is_none_or(|(end, phase)| end == phase as u64);
        if !direct && !is_next || !begins && (place.weak || !direct) {
            continue;
        }
        candidates += 1;
        let verdict = place.order.fits(to.head);
        let counts = place.order.counts_on(to.head);
        if verdict != Verdict::Contradicted && (direct && counts != Some(false) || verdict.proves(candidates)) {
            fitting.push((to.which, to.block));
        }
    }
    match fitting[..] {
        [(one, _)] => Some(one),
        _ => fitting.iter().find(|(_, block)| Some(*block) == place.next).map(|(one, _)| *one),
    }
}
