//! What the user knows of a lost file.

use super::Recovery;
use super::file::{LostFile, SizeFrom, Time};
use crate::content;
use crate::units::Ino;
use std::collections::HashMap;
use std::fmt;

/// Bytes of a chain's beginning that are looked at for its kind.
const HEAD: usize = 4096;

/// Extensions of files whose content says for sure what they are.
const SURE: [&str; 4] = ["MYD", "MYI", "frm", "ibd"];

/// A size from memory may be so much less than what pointers name, as a share of it: one in so many parts.
const ROUGHLY: u64 = 64;

/// What the user knows of one lost file: any part may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    /// Its full path, raw bytes, beginning with `/`.
    pub path: Option<Vec<u8>>,
    /// Its inode.
    pub ino: Option<Ino>,
    /// Bytes.
    pub size: Option<u64>,
    /// The time span in which it was deleted: first and last moment, inclusive.
    pub deleted: Option<(Time, Time)>,
}

/// Puts what the user knows to the chain that fits it best. Returns whether anything was changed; `remarks` gets a line for each hint that
/// contradicts the evidence or that nothing fits.
pub fn apply(hints: &[Hint], recovery: &mut Recovery) -> bool {
    let kinds = kinds(hints, recovery);
    let block_size = recovery.block_size();
    let (files, remarks) = (&mut recovery.files, &mut recovery.remarks);
    let mut changed = false;
    for hint in hints {
        if let Some(file) = files.iter().find(|file| hint.names(file) && file.has_trace()) {
            remarks.extend(hint.contradiction(file, block_size).map(|why| format!("hint {hint}: not obeyed: {why}")));
            if file.size_from != SizeFrom::Chain {
                continue;
            }
        }
        let fits = |file: &LostFile| file.orphan.is_some() && (hint.names(file) || hint.may_be(file));
        let mut fitting: Vec<((bool, u64), usize)> = vec![];
        for (at, file) in files.iter().enumerate().filter(|(_, file)| fits(file) && hint.contradiction(file, block_size).is_none()) {
            let kind = kinds.get(&at).copied();
            if kind.is_some_and(|kind| hint.sure_kind().is_some_and(|wanted| wanted != kind)) {
                continue;
            }
            let another = hint.sure_kind() != kind;
            fitting.push(((another, hint.size.map_or(0, |size| size.div_ceil(block_size).abs_diff(file.size.div_ceil(block_size)))), at));
        }
        fitting.sort_unstable();
        match fitting[..] {
            [] => {
                let why = files.iter().filter(|file| fits(file)).find_map(|file| hint.contradiction(file, block_size));
                remarks.push(match why {
                    Some(why) => format!("hint {hint}: not obeyed: {why}"),
                    None => format!("hint {hint}: nothing that was found fits it"),
                });
            }
            [(best, _), (second, _), ..] if best == second => {
                remarks.push(format!("hint {hint}: several chains fit it equally well; give more of what you know, such as the size"));
            }
            [(_, at), ..] => {
                hint.put(&mut files[at], block_size);
                changed = true;
            }
        }
    }
    changed
}

/// The extensions that chains without an inode ought to have, where their content is sure to say so; by index among the lost files. Looked
/// at only if a hint has such a name.
fn kinds(hints: &[Hint], recovery: &Recovery) -> HashMap<usize, &'static str> {
    if hints.iter().all(|hint| hint.sure_kind().is_none()) {
        return HashMap::new();
    }
    let kind = |id| {
        let mut head = vec![0; HEAD];
        let length = recovery.read_at(id, 0, &mut head).ok()?;
        content::identify(&head[..length]).map(|kind| kind.ext()).filter(|ext| SURE.contains(ext))
    };
    let orphans = recovery.ids().filter(|id| recovery.file(*id).orphan.is_some() && recovery.file(*id).ino.is_none());
    orphans.filter_map(|id| Some((id.0 as usize, kind(id)?))).collect()
}

impl Hint {
    /// The extension of its path, if that is one of [`SURE`].
    fn sure_kind(&self) -> Option<&'static str> {
        let ext = self.path.as_ref()?.rsplit(|byte| *byte == b'.').next()?;
        SURE.into_iter().find(|sure| sure.as_bytes() == ext)
    }

    /// Whether a file is known to be the one meant.
    fn names(&self, file: &LostFile) -> bool {
        let by_path = self.path.as_ref().is_some_and(|path| file.paths.contains(path));
        by_path || self.ino.is_some() && self.ino == file.ino
    }

    /// Whether a file can be the one meant, as far as names go: nothing says what it was called.
    fn may_be(&self, file: &LostFile) -> bool {
        let candidates = file.orphan.iter().flat_map(|orphan| orphan.candidates.iter());
        let path_fits = |path: &Vec<u8>| candidates.clone().any(|candidate| candidate.path.as_ref() == Some(path));
        let unnamed = candidates.clone().all(|candidate| candidate.path.is_none());
        let by_path = file.paths.is_empty() && self.path.as_ref().is_none_or(|path| unnamed || path_fits(path));
        let inode_fits = |ino: Ino| candidates.clone().any(|candidate| candidate.ino == ino);
        let by_inode = self
            .ino
            .is_none_or(|ino| file.ino == Some(ino) || file.ino.is_none() && (candidates.clone().next().is_none() || inode_fits(ino)));
        by_path && by_inode
    }

    /// What of it a file's evidence speaks against.
    fn contradiction(&self, file: &LostFile, block_size: u64) -> Option<String> {
        if let Some(size) = self.size {
            if file.size_from == SizeFrom::Inode && size != file.size {
                return Some(format!("the inode says {} bytes", file.size));
            }
            if size.div_ceil(block_size) < file.size.div_ceil(block_size) - file.size.div_ceil(block_size) / ROUGHLY {
                return Some(format!("pointers name blocks up to byte {}", file.size));
            }
        }
        let when = file.span.ended.or(file.deleted);
        match (self.deleted, when) {
            (Some((first, last)), Some(when)) if when < first || last < when => Some(format!("it was lost {when}")),
            _ => None,
        }
    }

    fn put(&self, file: &mut LostFile, block_size: u64) {
        if let Some(path) = self.path.as_ref().filter(|path| !file.paths.contains(path)) {
            file.paths.insert(0, path.clone());
        }
        // Less than what pointers name is from memory, and tells only which chain is meant.
        let reaches = |size: &u64| size.div_ceil(block_size) >= file.size.div_ceil(block_size);
        if let (Some(size), SizeFrom::Chain) = (self.size.filter(reaches), file.size_from) {
            (file.size, file.size_from) = (size, SizeFrom::Hint);
        }
        if file.ino.is_none() {
            file.ino = self.ino;
        }
        if file.deleted.is_none() {
            file.deleted = self.deleted.filter(|(first, last)| first == last).map(|(when, _)| when);
        }
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.as_ref().map(|path| format!("path={}", path.escape_ascii()));
        let parts = [path, self.ino.map(|ino| format!("inode={ino}")), self.size.map(|size| format!("size={size}"))];
        let deleted = self.deleted.map(|(first, _)| format!("deleted={first}"));
        let parts: Vec<String> = parts.into_iter().flatten().chain(deleted).collect();
        f.write_str(&parts.join(","))
    }
}
