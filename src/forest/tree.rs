//! Trees of indirect blocks: who names whom.

use crate::format::indirect;
use crate::fs::Filesystem;
use crate::scan::Survey;
use crate::scan::page::Page;
use crate::units::Block;
use std::collections::{HashMap, HashSet};

/// A page with no page above it, and all the INDs below it.
#[derive(Clone, Debug)]
pub struct Tree {
    /// Its topmost page.
    pub root: usize,
    /// Level of the topmost page.
    pub level: u8,
    /// Its pages: level, first IND below counted from the tree's first, page. In the order of the file, upper levels first.
    pub pages: Vec<(u8, u64, usize)>,
    /// Pages that its pointers name but that belong to another tree: level, first IND below.
    pub refused: Vec<(u8, u64)>,
}

impl Tree {
    /// The INDs, in the order of the file: number within the tree, and page.
    pub fn leaves(&self) -> impl DoubleEndedIterator<Item = (u64, usize)> + '_ {
        self.pages.iter().filter(|(level, ..)| *level == 1).map(|(_, at, page)| (*at, *page))
    }
}

/// All trees.
pub struct Trees {
    /// The trees, by the block of their topmost page.
    pub trees: Vec<Tree>,
}

/// Index of a pointer, and the pages that stand in the block it names; none if these are of another file.
type Named = (u32, Vec<usize>);

/// What a page's pointers name.
#[derive(Default, Clone)]
struct Below {
    /// Those that name pages.
    pages: Vec<Named>,
    /// Free blocks with other content.
    others: u32,
}

struct Forest<'a> {
    fs: &'a Filesystem,
    survey: &'a Survey,
    below: Vec<Below>,
    levels: Vec<u8>,
}

impl Trees {
    /// Finds out who names whom. Those in `except` are left out.
    pub fn grow(fs: &Filesystem, survey: &Survey, except: &HashSet<usize>) -> Trees {
        let mut by_block: HashMap<Block, Vec<usize>> = HashMap::new();
        for (at, page) in survey.pages.iter().enumerate().filter(|(at, _)| !except.contains(at)) {
            by_block.entry(page.block).or_default().push(at);
        }
        let mut forest = Forest { fs, survey, below: vec![Below::default(); survey.pages.len()], levels: vec![0; survey.pages.len()] };
        for at in by_block.values().flatten() {
            forest.look_below(*at, &by_block);
        }
        for at in by_block.values().flatten() {
            forest.level(*at, 0);
        }
        forest.trees(by_block.values().flatten().copied())
    }
}

impl Forest<'_> {
    fn look_below(&mut self, at: usize, by_block: &HashMap<Block, Vec<usize>>) {
        let page = &self.survey.pages[at];
        let mut below = Below::default();
        for (pointer, index) in page.pointers(self.fs).into_iter().zip(0..) {
            let Some(block) = pointer else { continue };
            match by_block.get(&block) {
                Some(_) if self.outlived(page.block, block) => below.pages.push((index, vec![])),
                Some(pages) if block != page.block => below.pages.push((index, pages.clone())),
                _ if self.survey.written.contains(block.get()) => below.others += 1,
                _ => {}
            }
        }
        // Data that looks like pointers here and there does not make a DIND: tables of integers that fill a whole file make its IND look like one.
        let pages = below.pages.iter().filter(|(_, pages)| !pages.is_empty()).count() as u32;
        if pages <= below.others.saturating_mul(2) {
            below = Below::default();
        }
        self.below[at] = below;
    }

    /// Whether an indirect block was freed after the one that names it, so that it was another file's by then: a truncate frees what is
    /// below first, and revokes each (`ext3_free_branches`, fs/ext3/inode.c).
    fn outlived(&self, parent: Block, child: Block) -> bool {
        let journal = self.fs.journal();
        journal.revokes(child).last() > journal.revokes(parent).last()
    }

    /// The level of a page: one more than that of most pages that it names.
    fn level(&mut self, at: usize, depth: u8) -> u8 {
        if self.levels[at] != 0 || depth > 3 {
            return self.levels[at];
        }
        // Whoever comes back here is in a cycle, and no inner page.
        self.levels[at] = 1;
        let named: Vec<usize> = self.below[at].pages.iter().flat_map(|(_, pages)| pages.iter().copied()).collect();
        let mut votes = [0u32; 4];
        for child in named {
            votes[usize::from(self.level(child, depth + 1)).min(3)] += 1;
        }
        // All below a page are of one level. The IND of an older file, whose blocks became indirect blocks since, names some of each.
        let is_most = |level: &u8| {
            let of = votes[usize::from(*level)];
            of > 0 && (votes.iter().sum::<u32>() - of) * 3 <= of
        };
        let most = (1..=2u8).find(is_most);
        self.levels[at] = most.filter(|level| self.is_row(at, *level)).map_or(1, |level| level + 1);
        self.levels[at]
    }

    /// Whether the pages of `level` that a page names follow each other as those of one file do: of those that stand side by side, three
    /// in four at least begin where the one before them ends, or half of them not far behind. Tables of integers that name each other by chance do not.
    fn is_row(&self, parent: usize, level: u8) -> bool {
        let fitting = |pages: &[usize]| pages.iter().copied().find(|page| self.levels[*page] == level);
        let row: Vec<(u32, usize)> = self.below[parent].pages.iter().filter_map(|(at, pages)| Some((*at, fitting(pages)?))).collect();
        let pairs = || row.windows(2).filter(|pair| pair[0].0 + 1 == pair[1].0);
        let joined = pairs().filter(|pair| self.follows(pair[0].1, pair[1].1)).count();
        // A sparse file in fragmented space: at least not far on.
        let near = pairs().filter(|pair| self.is_near(pair[0].1, pair[1].1)).count();
        joined * 4 >= pairs().count() * 3 || near * 2 >= pairs().count()
    }

    /// Whether the data of one page goes on in another that stands next to it: in the next block, behind an indirect block, or as far
    /// away as in the file.
    fn follows(&self, page: usize, next: usize) -> bool {
        let (from, to) = (self.last_leaf(page), self.first_leaf(next));
        let apart = self.fs.pointers_per_block() + 1 + u64::from(to.begin) - u64::from(from.end);
        let step = to.first.get().wrapping_sub(from.last.get());
        (1..=2).contains(&step) || step == apart
    }

    /// Whether the data of one page lies not far behind that of another.
    fn is_near(&self, page: usize, next: usize) -> bool {
        let step = self.first_leaf(next).first.get().wrapping_sub(self.last_leaf(page).last.get());
        (1..=2 * self.fs.pointers_per_block()).contains(&step)
    }

    /// How well a child goes on where its elder sibling ends, and its younger sibling where it ends: 2 at best.
    fn continuity(&self, parent: usize, index: u32, child: usize) -> u32 {
        let siblings = &self.below[parent].pages;
        let at = |index: u32| siblings.binary_search_by_key(&index, |(at, _)| *at).ok().map(|found| &siblings[found].1);
        let before = index.checked_sub(1).and_then(at).is_some_and(|pages| pages.iter().any(|page| self.follows(*page, child)));
        let after = at(index + 1).is_some_and(|pages| pages.iter().any(|page| self.follows(child, *page)));
        u32::from(before) + u32::from(after)
    }

    fn end_leaf(&self, mut page: usize, pick: fn(&[Named]) -> Option<&Named>) -> &Page {
        for _ in 1..self.levels[page] {
            match pick(&self.below[page].pages).and_then(|(_, pages)| pages.first()) {
                Some(next) => page = *next,
                None => break,
            }
        }
        &self.survey.pages[page]
    }

    fn first_leaf(&self, page: usize) -> &Page {
        self.end_leaf(page, <[_]>::first)
    }

    fn last_leaf(&self, page: usize) -> &Page {
        self.end_leaf(page, <[_]>::last)
    }

    /// Gives each page to one parent at most: the one in whose row it fits best.
    fn parents(&self) -> HashMap<usize, (usize, u32)> {
        let mut claims: HashMap<usize, Vec<(usize, u32)>> = HashMap::new();
        for (parent, below) in self.below.iter().enumerate().filter(|(at, _)| self.levels[*at] > 1) {
            for (index, pages) in &below.pages {
                let fitting = pages.iter().filter(|page| self.levels[**page] + 1 == self.levels[parent]);
                if let Some(child) = fitting.max_by_key(|page| self.continuity(parent, *index, **page)) {
                    claims.entry(*child).or_default().push((parent, *index));
                }
            }
        }
        let present = |parent: usize| (self.below[parent].pages.len(), std::cmp::Reverse(parent));
        let best = |(child, claims): (usize, Vec<(usize, u32)>)| {
            let best = claims.into_iter().max_by_key(|(parent, index)| (self.continuity(*parent, *index, child), present(*parent)))?;
            Some((child, best))
        };
        claims.into_iter().filter_map(best).collect()
    }

    fn trees(&self, pages: impl Iterator<Item = usize>) -> Trees {
        let parents = self.parents();
        let mut children: HashMap<usize, Vec<(u32, usize)>> = HashMap::new();
        for (child, (parent, index)) in &parents {
            children.entry(*parent).or_default().push((*index, *child));
        }
        children.values_mut().for_each(|of| of.sort_unstable());
        // What is too scattered for data counts only where a DIND names it.
        let alone = |page: &usize| self.levels[*page] > 1 || !self.survey.pages[*page].scattered;
        let mut roots: Vec<usize> = pages.filter(|page| !parents.contains_key(page)).filter(alone).collect();
        roots.sort_unstable();
        let tree = |root: usize| {
            let mut tree = Tree { root, level: self.levels[root], pages: vec![], refused: vec![] };
            self.add(&mut tree, root, 0, &children);
            tree
        };
        Trees { trees: roots.into_iter().map(tree).collect() }
    }

    fn add(&self, tree: &mut Tree, page: usize, first: u64, children: &HashMap<usize, Vec<(u32, usize)>>) {
        let level = self.levels[page];
        tree.pages.push((level, first, page));
        if level == 1 {
            return;
        }
        let leaves = indirect::span(level - 2, self.fs.pointers_per_block());
        let own = children.get(&page).map_or(&[][..], Vec::as_slice);
        for (index, _) in &self.below[page].pages {
            let at = first + u64::from(*index) * leaves;
            match own.binary_search_by_key(index, |(index, _)| *index) {
                Ok(found) => self.add(tree, own[found].1, at, children),
                Err(_) => tree.refused.push((level - 1, at)),
            }
        }
    }
}
