//! Whose chain is it? A chain found without an inode belongs to a file that was deleted, or emptied, and left no other trace.

use super::file::{Candidate, Kind, Loss, LostFile, Span, Time};
use super::inodes::Inodes;
use super::stillness::Stillness;
use crate::format::inode::{Inode, S_IFREG};
use crate::fs::Filesystem;
use crate::units::{Block, Ino, Moment};
use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Candidates that are picked out for one chain at most. Of more, all that were lost in its block group are named, which many chains
/// share.
const MOST: usize = 64;

/// Paths of inodes in use.
pub type Paths = HashMap<Ino, Vec<u8>>;

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
    /// When the journal was told to forget its indirect blocks, where that is what dates it.
    pub forgotten: Option<Forgotten>,
}

/// When the journal was told to forget the indirect blocks of a file.
#[derive(Clone, Copy)]
pub struct Forgotten {
    /// The first transaction of these.
    pub from: Moment,
    /// The last one.
    pub to: Moment,
    /// Something is left of all transactions in between, and of those beside.
    pub is_whole: bool,
}

/// Whose one chain is.
#[derive(Default)]
pub struct Match {
    /// The only one that fits it, and fits no other, where no inode has been used again or the journal has both lost at the same time.
    pub owner: Option<Claimant>,
    /// Whether anything fits it that is certain to have lost something.
    pub has_losers: bool,
    /// For a chain without an owner those that fit equally.
    pub candidates: Arc<[Candidate]>,
    /// The earliest moment at which it can have been lost by any of them; `None` where that is not known of all, and where more chains
    /// than there are candidates have the same ones, so that some had other owners.
    pub earliest: Option<Time>,
}

/// Who may have had chains in one block group.
#[derive(Default)]
struct Group {
    /// Deleted or emptied: they lost something.
    losers: Vec<(Ino, Claimant)>,
    /// When, for those of which the journal has it.
    emptied: HashMap<Ino, Emptied>,
    /// In use, but written after they were made: they may have held something else before.
    rewritten: Vec<(Ino, Claimant)>,
    /// Files in use that have an IND, sorted by their inodes.
    inds: Vec<(Ino, Block)>,
    /// For each of `losers`, then of `rewritten`, how many chains it fits.
    wooed: Vec<u32>,
    /// Whether files in use took inodes that others had left: any of those can be the owner too, and nothing tells.
    is_worn: bool,
    /// How many chains have losers to choose from and no owner.
    rivals: usize,
    /// Which these are, each chain's sorted, if there are not too many chains.
    choices: Vec<Vec<usize>>,
    /// All losers, as they are told.
    described: OnceCell<Arc<[Candidate]>>,
}

/// When the journal has an inode without content for the first time.
#[derive(Clone, Copy)]
struct Emptied {
    at: Moment,
    /// Transactions around it are whole, and what is freed in them is said to be forgotten: not so where file contents are journaled.
    is_telling: bool,
}

/// Who fits a chain: by index in a group's losers, with its rewritten files behind them.
enum Fit {
    Losers(Vec<usize>),
    Rewritten(Vec<usize>),
}

/// How the INDs of files in use lie to one that is looked at.
struct Order<'a> {
    inds: &'a [(Ino, Block)],
    /// How many of the first so many lie below it.
    below: Vec<usize>,
}

impl Order<'_> {
    fn new(inds: &[(Ino, Block)], ind: Block) -> Order<'_> {
        let mut below = vec![0];
        below.extend(inds.iter().scan(0, |count, (_, block)| {
            *count += usize::from(*block < ind);
            Some(*count)
        }));
        Order { inds, below }
    }

    /// Whether an inode can have had the IND: files that were made one after the other got their inodes and their INDs in the same order
    /// (`find_next_zero_bit` in `ext3_new_inode`, `ext3_find_near`), as long as nearly all that are in use say so.
    fn fits(&self, ino: Ino) -> bool {
        let before = self.inds.partition_point(|(other, _)| *other < ino);
        let after = self.inds.partition_point(|(other, _)| *other <= ino);
        let others = before + self.inds.len() - after;
        let agree = self.below[before] + (self.inds.len() - after) - (self.below[self.inds.len()] - self.below[after]);
        agree * 10 >= others * 9
    }
}

impl Group {
    fn claimant(&self, at: usize) -> Option<&(Ino, Claimant)> {
        self.losers.get(at).or_else(|| self.rewritten.get(at - self.losers.len()))
    }

    /// Who can have had a chain that begins so; losers first, others only if there are none.
    fn fitting(&self, start: Start) -> Fit {
        let order = start.ind.map(|ind| Order::new(&self.inds, ind));
        let fits = |at: &usize| order.as_ref().is_none_or(|order| self.claimant(*at).is_some_and(|(ino, _)| order.fits(*ino)));
        let in_time = |at: &usize| self.is_in_time(*at, start) != Some(false);
        let losers: Vec<usize> = (0..self.losers.len()).filter(in_time).filter(fits).collect();
        // Files that were written to are many. The order has to speak for one of them.
        match start.ind.filter(|_| losers.is_empty() && self.inds.len() > 1) {
            Some(_) => Fit::Rewritten((self.losers.len()..self.losers.len() + self.rewritten.len()).filter(fits).collect()),
            None => Fit::Losers(losers),
        }
    }

    /// Whether the journal has a loser emptied when it was told to forget a chain; `None` if it does not say both.
    fn is_in_time(&self, at: usize, start: Start) -> Option<bool> {
        let (ino, _) = self.losers.get(at)?;
        match (self.emptied.get(ino), start.forgotten) {
            (Some(emptied), Some(of)) => Some((of.from..=of.to).contains(&emptied.at)),
            (Some(emptied), None) => emptied.is_telling.then_some(false),
            // The inode would be in the same transactions.
            (None, Some(of)) => of.is_whole.then_some(false),
            (None, None) => None,
        }
    }

    /// Notes whom a chain could have.
    fn woo(&mut self, start: Start) {
        self.wooed.resize(self.losers.len() + self.rewritten.len(), 0);
        let (Fit::Losers(of) | Fit::Rewritten(of)) = self.fitting(start);
        of.iter().for_each(|at| self.wooed[*at] += 1);
    }

    /// Whose a chain is, when all have been noted.
    fn settle(&mut self, start: Start) -> Match {
        let (Fit::Losers(of) | Fit::Rewritten(of)) = self.fitting(start);
        let owner = match of[..] {
            [only] if self.wooed[only] == 1 && (!self.is_worn || self.is_in_time(only, start) == Some(true)) => {
                self.claimant(only).map(|(_, claimant)| claimant.clone())
            }
            _ => None,
        };
        // Who only may have lost something is no candidate worth naming.
        let has_losers = of.iter().filter_map(|at| self.claimant(*at)).any(|(_, claimant)| claimant.is_loser());
        if has_losers && owner.is_none() {
            self.rivals += 1;
            if self.rivals <= MOST {
                self.choices.push(of);
            }
        }
        Match { owner, has_losers, ..Match::default() }
    }

    /// Names the candidates of a chain that has no owner.
    fn name(&self, start: Start, tell: &dyn Fn(&Claimant) -> Option<Candidate>) -> (Arc<[Candidate]>, Option<Time>) {
        let (Fit::Losers(of) | Fit::Rewritten(of)) = self.fitting(start);
        let losers = of.iter().filter_map(|at| self.claimant(*at)).map(|(_, claimant)| claimant).filter(|claimant| claimant.is_loser());
        let some: Vec<&Claimant> = losers.take(MOST + 1).collect();
        let candidates = match some.len() > MOST {
            true => Arc::clone(self.described.get_or_init(|| self.losers.iter().filter_map(|(_, claimant)| tell(claimant)).collect())),
            false => some.into_iter().filter_map(tell).collect(),
        };
        let earliest = candidates.iter().map(|candidate| candidate.when).min().flatten();
        let shares = |other: &&Vec<usize>| of.iter().any(|at| other.binary_search(at).is_ok());
        let rivals = if self.rivals > MOST { self.rivals } else { self.choices.iter().filter(shares).count() };
        let earliest = earliest.filter(|_| rivals <= candidates.len());
        (candidates, earliest)
    }
}

/// Finds the owner of each chain. Both drivers put a file's first blocks into the group of its inode, while there is room
/// (`ext3_find_near`, fs/ext3/inode.c). `path` tells the paths of inodes in use.
pub fn find(
    fs: &Filesystem,
    starts: &[Start],
    files: &[LostFile],
    stillness: &Stillness,
    path: &dyn Fn(&HashSet<Ino>) -> Paths,
) -> (Vec<Match>, Paths) {
    // Whose former content is known already.
    let known: HashSet<Ino> = files.iter().filter(|file| file.has_trace()).filter_map(|file| file.ino).collect();
    let group_of = |ino: Ino| u64::from((ino.0.max(1) - 1) / fs.geometry().superblock.inodes_per_group.max(1));
    let mut groups: BTreeMap<u64, Group> = BTreeMap::new();
    let dead = files
        .iter()
        .enumerate()
        .filter(|(_, file)| file.ino.is_some() && !file.has_trace() && file.kind == Kind::File && file.loss == Loss::Deleted);
    let dead = dead.filter_map(|(at, file)| Some((file.ino?, Claimant::Dead(at))));
    let living = stillness.emptied.iter().map(|(ino, inode)| (*ino, Claimant::Emptied(*ino, Box::new(inode.clone()))));
    for (ino, claimant) in dead.chain(living) {
        groups.entry(group_of(ino)).or_default().losers.push((ino, claimant));
    }
    let wanted: HashSet<u64> = starts.iter().map(|start| start.group).collect();
    Inodes::each_live(fs, &mut |ino, inode| {
        let is_reserved = ino < fs.geometry().superblock.first_ino;
        if is_reserved || inode.file_type() != S_IFREG || inode.size == 0 || !wanted.contains(&group_of(ino)) {
            return;
        }
        let group = groups.entry(group_of(ino)).or_default();
        group.inds.extend(inode.pointers()[12].map(|ind| (ino, ind)));
        if inode.crtime.is_none_or(|crtime| inode.mtime > crtime) && !known.contains(&ino) {
            group.rewritten.push((ino, Claimant::Emptied(ino, Box::new(inode))));
        }
    });
    let emptied = when_emptied(fs, files, groups.values().flat_map(|group| &group.losers));
    for (number, group) in &mut groups {
        group.inds.sort_unstable();
        group.is_worn = stillness.is_reused(*number);
        group.emptied = group.losers.iter().filter_map(|(ino, _)| Some((*ino, *emptied.get(ino)?))).collect();
    }
    // Files that found no room in their own group.
    let strange = groups.iter().filter(|(group, _)| !wanted.contains(group));
    let losers = strange.flat_map(|(_, group)| group.losers.clone()).collect();
    let mut elsewhere = Group { losers, emptied, is_worn: stillness.births() > 0, ..Group::default() };
    let fits_any = |group: &Group, start: &Start| match group.fitting(*start) {
        Fit::Losers(of) | Fit::Rewritten(of) => !of.is_empty(),
    };
    // For each chain where its owner is looked for; `None` elsewhere.
    let places: Vec<Option<u64>> =
        starts.iter().map(|start| groups.get(&start.group).is_some_and(|group| fits_any(group, start)).then_some(start.group)).collect();
    // What is in another group says nothing of the order.
    let stray = |start: &Start| Start { ind: None, ..*start };
    for (start, place) in starts.iter().zip(&places) {
        match place.and_then(|place| groups.get_mut(&place)) {
            Some(group) => group.woo(*start),
            None => elsewhere.woo(stray(start)),
        }
    }
    let mut matches = vec![];
    for (start, place) in starts.iter().zip(&places) {
        matches.push(match place.and_then(|place| groups.get_mut(&place)) {
            Some(group) => group.settle(*start),
            None => elsewhere.settle(stray(start)),
        });
    }
    let named = groups.values().chain([&elsewhere]).filter(|group| group.rivals > 0).flat_map(|group| &group.losers);
    let named = named.map(|(_, claimant)| claimant).chain(matches.iter().filter_map(|found| found.owner.as_ref()));
    let emptied: HashSet<Ino> =
        named.filter(|claimant| matches!(claimant, Claimant::Emptied(..))).map(|claimant| claimant.ino(files)).collect();
    let paths = if emptied.is_empty() { HashMap::new() } else { path(&emptied) };
    let tell = |claimant: &Claimant| claimant.describe(files, &|ino| paths.get(&ino).cloned());
    for ((start, place), found) in starts.iter().zip(&places).zip(&mut matches).filter(|(_, found)| found.owner.is_none()) {
        (found.candidates, found.earliest) = match place.and_then(|place| groups.get(&place)) {
            Some(group) => group.name(*start, &tell),
            None => elsewhere.name(stray(start), &tell),
        };
    }
    (matches, paths)
}

/// When the journal has inodes without content for the first time.
fn when_emptied<'a>(fs: &Filesystem, files: &[LostFile], losers: impl Iterator<Item = &'a (Ino, Claimant)>) -> HashMap<Ino, Emptied> {
    let mut tables: BTreeMap<Block, Vec<(Ino, usize, &Claimant)>> = BTreeMap::new();
    for (ino, claimant) in losers {
        if let Some((table, byte)) = fs.geometry().inode_location(*ino) {
            tables.entry(table).or_default().push((*ino, byte, claimant));
        }
    }
    // A file that was just made is empty too.
    let is_emptied = |inode: &Inode, claimant: &Claimant| match claimant {
        Claimant::Dead(at) => inode.links == 0 && Some(inode.generation) == files[*at].generation,
        Claimant::Emptied(_, now) => inode.generation == now.generation && inode.mtime == now.mtime,
    };
    let journal = fs.journal();
    let is_telling = |at: Moment| {
        let (from, to) = (Moment(at.0.saturating_sub(1)), Moment(at.0 + 1));
        let transactions = journal.transactions();
        let first = transactions.partition_point(|transaction| transaction.moment < from);
        let mut around = transactions[first..].iter().take_while(|transaction| transaction.moment <= to);
        journal.is_unbroken(from, to) && around.any(|transaction| !transaction.revokes.is_empty())
    };
    let mut emptied: HashMap<Ino, Emptied> = HashMap::new();
    for (table, inodes) in tables {
        for copy in journal.copies(table) {
            let bytes = journal.read_copy(fs.image(), *copy).unwrap_or_default();
            for (ino, byte, claimant) in &inodes {
                let inode = bytes.get(*byte..).and_then(Inode::parse);
                if inode.is_some_and(|inode| inode.size == 0 && is_emptied(&inode, claimant)) {
                    emptied.entry(*ino).or_insert_with(|| Emptied { at: copy.moment, is_telling: is_telling(copy.moment) });
                }
            }
        }
    }
    emptied
}

impl Claimant {
    fn ino(&self, files: &[LostFile]) -> Ino {
        match self {
            Claimant::Dead(at) => files[*at].ino.unwrap_or(Ino(0)),
            Claimant::Emptied(ino, _) => *ino,
        }
    }

    /// Whether it is certain to have lost something.
    fn is_loser(&self) -> bool {
        matches!(self, Claimant::Dead(_)) || matches!(self, Claimant::Emptied(_, inode) if inode.size == 0)
    }

    /// When it was deleted, or emptied.
    fn when(&self, files: &[LostFile]) -> Option<Time> {
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
    fn describe(&self, files: &[LostFile], path: &dyn Fn(Ino) -> Option<Vec<u8>>) -> Option<Candidate> {
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
                let (unlinked, made) = (file.span.unlinked, file.span.made);
                let mapping = std::mem::replace(&mut chain.mapping, file.mapping.clone());
                let (size, size_from) = (chain.size, chain.size_from);
                let orphan = chain.orphan.take();
                *chain = LostFile { mapping, size, size_from, orphan, span: Span { unlinked, made, ended: when, ..span }, ..file.clone() };
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
                chain.span = Span { made: inode.crtime, ended: when, cut: 0, successor, ..span };
            }
        }
    }
}
