//! How still the filesystem has been since a loss: whether free blocks can have been used, and freed again, in a time of which the
//! journal tells nothing.

use super::chain::Since;
use super::file::{Kind, LostFile, Time};
use super::inodes::Inodes;
use crate::format::indirect;
use crate::format::inode::{Inode, S_IFREG};
use crate::fs::Filesystem;
use crate::units::Ino;
use std::collections::BTreeMap;

/// What the inodes of today tell of the time since a loss.
#[derive(Default)]
pub struct Stillness {
    /// The last time that blocks were given to a file, as far as inodes tell.
    last_change: Time,
    /// How many files were made in each hour since 1970 that may stand in the place of one that came and went unseen.
    births: BTreeMap<i64, usize>,
    /// When files were deleted that left no trace of where they were, sorted, in seconds since 1970.
    deaths: Vec<i64>,
    /// Files in use that are empty, but were changed after they were made.
    pub emptied: Vec<(Ino, Inode)>,
}

/// Where inodes do not tell when they were made, one in so many files written since is taken to stand in the place of another.
const REUSED: usize = 16;

/// Births are counted by the hour, so that memory does not grow with the number of inodes.
const HOUR: i64 = 3600;

impl Stillness {
    /// Looks at all inodes in use. `files` are what was lost; those among them without a trace count as unseen.
    pub fn observe(fs: &Filesystem, files: &[LostFile]) -> Stillness {
        let mut stillness = Stillness::default();
        let per_group = fs.geometry().superblock.inodes_per_group.max(1);
        let (mut group, mut born_in_group): (u32, Vec<Time>) = (0, vec![]);
        let mut written: BTreeMap<i64, usize> = BTreeMap::new();
        Inodes::each(fs, &mut |ino, inode| {
            if ino.0 < fs.geometry().superblock.first_ino.0 && ino != Ino::ROOT {
                return;
            }
            stillness.see(&inode);
            if !inode.is_live() {
                return;
            }
            if (ino.0 - 1) / per_group != group {
                stillness.count_births(&std::mem::take(&mut born_in_group));
                group = (ino.0 - 1) / per_group;
            }
            match inode.crtime {
                Some(crtime) => born_in_group.push(crtime),
                None => *written.entry(inode.mtime.seconds / HOUR).or_default() += 1,
            }
            let written_since = match inode.crtime {
                Some(crtime) => inode.mtime > crtime,
                None => true,
            };
            if inode.file_type() == S_IFREG && inode.size == 0 && written_since {
                stillness.emptied.push((ino, inode));
            }
        });
        stillness.count_births(&born_in_group);
        for (hour, count) in written {
            *stillness.births.entry(hour).or_default() += count / REUSED;
        }
        stillness.forget_owned(files);
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
    fn count_births(&mut self, born: &[Time]) {
        let mut earliest = None::<Time>;
        for time in born.iter().rev() {
            if earliest.is_some_and(|earliest| earliest < *time) {
                *self.births.entry(time.seconds / HOUR).or_default() += 1;
            }
            earliest = Some(earliest.map_or(*time, |earliest| earliest.min(*time)));
        }
    }

    /// Counts the files anew that left no trace.
    pub fn forget_owned(&mut self, files: &[LostFile]) {
        let unseen = files.iter().filter(|file| !file.has_trace() && file.kind != Kind::Symlink);
        self.deaths = unseen.filter_map(|file| Some(file.span.ended.or(file.deleted)?.seconds)).collect();
        self.deaths.sort_unstable();
    }

    /// What the time since a file was lost can have done to its blocks.
    pub fn since(&self, fs: &Filesystem, file: &LostFile) -> Since {
        if file.span.ended.is_some_and(|ended| self.last_change <= ended) {
            return Since::Quiet;
        }
        let ended = file.span.ended.map(|time| time.seconds);
        let deaths = self.deaths.len() - ended.map_or(0, |ended| self.deaths.partition_point(|time| *time <= ended));
        let births: usize = self.births.range(ended.map_or(i64::MIN, |ended| ended / HOUR)..).map(|(_, count)| count).sum();
        // A file that left no indirect block behind, neither in use nor free, had no more than the direct blocks.
        let unseen = deaths + births;
        let most = unseen as u64 * indirect::DIRECT;
        let blocks = file.size.div_ceil(fs.block_size());
        let few = most * 100 <= blocks;
        match fs.journal().keeps_most_since(file.span.last) || few || unseen == 0 {
            true => Since::Likely,
            false => Since::Doubtful,
        }
    }
}
