//! Whose chain is it? A chain found without an inode belongs to a file that was deleted, or emptied, and left no other trace.

use super::file::{Candidate, Kind, Loss, LostFile, Span, Time};
use super::inodes::Inodes;
use super::stillness::Stillness;
use crate::format::inode::{Inode, S_IFREG};
use crate::fs::Filesystem;
use crate::units::{Block, Ino};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Candidates that are named for one orphan at most: more help nobody.
const MOST: usize = 16;

/// A file that may have had a chain.
#[derive(Clone)]
pub enum Claimant {
    /// A deleted file of which no pointers are left: its index among the lost files.
    Dead(usize),
    /// A file that is in use, but held something else before.
    Emptied(Ino, Box<Inode>),
}

/// Where a chain begins.
#[derive(Clone, Copy)]
pub struct Start {
    /// The block group of its first blocks.
    pub group: u64,
    /// Its first IND, if that is left.
    pub ind: Option<Block>,
}

/// What the match found.
pub struct Owners {
    /// For each chain its owner, where there is only one that fits.
    pub owner: Vec<Option<Claimant>>,
    /// For each chain without an owner those that fit equally.
    pub candidates: Vec<Vec<Claimant>>,
}

impl Owners {
    /// Nobody owns any of so many chains.
    pub fn nobody(chains: usize) -> Owners {
        Owners { owner: vec![None; chains], candidates: vec![vec![]; chains] }
    }
}

/// Who may have had chains in one block group.
#[derive(Default)]
struct Group {
    /// Deleted or emptied: they lost something.
    losers: Vec<(Ino, Claimant)>,
    /// In use, but written after they were made: they may have held something else before.
    rewritten: Vec<(Ino, Claimant)>,
    /// Files in use that have an IND: inode and IND.
    inds: Vec<(Ino, Block)>,
}

impl Group {
    /// Whether an inode can have had the IND: files that were made one after the other got their inodes and their INDs in the same order
    /// (`find_next_zero_bit` in `ext3_new_inode`, `ext3_find_near`), as long as nearly all that are in use say so.
    fn is_in_order(&self, ino: Ino, ind: Block) -> bool {
        let others = || self.inds.iter().filter(|(other, _)| *other != ino);
        let agree = others().filter(|(other, block)| (*other < ino) == (*block < ind)).count();
        agree * 10 >= others().count() * 9
    }

    /// Who can have had a chain that begins so; losers first, others only if there are none.
    fn fitting(&self, start: Start) -> Vec<Claimant> {
        let fits = |(ino, _): &&(Ino, Claimant)| start.ind.is_none_or(|ind| self.is_in_order(*ino, ind));
        let of = |claimants: &[(Ino, Claimant)]| claimants.iter().filter(fits).map(|(_, claimant)| claimant.clone()).collect::<Vec<_>>();
        let losers = of(&self.losers);
        // Files that were written to are many. The order has to speak for one of them.
        match start.ind.filter(|_| losers.is_empty() && self.inds.len() > 1) {
            Some(_) => of(&self.rewritten),
            None => losers,
        }
    }
}

/// Finds the owner of each chain. Both drivers put a file's first blocks into the group of its inode, while there is room
/// (`ext3_find_near`, fs/ext3/inode.c).
pub fn find(fs: &Filesystem, starts: &[Start], files: &[LostFile], stillness: &Stillness) -> Owners {
    // Whose former content is known already.
    let known: HashSet<Ino> = files.iter().filter(|file| file.has_trace()).filter_map(|file| file.ino).collect();
    let group_of = |ino: Ino| u64::from((ino.0.max(1) - 1) / fs.geometry().superblock.inodes_per_group.max(1));
    let mut groups: BTreeMap<u64, Group> = BTreeMap::new();
    let dead = files
        .iter()
        .enumerate()
        .filter(|(_, file)| file.ino.is_some() && !file.has_trace() && file.kind == Kind::File && file.loss == Loss::Deleted);
    let dead = dead.filter_map(|(at, file)| Some((file.ino?, Claimant::Dead(at))));
    let emptied = stillness.emptied.iter().map(|(ino, inode)| (*ino, Claimant::Emptied(*ino, Box::new(inode.clone()))));
    for (ino, claimant) in dead.chain(emptied) {
        groups.entry(group_of(ino)).or_default().losers.push((ino, claimant));
    }
    let wanted: HashSet<u64> = starts.iter().map(|start| start.group).collect();
    Inodes::each_live(fs, &mut |ino, inode| {
        if inode.file_type() != S_IFREG || inode.size == 0 || !wanted.contains(&group_of(ino)) {
            return;
        }
        let group = groups.entry(group_of(ino)).or_default();
        group.inds.extend(inode.pointers()[12].map(|ind| (ino, ind)));
        if inode.crtime.is_none_or(|crtime| inode.mtime > crtime) && !known.contains(&ino) {
            group.rewritten.push((ino, Claimant::Emptied(ino, Box::new(inode))));
        }
    });
    let mut candidates: Vec<Vec<Claimant>> = vec![];
    for start in starts {
        candidates.push(groups.get(&start.group).map_or(vec![], |group| group.fitting(*start)));
    }
    // Files that found no room in their own group.
    let strays: Vec<usize> = (0..starts.len()).filter(|chain| candidates[*chain].is_empty()).collect();
    let rest = groups.iter().filter(|(group, _)| !wanted.contains(group)).flat_map(|(_, group)| &group.losers);
    let rest: Vec<Claimant> = rest.map(|(_, claimant)| claimant.clone()).collect();
    strays.iter().for_each(|chain| candidates[*chain] = rest.clone());
    // An owner is the only one that fits its chain, and has no other.
    let mut wooed: HashMap<Ino, usize> = HashMap::new();
    candidates.iter().flatten().for_each(|claimant| *wooed.entry(claimant.ino(files)).or_default() += 1);
    let owner = |of: &Vec<Claimant>| match of.as_slice() {
        [only] if wooed.get(&only.ino(files)) == Some(&1) => Some(only.clone()),
        _ => None,
    };
    let owner = candidates.iter().map(owner).collect();
    // Who only may have lost something is no candidate worth naming.
    candidates.iter_mut().for_each(|of| of.retain(Claimant::is_loser));
    Owners { owner, candidates }
}

impl Claimant {
    fn ino(&self, files: &[LostFile]) -> Ino {
        match self {
            Claimant::Dead(at) => files[*at].ino.unwrap_or(Ino(0)),
            Claimant::Emptied(ino, _) => *ino,
        }
    }

    /// Whether the same inode is meant.
    pub fn is(&self, other: &Claimant, files: &[LostFile]) -> bool {
        self.ino(files) == other.ino(files)
    }

    /// Whether it is certain to have lost something.
    pub fn is_loser(&self) -> bool {
        matches!(self, Claimant::Dead(_)) || matches!(self, Claimant::Emptied(_, inode) if inode.size == 0)
    }

    /// When it was deleted, or emptied.
    pub fn when(&self, files: &[LostFile]) -> Option<Time> {
        match self {
            // The inode's last change is more precise than `i_dtime`: it was its truncate.
            Claimant::Dead(at) => {
                let (file, ended) = (&files[*at], files[*at].span.ended.or(files[*at].deleted)?);
                Some(if file.ctime.seconds == ended.seconds { ended.max(file.ctime) } else { ended })
            }
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
                let successor = (inode.size > 0).then(|| Box::new(inode.pointers()));
                chain.span = Span { ended: when, cut: 0, successor, ..span };
            }
        }
    }
}

/// The candidates of an orphan, as they are told, and the earliest moment at which it can have been lost by any of them; `None` where
/// `sharing` orphans, more than there are candidates, have the same ones, so that some had other owners.
pub fn described(
    several: &[Claimant],
    sharing: usize,
    files: &[LostFile],
    path: &dyn Fn(Ino) -> Option<Vec<u8>>,
) -> (Vec<Candidate>, Option<Time>) {
    let earliest = several.iter().map(|claimant| claimant.when(files)).min().flatten().filter(|_| sharing <= several.len());
    (several.iter().take(MOST).filter_map(|claimant| claimant.describe(files, path)).collect(), earliest)
}
