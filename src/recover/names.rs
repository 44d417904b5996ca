//! From folder entries over time to the paths that lost files had.

mod anonymous;

use super::file::{Kind, Loss, LostFile};
use super::folders::{Fact, Facts};
use super::inodes::Inodes;
use super::takers::folder_blocks;
use super::{Progress, Recovery};
use crate::format::dir_block::{DirBlock, FT_DIR};
use crate::fs::Filesystem;
use crate::units::{FileBlock, Ino, Moment};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

/// Folders above a file at most: `PATH_MAX` is 4,096 bytes, so 2,048 names.
const MAX_DEPTH: usize = 2048;

/// The paths of every lost file, in the order of the files.
pub fn paths(recovery: &Recovery, inodes: &Inodes, progress: &dyn Progress) -> Vec<Vec<Vec<u8>>> {
    let facts = Facts::collect(recovery, inodes, progress);
    let resolver =
        Resolver { fs: recovery.filesystem(), facts: &facts, live: inodes.live_dirs.iter().copied().collect(), known: RefCell::default() };
    let total = recovery.files().len() as u64;
    let path = |(file, number): (&LostFile, u64)| {
        if number % 1024 == 0 {
            progress.step("finding names", number, total);
        }
        let mut paths: Vec<Vec<u8>> = vec![];
        let mut names = names_of(&facts, file);
        if names.is_empty() {
            names.extend(next_name(resolver.fs, &facts, file));
        }
        for fact in names {
            let path = resolver.path(fact, file);
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        paths
    };
    let mut paths: Vec<_> = recovery.files().iter().zip(0..).map(path).collect();
    for (id, fact) in anonymous::settle(recovery, &facts, &paths) {
        paths[id.0 as usize] = vec![resolver.path(&fact, recovery.file(id))];
    }
    paths
}

/// Whether an entry's type can be this file's; entries of filesystems without types fit all.
fn fits(file_type: u8, file: &LostFile) -> bool {
    matches!((file_type, file.kind), (0, _) | (1, Kind::File) | (FT_DIR, Kind::Dir) | (7, Kind::Symlink))
}

/// The entries that named a file when it was lost.
fn names_of<'a>(facts: &'a Facts, file: &LostFile) -> Vec<&'a Fact> {
    let Some(ino) = file.ino else { return vec![] };
    let (born, lost) = (file.span.born, file.span.unlinked);
    let all = || facts.of(ino).iter().filter(|fact| fits(fact.file_type, file));
    // An entry that is first seen after the inode was last seen as this life can be the next life's, if transactions in between are missing.
    let in_time = |fact: &&Fact| fact.first < lost && fact.removed > born && (fact.first <= file.span.last || file.span.covered);
    let certain: Vec<_> = all().filter(|fact| fact.certain).filter(in_time).collect();
    if !certain.is_empty() {
        let last: Vec<_> = certain.iter().filter(|fact| fact.removed >= lost).copied().collect();
        // Without a name at the end (its folder's last state is lost), the one that was removed last.
        let end = certain.iter().map(|fact| fact.removed).max().unwrap_or(lost);
        let mut names = if last.is_empty() { certain.iter().filter(|fact| fact.removed == end).copied().collect() } else { last };
        if file.loss == Loss::Deleted {
            // A name that went while another stayed was a hard link, unless a new name came in its place: then it was renamed.
            let renamed = |gone: &Fact| certain.iter().any(|fact| fact.first == gone.removed);
            let linked =
                certain.iter().filter(|fact| file.links > 1 && fact.removed < end && fact.removed >= file.span.last && !renamed(fact));
            names.extend(linked.copied());
        }
        names.sort_by(|a, b| b.removed.cmp(&a.removed).then_with(|| (a.folder, &a.name).cmp(&(b.folder, &b.name))));
        return names;
    }
    // What stands in the slack of folders that are still there and in blocks of deleted folders tells no time but "before": the newest life
    // that had ended by then is meant. What is in use in a copy without a tag names the life of that moment.
    let meant = |fact: &&Fact| {
        let life = if fact.first > Moment::PAST { facts.life_at(ino, fact.first) } else { facts.newest_life_before(ino, fact.removed) };
        fact.removed > born && life.is_none_or(|generation| Some(generation) == file.generation)
    };
    let mut uncertain: Vec<_> = all().filter(|fact| !fact.certain).filter(meant).collect();
    uncertain.sort_by(|a, b| b.first.cmp(&a.first).then_with(|| (a.folder, &a.name).cmp(&(b.folder, &b.name))));
    uncertain
}

/// The first name that is seen after a file that lived on was cut: nothing tells which it had before, and by this one people knew it.
fn next_name<'a>(fs: &Filesystem, facts: &'a Facts, file: &LostFile) -> Option<&'a Fact> {
    let ino = file.ino.filter(|_| file.loss == Loss::Truncated)?;
    let lives_on = || fs.read_inode(ino).is_ok_and(|inode| inode.links > 0 && Some(inode.generation) == file.generation);
    let later = |fact: &&Fact| fact.certain && fact.first >= file.span.unlinked && fits(fact.file_type, file);
    let next = facts.of(ino).iter().filter(later).min_by_key(|fact| fact.first)?;
    let is_own = facts.life_at(ino, next.first).map_or_else(lives_on, |generation| Some(generation) == file.generation);
    is_own.then_some(next)
}

struct Resolver<'a> {
    fs: &'a Filesystem,
    facts: &'a Facts,
    live: HashSet<Ino>,
    /// Paths of folders already found, by folder and moment.
    known: RefCell<HashMap<(Ino, Moment), Vec<u8>>>,
}

impl Resolver<'_> {
    /// The full path that an entry gave a file when it was lost.
    fn path(&self, fact: &Fact, file: &LostFile) -> Vec<u8> {
        // Folder and file can go in one transaction: what counts is how the folders stood just before.
        let moment = Moment(fact.removed.min(file.span.unlinked).0.saturating_sub(1));
        let mut path = match fact.folder {
            Some(folder) => self.folder(folder, moment),
            None => b"/#unknown".to_vec(),
        };
        path.push(b'/');
        path.extend_from_slice(&fact.name);
        path
    }

    /// The path of a folder at a moment, without a slash at its end; the root is empty.
    fn folder(&self, folder: Ino, moment: Moment) -> Vec<u8> {
        let (mut names, mut at, mut seen) = (vec![], folder, HashSet::new());
        let mut path = loop {
            if at == Ino::ROOT {
                break vec![];
            }
            if let Some(path) = self.known.borrow().get(&(at, moment)) {
                break path.clone();
            }
            let step = if names.len() < MAX_DEPTH && seen.insert(at) { self.step(at, moment) } else { None };
            match step {
                Some((parent, name)) => {
                    names.push(name);
                    at = parent;
                }
                None => break format!("/#{at}").into_bytes(),
            }
        };
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        self.known.borrow_mut().insert((folder, moment), path.clone());
        path
    }

    /// Parent and name of a folder at a moment.
    fn step(&self, folder: Ino, moment: Moment) -> Option<(Ino, Vec<u8>)> {
        let facts = || self.facts.of(folder).iter().filter(|fact| fact.folder.is_some() && matches!(fact.file_type, 0 | FT_DIR));
        let certain = facts().filter(|fact| fact.certain && fact.first <= moment && fact.removed > moment).max_by_key(|fact| fact.first);
        let named = |fact: &Fact| Some((fact.folder?, fact.name.clone()));
        if let Some(fact) = certain {
            return named(fact);
        }
        // First seen later than the moment asked for, or last seen before: the nearest in time.
        let distance = |fact: &&Fact| if fact.first > moment { fact.first.0 - moment.0 } else { moment.0.saturating_sub(fact.removed.0) };
        if let Some(fact) = facts().filter(|fact| fact.certain).min_by_key(distance) {
            return named(fact);
        }
        self.live_step(folder).or_else(|| facts().max_by_key(|fact| fact.first).and_then(named))
    }

    fn live_step(&self, folder: Ino) -> Option<(Ino, Vec<u8>)> {
        if self.live.contains(&folder) { live_step(self.fs, folder) } else { None }
    }
}

/// Parent and name that a folder has today: `..` names the parent, and one of its entries the folder.
fn live_step(fs: &Filesystem, folder: Ino) -> Option<(Ino, Vec<u8>)> {
    let inodes = fs.geometry().superblock.inodes;
    let first = fs.read_block(fs.current_block(&fs.read_inode(folder).ok()?.pointers(), FileBlock(0))?).ok()?;
    let parent = DirBlock::parse(&first, inodes)?.dotdot?;
    let inode = fs.read_inode(parent).ok().filter(|inode| inode.is_dir())?;
    folder_blocks(fs, &inode).find_map(|block| {
        let bytes = fs.read_block(block).ok()?;
        let block = DirBlock::parse(&bytes, inodes)?;
        let name = block.live().find(|entry| entry.ino == folder)?.name.to_vec();
        Some((parent, name))
    })
}

/// The paths that these inodes have today, one each, as far as the folders in use tell.
pub(super) fn live_path(fs: &Filesystem, wanted: &HashSet<Ino>) -> HashMap<Ino, Vec<u8>> {
    let mut entries: HashMap<Ino, (Ino, Vec<u8>)> = HashMap::new();
    Inodes::each_live(fs, &mut |folder, inode| {
        if !inode.is_dir() {
            return;
        }
        for block in folder_blocks(fs, &inode) {
            let Ok(bytes) = fs.read_block(block) else { continue };
            let Some(parsed) = DirBlock::parse(&bytes, fs.geometry().superblock.inodes) else { continue };
            for entry in parsed.live().filter(|entry| wanted.contains(&entry.ino)) {
                entries.entry(entry.ino).or_insert((folder, entry.name.to_vec()));
            }
        }
    });
    let path = |(ino, (folder, name)): (Ino, (Ino, Vec<u8>))| {
        let (mut names, mut at) = (vec![name], folder);
        while at != Ino::ROOT && names.len() < MAX_DEPTH {
            let (parent, name) = live_step(fs, at)?;
            names.push(name);
            at = parent;
        }
        Some((ino, names.iter().rev().flat_map(|name| [b"/".as_slice(), name].concat()).collect()))
    };
    entries.into_iter().filter_map(path).collect()
}
