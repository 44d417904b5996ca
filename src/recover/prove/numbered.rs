//! Pages of InnoDB's tablespaces: each says which page of which tablespace it is, and a checksum proves it. So what no pointer names can be
//! placed page by page, wherever it stands.

use super::super::placed::Basis;
use super::super::{FileId, Progress, Recovery, file};
use super::gap::{self, Gap};
use super::{Piece, index::read};
use super::{confirm, drop_rivals, index, subject};
use crate::content::innodb;
use crate::run::Evidence;
use crate::units::{FileBlock, consecutive};
use rayon::iter::{ParallelBridge, ParallelIterator};
use roaring::RoaringTreemap;
use std::collections::HashMap;

/// Runs of a file, and pages of it, from which is learnt: many pages of a tablespace were never written, and say nothing.
const RUNS: usize = 256;
const SAMPLE: usize = 32;
/// Pages of a run.
const OF_RUN: usize = 8;
/// Pages that must agree.
const FEWEST: usize = 4;
/// Bytes looked at together.
const PIECE: u64 = 4 << 20;
/// Pages that are kept.
const MOST: usize = 1 << 20;

/// What the pages of a file say of all of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Tablespace {
    /// Its number.
    pub id: u32,
    /// Filesystem blocks of a page.
    pub page: u64,
    /// What must be added to the file's blocks so that pages stand where they say; 0 where it is known how the file begins.
    pub shift: i64,
}

/// Whether a file may be a tablespace, by its name, or because it has none.
pub fn may_be_pages(recovery: &Recovery, id: FileId) -> bool {
    let file = recovery.file(id);
    file.kind == file::Kind::File && (file.orphan.is_some() || file.paths.iter().any(|path| path.ends_with(b".ibd")))
}

impl Tablespace {
    /// Asks the known pages of a file. `None` where too few say anything, or they contradict each other.
    pub fn of(recovery: &Recovery, id: FileId) -> Option<Tablespace> {
        let size = recovery.block_size();
        innodb::PAGE_SIZES
            .into_iter()
            .filter(|bytes| bytes.is_multiple_of(size))
            .find_map(|bytes| Tablespace::with(recovery, id, bytes / size))
    }

    /// The same for pages of so many blocks.
    fn with(recovery: &Recovery, id: FileId, page: u64) -> Option<Tablespace> {
        let mut votes: HashMap<Tablespace, usize> = HashMap::new();
        let (mut left, mut strange) = (SAMPLE, 0);
        for run in recovery.runs(id).take(RUNS).filter(subject::is_named) {
            let first = run.file_block.0.next_multiple_of(page);
            for at in (first..run.end().0.saturating_sub(page - 1)).step_by(page as usize).take(OF_RUN.min(left)) {
                left -= 1;
                let Some(head) = subject::read(recovery, id, FileBlock(at), 1) else { continue };
                if innodb::Page::parse(&head).is_none() {
                    // Pages that were never written are zeros.
                    strange += usize::from(head.iter().any(|byte| *byte != 0));
                    if strange >= FEWEST && votes.is_empty() {
                        return None;
                    }
                    continue;
                }
                let Some(one) = subject::read(recovery, id, FileBlock(at), page).and_then(|bytes| innodb::proven(&bytes)) else { continue };
                let shift = i64::try_from(u64::from(one.number) * page).ok()?.checked_sub_unsigned(at)?;
                *votes.entry(Tablespace { id: one.space, page, shift }).or_default() += 1;
            }
        }
        let all: usize = votes.values().sum();
        votes.into_iter().find(|(_, count)| *count >= FEWEST && count * 10 >= all * 9).map(|(own, _)| own)
    }
}

/// A file with gaps, and what its pages say.
type Wanted = HashMap<u32, (FileId, u64, Vec<Gap>)>;

impl Recovery {
    /// Ranges of doubtful blocks of tablespaces that hold the pages that must stand there. Reads so many blocks at most.
    pub(super) fn confirm_pages(&self, mut left: u64) -> Vec<(FileId, Vec<(FileBlock, u64)>)> {
        let mut confirmed = vec![];
        for id in self.ids().filter(|id| may_be_pages(self, *id) && self.file(*id).tally.of(Evidence::Unknown) > 0) {
            let doubtful = confirm::doubtful(self, id);
            if doubtful == 0 || doubtful > left {
                continue;
            }
            let Some(own) = Tablespace::of(self, id).filter(|own| own.shift == 0) else { continue };
            left -= doubtful;
            let mut found: Vec<(FileBlock, u64)> = vec![];
            for run in self.runs(id).filter(confirm::is_doubtful) {
                let first = run.file_block.0 - run.file_block.0 % own.page;
                for at in (first..run.end().0).step_by(own.page as usize) {
                    let bytes = subject::read(self, id, FileBlock(at), own.page);
                    let page = bytes.and_then(|bytes| innodb::proven(&bytes));
                    if page.is_some_and(|page| page.space == own.id && u64::from(page.number) * own.page == at) {
                        match found.last_mut() {
                            Some((from, count)) if from.0 + *count >= at => *count = at + own.page - from.0,
                            _ => found.push((FileBlock(at), own.page)),
                        }
                    }
                }
            }
            confirmed.push((id, found));
        }
        confirmed
    }

    /// Fills gaps of tablespaces with the pages that say that they stand there, from what is `spare`. Whether there were any.
    pub(in super::super) fn place_pages(&mut self, spare: &mut RoaringTreemap, progress: &dyn Progress) -> bool {
        let mut wanted: HashMap<u32, Vec<(FileId, u64, Vec<Gap>)>> = HashMap::new();
        for id in self.ids().filter(|id| may_be_pages(self, *id)) {
            let gaps = gap::with_end(self, id);
            if !gaps.is_empty()
                && let Some(own) = Tablespace::of(self, id).filter(|own| own.shift == 0)
            {
                wanted.entry(own.id).or_default().push((id, own.page, gaps));
            }
        }
        // Two files that say they are the same tablespace: nothing tells whose a page is.
        let wanted: Wanted = wanted.into_iter().filter(|(_, of)| of.len() == 1).filter_map(|(id, mut of)| Some((id, of.pop()?))).collect();
        if wanted.is_empty() {
            return false;
        }
        let mut found = self.pages(&wanted, spare, progress);
        drop_rivals(&mut found);
        self.place(&found, spare)
    }

    /// The pages of these tablespaces that belong into gaps: of several copies the one changed last.
    fn pages(&self, wanted: &Wanted, spare: &RoaringTreemap, progress: &dyn Progress) -> Vec<(FileId, Vec<Piece>)> {
        let size = self.block_size();
        let near = index::near(spare, wanted.values().flat_map(|(.., gaps)| gaps));
        let is_missing = |gaps: &[Gap], at: u64, blocks: u64| {
            let gap = gaps.partition_point(|gap| gap.first + gap.length <= at);
            gaps.get(gap).is_some_and(|gap| gap.first <= at && at + blocks <= gap.first + gap.length)
        };
        let total = near.len().saturating_mul(size);
        progress.step("looking for pages in free blocks", 0, total);
        let in_run = |run: std::ops::Range<u64>| {
            let bytes = read(&self.fs, run.clone()).unwrap_or_default();
            let heads = bytes.chunks(size as usize).zip(run);
            let page = |(head, block): (&[u8], u64)| {
                let told = innodb::Page::parse(head)?;
                let (_, blocks, gaps) = wanted.get(&told.space)?;
                let at = u64::from(told.number) * blocks;
                let is_spare = (block..block + blocks).all(|block| spare.contains(block));
                if !is_spare || !is_missing(gaps, at, *blocks) {
                    return None;
                }
                innodb::proven(&read(&self.fs, block..block + blocks)?).map(|page| ((page.space, page.number), page.lsn, block))
            };
            heads.filter_map(page).collect::<Vec<_>>()
        };
        let mut all: Vec<_> = consecutive(&near, (PIECE / size).max(1)).par_bridge().flat_map_iter(in_run).collect();
        all.sort_unstable_by_key(|(page, lsn, block)| (*page, std::cmp::Reverse(*lsn), *block));
        all.truncate(MOST);
        let mut found: HashMap<FileId, Vec<Piece>> = HashMap::new();
        for copies in all.chunk_by(|one, other| one.0 == other.0) {
            let ((space, number), newest, first) = copies[0];
            let Some((id, blocks, _)) = wanted.get(&space).filter(|_| copies.get(1).is_none_or(|(_, lsn, _)| *lsn < newest)) else {
                continue;
            };
            let at = u64::from(number) * blocks;
            let pieces = found.entry(*id).or_default();
            match pieces.last_mut() {
                Some(last) if last.at + last.blocks == at && last.first + last.blocks == first => last.blocks += blocks,
                _ => pieces.push(Piece { at, first, blocks: *blocks, basis: Basis::Page }),
            }
        }
        found.into_iter().collect()
    }
}
