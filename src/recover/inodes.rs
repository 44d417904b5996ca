//! Collects the copies of every inode that the image holds: the inode tables of today and all copies of their blocks in
//! the journal, those included that no descriptor names any more.

use super::Progress;
use super::file::LostFile;
use super::history::{InodeCopy, Life, lives, losses};
use crate::format::inode::{Inode, S_IFDIR, S_IFMT};
use crate::fs::Filesystem;
use crate::journal::Copy;
use crate::tables;
use crate::units::{Block, Ino, Moment};
use std::collections::{BTreeMap, HashMap};

/// What the inode tables say.
#[derive(Default)]
pub struct Inodes {
    /// The lives of every inode that was lost or has a history, by inode.
    pub lives: BTreeMap<Ino, Vec<Life>>,
    /// Folders that are in use today.
    pub live_dirs: Vec<Ino>,
    /// Blocks of inode tables that could not be read.
    pub unreadable: u64,
}

/// Where generations stand in the blocks whose place is sought: (slot, generation) to the loose copies that have it.
type Wanted = HashMap<(usize, u32), Vec<usize>>;
/// Votes for the place of each loose copy.
type Votes = HashMap<usize, HashMap<Block, u32>>;

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |raw| u32::from_le_bytes(*raw))
}

/// `i_generation` of a raw inode.
fn generation(raw: &[u8]) -> u32 {
    word(raw, 0x64)
}

/// Whether a block can be part of an inode table: every inode blank or with a known type, and one at least with a generation.
fn looks_like_table(bytes: &[u8], inode_size: usize) -> bool {
    let plausible = |raw: &[u8]| {
        let (mode, links) = (word(raw, 0) as u16, word(raw, 0x1a) as u16);
        let blank = raw.iter().all(|byte| *byte == 0);
        blank || matches!(mode & S_IFMT, 0o010000 | 0o020000 | 0o040000 | 0o060000 | 0o100000 | 0o120000 | 0o140000) && links <= 65_000
    };
    // The generations first: a journal that has never been full is blank blocks for the most part.
    bytes.chunks_exact(inode_size).any(|raw| generation(raw) != 0) && bytes.chunks_exact(inode_size).all(plausible)
}

impl Inodes {
    /// Reads all inode tables and their history.
    pub fn scan(fs: &Filesystem, progress: &dyn Progress) -> Inodes {
        let inode_size = fs.geometry().superblock.inode_size as usize;
        let mut scan = Scan { fs, inode_size, wanted: Wanted::new(), votes: Votes::new() };
        let loose = scan.want_loose();
        let mut result = Inodes::default();
        let mut tables: BTreeMap<Block, Vec<(Copy, Vec<u8>)>> = BTreeMap::new();
        for (block, copies) in fs.journal().copied_blocks() {
            if fs.geometry().first_inode_of(block).is_none() {
                continue;
            }
            let versions = copies.iter().filter_map(|copy| Some((*copy, fs.journal().read_copy(fs.image(), *copy).ok()?)));
            let versions: Vec<_> = versions.collect();
            versions.iter().for_each(|(_, bytes)| scan.vote(block, bytes));
            tables.insert(block, versions);
        }
        let mut dead = vec![];
        scan.today(progress, &mut result, &mut dead);
        for (block, copy, bytes) in scan.placed(loose) {
            tables.entry(block).or_default().push((copy, bytes));
        }
        let mut histories: BTreeMap<Ino, Vec<InodeCopy>> = BTreeMap::new();
        for (block, mut versions) in tables {
            versions.sort_by_key(|(copy, _)| copy.moment);
            scan.add_versions(block, versions, &mut histories);
        }
        for (ino, inode) in dead {
            histories.entry(ino).or_insert_with(|| vec![InodeCopy { moment: Moment::NOW, inode }]);
        }
        let exact = |mut lives: Vec<Life>| {
            // Nearly all have one copy, and a list that grows makes room for four.
            lives.iter_mut().for_each(|life| life.copies.shrink_to_fit());
            lives.shrink_to_fit();
            lives
        };
        result.lives = histories.into_iter().map(|(ino, copies)| (ino, exact(lives(ino, copies)))).collect();
        result
    }

    /// What all lives lost. Their copies go with it: nothing else looks at them, and they are most of what a life takes in memory.
    pub fn take_losses(&mut self, fs: &Filesystem) -> Vec<LostFile> {
        let mut files = vec![];
        for life in self.lives.values_mut().flatten() {
            files.extend(losses(fs, life));
            life.copies = vec![];
        }
        files.shrink_to_fit();
        files
    }
}

impl Inodes {
    /// Calls `see` with every inode that is in use today.
    pub fn each_live(fs: &Filesystem, see: &mut dyn FnMut(Ino, Inode)) {
        Inodes::each(fs, &mut |ino, inode| {
            if inode.is_live() {
                see(ino, inode);
            }
        });
    }

    /// Calls `see` with every inode that was ever used, as it is today.
    pub fn each(fs: &Filesystem, see: &mut dyn FnMut(Ino, Inode)) {
        let inode_size = fs.geometry().superblock.inode_size as usize;
        let inodes = fs.geometry().superblock.inodes;
        tables::each_block(fs, &(), &mut |_, first, bytes| {
            for (raw, ino) in bytes.chunks_exact(inode_size).zip(first.0..=inodes) {
                if let Some(inode) = Inode::parse(raw).filter(|inode| !inode.is_blank()) {
                    see(Ino(ino), inode);
                }
            }
        });
    }
}

struct Scan<'a> {
    fs: &'a Filesystem,
    inode_size: usize,
    wanted: Wanted,
    votes: Votes,
}

impl Scan<'_> {
    /// Notes the generations of loose copies that look like inode tables.
    fn want_loose(&mut self) -> Vec<(Copy, Vec<u8>)> {
        let mut tables = vec![];
        for copy in self.fs.journal().loose() {
            let Ok(bytes) = self.fs.journal().read_copy(self.fs.image(), *copy) else { continue };
            if !looks_like_table(&bytes, self.inode_size) {
                continue;
            }
            for (slot, raw) in bytes.chunks_exact(self.inode_size).enumerate() {
                if generation(raw) != 0 {
                    self.wanted.entry((slot, generation(raw))).or_default().push(tables.len());
                }
            }
            tables.push((*copy, bytes));
        }
        tables
    }

    fn vote(&mut self, block: Block, bytes: &[u8]) {
        if self.wanted.is_empty() {
            return;
        }
        for (slot, raw) in bytes.chunks_exact(self.inode_size).enumerate() {
            for loose in self.wanted.get(&(slot, generation(raw))).into_iter().flatten() {
                *self.votes.entry(*loose).or_default().entry(block).or_default() += 1;
            }
        }
    }

    /// The loose copies whose place the generations told, in the order of the log.
    fn placed(&self, loose: Vec<(Copy, Vec<u8>)>) -> Vec<(Block, Copy, Vec<u8>)> {
        let best = |at: &usize| self.votes.get(at).and_then(|votes| votes.iter().max_by_key(|(block, n)| (**n, **block)));
        let placed = loose.into_iter().enumerate().filter_map(|(at, (copy, bytes))| Some((*best(&at)?.0, copy, bytes)));
        placed.collect()
    }

    /// Reads the inode tables as they stand today.
    fn today(&mut self, progress: &dyn Progress, result: &mut Inodes, dead: &mut Vec<(Ino, Inode)>) {
        let (fs, inode_size) = (self.fs, self.inode_size);
        let unreadable = tables::each_block(fs, progress, &mut |block, first, bytes| {
            self.vote(block, bytes);
            for (raw, ino) in bytes.chunks_exact(inode_size).zip(first.0..) {
                self.sort(Ino(ino), raw, result, dead);
            }
        });
        result.unreadable += unreadable;
    }

    /// Sorts one inode of today: live folder, lost, or of no interest.
    fn sort(&self, ino: Ino, raw: &[u8], result: &mut Inodes, dead: &mut Vec<(Ino, Inode)>) {
        let (mode, links, dtime) = (word(raw, 0) as u16, word(raw, 0x1a) as u16, word(raw, 0x14));
        let reserved = ino != Ino::ROOT && ino < self.fs.geometry().superblock.first_ino;
        if reserved || ino.0 > self.fs.geometry().superblock.inodes || mode == 0 {
            return;
        }
        if links > 0 && mode & S_IFMT == S_IFDIR {
            result.live_dirs.push(ino);
        } else if links == 0
            && dtime != 0
            && let Some(inode) = Inode::parse(raw)
        {
            dead.push((ino, inode));
        }
    }

    /// Adds the copies of the inodes in one table block, oldest first, and today's.
    fn add_versions(&self, block: Block, versions: Vec<(Copy, Vec<u8>)>, histories: &mut BTreeMap<Ino, Vec<InodeCopy>>) {
        let Some(first) = self.fs.geometry().first_inode_of(block) else { return };
        let today = self.fs.read_block(block).ok().map(|bytes| (Moment::NOW, bytes));
        let mut before: Vec<Vec<u8>> = vec![];
        for (moment, bytes) in versions.into_iter().map(|(copy, bytes)| (copy.moment, bytes)).chain(today) {
            for (slot, raw) in bytes.chunks_exact(self.inode_size).enumerate() {
                let ino = Ino(first.0.saturating_add(slot as u32));
                let reserved = ino != Ino::ROOT && ino < self.fs.geometry().superblock.first_ino;
                let unchanged = before.get(slot).is_some_and(|old| old == raw) && moment != Moment::NOW;
                if !reserved
                    && !unchanged
                    && ino.0 <= self.fs.geometry().superblock.inodes
                    && let Some(inode) = Inode::parse(raw)
                    && (!inode.is_blank() || histories.contains_key(&ino))
                {
                    histories.entry(ino).or_default().push(InodeCopy { moment, inode });
                }
                match before.get_mut(slot) {
                    Some(old) => old.copy_from_slice(raw),
                    None => before.push(raw.to_vec()),
                }
            }
        }
    }
}
