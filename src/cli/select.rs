//! Which lost file is meant: a path as under `by-path/`, `inode:N[@VERSION]`, `chain:BLOCK`.

use super::terminal::quote;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use undelfs::recover::file::FileId;
use undelfs::tree::{NodeId, Tree};
use undelfs::{Error, Result};

/// At most so many other places are named for a file that is not where it was looked for: the message stays one line.
const SUGGESTIONS: usize = 3;

/// What no lost file explains; the one file at the top of the mount that can be copied.
const UNCLAIMED: &[u8] = b"unclaimed.img";

/// What a FILE argument names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selected {
    /// Where it is in the tree.
    pub node: NodeId,
    /// Its path in the mount, without a `/` at either end.
    pub mount_path: Vec<u8>,
    /// The lost file that it is; none for a folder that still exists.
    pub file: Option<FileId>,
}

impl Selected {
    /// Its own name; `None` for `by-path` and the other folders at the top.
    pub fn name(&self) -> Option<&[u8]> {
        let at_top = usize::from(self.mount_path != UNCLAIMED);
        components(&self.mount_path).skip(at_top).last()
    }
}

/// Finds what `file` names.
///
/// # Errors
/// [`Error::Usage`] for a number that is none, [`Error::NotFound`] for what is not there, with files of the same name elsewhere.
pub fn select(tree: &Tree, file: &OsStr) -> Result<Selected> {
    let file = file.as_bytes();
    if let Some(inode) = file.strip_prefix(b"inode:") {
        let (ino, version) = inode_and_version(inode)
            .ok_or_else(|| Error::Usage(format!("{}: expected inode:N or inode:N@VERSION, such as inode:12 or inode:12@1", quote(file))))?;
        return by_inode(tree, ino, version);
    }
    if let Some(block) = file.strip_prefix(b"chain:") {
        let block: u64 = number(block).ok_or_else(|| Error::Usage(format!("{}: expected chain:BLOCK, such as chain:4711", quote(file))))?;
        let is_top = |id: &FileId| tree.recovery().file(*id).orphan.as_ref().is_some_and(|orphan| orphan.top.get() == block);
        let selected = tree.recovery().ids().find(is_top).and_then(|id| select_id(tree, id));
        return selected.ok_or_else(|| Error::NotFound(format!("chain:{block}: no such chain was found")));
    }
    // A path comes first: a lost folder may itself be called by-inode.
    let by_path = [&b"by-path"[..], file].join(&b'/');
    walk(tree, &by_path).or_else(|| walk(tree, file)).ok_or_else(|| not_found(tree, file))
}

/// How a path in the mount is shown, and can be given as FILE: `by-path/a/b` as `/a/b`, `by-inode/12` and `orphans/4711` as they are.
pub fn shown(mount_path: &[u8]) -> &[u8] {
    match mount_path.strip_prefix(b"by-path") {
        Some(b"") => b"/",
        Some(path) if path.starts_with(b"/") => path,
        _ => mount_path,
    }
}

/// The parts of a path. What does nothing in a path is left out; `..` is a name that nothing has.
fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

/// What lies at a path in the mount, unless that is a part of the mount that holds no lost files.
fn walk(tree: &Tree, path: &[u8]) -> Option<Selected> {
    let parts: Vec<&[u8]> = components(path).collect();
    let inside = matches!(parts.first(), Some(&(b"by-path" | b"by-inode" | b"orphans" | UNCLAIMED)));
    let node = parts.iter().try_fold(NodeId::ROOT, |node, part| tree.lookup(node, part))?;
    inside.then(|| Selected { node, mount_path: parts.join(&b'/'), file: tree.file(node) })
}

/// A lost file, where it is shown first.
fn select_id(tree: &Tree, id: FileId) -> Option<Selected> {
    Some(Selected { file: Some(id), ..walk(tree, &tree.mount_path(id))? })
}

fn by_inode(tree: &Tree, ino: u32, version: u32) -> Result<Selected> {
    let recovery = tree.recovery();
    let id = recovery.ids().find(|id| recovery.file(*id).ino.is_some_and(|known| known.0 == ino) && recovery.file(*id).version == version);
    id.and_then(|id| select_id(tree, id)).ok_or_else(|| {
        let versions = recovery.files().iter().filter(|file| file.ino.is_some_and(|known| known.0 == ino)).count();
        Error::NotFound(match (version, versions) {
            (_, 0) => format!("inode:{ino}: no lost file had this inode"),
            _ => format!(
                "inode:{ino}@{version}: of this inode, {versions} lost files are known, from inode:{ino} to the oldest, inode:{ino}@{}",
                versions - 1
            ),
        })
    })
}

/// `N` or `N@VERSION`.
fn inode_and_version(text: &[u8]) -> Option<(u32, u32)> {
    let at = text.iter().position(|byte| *byte == b'@');
    match at {
        Some(at) => Some((number(&text[..at])?, number(&text[at + 1..])?)),
        None => Some((number(text)?, 0)),
    }
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    let text = std::str::from_utf8(text).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Says so, and where else something of that name was lost.
fn not_found(tree: &Tree, file: &[u8]) -> Error {
    let mut text = format!("{}: no lost file has this path", quote(file));
    let Some(name) = components(file).last() else { return Error::NotFound(text) };
    let named = |path: &Vec<u8>| components(path).last().is_some_and(|last| last.eq_ignore_ascii_case(name));
    let mut elsewhere = (0..).map(FileId).zip(tree.recovery().files()).filter_map(|(id, file)| {
        // The first path may have a version in the mount; further ones are other names of the same file.
        let index = file.paths.iter().position(named)?;
        Some(if index == 0 { shown(&tree.mount_path(id)).to_vec() } else { file.paths[index].clone() })
    });
    let places: Vec<String> = elsewhere.by_ref().take(SUGGESTIONS).map(|path| quote(&path).into_owned()).collect();
    if !places.is_empty() {
        let more = if elsewhere.next().is_some() { " and elsewhere" } else { "" };
        text += &format!("; one of that name was lost at {}{more}", places.join(", "));
    }
    Error::NotFound(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inodes_with_versions() {
        for (text, expected) in [
            (&b"12"[..], Some((12, 0))),
            (b"12@3", Some((12, 3))),
            (b"", None),
            (b"@1", None),
            (b"12@", None),
            (b"+12", None),
            (b"-1", None),
            (b"1x", None),
            (b"4294967296", None),
        ] {
            assert_eq!(inode_and_version(text), expected, "{:?}", quote(text));
        }
    }

    #[test]
    fn paths_can_be_given_back() {
        for (mount_path, path) in [(&b"by-path/a/b"[..], &b"/a/b"[..]), (b"by-inode/12@1", b"by-inode/12@1"), (b"by-path", b"/")] {
            assert_eq!(shown(mount_path), path);
        }
    }
}
