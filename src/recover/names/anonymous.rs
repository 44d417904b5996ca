//! Names whose entry lost its inode number, given to the one lost file that each can have belonged to.
//!
//! Old kernels take only the inode number of a block's first entry. If a file without a name was deleted in the very moment of its
//! folder's last change, its entry still stands there: nothing can have been written over it since. And if it does not stand in the
//! slack, it is the one without a number. So what must be shown is that the folder's last change was the removal of this file.

use super::super::Recovery;
use super::super::file::{FileId, Loss, LostFile};
use super::super::folders::{Fact, Facts};
use super::super::inodes::Inodes;
use super::super::takers::folder_blocks;
use super::{fits, names_of};
use crate::format::dir_block::DirBlock;
use crate::format::inode::Inode;
use crate::fs::Filesystem;
use crate::units::{Ino, Moment};
use std::collections::HashMap;
use std::ops::RangeInclusive;

/// Seconds between the change of the folder and `i_dtime`, which is set when the blocks are freed: that can wait for a commit.
const LATER: i64 = 3;

/// A folder with a single entry without inode number, and the file to which that seems to belong.
struct Match {
    folder: Ino,
    id: FileId,
    fact: Fact,
    /// When both changed, in seconds since 1970.
    during: RangeInclusive<i64>,
}

/// When a file was deleted, in seconds since 1970.
fn deleted(file: &LostFile) -> Option<i64> {
    Some(file.deleted.filter(|_| file.loss == Loss::Deleted)?.seconds)
}

/// The files that such names belong to. `paths` are those that are known already.
pub fn settle(recovery: &Recovery, facts: &Facts, paths: &[Vec<Vec<u8>>]) -> Vec<(FileId, Fact)> {
    let (fs, anonymous) = (recovery.filesystem(), facts.anonymous());
    if anonymous.is_empty() {
        return vec![];
    }
    // When files that a folder named were deleted from it, and which files have no name.
    let mut named: HashMap<Ino, Vec<i64>> = HashMap::new();
    let mut nameless: Vec<(i64, FileId)> = vec![];
    for (id, paths) in recovery.ids().zip(paths) {
        let file = recovery.file(id);
        match deleted(file) {
            Some(at) if paths.is_empty() => nameless.push((at, id)),
            Some(at) => names_of(facts, file).iter().filter_map(|fact| fact.folder).for_each(|of| named.entry(of).or_default().push(at)),
            None => {}
        }
    }
    let mut matches = vec![];
    for (folder, entries) in anonymous {
        let Ok(inode) = fs.read_inode(folder) else { continue };
        let during = inode.mtime.seconds..=inode.mtime.seconds + LATER;
        let (Some((_, id)), None) = two(nameless.iter().filter(|(at, _)| during.contains(at))) else { continue };
        let file = recovery.file(*id);
        let (Some((name, file_type)), None) = two(entries.iter().filter(|(_, file_type)| fits(*file_type, file))) else { continue };
        let group = |ino| fs.geometry().superblock.group_of_inode(ino);
        let explained = named.get(&folder).is_some_and(|at| at.iter().any(|at| during.contains(at)));
        if !explained && file.ino.map(group) == Some(group(folder)) && !changed_since(fs, &inode, name, *during.start()) {
            let fact = Fact {
                folder: Some(folder),
                name: name.clone(),
                file_type: *file_type,
                first: Moment::PAST,
                removed: Moment::NOW,
                certain: false,
            };
            matches.push(Match { folder, id: *id, fact, during });
        }
    }
    // Whatever else changed in that moment could have changed the folder: been moved out of it, say.
    if !matches.is_empty() {
        Inodes::each_live(fs, &mut |ino, inode| {
            matches.retain(|found| found.folder == ino || !found.during.contains(&inode.ctime.seconds))
        });
    }
    matches.into_iter().map(|found| (found.id, found.fact)).collect()
}

/// The first two of what there is.
fn two<T>(mut items: impl Iterator<Item = T>) -> (Option<T>, Option<T>) {
    (items.next(), items.next())
}

/// Whether something in a folder can have come into it at `since` or later, or has this name.
fn changed_since(fs: &Filesystem, folder: &Inode, name: &[u8], since: i64) -> bool {
    folder_blocks(fs, folder).any(|block| {
        let Ok(bytes) = fs.read_block(block) else { return true };
        let Some(parsed) = DirBlock::parse(&bytes, fs.geometry().superblock.inodes) else { return false };
        let mut live = parsed.live();
        live.any(|entry| entry.name == name || fs.read_inode(entry.ino).map_or(true, |inode| inode.ctime.seconds >= since))
    })
}
