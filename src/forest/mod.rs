//! From pages to the tables of contents of lost files: IND under DIND under TIND by containment, and the trees of one file
//! by what comes next to what.

mod join;
mod tree;

use crate::fs::Filesystem;
use crate::scan::Survey;
use crate::scan::page::Page;
use crate::units::FileBlock;
use roaring::RoaringTreemap;
use std::collections::HashSet;
use tree::Trees;

/// An indirect block in its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Table {
    /// 1 for an IND, 2 for a DIND, 3 for a TIND.
    pub level: u8,
    /// The first file block that it maps.
    pub first: FileBlock,
    /// Index of its page in [`Survey::pages`].
    pub page: usize,
}

/// What is left of one file's table of contents.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// Its indirect blocks, by first file block, the higher level first.
    pub tables: Vec<Table>,
    /// Indirect blocks that its pointers name but that are another chain's now: level and first file block.
    pub refused: Vec<(u8, FileBlock)>,
    /// Zeros stand between pointers of one IND: the file was sparse, since truncates zero from the first pointer on.
    pub sparse: bool,
}

impl Chain {
    /// The topmost indirect block that is left; of several, the one that comes first in the file.
    pub fn top<'a>(&self, survey: &'a Survey) -> Option<&'a Page> {
        let top = self.tables.iter().max_by_key(|table| (table.level, std::cmp::Reverse(table.first)))?;
        survey.pages.get(top.page)
    }
}

/// Grows chains from the pages of a survey, less those in `except`. `spare` are free blocks with content that nothing claims.
pub fn grow(fs: &Filesystem, survey: &Survey, except: &HashSet<usize>, spare: &RoaringTreemap) -> Vec<Chain> {
    join::chains(fs, survey, &Trees::grow(fs, survey, except), spare)
}

/// Free blocks with content that no page names and no file claims.
pub fn spare(fs: &Filesystem, survey: &Survey, claimed: &RoaringTreemap) -> RoaringTreemap {
    let mut spare = &survey.written - claimed;
    for page in &survey.pages {
        spare.remove(page.block.get());
        for block in page.pointers(fs).into_iter().flatten() {
            spare.remove(block.get());
        }
    }
    spare
}
