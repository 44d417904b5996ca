//! How still the filesystem has been since a loss: whether free blocks can have been used, and freed again, in a time of which the
//! journal tells nothing.

use super::chain::Since;
use super::file::{Kind, Loss, LostFile, Time};
use super::inodes::Inodes;
use super::turnover::Turnover;
use super::wear::Wear;
use crate::format::indirect;
use crate::format::inode::{Inode, S_IFREG};
use crate::fs::Filesystem;
use crate::units::{Ino, Moment};
use std::collections::{BTreeMap, BTreeSet};

/// What the inodes of today tell of the time since a loss.
#[derive(Clone, Default)]
pub struct Stillness {
    /// The last time that blocks were given to a file, as far as inodes tell.
    last_change: Time,
    /// By block group of the inode, how many files were made in each hour since 1970 that may stand in the place of one that came and
    /// went unseen.
    births: BTreeMap<u64, BTreeMap<i64, usize>>,
    /// Whether some of them are seen to, by when they and their neighbours were made, and not only taken to.
    is_reused: bool,
    /// By block group of the inode, the files deleted that left no trace of where they were.
    deaths: BTreeMap<u64, Deaths>,
    /// The user says that hardly anything was written since.
    pub sworn: bool,
    /// How fast free blocks are used again.
    turnover: Turnover,
    /// Chains without an inode. Each is a file whose inode was deleted, or is in use again: one of those deaths and births is its own.
    ownerless: u64,
    /// Files in use.
    alive: u64,
    /// The chance that a block of a file of which nothing tells when it was lost was used unseen since; `None` as long as nobody has looked.
    worn: Option<f64>,
    /// Files in use that are empty, but were changed after they were made.
    pub emptied: Vec<(Ino, Inode)>,
}

/// Deleted files of one block group, in seconds since 1970.
#[derive(Clone, Default)]
struct Deaths {
    /// When they were deleted, sorted.
    at: Vec<i64>,
    /// When they were made, as far as is known before they were deleted, else when they were deleted; sorted.
    made: Vec<i64>,
}

impl Deaths {
    /// How many of them can have got blocks after `ended`. What was there before and went within the hour, as the other files of a folder
    /// that is being removed, is taken to have had its blocks by then.
    fn since(&self, ended: Option<i64>) -> usize {
        let after = |times: &[i64], than: i64| times.len() - times.partition_point(|at| *at <= than);
        ended.map_or(self.at.len(), |ended| (after(&self.at, ended.saturating_add(HOUR)) + after(&self.made, ended)).min(self.at.len()))
    }
}

/// Where inodes do not tell when they were made, one in so many files written since is taken to stand in the place of another.
const REUSED: usize = 16;

/// Free blocks are shown where the chance that they were used in between is below this: of what is `inferred`, 99% is to be right. The chance is
/// that of any free block; of those that pointers of lost files name, and nobody else is known to have had, less than half as many were wrong
/// (random histories: 12 where 28 were to be expected).
const WORTH: f64 = 0.01;

/// The same where nothing is known but what is seen to have been taken.
const WORN: f64 = 0.01;

/// Births are counted by the hour, so that memory does not grow with the number of inodes.
const HOUR: i64 = 3600;

impl Stillness {
    /// Looks at all inodes in use. `files` are what was lost; those among them without a trace count as unseen.
    pub fn observe(fs: &Filesystem, files: &[LostFile]) -> Stillness {
        let mut stillness = Stillness { turnover: Turnover::measure(fs), ..Stillness::default() };
        let per_group = fs.geometry().superblock.inodes_per_group.max(1);
        let (mut group, mut born_in_group): (u32, Vec<Time>) = (0, vec![]);
        let mut written: BTreeMap<(u64, i64), usize> = BTreeMap::new();
        Inodes::each(fs, &mut |ino, inode| {
            if ino.0 < fs.geometry().superblock.first_ino.0 && ino != Ino::ROOT {
                return;
            }
            stillness.see(&inode);
            if !inode.is_live() {
                return;
            }
            stillness.alive += u64::from(inode.file_type() == S_IFREG);
            if (ino.0 - 1) / per_group != group {
                stillness.count_births(group.into(), &std::mem::take(&mut born_in_group));
                group = (ino.0 - 1) / per_group;
            }
            match inode.crtime {
                Some(crtime) => born_in_group.push(crtime),
                None => *written.entry((group.into(), inode.mtime.seconds / HOUR)).or_default() += 1,
            }
            let written_since = match inode.crtime {
                Some(crtime) => inode.mtime > crtime,
                None => true,
            };
            if inode.file_type() == S_IFREG && inode.size == 0 && written_since {
                stillness.emptied.push((ino, inode));
            }
        });
        stillness.count_births(group.into(), &born_in_group);
        for ((group, hour), count) in written {
            *stillness.births.entry(group).or_default().entry(hour).or_default() += count / REUSED;
        }
        stillness.forget_owned(fs, files);
        stillness
    }

    /// Notes when an inode tells that blocks may have been given out: when a file was made, dead or alive, and when one was written. Where
    /// inodes do not tell when they were made, each file that comes or goes changes its folder.
    fn see(&mut self, inode: &Inode) {
        let written = (inode.is_live() && inode.file_type() == S_IFREG).then_some(inode.mtime);
        let made = inode.crtime.or((inode.is_live() && inode.is_dir()).then_some(inode.ctime));
        self.last_change = self.last_change.max(written.max(made).unwrap_or_default());
    }

    /// Counts which inodes of a group took a number that was free again. Free numbers are given out from the lowest on
    /// (`find_next_zero_bit` in `ext3_new_inode`), so whoever is younger than one with a higher number came into a place that had been
    /// left. `born` are the times in the order of the numbers.
    fn count_births(&mut self, group: u64, born: &[Time]) {
        let births = self.births.entry(group).or_default();
        let mut earliest = None::<Time>;
        for time in born.iter().rev() {
            if earliest.is_some_and(|earliest| earliest < *time) {
                *births.entry(time.seconds / HOUR).or_default() += 1;
                self.is_reused = true;
            }
            earliest = Some(earliest.map_or(*time, |earliest| earliest.min(*time)));
        }
    }

    /// Learns how worn free space is, unless that is known. Whether something is to be seen in another light.
    pub fn learn(&mut self, files: &[LostFile], wear: Wear) -> bool {
        if self.worn.is_some() {
            return false;
        }
        let deleted = files.iter().filter(|file| file.ino.is_some() && file.kind == Kind::File && file.loss == Loss::Deleted).count();
        // Each chain without an inode is one of those that were deleted, or whose inode is in use again; at least.
        let dead = self.ownerless.max((deleted + self.births()) as u64);
        let chance = wear.chance(dead, self.alive);
        self.worn = Some(chance);
        chance >= WORN && !self.sworn
    }

    /// How many files in use took an inode that another one had left.
    pub fn births(&self) -> usize {
        self.births.values().flat_map(BTreeMap::values).sum()
    }

    /// Whether inodes were used again, so that a file that left nothing may have had one that is another's now: anywhere, since files whose own
    /// group is full begin in others; where inodes do not tell when they were made, in this block group.
    pub fn is_reused(&self, group: u64) -> bool {
        self.is_reused || self.births.get(&group).is_some_and(|births| births.values().sum::<usize>() > 0)
    }

    /// Whether nothing came or went since a moment. What happened in the same second comes after it, unless the inodes are more precise.
    fn is_quiet_since(&self, moment: Time) -> bool {
        self.last_change.seconds < moment.seconds || moment.nanos > 0 && self.last_change <= moment
    }

    /// Counts the files anew that left no trace.
    pub fn forget_owned(&mut self, fs: &Filesystem, files: &[LostFile]) {
        let per_group = fs.geometry().superblock.inodes_per_group.max(1);
        self.deaths.clear();
        self.ownerless = files.iter().filter(|file| file.ino.is_none() && file.orphan.is_some() && !file.is_dubious()).count() as u64;
        for file in files.iter().filter(|file| !file.has_trace() && file.kind != Kind::Symlink) {
            if let (Some(ino), Some(ended)) = (file.ino, file.span.ended.or(file.deleted)) {
                let deaths = self.deaths.entry(u64::from((ino.0.max(1) - 1) / per_group)).or_default();
                deaths.at.push(ended.seconds);
                deaths.made.push(file.span.made.map_or(ended.seconds, |made| made.seconds.min(ended.seconds)));
            }
        }
        for deaths in self.deaths.values_mut() {
            deaths.at.sort_unstable();
            deaths.made.sort_unstable();
        }
    }

    /// What the time since a file was lost can have done to its blocks. `blocks_in` tells how many it has in a group. Files with indirect
    /// blocks leave these behind; small ones the old driver puts into the group of their inode (`ext3_find_near`, fs/ext3/inode.c), the ext4
    /// driver anywhere (`ext4_mb_group_or_file`, fs/ext4/mballoc.c).
    pub fn since(&self, fs: &Filesystem, file: &LostFile, blocks_in: &dyn Fn(u64) -> u64) -> Since {
        // A chain's candidates are all that are left: where inodes were used again, its own may be none of them.
        let certain = file.span.dated || self.births() == 0;
        if file.span.covered || certain && file.span.ended.is_some_and(|ended| self.is_quiet_since(ended)) {
            return Since::Quiet;
        }
        if self.sworn {
            return Since::Likely(vec![]);
        }
        let own = (0..fs.geometry().superblock.groups()).filter(|group| blocks_in(*group) > 0);
        if file.is_dubious() {
            return Since::Likely(own.collect());
        }
        if file.span.is_undated() && self.worn.is_some_and(|worn| worn >= WORN) {
            return Since::Likely(own.collect());
        }
        // Where its indirect blocks were revoked, they were the file's until then.
        let revoked = Moment(file.span.freed.0.saturating_sub(1));
        let last = if file.span.dated { file.span.last } else { file.span.last.max(revoked) };
        if let Some(missing) = fs.journal().missing_since(last) {
            if self.turnover.at_least(missing) >= WORTH {
                return Since::Likely(own.collect());
            }
            if self.turnover.chance(missing).is_some() && fs.journal().keeps_most_since(last) {
                return Since::Likely(vec![]);
            }
        }
        let ended = file.span.ended.map(|time| time.seconds);
        let unseen = |group: u64| {
            let deaths = self.deaths.get(&group).map_or(0, |deaths| deaths.since(ended));
            let from = ended.map_or(i64::MIN, |ended| ended / HOUR);
            let births: usize = self.births.get(&group).map_or(0, |births| births.range(from..).map(|(_, count)| count).sum());
            (deaths + births) as u64
        };
        let touched: BTreeSet<u64> = self.deaths.keys().chain(self.births.keys()).copied().collect();
        // A file that left no indirect block behind had no more than the direct blocks.
        let many = |unseen: u64, blocks: u64| unseen * indirect::DIRECT * 100 > blocks;
        let doubtful: Vec<u64> = match fs.journal().is_of_old_driver() {
            true => own.filter(|group| touched.contains(group) && many(unseen(*group), blocks_in(*group))).collect(),
            false => {
                let own: Vec<u64> = own.collect();
                let all: u64 = touched.into_iter().map(unseen).sum();
                if many(all.saturating_sub(self.ownerless), own.iter().map(|group| blocks_in(*group)).sum()) { own } else { vec![] }
            }
        };
        Since::Likely(doubtful)
    }
}
