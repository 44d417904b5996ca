//! From chains that the forest grew to lost files: what the 15 pointers of an inode told is found again from what stands around.

use super::file::{Kind, Loss, LostFile, Mapping, Orphan, Pointer, SizeFrom, Span, Tally, Time};
use super::placed::{Placed, PlacedTable};
use crate::forest::{self, Table};
use crate::format::indirect;
use crate::fs::Filesystem;
use crate::run::Evidence;
use crate::scan::Survey;
use crate::scan::page::{Page, Source};
use crate::units::{Block, FileBlock, Moment};
use roaring::RoaringTreemap;
use std::collections::HashSet;

/// How far below a file's first known block the direct blocks before it are looked for, in blocks: with the ext4 driver a first small
/// write stood up to 102 blocks before the rest in what was measured, with the old one 83.
const REACH: u64 = 1024;

/// A chain with what is needed to make a lost file of it.
pub struct Draft<'a> {
    /// The filesystem.
    pub fs: &'a Filesystem,
    /// The pages.
    pub survey: &'a Survey,
    /// The chain.
    pub chain: &'a forest::Chain,
}

/// Whether a chain is believed to be a file's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Credence {
    /// For its own sake: long runs with breaks in most of its INDs, or INDs before their data.
    Full,
    /// If a file was lost that may have been its owner: it might be a table of consecutive integers.
    WithOwner,
    /// Not at all.
    None,
}

impl Draft<'_> {
    fn page(&self, table: &Table) -> &Page {
        &self.survey.pages[table.page]
    }

    fn pages(&self) -> impl Iterator<Item = &Page> {
        self.chain.tables.iter().map(|table| self.page(table))
    }

    /// All blocks of the chain: indirect blocks, and what their pointers name.
    pub fn blocks(&self) -> RoaringTreemap {
        let mut blocks = RoaringTreemap::new();
        for page in self.pages() {
            blocks.insert(page.block.get());
            blocks.extend(page.pointers(self.fs).into_iter().flatten().map(Block::get));
        }
        blocks
    }

    /// How much there is to believe in.
    pub fn credence(&self) -> Credence {
        let leaves = || self.chain.tables.iter().filter(|table| table.level == 1).map(|table| self.page(table));
        // The old driver lays an IND directly before the data it maps (`ext3_alloc_branch`).
        let before_data = leaves().filter(|page| page.first == page.block.plus(1)).count();
        let telling = leaves().filter(|page| page.is_strong() && !page.is_arithmetic()).count();
        let rows = self.chain.tables.iter().any(|table| table.level > 1 && self.page(table).count > 1);
        match before_data * 2 > leaves().count() || telling * 2 > leaves().count() || rows && telling > 0 {
            true => Credence::Full,
            false if rows || leaves().any(Page::is_strong) => Credence::WithOwner,
            false => Credence::None,
        }
    }

    /// The IND that begins the file, if it is left.
    fn first_ind(&self) -> Option<&Page> {
        let is_first = |table: &&Table| table.level == 1 && table.first.0 == indirect::DIRECT;
        self.chain.tables.iter().find(is_first).map(|table| self.page(table)).filter(|page| page.begin == 0)
    }

    /// The lost file. `spare` are free blocks with content that nothing claims: the direct blocks are among them.
    pub fn file(&self, spare: &RoaringTreemap) -> LostFile {
        let own: HashSet<Block> = self.pages().map(|page| page.block).collect();
        let mut pointers = Box::new([None; 15]);
        if let Some(ind) = self.first_ind() {
            let found = blocks_before(ind.first, indirect::DIRECT as usize, spare, &own);
            for (slot, block) in (0..indirect::DIRECT as usize).rev().zip(found) {
                pointers[slot] = Some(Pointer { block, evidence: Evidence::Inferred, since: Moment::NOW });
            }
        }
        let mapping = Mapping::Indirect { pointers, certain: false, placed: Some(Box::new(self.placed())) };
        LostFile {
            ino: None,
            generation: None,
            version: 0,
            kind: Kind::File,
            size: u64::MAX,
            size_from: SizeFrom::Chain,
            mode: 0o600,
            links: 1,
            uid: 0,
            gid: 0,
            atime: Time::default(),
            mtime: Time::default(),
            ctime: Time::default(),
            deleted: None,
            loss: Loss::Deleted,
            span: self.span(),
            mapping,
            zeroed: vec![],
            paths: vec![],
            tally: Tally::default(),
            orphan: self.chain.top(self.survey).map(|page| Orphan { top: page.block, candidates: vec![] }),
        }
    }

    /// What no pointer of a table that is left leads to.
    fn placed(&self) -> Placed {
        let mut placed = Placed::default();
        placed.sparse = self.chain.sparse;
        let mut named: HashSet<(u8, FileBlock, Block)> = HashSet::new();
        let per = self.fs.pointers_per_block();
        for table in self.chain.tables.iter().filter(|table| table.level > 1) {
            let span = indirect::span(table.level - 1, per);
            let below = self.page(table).pointers(self.fs).into_iter().zip(0..);
            named.extend(below.filter_map(|(pointer, index)| Some((table.level - 1, table.first.plus(index * span), pointer?))));
        }
        for table in &self.chain.tables {
            let page = self.page(table);
            if page.sources != [Source::Home] || !named.contains(&(table.level, table.first, page.block)) {
                placed.put_table(table.level, table.first, PlacedTable { block: page.block, sources: page.sources.clone() });
            }
        }
        for (level, first) in &self.chain.refused {
            placed.refuse(*level, *first);
        }
        placed
    }

    /// When it was lost: when the journal says that its indirect blocks were freed, else before everything that the journal tells.
    fn span(&self) -> Span {
        let journal = self.fs.journal();
        let revoked = self.pages().filter_map(|page| journal.revokes(page.block).last().copied());
        let copied = self.pages().filter_map(|page| Some(journal.copies(page.block).last()?.moment));
        let (first, last) = revoked.fold((None::<Moment>, None::<Moment>), |(first, last), at| {
            (Some(first.map_or(at, |first| first.min(at))), Some(last.map_or(at, |last| last.max(at))))
        });
        let seen = copied.max().unwrap_or(Moment::PAST);
        let freed = first.unwrap_or(Moment(seen.0 + 1));
        let alive = Moment(freed.0.saturating_sub(1)).min(seen);
        Span {
            born: Moment::PAST,
            first: Moment::PAST,
            last: alive,
            covered: first.is_some() && journal.covers_since(Moment(freed.0.saturating_sub(1))),
            freed,
            freed_by: last.unwrap_or(freed).max(seen),
            unlinked: freed,
            ended: None,
            successor: None,
            cut: u64::MAX,
            blocks: u64::MAX,
        }
    }
}

/// Up to `count` spare blocks before `end`, nearest first: what a file had there, since both drivers go on upwards. Blocks in `own` are
/// the file's own indirect blocks.
fn blocks_before(end: Block, count: usize, spare: &RoaringTreemap, own: &HashSet<Block>) -> Vec<Block> {
    let least = end.get().saturating_sub(REACH).max(1);
    let candidates = (least..end.get()).rev().filter(|block| spare.contains(*block)).filter_map(Block::new);
    candidates.filter(|block| !own.contains(block)).take(count).collect()
}
