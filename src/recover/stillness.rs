//! How still the filesystem has been since a loss: whether free blocks can have been used, and freed again, in a time of which the
//! journal tells nothing.

use super::chain::Since;
use super::file::{Kind, LostFile};
use super::inodes::Inodes;
use crate::format::indirect;
use crate::format::inode::{Inode, S_IFREG};
use crate::fs::Filesystem;
use crate::units::Ino;
use std::collections::BTreeMap;

/// What the inodes of today tell of the time since a loss.
#[derive(Default)]
pub struct Stillness {
    /// The last time that a file came, went or was written, in seconds since 1970.
    last_change: i64,
    /// How many files were made in each hour since 1970 that are in use.
    births: BTreeMap<i64, usize>,
    /// When files were deleted that left no trace of where they were, sorted, in seconds since 1970.
    deaths: Vec<i64>,
    /// Files in use that are empty, but were changed after they were made.
    pub emptied: Vec<(Ino, Inode)>,
}

/// One in so many files that were made since is taken to stand in the place of one that came and went unseen.
const REUSED: usize = 16;

/// Births are counted by the hour, so that memory does not grow with the number of inodes.
const HOUR: i64 = 3600;

impl Stillness {
    /// Looks at all inodes in use. `files` are what was lost; those among them without a trace count as unseen.
    pub fn observe(fs: &Filesystem, files: &[LostFile]) -> Stillness {
        let mut stillness = Stillness::default();
        Inodes::each_live(fs, &mut |ino, inode| {
            if ino.0 < fs.geometry().superblock.first_ino.0 && ino != Ino::ROOT {
                return;
            }
            let born = inode.crtime.unwrap_or(if inode.is_dir() { inode.ctime } else { inode.mtime });
            *stillness.births.entry(born.seconds / HOUR).or_default() += 1;
            // Each file that comes or goes changes its folder, and a rename or chmod of the folder itself does no harm here.
            let change = if inode.is_dir() { inode.ctime } else { inode.mtime };
            stillness.last_change = stillness.last_change.max(change.seconds);
            let written_since = match inode.crtime {
                Some(crtime) => inode.mtime > crtime,
                None => true,
            };
            if inode.file_type() == S_IFREG && inode.size == 0 && written_since {
                stillness.emptied.push((ino, inode));
            }
        });
        stillness.forget_owned(files);
        stillness
    }

    /// Counts the files anew that left no trace.
    pub fn forget_owned(&mut self, files: &[LostFile]) {
        let unseen = files.iter().filter(|file| !file.has_trace() && file.kind != Kind::Symlink);
        self.deaths = unseen.filter_map(|file| Some(file.span.ended.or(file.deleted)?.seconds)).collect();
        self.deaths.sort_unstable();
    }

    /// What the time since a file was lost can have done to its blocks.
    pub fn since(&self, fs: &Filesystem, file: &LostFile) -> Since {
        let ended = file.span.ended.map(|time| time.seconds);
        if ended.is_some_and(|ended| self.last_change <= ended) {
            return Since::Quiet;
        }
        let deaths = self.deaths.len() - ended.map_or(0, |ended| self.deaths.partition_point(|time| *time <= ended));
        let births: usize = self.births.range(ended.map_or(i64::MIN, |ended| ended / HOUR)..).map(|(_, count)| count).sum();
        // A file that left no indirect block behind, neither in use nor free, had no more than the direct blocks.
        let unseen = deaths + births / REUSED;
        let most = unseen as u64 * indirect::DIRECT;
        let blocks = file.size.div_ceil(fs.block_size());
        let few = most * 100 <= blocks;
        match fs.journal().keeps_most_since(file.span.last) || few || unseen == 0 {
            true => Since::Likely,
            false => Since::Doubtful,
        }
    }
}
