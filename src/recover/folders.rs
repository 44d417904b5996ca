//! What folder blocks said over time: which entry named which inode, from when to when.
//!
//! Sources: copies of folder blocks in the journal, one after the other (an entry that a copy lacks was removed by then);
//! the blocks of deleted folders; and the slack of the folders of today, where old kernels leave what they removed.

use super::file::{Kind, LostFile};
use super::inodes::Inodes;
use super::takers::folder_blocks;
use super::{Progress, Recovery};
use crate::format::dir_block::{DirBlock, Entry};
use crate::fs::Filesystem;
use crate::journal::Copy;
use crate::run::Place;
use crate::units::{Block, Generation, Ino, Moment};
use std::collections::{HashMap, HashSet};

/// One entry, and when it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The folder's inode, where known.
    pub folder: Option<Ino>,
    /// Raw name.
    pub name: Vec<u8>,
    /// `file_type`.
    pub file_type: u8,
    /// The first moment at which it is seen; [`Moment::PAST`] where nothing tells.
    pub first: Moment,
    /// By then it was gone; [`Moment::NOW`] if it still stands.
    pub removed: Moment,
    /// Seen live in a copy whose moment is known.
    pub certain: bool,
}

/// Who a folder block belonged to.
struct Owner {
    folder: Ino,
    born: Moment,
    until: Moment,
}

/// All facts, by the inode that was named.
#[derive(Default)]
pub struct Facts {
    by_inode: HashMap<Ino, Vec<Fact>>,
    /// For each inode the ends of its lives with their generations, oldest first.
    deaths: HashMap<Ino, Vec<(Moment, Generation)>>,
    /// Entries without inode number in the folders of today, by folder: name and `file_type`.
    anonymous: HashMap<Ino, Vec<(Vec<u8>, u8)>>,
}

/// An entry: its folder, what it names, the type, the name.
type Key<'a> = (Option<Ino>, Ino, u8, &'a [u8]);

/// The first and the last copy of a block in which an entry stands.
struct Standing {
    first: Moment,
    last: Moment,
}

/// Entries of loose copies: (inode, offset, name) to the copies that hold it.
type Wanted = HashMap<(Ino, usize, Vec<u8>), Vec<usize>>;

struct Collector<'a> {
    fs: &'a Filesystem,
    facts: Facts,
    owners: HashMap<Block, Vec<Owner>>,
    /// Inodes whose names matter: those that lost something, and folders.
    matter: HashSet<Ino>,
    wanted: Wanted,
    votes: HashMap<usize, HashMap<Block, usize>>,
}

impl Facts {
    /// Collects all of them.
    pub fn collect(recovery: &Recovery, inodes: &Inodes, progress: &dyn Progress) -> Facts {
        let fs = recovery.filesystem();
        let mut matter: HashSet<Ino> = recovery.files().iter().filter_map(|file| file.ino).collect();
        matter.extend(inodes.live_dirs.iter());
        matter.extend(inodes.lives.iter().filter(|(_, lives)| lives.iter().any(|life| life.is_dir)).map(|(ino, _)| *ino));
        let mut facts = Facts::default();
        for (ino, lives) in &inodes.lives {
            let deaths = lives.iter().filter_map(|life| Some((life.died?, life.generation)));
            facts.deaths.insert(*ino, deaths.collect());
        }
        let mut collector = Collector { fs, facts, owners: HashMap::new(), matter, wanted: Wanted::new(), votes: HashMap::new() };
        let loose = collector.want_loose();
        collector.live_folders(inodes, progress);
        collector.lost_folders(recovery);
        collector.copies();
        collector.place_loose(loose);
        collector.facts
    }

    /// The entries that named an inode.
    pub fn of(&self, ino: Ino) -> &[Fact] {
        self.by_inode.get(&ino).map_or(&[], Vec::as_slice)
    }

    /// The folders of today in which entries stand that lost their inode number, with name and `file_type` of each. Those
    /// left out of which another source knows the inode.
    pub fn anonymous(&self) -> HashMap<Ino, Vec<(Vec<u8>, u8)>> {
        let mut anonymous = self.anonymous.clone();
        for fact in self.by_inode.values().flatten() {
            if let Some(entries) = fact.folder.and_then(|folder| anonymous.get_mut(&folder)) {
                entries.retain(|(name, _)| *name != fact.name);
            }
        }
        anonymous.retain(|_, entries| !entries.is_empty());
        anonymous
    }

    /// Generation of the last life of an inode that ended no later than `moment`.
    pub fn newest_life_before(&self, ino: Ino, moment: Moment) -> Option<Generation> {
        let deaths = self.deaths.get(&ino)?;
        deaths.iter().rev().find(|(died, _)| *died <= moment).map(|(_, generation)| *generation)
    }

    /// Generation of the life that an inode had at `moment`, if that has ended since.
    pub fn life_at(&self, ino: Ino, moment: Moment) -> Option<Generation> {
        self.deaths.get(&ino)?.iter().find(|(died, _)| *died > moment).map(|(_, generation)| *generation)
    }
}

impl Collector<'_> {
    fn inodes(&self) -> u32 {
        self.fs.geometry().superblock.inodes
    }

    fn add(&mut self, entry: (Ino, Fact)) {
        let (ino, fact) = entry;
        if self.matter.contains(&ino) {
            // Most inodes have one name, and a list that grows by itself makes room for four.
            let facts = self.facts.by_inode.entry(ino).or_insert_with(|| Vec::with_capacity(1));
            if !facts.contains(&fact) {
                facts.push(fact);
            }
        }
    }

    fn want_loose(&mut self) -> Vec<(Moment, Vec<u8>)> {
        let mut folders = vec![];
        for copy in self.fs.journal().loose() {
            let Ok(bytes) = self.fs.journal().read_copy(self.fs.image(), *copy) else { continue };
            if let Some(block) = DirBlock::parse(&bytes, self.inodes()) {
                for entry in block.live() {
                    self.wanted.entry((entry.ino, entry.offset, entry.name.to_vec())).or_default().push(folders.len());
                }
                folders.push((copy.moment, bytes));
            }
        }
        folders
    }

    fn vote(&mut self, home: Block, block: &DirBlock<'_>) {
        if self.wanted.is_empty() {
            return;
        }
        for entry in &block.entries {
            for loose in self.wanted.get(&(entry.ino, entry.offset, entry.name.to_vec())).into_iter().flatten() {
                *self.votes.entry(*loose).or_default().entry(home).or_default() += 1;
            }
        }
    }

    /// Owners and slack of the folders of today.
    fn live_folders(&mut self, inodes: &Inodes, progress: &dyn Progress) {
        let total = inodes.live_dirs.len() as u64;
        for (number, ino) in (0..).zip(&inodes.live_dirs) {
            if number % 256 == 0 {
                progress.step("reading folders", number, total);
            }
            let Ok(inode) = self.fs.read_inode(*ino) else { continue };
            let born = inodes.lives.get(ino).and_then(|lives| Some(lives.last()?.born)).unwrap_or(Moment::PAST);
            for home in folder_blocks(self.fs, &inode) {
                self.owners.entry(home).or_default().push(Owner { folder: *ino, born, until: Moment::NOW });
                let Ok(bytes) = self.fs.read_block(home) else { continue };
                let Some(block) = DirBlock::parse(&bytes, self.inodes()) else { continue };
                self.vote(home, &block);
                if let Some(entry) = block.anonymous {
                    self.facts.anonymous.entry(*ino).or_default().push((entry.name.to_vec(), entry.file_type));
                }
                let removed = block.entries.iter().filter(|entry| entry.removed);
                let facts: Vec<_> = removed.map(|entry| uncertain(Some(*ino), entry, Moment::PAST, Moment::NOW)).collect();
                facts.into_iter().for_each(|fact| self.add(fact));
            }
        }
    }

    /// Owners and what still stands of the folders that were deleted.
    fn lost_folders(&mut self, recovery: &Recovery) {
        for id in recovery.ids().filter(|id| recovery.file(*id).kind == Kind::Dir) {
            let file: &LostFile = recovery.file(id);
            let Some(ino) = file.ino else { continue };
            for run in recovery.runs(id) {
                for (at, n) in (run.file_block.0..run.end().0).zip(0..) {
                    let Some(home) = run.block.map(|block| block.plus(n)) else { break };
                    self.owners.entry(home).or_default().push(Owner { folder: ino, born: file.span.born, until: file.span.freed_by });
                    if !run.evidence.is_data() || run.place != Place::Home {
                        continue;
                    }
                    let Ok(bytes) = self.fs.read_home(home) else { continue };
                    let Some(block) = DirBlock::parse(&bytes, self.inodes()) else { continue };
                    if at == 0 && block.dot != Some(ino) || at > 0 && block.dot.is_some() {
                        continue;
                    }
                    self.vote(home, &block);
                    let facts: Vec<_> =
                        block.entries.iter().map(|entry| uncertain(Some(ino), entry, Moment::PAST, file.span.unlinked)).collect();
                    facts.into_iter().for_each(|fact| self.add(fact));
                }
            }
        }
    }

    /// The folder that a block belonged to at a moment: its own word, if it is a first block.
    fn owner_at(&self, home: Block, moment: Moment, dot: Option<Ino>) -> Option<Ino> {
        let owners = self.owners.get(&home).map_or(&[][..], Vec::as_slice);
        let at_the_time = owners.iter().filter(|owner| owner.born < moment && moment <= owner.until);
        dot.or_else(|| at_the_time.min_by_key(|owner| owner.until).map(|owner| owner.folder))
    }

    /// Follows the copies of every folder block through the journal.
    fn copies(&mut self) {
        let blocks: Vec<Block> = self.fs.journal().copied_blocks().map(|(block, _)| block).collect();
        for home in blocks {
            if !self.fs.geometry().is_metadata(home) {
                self.copies_of(home);
            }
        }
    }

    fn copies_of(&mut self, home: Block) {
        let fs = self.fs;
        let read = |copy: &Copy| (*copy, fs.journal().read_copy(fs.image(), *copy).unwrap_or_default());
        let copies: Vec<(Copy, Vec<u8>)> = fs.journal().copies(home).iter().map(read).collect();
        let mut open: HashMap<Key<'_>, Standing> = HashMap::new();
        let mut last = Moment::PAST;
        for (copy, bytes) in &copies {
            let revoked = fs.journal().revokes(home).iter().find(|at| **at >= last && **at < copy.moment).copied();
            if let Some(at) = revoked.filter(|_| last > Moment::PAST) {
                self.close(&mut open, |_| true, at);
            }
            last = copy.moment;
            if let Some(block) = &DirBlock::parse(bytes, self.inodes()) {
                self.vote(home, block);
                let folder = self.owner_at(home, copy.moment, block.dot);
                for entry in block.live().filter(|entry| self.matter.contains(&entry.ino)) {
                    let key = (folder, entry.ino, entry.file_type, entry.name);
                    open.entry(key).or_insert(Standing { first: copy.moment, last }).last = last;
                }
                for entry in block.entries.iter().filter(|entry| entry.removed) {
                    self.add(uncertain(folder, entry, Moment::PAST, copy.moment));
                }
            }
            self.close(&mut open, |standing| standing.last < last, last);
        }
        let revoked = fs.journal().revokes(home).iter().find(|at| **at >= last).copied();
        let until = self.owners.get(&home).and_then(|owners| owners.iter().map(|owner| owner.until).filter(|until| *until >= last).min());
        self.close(&mut open, |_| true, revoked.or(until).unwrap_or(Moment::NOW));
    }

    /// Ends the entries that are gone.
    fn close(&mut self, open: &mut HashMap<Key<'_>, Standing>, gone: impl Fn(&Standing) -> bool, removed: Moment) {
        for ((folder, ino, file_type, name), Standing { first, .. }) in open.extract_if(|_, standing| gone(standing)) {
            self.add((ino, Fact { folder, name: name.to_vec(), file_type, first, removed, certain: true }));
        }
    }

    /// Takes the entries of loose copies: a first block names its folder, another is placed by the entries it shares with a known one.
    fn place_loose(&mut self, loose: Vec<(Moment, Vec<u8>)>) {
        for (index, (moment, bytes)) in loose.into_iter().enumerate() {
            let Some(block) = DirBlock::parse(&bytes, self.inodes()) else { continue };
            let best = self.votes.get(&index).and_then(|votes| votes.iter().max_by_key(|(home, votes)| (**votes, **home)));
            let folder = block.dot.or_else(|| self.owner_at(*best?.0, moment, None));
            let fact = |entry: &Entry<'_>| match entry.removed {
                true if moment > Moment::PAST => uncertain(folder, entry, Moment::PAST, moment),
                true => uncertain(folder, entry, Moment::PAST, Moment::NOW),
                false => uncertain(folder, entry, moment, Moment::NOW),
            };
            let facts: Vec<_> = block.entries.iter().map(fact).collect();
            facts.into_iter().for_each(|fact| self.add(fact));
        }
    }
}

fn uncertain(folder: Option<Ino>, entry: &Entry<'_>, first: Moment, removed: Moment) -> (Ino, Fact) {
    (entry.ino, Fact { folder, name: entry.name.to_vec(), file_type: entry.file_type, first, removed, certain: false })
}
