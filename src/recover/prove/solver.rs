//! What fills one gap of a file, of all that may be in it.

use super::count::Ruler;
use super::gap::Gap;
use super::keys::{Keys, Leaves};
use super::next::{From, Next, To, successor};
use super::state::{End, Start};
use super::subject::Subject;
use super::walk::Node;
use super::{Basis, Piece};
use crate::content::Verdict;
use std::collections::{HashMap, HashSet};

/// Nodes that follow each other.
struct Path {
    nodes: Vec<usize>,
    /// Blocks of all of them.
    blocks: u64,
    /// They go on from the gap's start.
    from_start: bool,
    /// They lead to its end.
    to_end: bool,
    /// The file block of the first, once it is known.
    at: Option<u64>,
    basis: Basis,
}

/// The highest rank with which a file begins.
const FIRST: u64 = 8;

/// One gap, and all that may be in it.
pub struct Solver<'a> {
    /// The file.
    pub subject: &'a Subject,
    /// The gap.
    pub gap: &'a Gap,
    /// What may be in it, sorted by rank.
    pub nodes: Vec<Node>,
    /// What is behind it.
    pub end: Option<End>,
    /// Another table counts in the same way, so that ranks alone do not tell whose a stretch is.
    pub has_rivals: bool,
}

impl Solver<'_> {
    /// What comes behind a place, if only one thing can.
    fn successor(&self, place: &From<'_>) -> Option<Next> {
        let nodes = self.nodes.iter().enumerate();
        let nodes = nodes.map(|(at, node)| To {
            which: Next::Node(at),
            block: node.first,
            first: node.outer.map(|(first, _)| first),
            rank: node.rank,
            phase: Some(node.phase),
            head: &node.head,
        });
        let end = self.end.iter().map(|end| To {
            which: Next::End,
            block: end.block,
            first: end.first,
            rank: end.rank,
            phase: end.phase,
            head: &end.bytes,
        });
        successor(self.subject, place, nodes.chain(end))
    }

    /// What the gap begins with.
    fn first(&self, start: &Start) -> Option<Next> {
        if start.next.is_some() || start.order.reached().is_some() {
            return self.successor(&From { order: &*start.order, next: start.next, last: start.last, weak: false });
        }
        // The file's first block: a record begins where the first must, and the counting column begins there as well.
        let begins = |node: &&(usize, &Node)| {
            node.1.phase as u64 == self.subject.tiling.start()
                && node.1.rank.is_some_and(|rank| rank <= FIRST)
                && start.order.fits(&node.1.head) != Verdict::Contradicted
        };
        let nodes: Vec<(usize, &Node)> = self.nodes.iter().enumerate().collect();
        let mut fitting = nodes.iter().filter(begins);
        fitting.next().filter(|_| fitting.next().is_none()).map(|(at, _)| Next::Node(*at))
    }

    /// What fills it, and where.
    pub fn solve<'k>(self, start: Option<Start>, ruler: Option<&mut Ruler>, keys: &dyn Fn() -> &'k Leaves) -> Vec<Piece> {
        let mut first = start.and_then(|start| self.first(&start));
        let mut next: Vec<Option<Next>> = self.nodes.iter().map(|node| self.successor(&From::behind(node))).collect();
        self.keep_unique(&mut first, &mut next);
        let mut paths = self.paths(first, &next);
        self.place_ends(&mut paths);
        if let Some(ruler) = ruler {
            self.note(&paths, ruler);
            if paths.iter().any(|path| path.at.is_none())
                && let Some(keys) = keys().of(ruler, self.has_rivals)
            {
                self.place_keyed(&mut paths, &keys, ruler.block_size());
            }
            if !self.has_rivals {
                self.place_counted(&mut paths, ruler);
            }
        }
        paths.iter().flat_map(|path| self.pieces(path)).collect()
    }

    /// Takes out what leads to a node to which something else leads as well, but for what leads there directly on the disk.
    fn keep_unique(&self, first: &mut Option<Next>, next: &mut [Option<Next>]) {
        let mut ways: HashMap<Next, usize> = HashMap::new();
        for to in next.iter().chain([&*first]).flatten() {
            *ways.entry(*to).or_default() += 1;
        }
        let is_direct = |at: usize, to: Next| match to {
            Next::Node(to) => self.nodes[at].behind() == self.nodes[to].first,
            Next::End => self.end.as_ref().is_some_and(|end| self.nodes[at].behind() == end.block),
        };
        for (at, to) in next.iter_mut().enumerate() {
            to.take_if(|to| ways[to] > 1 && !is_direct(at, *to));
        }
        if self.gap.first == 0 {
            // What the file begins with has nothing before it.
            next.iter_mut().for_each(|to| _ = to.take_if(|to| Some(*to) == *first));
        } else {
            first.take_if(|to| ways[to] > 1);
        }
    }

    /// The nodes in the order in which they follow each other.
    fn paths(&self, first: Option<Next>, next: &[Option<Next>]) -> Vec<Path> {
        let followed: HashSet<usize> =
            next.iter().flatten().filter_map(|to| if let Next::Node(to) = to { Some(*to) } else { None }).collect();
        let starts = (0..self.nodes.len()).filter(|at| !followed.contains(at));
        let path = |start: usize| {
            let mut path = Path {
                nodes: vec![start],
                blocks: 0,
                from_start: first == Some(Next::Node(start)),
                to_end: false,
                at: None,
                basis: Basis::Rows,
            };
            let mut at = next[start];
            while let Some(Next::Node(one)) = at {
                path.nodes.push(one);
                at = next[one];
            }
            path.to_end = at == Some(Next::End);
            path.blocks = path.nodes.iter().map(|node| self.nodes[*node].blocks).sum();
            path
        };
        starts.map(path).collect()
    }

    /// Places what goes on from one end of the gap, or leads to the other. What does both must be as long as the gap; else, and where the
    /// two do not find room beside each other, nothing of it is right.
    fn place_ends(&self, paths: &mut [Path]) {
        let end = self.gap.first + self.gap.length;
        for path in paths.iter_mut() {
            path.at = match (path.from_start, path.to_end) {
                (true, true) => Some(self.gap.first).filter(|_| path.blocks == self.gap.length),
                // Where another table begins alike, only what the first blocks lead to tells whose they are.
                (true, false) if self.gap.first == 0 && self.has_rivals => None,
                (true, false) => Some(self.gap.first).filter(|_| path.blocks <= self.gap.length),
                (false, true) => end.checked_sub(path.blocks).filter(|at| *at >= self.gap.first),
                _ => None,
            };
        }
        if paths.iter().filter(|path| path.at.is_some()).map(|path| path.blocks).sum::<u64>() > self.gap.length {
            paths.iter_mut().for_each(|path| path.at = None);
        }
    }

    /// Places what is joined to neither end where the table's keys say it stands.
    fn place_keyed(&self, paths: &mut [Path], keys: &Keys, size: u64) {
        let end = self.gap.first + self.gap.length;
        for which in 0..paths.len() {
            let path = &paths[which];
            if path.at.is_some() {
                continue;
            }
            let mut before = 0;
            let mut places = vec![];
            for node in path.nodes.iter().map(|node| &self.nodes[*node]) {
                places.extend(keys.place(&node.rows, size).map(|place| place.checked_sub(before)));
                before += node.blocks;
            }
            places.dedup();
            let is_free = |place: u64| {
                place >= self.gap.first
                    && place + path.blocks <= end
                    && paths.iter().all(|other| other.at.is_none_or(|at| at + other.blocks <= place || place + path.blocks <= at))
            };
            if let [Some(place)] = places[..]
                && is_free(place)
            {
                (paths[which].at, paths[which].basis) = (Some(place), Basis::Keys);
            }
        }
    }

    /// Places what is joined to neither end by the values of the counting column, the surest first.
    fn place_counted(&self, paths: &mut [Path], ruler: &mut Ruler) {
        let size = ruler.block_size();
        paths.iter().for_each(|path| self.mark(path, ruler));
        let end = self.gap.first + self.gap.length;
        loop {
            let mut best: Option<(f64, usize, u64)> = None;
            for (which, path) in paths.iter().enumerate().filter(|(_, path)| path.at.is_none() && !path.from_start && !path.to_end) {
                let node = &self.nodes[path.nodes[0]];
                let Some(mark) = node.mark() else { continue };
                let Some((_, error)) = ruler.estimate(mark.0) else { continue };
                if best.as_ref().is_some_and(|(known, ..)| *known <= error) {
                    continue;
                }
                let place = ruler.place(mark, node.first, &self.beside(paths, path));
                let is_free = |place: &u64| {
                    *place >= self.gap.first
                        && place + path.blocks <= end
                        && paths.iter().all(|other| other.at.is_none_or(|at| at + other.blocks <= *place || place + path.blocks <= at))
                };
                // The path's last row must agree as well.
                let agrees = |place: &u64| {
                    let node = &self.nodes[path.nodes[path.nodes.len() - 1]];
                    let before = path.blocks - node.blocks;
                    node.last_mark().and_then(|(rank, byte)| Some((ruler.estimate(rank)?, byte))).is_none_or(|((at, error), byte)| {
                        ((place + before) as f64 * size as f64 + byte as f64 - at).abs() <= error + size as f64
                    })
                };
                if let Some(place) = place.filter(is_free).filter(agrees) {
                    best = Some((error, which, place));
                }
            }
            let Some((_, which, place)) = best else { return };
            (paths[which].at, paths[which].basis) = (Some(place), Basis::Count);
            self.mark(&paths[which], ruler);
        }
    }

    /// Notes rows by which keys are checked.
    fn note(&self, paths: &[Path], ruler: &mut Ruler) {
        for path in paths {
            let Some(mut at) = path.at else { continue };
            for node in path.nodes.iter().map(|node| &self.nodes[*node]) {
                ruler.know(node.rows.iter().map(|(rank, byte)| (*rank, at * ruler.block_size() + *byte as u64)).collect());
                at += node.blocks;
            }
        }
    }

    /// Notes the rows of a path that has its place.
    fn mark(&self, path: &Path, ruler: &mut Ruler) {
        let Some(mut at) = path.at else { return };
        for node in path.nodes.iter().map(|node| &self.nodes[*node]) {
            for (rank, byte) in node.mark().into_iter().chain(node.last_mark()) {
                ruler.put(rank, at * ruler.block_size() + byte as u64);
            }
            at += node.blocks;
        }
    }

    /// The places that a path has if it goes on on the disk as in the file, counted from what is placed before it and behind it.
    fn beside(&self, paths: &[Path], path: &Path) -> Vec<u64> {
        let node = &self.nodes[path.nodes[0]];
        // By rank: block and file block of the nearest block before, and behind.
        let mut before = self.gap.before.filter(|_| self.gap.first > 0).map(|block| (0, block.get(), self.gap.first - 1));
        let mut behind = self.end.as_ref().map(|end| (u64::MAX, end.block, self.gap.first + self.gap.length));
        for placed in paths {
            let Some(mut at) = placed.at else { continue };
            for other in placed.nodes.iter().map(|node| &self.nodes[*node]) {
                let rank = other.rank.unwrap_or(0);
                if other.rank < node.rank && before.is_none_or(|(known, ..)| known <= rank) {
                    before = Some((rank, other.first, at));
                }
                if other.rank > node.rank && behind.is_none_or(|(known, ..)| known >= rank) {
                    behind = Some((rank, other.first, at));
                }
                at += other.blocks;
            }
        }
        let up = before.and_then(|(_, block, at)| Some(at + node.first.checked_sub(block)?));
        let down = behind.and_then(|(_, block, at)| at.checked_sub(block.checked_sub(node.first)?));
        up.into_iter().chain(down).collect()
    }

    fn pieces(&self, path: &Path) -> Vec<Piece> {
        let Some(mut at) = path.at else { return vec![] };
        let mut pieces = vec![];
        for (nth, node) in path.nodes.iter().map(|node| &self.nodes[*node]).enumerate() {
            let start = if nth == 0 && !path.from_start { node.weak_start.min(node.blocks) } else { 0 };
            let open = nth + 1 == path.nodes.len() && !path.to_end;
            let blocks = (node.blocks - start).saturating_sub(if open { node.weak_end } else { 0 });
            pieces.push(Piece { at: at + start, first: node.first + start, blocks, basis: path.basis });
            at += node.blocks;
        }
        pieces.retain(|piece| piece.blocks > 0);
        pieces
    }
}
