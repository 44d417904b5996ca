//! Whose chain is it? A chain found without an inode belongs to a file that was deleted, or emptied, and left no other trace.

use super::file::{Candidate, Kind, Loss, LostFile, Span, Time};
use super::stillness::Stillness;
use crate::format::inode::Inode;
use crate::fs::Filesystem;
use crate::units::Ino;
use std::collections::BTreeMap;

/// Candidates that are named for one orphan at most: more help nobody.
const MOST: usize = 16;

/// A file that may have had a chain.
#[derive(Clone)]
pub enum Claimant {
    /// A deleted file of which no pointers are left: its index among the lost files.
    Dead(usize),
    /// A file that is in use and empty, but was not always.
    Emptied(Ino, Box<Inode>),
}

/// What the match found.
#[derive(Default)]
pub struct Owners {
    /// For each chain its owner, where there is only one that fits.
    pub owner: Vec<Option<Claimant>>,
    /// For each chain without an owner those that fit equally.
    pub candidates: Vec<Vec<Claimant>>,
}

/// Finds the owner of each chain. `homes` are the block groups in which the chains begin: both drivers put a file's first blocks into
/// the group of its inode, while there is room (`ext3_find_near`, fs/ext3/inode.c).
pub fn find(fs: &Filesystem, homes: &[u64], files: &[LostFile], stillness: &Stillness) -> Owners {
    let group_of = |ino: Ino| u64::from((ino.0.max(1) - 1) / fs.geometry().superblock.inodes_per_group.max(1));
    let dead = files
        .iter()
        .enumerate()
        .filter(|(_, file)| file.ino.is_some() && !file.has_trace() && file.kind == Kind::File && file.loss == Loss::Deleted);
    let dead = dead.filter_map(|(at, file)| Some((group_of(file.ino?), Claimant::Dead(at))));
    let emptied = stillness.emptied.iter().map(|(ino, inode)| (group_of(*ino), Claimant::Emptied(*ino, Box::new(inode.clone()))));
    let mut claimants: BTreeMap<u64, Vec<Claimant>> = BTreeMap::new();
    for (group, claimant) in dead.chain(emptied) {
        claimants.entry(group).or_default().push(claimant);
    }
    let mut owners = Owners { owner: vec![None; homes.len()], candidates: vec![vec![]; homes.len()] };
    let mut strays = vec![];
    for (chain, group) in homes.iter().enumerate() {
        match claimants.get(group).map(Vec::as_slice) {
            None => strays.push(chain),
            Some([only]) if homes.iter().filter(|home| *home == group).count() == 1 => owners.owner[chain] = Some(only.clone()),
            Some(several) => owners.candidates[chain] = several.to_vec(),
        }
    }
    // A file that found no room in its own group.
    let alone = |group: &u64| !homes.contains(group);
    let rest: Vec<Claimant> = claimants.into_iter().filter(|(group, _)| alone(group)).flat_map(|(_, several)| several).collect();
    for chain in &strays {
        match rest.as_slice() {
            [only] if strays.len() == 1 => owners.owner[*chain] = Some(only.clone()),
            several => owners.candidates[*chain] = several.to_vec(),
        }
    }
    owners
}

impl Claimant {
    /// When it was deleted, or emptied.
    pub fn when(&self, files: &[LostFile]) -> Option<Time> {
        match self {
            Claimant::Dead(at) => files[*at].span.ended.or(files[*at].deleted),
            Claimant::Emptied(_, inode) => Some(inode.mtime),
        }
    }

    /// What is told of it as a candidate.
    pub fn describe(&self, files: &[LostFile], path: &dyn Fn(Ino) -> Option<Vec<u8>>) -> Option<Candidate> {
        let when = self.when(files);
        match self {
            Claimant::Dead(at) => Some(Candidate { ino: files[*at].ino?, path: files[*at].paths.first().cloned(), when }),
            Claimant::Emptied(ino, _) => Some(Candidate { ino: *ino, path: path(*ino), when }),
        }
    }

    /// Makes `chain`, a lost file without an inode, this file's.
    pub fn own(&self, chain: &mut LostFile, files: &[LostFile], path: &dyn Fn(Ino) -> Option<Vec<u8>>) {
        let when = self.when(files);
        let span = chain.span.clone();
        match self {
            Claimant::Dead(at) => {
                let file = &files[*at];
                let unlinked = file.span.unlinked;
                let mapping = std::mem::replace(&mut chain.mapping, file.mapping.clone());
                let (size, size_from) = (chain.size, chain.size_from);
                let orphan = chain.orphan.take();
                *chain = LostFile { mapping, size, size_from, orphan, span: Span { unlinked, ended: when, ..span }, ..file.clone() };
            }
            Claimant::Emptied(ino, inode) => {
                chain.ino = Some(*ino);
                chain.generation = Some(inode.generation);
                (chain.mode, chain.uid, chain.gid, chain.links) = (inode.mode & 0o7777, inode.uid, inode.gid, inode.links);
                (chain.atime, chain.mtime, chain.ctime) = (inode.atime, inode.mtime, inode.ctime);
                chain.deleted = when;
                chain.loss = Loss::Truncated;
                chain.paths = path(*ino).into_iter().collect();
                chain.span = Span { ended: when, cut: 0, ..span };
            }
        }
    }
}

/// The candidates of an orphan, as they are told, and the earliest moment at which it can have been lost by any of them.
pub fn described(several: &[Claimant], files: &[LostFile], path: &dyn Fn(Ino) -> Option<Vec<u8>>) -> (Vec<Candidate>, Option<Time>) {
    let earliest = several.iter().map(|claimant| claimant.when(files)).min().flatten();
    (several.iter().take(MOST).filter_map(|claimant| claimant.describe(files, path)).collect(), earliest)
}
