//! Joins the trees of one file: IND, DIND and TIND hang on the inode only, so when it is gone nothing names them together.
//!
//! Both drivers ask for the block after the last one (`ext3_find_near`, `ext4_ext_find_goal`'s counterpart in fs/ext4/indirect.c),
//! so the data of one tree begins where the data of the tree before it ends: in the very next block (ext4 driver), or
//! after the indirect blocks that stand in between (old driver).

use super::tree::{Tree, Trees};
use super::{Chain, Table};
use crate::format::indirect;
use crate::fs::Filesystem;
use crate::scan::Survey;
use crate::scan::page::Page;
use crate::units::{Block, FileBlock, Moment};
use roaring::RoaringTreemap;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Trees that are looked at as the next one behind a gap.
const NEAREST: usize = 8;
/// Blocks by which two INDs that follow each other may name what is apart, with nothing between that could be anybody's: of 4,340 that followed
/// each other in files of the ext4 driver, 4,338 named blocks side by side, one pair 13 blocks apart. And blocks by which an IND and its DIND
/// may stand apart: most stand side by side, those of files grown side by side within 43.
const NEAR: u64 = 64;
/// INDs that can be lost in one gap. More than a few and the count of what lies between proves nothing.
const MOST_LOST: u64 = 16;

/// INDs that a truncate frees in one transaction at least: on an image of Linux 2.6.32 with a small log they were 13 to 15.
const FORGOTTEN: u64 = 8;

/// Blocks from the last one of an IND to the first one of the next under another DIND: both may stand in between.
const BETWEEN: u64 = 3;

/// The ends of a tree.
struct Ends {
    /// Its first data block, if that is the first one it maps or it is sparse.
    head: Option<Block>,
    /// The first of its data blocks that is left, and how many it maps before that.
    first: Option<(Block, u64)>,
    /// Its last data block, if its last IND is full or it is sparse.
    tail: Option<Block>,
    /// Number of its last IND that is left, counted from the tree's first.
    last_leaf: u64,
}

struct Joiner<'a> {
    fs: &'a Filesystem,
    survey: &'a Survey,
    trees: &'a [Tree],
    ends: Vec<Ends>,
    /// Free blocks with content that nothing claims and no page names.
    spare: &'a RoaringTreemap,
}

/// What follows a tree: another tree, behind so many INDs that are lost.
#[derive(Clone, Copy)]
struct Link {
    next: usize,
    lost: u64,
}

/// What leads back to INDs without a DIND.
struct Backward {
    /// The tree before each, and the INDs lost between.
    before: HashMap<usize, (usize, u64)>,
    /// By their last data block.
    by_tail: HashMap<Block, usize>,
    /// Those that nothing follows, by their own block.
    by_root: HashMap<Block, usize>,
}

/// The first data block of an IND. Where a sparse file begins with a hole, the block that the hole would have.
fn head(page: &Page) -> Option<Block> {
    match page.begin {
        0 => Some(page.first),
        begin if page.holes() > 0 => Block::new(page.first.get().checked_sub(begin.into())?),
        _ => None,
    }
}

/// The last data block of a full IND; of a sparse file the one that it would have.
fn tail(page: &Page, per: u64) -> Option<Block> {
    let missing = per - u64::from(page.end);
    (missing == 0 || page.holes() > 0).then(|| page.last.plus(missing))
}

/// Takes out of what may follow what (tree, tree, INDs lost between) the ways that skip a tree which fits in between as well: the blocks that
/// are missing before it and behind it are together those that are missing without it.
fn without_shortcuts(found: &mut Vec<(usize, usize, u64)>) {
    let mut ways: HashMap<usize, HashMap<usize, u64>> = HashMap::new();
    for (at, other, lost) in found.iter() {
        ways.entry(*at).or_default().insert(*other, *lost);
    }
    found.retain(|(at, other, lost)| {
        let through = |mid: &usize, first: u64| ways.get(mid).and_then(|of| of.get(other)).is_some_and(|second| first + second == *lost);
        !ways[at].iter().any(|(mid, first)| through(mid, *first))
    });
}

/// Puts trees together to chains.
pub fn chains(fs: &Filesystem, survey: &Survey, trees: &Trees, spare: &RoaringTreemap) -> Vec<Chain> {
    let joiner = Joiner::new(fs, survey, &trees.trees, spare);
    let (mut next, adopted) = joiner.adopt(joiner.linked());
    let joiner = adopted.as_deref().map_or(joiner, |trees| Joiner::new(fs, survey, trees, spare));
    if adopted.is_some() {
        next = joiner.linked();
    }
    joiner.lead_to_tinds(&mut next);
    joiner.pair(&mut next);
    joiner.sequences(&next).into_iter().map(|sequence| joiner.chain(&sequence)).collect()
}

impl<'a> Joiner<'a> {
    fn new(fs: &'a Filesystem, survey: &'a Survey, trees: &'a [Tree], spare: &'a RoaringTreemap) -> Self {
        let per = fs.pointers_per_block();
        let ends = |tree: &Tree| {
            let page = |at: usize| &survey.pages[at];
            let (first, last) = (tree.leaves().next(), tree.leaves().next_back());
            Ends {
                head: first.filter(|(number, _)| *number == 0).and_then(|(_, at)| head(page(at))),
                first: first.map(|(number, at)| (page(at).first, number * per + u64::from(page(at).begin))),
                tail: last.and_then(|(_, at)| tail(page(at), per)),
                last_leaf: last.map_or(0, |(number, _)| number),
            }
        };
        Joiner { fs, survey, trees, ends: trees.iter().map(ends).collect(), spare }
    }

    /// For each tree the one that follows it.
    fn linked(&self) -> HashMap<usize, Link> {
        let mut next = self.links();
        self.bridge(&mut next);
        next
    }

    /// Gives TINDs the INDs of DINDs that are lost: those that lead to the first one of the next DIND, if there are exactly as many as a DIND
    /// names. Returns what follows what, and all trees if any has more now.
    fn adopt(&self, next: HashMap<usize, Link>) -> (HashMap<usize, Link>, Option<Vec<Tree>>) {
        let per = self.fs.pointers_per_block();
        if self.trees.iter().all(|tree| tree.level < 3) {
            return (next, None);
        }
        let by = self.backward(&next);
        let mut trees = self.trees.to_vec();
        let mut adopted = HashSet::new();
        for tree in trees.iter_mut().filter(|tree| tree.level == 3) {
            let leaves: Vec<(u64, usize)> = tree.leaves().collect();
            let ends = std::iter::once(0).chain(leaves.iter().map(|(number, _)| number + 1));
            let gaps = ends.zip(&leaves).filter(|(end, (number, _))| end.is_multiple_of(per) && end + per == *number);
            for (start, (_, after)) in gaps {
                let found = self.walk_back(&self.survey.pages[*after], per, &by).unwrap_or_default();
                if found.iter().all(|(here, _)| !adopted.contains(here)) {
                    adopted.extend(found.iter().map(|(here, _)| *here));
                    tree.pages.extend(found.iter().map(|(here, number)| (1, start + number, self.trees[*here].root)));
                }
            }
            // In the order of the file, upper levels first.
            tree.pages.sort_by_key(|(level, first, _)| (*first, std::cmp::Reverse(*level)));
        }
        if adopted.is_empty() {
            return (next, None);
        }
        let mut at = 0;
        trees.retain(|_| {
            at += 1;
            !adopted.contains(&(at - 1))
        });
        (next, Some(trees))
    }

    /// What leads back from an IND to the loose ones before it.
    fn backward(&self, next: &HashMap<usize, Link>) -> Backward {
        let loose = || (0..self.trees.len()).filter(|at| self.trees[*at].level == 1);
        let ends = loose().filter(|at| !next.contains_key(at));
        Backward {
            before: next.iter().map(|(at, link)| (link.next, (*at, link.lost))).collect(),
            by_tail: loose().filter_map(|at| Some((self.ends[at].tail?, at))).collect(),
            by_root: ends.map(|at| (self.root(at).block, at)).collect(),
        }
    }

    /// The loose INDs before an IND, if they are exactly `count`, with the number of each: its data follows that of the one before, or it stands
    /// next behind one that nothing else follows.
    fn walk_back(&self, from: &Page, count: u64, by: &Backward) -> Option<Vec<(usize, u64)>> {
        let back = |from: Block, steps: std::ops::RangeInclusive<u64>, of: &HashMap<Block, usize>| {
            steps.filter_map(|step| Block::new(from.get().checked_sub(step)?)).find_map(|block| of.get(&block).copied())
        };
        let (mut left, mut found, mut seen) = (count, vec![], HashSet::new());
        let (mut page, mut linked) = (from, None);
        while left > 0 {
            let by_data = || head(page).and_then(|head| back(head, 1..=BETWEEN, &by.by_tail));
            let (at, lost) = linked.or_else(|| Some((by_data().or_else(|| back(page.block, 1..=NEAR, &by.by_root))?, 0)))?;
            left = left.checked_sub(lost + 1)?;
            if self.trees[at].level != 1 || !seen.insert(at) {
                return None;
            }
            found.push((at, left));
            (page, linked) = (self.root(at), by.before.get(&at).copied());
        }
        found.reverse();
        // With one more before it, they are another row's.
        let goes_back = linked.is_some_and(|(at, _)| self.trees[at].level == 1);
        (!goes_back).then_some(found)
    }

    /// Links the IND and the INDs of a lost DIND with the TIND behind them, where there are exactly as many.
    fn lead_to_tinds(&self, next: &mut HashMap<usize, Link>) {
        let per = self.fs.pointers_per_block();
        let tinds: Vec<usize> = (0..self.trees.len()).filter(|at| self.trees[*at].level == 3 && self.ends[*at].head.is_some()).collect();
        if tinds.is_empty() {
            return;
        }
        let by = self.backward(next);
        let before = |at: usize| {
            let (_, first) = self.trees[at].leaves().next()?;
            Some((at, self.walk_back(&self.survey.pages[first], 1 + per, &by)?))
        };
        let found: Vec<(usize, Vec<(usize, u64)>)> = tinds.into_iter().filter_map(before).collect();
        for (at, found) in found {
            let followers = found.iter().skip(1).copied().chain([(at, 1 + per)]);
            let links: Vec<_> =
                found.iter().zip(followers).map(|(from, to)| (from.0, Link { next: to.0, lost: to.1 - from.1 - 1 })).collect();
            // Nobody else is followed by one of them.
            let own: HashSet<usize> = links.iter().map(|(_, link)| link.next).collect();
            next.retain(|_, link| !own.contains(&link.next));
            next.extend(links);
        }
    }

    fn root(&self, tree: usize) -> &Page {
        &self.survey.pages[self.trees[tree].root]
    }

    /// Whether a tree of level `next` can follow one of level `level` that ends with its IND number `last`.
    fn may_follow(&self, level: u8, last: u64, next: u8) -> bool {
        let per = self.fs.pointers_per_block();
        match (level, next) {
            // IND and DIND; INDs of a DIND that is lost, and what comes behind it; a DIND, and the INDs that its last entries named, or those of
            // the next one.
            (1, _) | (2, 1) => true,
            (2, 2 | 3) => last + 1 == per,
            (3, 1 | 2) => true,
            _ => false,
        }
    }

    /// For each tree the one that follows it in its file: the one that begins where it ends.
    fn links(&self) -> HashMap<usize, Link> {
        let (mut by_head, mut by_root): (HashMap<Block, usize>, HashMap<Block, usize>) = Default::default();
        for at in 0..self.trees.len() {
            by_root.insert(self.root(at).block, at);
            if let Some(head) = self.ends[at].head {
                by_head.insert(head, at);
            }
        }
        let mut next = HashMap::new();
        let mut taken = HashSet::new();
        for (at, tree) in self.trees.iter().enumerate() {
            let Some(tail) = self.ends[at].tail else { continue };
            let following = [by_head.get(&tail.plus(1)), by_root.get(&tail.plus(1))];
            let fits = |other: &&usize| **other != at && self.may_follow(tree.level, self.ends[at].last_leaf, self.trees[**other].level);
            if let Some(other) = following.into_iter().flatten().find(fits)
                && taken.insert(*other)
            {
                next.insert(at, Link { next: *other, lost: 0 });
            }
        }
        next
    }

    /// Links what a lost IND parts, or one that lost its first pointers: where exactly as many spare blocks lie between the end of one
    /// tree and the beginning of another as are missing, or none, and that is true of no other pair.
    fn bridge(&self, next: &mut HashMap<usize, Link>) {
        let per = self.fs.pointers_per_block();
        let taken: HashSet<usize> = next.values().map(|link| link.next).collect();
        let mut open: Vec<(Block, u64, usize)> = (0..self.trees.len())
            .filter(|at| !taken.contains(at))
            .filter_map(|at| self.ends[at].first.map(|(block, missing)| (block, missing, at)))
            .collect();
        open.sort_unstable();
        let mut found: Vec<(usize, usize, u64)> = vec![];
        for (at, tree) in self.trees.iter().enumerate().filter(|(at, _)| !next.contains_key(at)) {
            let Some(tail) = self.ends[at].tail else { continue };
            let from = open.partition_point(|(block, ..)| *block <= tail);
            // What stands farther away has others in between.
            for (block, missing, other) in open[from..].iter().take(NEAREST) {
                let between = self.spare.range_cardinality(tail.get() + 1..block.get());
                let exact = between >= *missing && (between - missing).is_multiple_of(per) && between > 0;
                let lost = between.saturating_sub(*missing) / per;
                let follows = self.may_follow(tree.level, self.ends[at].last_leaf + lost, self.trees[*other].level);
                // IND and DIND, or DIND and TIND, with nothing in between that could be anybody's; loose ones of one level if that is next to nothing.
                let reach = if self.trees[*other].level == tree.level + 1 { 2 * per } else { NEAR };
                let near = between == 0 && *missing < per && block.get() - tail.get() <= reach;
                if (exact || near) && *other != at && follows && lost <= MOST_LOST {
                    found.push((at, *other, lost));
                }
            }
        }
        without_shortcuts(&mut found);
        let (mut before, mut after): (HashMap<usize, u32>, HashMap<usize, u32>) = Default::default();
        for (at, other, _) in &found {
            *before.entry(*at).or_default() += 1;
            *after.entry(*other).or_default() += 1;
        }
        for (at, other, lost) in found.into_iter().filter(|(at, other, _)| before[at] == 1 && after[other] == 1) {
            next.insert(at, Link { next: other, lost });
        }
    }

    /// Links an IND to the DIND of its file, or a DIND to the TIND, where what joins their data is lost, or a fragment ends there: both drivers
    /// look for room for the one from the other on (`ext3_find_near`, `ext4_find_near`), so they are in the same block group, and no other pair
    /// of trees is.
    fn pair(&self, next: &mut HashMap<usize, Link>) {
        let taken: HashSet<usize> = next.values().map(|link| link.next).collect();
        for level in 1..=2 {
            // By block group: those that go on somewhere, and those that begin somewhere else.
            let mut groups: BTreeMap<u64, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
            for (at, tree) in self.trees.iter().enumerate() {
                let (ends, root) = (&self.ends[at], self.root(at));
                // A table of consecutive integers is no file's beginning.
                let begins = level > 1 || !taken.contains(&at) && root.is_strong() && !root.is_arithmetic();
                let goes_on = ends.tail.is_some() && !next.contains_key(&at) && self.may_follow(level, ends.last_leaf, level + 1);
                let group = groups.entry(self.fs.bit_of(root.block).0).or_default();
                if tree.level == level && begins && goes_on {
                    group.0.push(at);
                } else if tree.level == level + 1 && ends.first.is_some() && !taken.contains(&at) {
                    group.1.push(at);
                }
            }
            for (from, to) in groups.into_values() {
                if let ([at], [other]) = (&from[..], &to[..])
                    && self.is_pair(*at, *other)
                {
                    next.insert(*at, Link { next: *other, lost: 0 });
                }
            }
        }
    }

    /// Whether two trees of which no others come into question are one file's. Neither has spare blocks where its own neighbours would be if
    /// these were lost. Where the second has lost its beginning, there are some at both ends, or the topmost blocks stand next to each other.
    fn is_pair(&self, at: usize, other: usize) -> bool {
        let (before, after) = (&self.ends[at], &self.ends[other]);
        let spare = |block: Option<u64>| block.is_some_and(|block| self.spare.contains(block));
        let Some(apart) = self.root(other).block.get().checked_sub(self.root(at).block.get()) else { return false };
        let behind = spare(before.tail.map(|tail| tail.get() + 1));
        let ahead = spare(after.first.map(|(first, _)| first.get() - 1));
        if after.head.is_some() { !behind && !ahead } else { behind && ahead || apart <= NEAR }
    }

    /// Maximal sequences of trees, each following the one before.
    fn sequences(&self, next: &HashMap<usize, Link>) -> Vec<Vec<Link>> {
        let followers: HashSet<usize> = next.values().map(|link| link.next).collect();
        let mut used = vec![false; self.trees.len()];
        let mut sequences = vec![];
        let begins = (0..self.trees.len()).filter(|at| !followers.contains(at));
        // What is left after those that begin somewhere are rings: they begin anywhere.
        for start in begins.chain(0..self.trees.len()) {
            let (mut sequence, mut at) = (vec![], Some(Link { next: start, lost: 0 }));
            while let Some(link) = at.filter(|link| !std::mem::replace(&mut used[link.next], true)) {
                sequence.push(link);
                at = next.get(&link.next).copied();
            }
            while !sequence.is_empty() {
                let rest = self.misplaced(&sequence).or_else(|| self.lost_apart(&sequence)).map(|at| sequence.split_off(at));
                sequences.push(std::mem::take(&mut sequence));
                sequence = rest.unwrap_or_default();
            }
        }
        sequences
    }

    /// Number of a tree's first IND in the file if it begins there: 0 for the IND, then those of the DIND, then those of the TIND.
    fn natural(&self, level: u8) -> u64 {
        let per = self.fs.pointers_per_block();
        match level {
            1 => 0,
            2 => 1,
            _ => 1 + per,
        }
    }

    /// Numbers of the trees' first INDs in the file.
    fn places(&self, sequence: &[Link]) -> Vec<u64> {
        let mut at = sequence.first().map_or(0, |first| self.natural(self.trees[first.next].level));
        let mut first = true;
        let place = |link: &Link| {
            at += if std::mem::take(&mut first) { 0 } else { link.lost };
            let place = at;
            at += self.ends[link.next].last_leaf + 1;
            place
        };
        sequence.iter().map(place).collect()
    }

    /// Index of the first tree of a sequence that cannot stand where it would; the sequence has to be cut before it, or before the
    /// IND before it.
    fn misplaced(&self, sequence: &[Link]) -> Option<usize> {
        let per = self.fs.pointers_per_block();
        let fits = |tree: usize, place: u64| match self.trees[tree].level {
            1 => true,
            2 => place == 1 || place > per && (place - 1 - per).is_multiple_of(per),
            _ => place == 1 + per,
        };
        let at = sequence.iter().zip(self.places(sequence)).position(|(link, place)| !fits(link.next, place))?;
        let with_ind =
            at > 1 && self.trees[sequence[at].next].level == 2 && sequence[at].lost == 0 && self.trees[sequence[at - 1].next].level == 1;
        Some(if with_ind { at - 1 } else { at })
    }

    /// Index of the first tree of a sequence that was not lost together with the one before, by what the journal says: of each indirect block
    /// that is freed it is told to forget it (`ext4_free_branches`, fs/ext4/indirect.c), in as many transactions as there are many.
    fn lost_apart(&self, sequence: &[Link]) -> Option<usize> {
        let journal = self.fs.journal();
        let forgotten = |leaf: Option<(u64, usize)>, tree: usize| {
            let page = leaf.map_or_else(|| self.root(tree), |(_, page)| &self.survey.pages[page]);
            journal.revokes(page.block).last().copied()
        };
        let inds: u64 = sequence.iter().map(|link| self.ends[link.next].last_leaf + 1).sum();
        let reach = 2 + inds / FORGOTTEN;
        let apart = |(one, other): (usize, usize)| {
            let ends = (self.trees[one].leaves().next_back(), self.trees[other].leaves().next());
            match (forgotten(ends.0, one), forgotten(ends.1, other)) {
                (None, None) => false,
                (Some(one), Some(other)) => one.0.abs_diff(other.0) > reach && journal.is_unbroken(one.min(other), one.max(other)),
                // What was said in transactions around may be gone.
                (Some(at), None) | (None, Some(at)) => journal.is_unbroken(Moment(at.0.saturating_sub(reach)), Moment(at.0 + reach)),
            }
        };
        sequence.windows(2).position(|pair| apart((pair[0].next, pair[1].next))).map(|at| at + 1)
    }

    fn chain(&self, sequence: &[Link]) -> Chain {
        let per = self.fs.pointers_per_block();
        let mut chain = Chain::default();
        for (link, place) in sequence.iter().zip(self.places(sequence)) {
            let tree = &self.trees[link.next];
            let first = |leaf: u64| FileBlock(indirect::DIRECT + (place + leaf) * per);
            chain.tables.extend(tree.pages.iter().map(|(level, leaf, page)| Table { level: *level, first: first(*leaf), page: *page }));
            chain.refused.extend(tree.refused.iter().map(|(level, leaf)| (*level, first(*leaf))));
        }
        let leaves = || chain.tables.iter().filter(|table| table.level == 1).map(|table| &self.survey.pages[table.page]);
        chain.sparse = leaves().any(|page| page.holes() > 0);
        chain
    }
}
