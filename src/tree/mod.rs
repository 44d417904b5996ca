//! The mount's layout as a plain tree of folders and files: no FUSE, no I/O. What `ls` shows, `list` names and `copy` walks.

mod build;
mod source;
mod text;

pub use source::Source;
pub use text::Text;

use crate::recover::{FileId, Kind, Recovery, Time};
use crate::report;
use crate::run::Evidence;
use crate::xattr;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, OnceLock};

/// A node. What it holds never changes: where a later look at the same filesystem finds something else under a name, it is another node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The root folder.
    pub const ROOT: NodeId = NodeId(1);
    const BY_PATH: NodeId = NodeId(2);
    const BY_INODE: NodeId = NodeId(3);
    const ORPHANS: NodeId = NodeId(4);
}

/// What `stat` says of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Its kind.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Data in units of 512 bytes.
    pub blocks512: u64,
    /// Permissions, as the file had them.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last access.
    pub atime: Time,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// Names that it has in the mount.
    pub links: u32,
}

/// What a file node holds.
pub enum Body<'a> {
    /// What is read from the image.
    Image(Source),
    /// What undelfs writes itself.
    Text(Text<'a>),
}

/// The whole, for `statfs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Blocks of all lost files.
    pub blocks: u64,
    /// Lost files.
    pub files: u64,
    /// Bytes of a block.
    pub block_size: u32,
}

enum Content {
    Folder {
        parent: NodeId,
        children: Vec<(Box<[u8]>, NodeId)>,
        subfolders: u32,
    },
    Lost,
    Unclaimed,
    About,
    Report,
    /// Nothing has this number, or no longer.
    Gone,
}

struct Node {
    content: Content,
    /// The lost file that it is.
    file: Option<FileId>,
    names: u32,
}

/// The tree. Immutable; shared by all threads.
///
/// Where the scan goes on behind a mount there are several, one after the other ([`Tree::after`]). A folder, and a lost file as long as
/// it is found to have the same content, have the same node in all of them. A file that is found to have other content gets a new node, so
/// that who has the former one open reads on in that; both show the same inode number. No number is used again for something else.
pub struct Tree {
    recovery: Arc<Recovery>,
    /// By number, from 1 on.
    nodes: Vec<Node>,
    /// The inode numbers of nodes that stand for what another node stood for before.
    inodes: HashMap<NodeId, u64>,
    names: HashMap<NodeId, HashMap<Box<[u8]>, NodeId>>,
    mount_paths: Vec<Box<[u8]>>,
    about: OnceLock<String>,
    report: OnceLock<Vec<u8>>,
    /// Bytes of what no lost file explains.
    unclaimed: OnceLock<u64>,
}

impl Tree {
    fn node(&self, id: NodeId) -> Option<&Node> {
        let node = self.nodes.get(usize::try_from(id.0.checked_sub(1)?).ok()?);
        node.filter(|node| !matches!(node.content, Content::Gone))
    }

    /// Whether a node is in it.
    pub fn contains(&self, id: NodeId) -> bool {
        self.node(id).is_some()
    }

    /// The inode number that a node shows.
    pub fn inode(&self, id: NodeId) -> u64 {
        self.inodes.get(&id).copied().unwrap_or(id.0)
    }

    /// The names of a former tree that stand for something else in this one, or for nothing: folder, name.
    pub fn changed_since<'t>(&'t self, former: &'t Tree) -> impl Iterator<Item = (NodeId, &'t [u8])> {
        let entries = former.names.iter().flat_map(|(folder, names)| names.iter().map(|(name, node)| (*folder, &**name, *node)));
        entries.filter(|(folder, name, node)| self.lookup(*folder, name) != Some(*node)).map(|(folder, name, _)| (folder, name))
    }

    /// What was recovered.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// The lost file that a node is, also for lost folders and links.
    pub fn file(&self, id: NodeId) -> Option<FileId> {
        self.node(id)?.file
    }

    /// A lost file's first name in the mount, relative, raw bytes.
    pub fn mount_path(&self, id: FileId) -> Vec<u8> {
        self.mount_paths.get(id.0 as usize).map(|path| path.to_vec()).unwrap_or_default()
    }

    /// What `stat` says.
    pub fn attributes(&self, id: NodeId) -> Option<Attributes> {
        let node = self.node(id)?;
        let links = match &node.content {
            Content::Folder { subfolders, .. } => 2 + subfolders,
            _ => node.names.max(1),
        };
        if let Some(file) = node.file.map(|id| self.recovery.file(id)) {
            let data: u64 = Evidence::ALL.into_iter().filter(|e| e.is_data()).map(|e| file.tally.of(e)).sum();
            return Some(Attributes {
                kind: file.kind,
                size: if file.kind == Kind::Dir { 0 } else { file.size },
                blocks512: if file.kind == Kind::File { data.div_ceil(512) } else { 0 },
                mode: file.mode,
                uid: file.uid,
                gid: file.gid,
                atime: file.atime,
                mtime: file.mtime,
                ctime: file.ctime,
                links,
            });
        }
        let written = Time { seconds: self.recovery.filesystem().geometry().superblock.write_time.into(), nanos: 0 };
        let (kind, mode, size, data) = match node.content {
            Content::Folder { .. } => (Kind::Dir, 0o755, 0, 0),
            // Whose it was nobody knows: only root may look, unless the mount says otherwise.
            Content::Unclaimed => (Kind::File, 0o400, Source::Unclaimed.size(&self.recovery), self.unclaimed_bytes()),
            _ => {
                let size = self.text(node).map_or(0, |text| text.len());
                (Kind::File, 0o444, size, size)
            }
        };
        Some(Attributes {
            kind,
            size,
            blocks512: data.div_ceil(512),
            mode,
            uid: 0,
            gid: 0,
            atime: written,
            mtime: written,
            ctime: written,
            links,
        })
    }

    /// Bytes of free space that no lost file explains, counted when they are first asked for.
    pub fn unclaimed_bytes(&self) -> u64 {
        *self.unclaimed.get_or_init(|| self.recovery.unclaimed_bytes())
    }

    /// Whether a lost file has several names besides the one of its inode.
    pub fn has_several_names(&self, id: NodeId) -> bool {
        let by_inode = |file: FileId| u32::from(self.recovery.file(file).ino.is_some());
        self.node(id).is_some_and(|node| node.names > 1 + node.file.map_or(0, by_inode))
    }

    /// What a file holds that undelfs writes itself; most of it is made when it is first asked for.
    fn text(&self, node: &Node) -> Option<Text<'_>> {
        let looked = self.recovery.looked();
        match node.content {
            Content::About => {
                Some(Text { head: report::about_scan(looked).into(), rest: self.about.get_or_init(|| report::about(self)).as_bytes() })
            }
            Content::Report => {
                Some(Text { head: report::report_scan(looked).into(), rest: self.report.get_or_init(|| report::report_json(self)) })
            }
            _ => None,
        }
    }

    /// The node with this name in a folder.
    pub fn lookup(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        self.names.get(&parent)?.get(name).copied()
    }

    /// An entry of a folder by number, without `.` and `..`; the order does not change.
    pub fn entry(&self, folder: NodeId, index: usize) -> Option<(&[u8], NodeId, Kind)> {
        let Content::Folder { children, .. } = &self.node(folder)?.content else { return None };
        let (name, id) = children.get(index)?;
        let node = self.node(*id)?;
        let kind = match (node.file, &node.content) {
            (Some(file), _) => self.recovery.file(file).kind,
            (None, Content::Folder { .. }) => Kind::Dir,
            (None, _) => Kind::File,
        };
        Some((name, *id, kind))
    }

    /// The folder above a folder; the root for anything else.
    pub fn parent(&self, folder: NodeId) -> NodeId {
        match self.node(folder).map(|node| &node.content) {
            Some(Content::Folder { parent, .. }) => *parent,
            _ => NodeId::ROOT,
        }
    }

    /// What a file node holds; `None` for folders.
    pub fn body(&self, id: NodeId) -> Option<Body<'_>> {
        let node = self.node(id)?;
        match (&node.content, node.file) {
            (Content::Lost, Some(file)) => Some(Body::Image(Source::Lost(file))),
            (Content::Unclaimed, _) => Some(Body::Image(Source::Unclaimed)),
            _ => self.text(node).map(Body::Text),
        }
    }

    /// The target of a symbolic link.
    pub fn link_target(&self, id: NodeId) -> io::Result<Vec<u8>> {
        let file = self.file(id).filter(|id| self.recovery.file(*id).kind == Kind::Symlink).ok_or(io::ErrorKind::InvalidInput)?;
        self.recovery.link_target(file)
    }

    /// The first byte of data at or after `from` (`SEEK_DATA`); `None` if only holes follow. What is missing counts as a
    /// hole, or with `missing_is_data` as data, so that who skips holes still meets the error.
    pub fn seek_data(&self, id: NodeId, from: u64, missing_is_data: bool) -> Option<u64> {
        match self.body(id)? {
            Body::Image(source) => source.next_data(&self.recovery, from, missing_is_data),
            Body::Text(text) => (from < text.len()).then_some(from),
        }
    }

    /// The first byte of a hole at or after `from` (`SEEK_HOLE`); the end of the file counts as one. `None` past it.
    pub fn seek_hole(&self, id: NodeId, from: u64, missing_is_data: bool) -> Option<u64> {
        let body = self.body(id)?;
        let size = match &body {
            Body::Image(source) => source.size(&self.recovery),
            Body::Text(text) => text.len(),
        };
        let hole = || match &body {
            Body::Image(source) => source.next_hole(&self.recovery, from, missing_is_data),
            Body::Text(_) => size,
        };
        (from < size).then(hole)
    }

    /// Names of a node's extended attributes.
    pub fn xattr_names(&self, id: NodeId) -> impl Iterator<Item = &'static str> {
        let of_root = (id == NodeId::ROOT).then_some(xattr::SCAN);
        of_root.into_iter().chain(self.file(id).into_iter().flat_map(|file| xattr::names(self.recovery.file(file))))
    }

    /// Value of one of them.
    pub fn xattr(&self, id: NodeId, name: &[u8]) -> Option<Vec<u8>> {
        if id == NodeId::ROOT && name == xattr::SCAN.as_bytes() {
            return Some(self.recovery.looked().to_string().into_bytes());
        }
        xattr::value(&self.recovery, self.file(id)?, name)
    }

    /// The whole.
    pub fn totals(&self) -> Totals {
        let block_size = self.recovery.block_size();
        let blocks = self.recovery.files().iter().map(|file| file.size.div_ceil(block_size)).fold(0, u64::saturating_add);
        Totals { blocks, files: self.recovery.files().len() as u64, block_size: block_size as u32 }
    }
}
