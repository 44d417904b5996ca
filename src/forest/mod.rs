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
    /// The level of its topmost indirect blocks.
    fn level(&self) -> u8 {
        self.tables.iter().map(|table| table.level).max().unwrap_or_default()
    }

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

/// Whether DINDs and TINDs are lost, so that nothing tells where in its file a part belongs that they mapped.
///
/// The parts of a file whose DIND is lost are loose INDs, those of one whose TIND is lost loose DINDs. Where there is any such part (several
/// in a row, or a full one behind which its file must have gone on), each of its kind can be a later part of the same file.
#[derive(Clone, Copy, Default, Debug)]
pub struct Torn {
    dind: bool,
    tind: bool,
}

impl Torn {
    /// Looks at all chains that are believed.
    pub fn among<'a>(fs: &Filesystem, survey: &Survey, chains: impl Iterator<Item = &'a Chain>) -> Torn {
        let mut torn = Torn::default();
        for chain in chains {
            let level = chain.level();
            let mut tops = chain.tables.iter().filter(|table| table.level == level);
            let is_full = |table: &Table| survey.pages.get(table.page).is_some_and(|page| u64::from(page.end) == fs.pointers_per_block());
            let goes_on = tops.next_back().is_some_and(|last| is_full(last) || tops.next().is_some());
            torn.dind |= goes_on && level == 1;
            torn.tind |= goes_on && level == 2;
        }
        torn
    }

    /// Whether nothing tells where in its file a chain belongs. It is put where it would stand if the file began with it.
    pub fn is_adrift(&self, chain: &Chain) -> bool {
        match chain.level() {
            1 => self.dind,
            // With an IND before its DIND, the file begins there.
            2 => self.tind && chain.tables.first().is_some_and(|table| table.level == 2),
            _ => false,
        }
    }
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
