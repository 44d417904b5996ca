//! From chains that the forest grew to lost files: what the 15 pointers of an inode told is found again from what stands around.

use super::file::{Kind, Loss, LostFile, Mapping, Orphan, Pointer, SizeFrom, Span, Tally, Time};
use super::owners::{Forgotten, Start};
use super::placed::{Placed, PlacedTable};
use super::reuse::Reuse;
use crate::forest::{self, Table};
use crate::format::indirect;
use crate::fs::Filesystem;
use crate::journal::Copy;
use crate::run::Evidence;
use crate::scan::Survey;
use crate::scan::page::{Page, Source};
use crate::units::{Block, FileBlock, Moment};
use roaring::RoaringTreemap;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// How far below a file's first known block the direct blocks before it are looked for, in blocks: with the ext4 driver a first small
/// write stood up to 102 blocks before the rest in what was measured, with the old one 83.
const REACH: u64 = 1024;
/// How far before the rest the first blocks of several files made together are looked for at first.
const NEAR: u64 = 64;

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
    /// For its own sake: long runs with breaks in most of its INDs, or INDs before their data, or INDs that the journal was told to forget.
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

    fn pages(&self) -> impl Iterator<Item = &Page> + Clone {
        self.chain.tables.iter().map(|table| self.page(table))
    }

    /// Its indirect blocks.
    pub fn tables(&self) -> impl Iterator<Item = Block> {
        self.pages().map(|page| page.block)
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
        // Only of metadata the journal is told to forget it (`ext3_forget`, fs/ext3/inode.c).
        let revoked = leaves().filter(|page| !self.fs.journal().revokes(page.block).is_empty()).count();
        match revoked * 2 > leaves().count() || before_data * 2 > leaves().count() || telling * 2 > leaves().count() || rows && telling > 0
        {
            true => Credence::Full,
            false if rows || leaves().any(Page::is_strong) => Credence::WithOwner,
            false => Credence::None,
        }
    }

    /// Whether each of its INDs begins with its first pointer and has no holes, near what it names: as those of most files do, however small.
    pub fn is_regular(&self) -> bool {
        let leaves = || self.chain.tables.iter().filter(|table| table.level == 1).map(|table| self.page(table));
        leaves().all(|page| page.begin == 0 && page.holes() == 0) && !self.is_far_from_data()
    }

    /// The lost file that it would be, if it is one.
    pub fn dubious(&self) -> LostFile {
        let file = self.file(&[]);
        LostFile { orphan: file.orphan.map(|orphan| Orphan { dubious: true, ..orphan }), ..file }
    }

    /// Whether none of its INDs is near anything that it names: both drivers look for room for an IND where the data is going to be (`ext3_alloc_branch`, `ext4_ind_map_blocks`), and go elsewhere only where there is none.
    pub fn is_far_from_data(&self) -> bool {
        let group = |block: Block| self.fs.bit_of(block).0;
        let is_far = |page: &Page| {
            let own = group(page.block);
            page.pointers(self.fs).into_iter().flatten().all(|block| group(block).abs_diff(own) > 1)
        };
        self.chain.tables.iter().filter(|table| table.level == 1).all(|table| is_far(self.page(table)))
    }

    /// The IND that begins the file, if it is left.
    fn first_ind(&self) -> Option<&Page> {
        let is_first = |table: &&Table| table.level == 1 && table.first.0 == indirect::DIRECT;
        self.chain.tables.iter().find(is_first).map(|table| self.page(table)).filter(|page| page.begin == 0)
    }

    /// Where the file begins, as far as is known.
    pub fn start(&self) -> Start {
        let first = self.chain.tables.iter().find(|table| table.level == 1).map(|table| self.page(table).first);
        let first = first.or_else(|| self.pages().next().map(|page| page.block));
        let is_first = |table: &&Table| table.level == 1 && table.first.0 == indirect::DIRECT;
        let ind = self.chain.tables.iter().find(is_first).map(|table| self.page(table).block);
        let span = self.span();
        let (from, to) = (span.freed, span.freed_by);
        let is_whole = self.fs.journal().is_unbroken(Moment(from.0.saturating_sub(2)), Moment(to.0.saturating_add(1)));
        let forgotten = span.is_revoked().then_some(Forgotten { from, to, is_whole });
        Start { group: first.map_or(0, |block| self.fs.bit_of(block).0), ind, forgotten }
    }

    /// The blocks directly before the file's first known one, nearest first, as far as they are spare: both drivers go on upwards.
    /// Only if the chain begins where the direct blocks end.
    pub fn blocks_before(&self, spare: &RoaringTreemap) -> Option<Direct> {
        let ind = self.first_ind()?;
        let own: HashSet<Block> = self.pages().map(|page| page.block).collect();
        let below = (1..ind.first.get()).rev().filter_map(Block::new).filter(|block| !own.contains(block));
        let blocks = below.take_while(|block| spare.contains(block.get())).take(indirect::DIRECT as usize).collect();
        Some(Direct { ind: ind.block, blocks })
    }

    /// The lost file; `direct` are its direct blocks as far as they are found, the last one first.
    pub fn file(&self, direct: &[Block]) -> LostFile {
        let mut pointers = Box::new([None; 15]);
        for (slot, block) in (0..indirect::DIRECT as usize).rev().zip(direct) {
            pointers[slot] = Some(Pointer { block: *block, evidence: Evidence::Inferred, since: Moment::NOW });
        }
        let mapping = Mapping::Indirect { pointers, certain: false, placed: Some(Box::new(self.placed())) };
        let unfinished = self.survey.looked.goes_on();
        let adrift = self.chain.tables.iter().all(|table| table.level == 1);
        let orphan = self.chain.top(self.survey);
        let orphan = orphan.map(|page| Orphan { top: page.block, candidates: Arc::default(), adrift, dubious: false, unfinished });
        LostFile { mapping, orphan, ..without_inode(self.span()) }
    }

    /// What no pointer of a table that is left leads to.
    pub fn placed(&self) -> Placed {
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
        span(self.fs, self.pages())
    }
}

/// When a file was lost that had these indirect blocks.
fn span<'a>(fs: &Filesystem, indirect: impl Iterator<Item = &'a Page> + Clone) -> Span {
    let (journal, reuse) = (fs.journal(), Reuse::default());
    // A later file's indirect block may never have left the log: what stands in the block itself is older, and was forgotten long before.
    let last_copy = |page: &Page, until: Moment| journal.copies(page.block).iter().rev().find(|copy| copy.moment <= until).copied();
    let own = |page: &Page, copy: Copy| page.sources.contains(&Source::Log(copy));
    let revoked = |page: &Page| {
        let at = *journal.revokes(page.block).last()?;
        let is_own = last_copy(page, at).is_none_or(|copy| own(page, copy));
        (is_own && reuse.was_allocated_before(fs, page.block, at) != Some(false)).then_some(at)
    };
    let copied = indirect.clone().filter_map(|page| last_copy(page, Moment::NOW).filter(|copy| own(page, *copy)).map(|copy| copy.moment));
    let all = indirect.clone().count();
    let mut revoked: Vec<Moment> = indirect.filter_map(revoked).collect();
    // A few of many may have been another file's since, and were forgotten before anything was written to them.
    if revoked.len() * 2 <= all {
        revoked.clear();
    }
    let (first, last) = (revoked.iter().min().copied(), revoked.iter().max().copied());
    let seen = copied.max().unwrap_or(Moment::PAST);
    let freed = first.unwrap_or(Moment(seen.0 + 1));
    let alive = Moment(freed.0.saturating_sub(1)).min(seen);
    Span {
        born: Moment::PAST,
        first: Moment::PAST,
        last: alive,
        // Parts of it may have been cut off, and used again, before that.
        covered: false,
        freed,
        freed_by: last.unwrap_or(freed).max(seen),
        unlinked: freed,
        made: None,
        ended: None,
        successor: None,
        cut: u64::MAX,
        dated: false,
        stayed: u64::MAX,
        kept: 0,
        kept_until: Moment::PAST,
        blocks: u64::MAX,
    }
}

/// A lost file of which no indirect block is left, named by its first block.
pub fn without_pointers(fs: &Filesystem, first: Block) -> LostFile {
    let orphan = Some(Orphan { top: first, candidates: Arc::default(), adrift: false, dubious: false, unfinished: false });
    LostFile { orphan, ..without_inode(span(fs, std::iter::empty())) }
}

/// A lost file of which no inode tells anything.
fn without_inode(span: Span) -> LostFile {
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
        span,
        mapping: Mapping::Indirect { pointers: Box::new([None; 15]), certain: false, placed: None },
        zeroed: vec![],
        paths: vec![],
        tally: Tally::default(),
        number: None,
        orphan: None,
    }
}

/// A chain's direct blocks, as far as they are found.
pub struct Direct {
    /// The IND that begins the file: both drivers take these one after the other, as files grow.
    pub ind: Block,
    /// The blocks, the last one first.
    pub blocks: Vec<Block>,
}

impl Direct {
    fn missing(&self) -> usize {
        indirect::DIRECT as usize - self.blocks.len()
    }
}

/// Finds the direct blocks that do not stand directly before the rest. A file's first write is often alone: block 0 stands with the
/// blocks 0 of other files made then, in the order in which the files went on, as their INDs have it; the rest of small files is
/// where the CPU that wrote it keeps room for such (`ext4_mb_group_or_file`, fs/ext4/mballoc.c), so that its order may be another. So where
/// as many spare blocks stand before the files of a group, or around them, as blocks are missing, they are these; else what is missing
/// of a single file is a run of exactly that length. `is_head` says of a block that it begins as files of a known kind do.
pub fn complete_direct(fs: &Filesystem, found: &mut [Option<Direct>], spare: &RoaringTreemap, is_head: impl Fn(Block) -> bool) {
    let mut groups: BTreeMap<u64, Vec<&mut Direct>> = BTreeMap::new();
    for direct in found.iter_mut().flatten() {
        if let Some(lowest) = direct.blocks.last() {
            groups.entry(fs.bit_of(*lowest).0).or_default().push(direct);
        }
    }
    for mut files in groups.into_values() {
        files.sort_unstable_by_key(|direct| direct.ind);
        let (mut short, whole): (Vec<&mut Direct>, Vec<&mut Direct>) = files.into_iter().partition(|direct| direct.missing() > 0);
        let begins = short.iter().filter_map(|direct| Some(direct.blocks.last()?.get()));
        let (Some(lowest), Some(highest)) = (begins.clone().min(), begins.max()) else { continue };
        let wanted: usize = short.iter().map(|direct| direct.missing()).sum();
        let exactly = |(start, end): &(u64, u64)| {
            let mut blocks = spare.iter();
            blocks.advance_to(*start);
            let blocks: Vec<Block> = blocks.take_while(|block| block < end).take(wanted + 1).filter_map(Block::new).collect();
            (blocks.len() == wanted).then_some(blocks)
        };
        let around = [(lowest.saturating_sub(NEAR), lowest), (lowest.saturating_sub(REACH), highest + REACH)];
        if let Some(blocks) = around.iter().find_map(exactly) {
            // A file that seems whole directly behind these may as well have the last of them: where nothing in them tells, it is nobody's.
            let after = blocks.last().map(|block| block.plus(1));
            let behind = whole.into_iter().find(|direct| direct.blocks.last().copied() == after);
            if let Some(behind) = behind.filter(|_| !blocks.iter().any(|block| is_head(*block))) {
                behind.blocks.truncate(indirect::DIRECT as usize - short[0].missing());
                continue;
            }
            let mut blocks = blocks.into_iter();
            for direct in short {
                let first: Vec<Block> = blocks.by_ref().take(direct.missing()).collect();
                direct.blocks.extend(first.into_iter().rev());
            }
        } else if let [direct] = &mut short[..] {
            let run = run_before(lowest, spare);
            if run.len() == direct.missing() {
                direct.blocks.extend(run);
            }
        }
    }
}

/// The nearest run of spare blocks before `end`, its last block first.
fn run_before(end: u64, spare: &RoaringTreemap) -> Vec<Block> {
    let Some(last) = (end.saturating_sub(REACH)..end).rev().find(|block| spare.contains(*block)) else { return vec![] };
    (1..=last).rev().take_while(|block| spare.contains(*block)).take(1 + indirect::DIRECT as usize).filter_map(Block::new).collect()
}
