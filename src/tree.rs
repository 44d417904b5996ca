//! The mount's layout as a plain tree of folders and files: no FUSE, no I/O. What `ls` shows, `list` names and `copy` walks.

use crate::recover::{FileId, Kind, LostFile, Recovery, Time};
use crate::report;
use crate::run::Evidence;
use crate::xattr;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, OnceLock};

/// A node; its number is the inode number that the mount shows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The root folder.
    pub const ROOT: NodeId = NodeId(1);
    const BY_PATH: NodeId = NodeId(2);
    const BY_INODE: NodeId = NodeId(3);
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
    /// A lost file's content.
    Lost(FileId),
    /// These bytes.
    Bytes(&'a [u8]),
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
    Folder { parent: NodeId, children: Vec<(Box<[u8]>, NodeId)>, subfolders: u32 },
    Lost,
    About,
    Report,
}

struct Node {
    content: Content,
    /// The lost file that it is.
    file: Option<FileId>,
    names: u32,
}

/// The tree. Immutable; shared by all threads.
pub struct Tree {
    recovery: Arc<Recovery>,
    nodes: Vec<Node>,
    names: HashMap<NodeId, HashMap<Box<[u8]>, NodeId>>,
    mount_paths: Vec<Box<[u8]>>,
    about: OnceLock<String>,
    report: OnceLock<Vec<u8>>,
}

/// Builds a [`Tree`].
struct Builder {
    nodes: Vec<Node>,
    names: HashMap<NodeId, HashMap<Box<[u8]>, NodeId>>,
    /// How many versions a name has in a folder.
    versions: HashMap<(NodeId, Box<[u8]>), u32>,
}

impl Builder {
    fn node(&mut self, content: Content, file: Option<FileId>) -> NodeId {
        self.nodes.push(Node { content, file, names: 0 });
        NodeId(self.nodes.len() as u64)
    }

    fn at(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize - 1]
    }

    fn folder(&mut self, parent: NodeId) -> NodeId {
        self.node(Content::Folder { parent, children: vec![], subfolders: 0 }, None)
    }

    fn child(&self, folder: NodeId, name: &[u8]) -> Option<NodeId> {
        self.names.get(&folder)?.get(name).copied()
    }

    fn is_folder(&self, id: NodeId) -> bool {
        matches!(self.nodes[id.0 as usize - 1].content, Content::Folder { .. })
    }

    fn link(&mut self, folder: NodeId, name: &[u8], node: NodeId) {
        let is_folder = self.is_folder(node);
        self.at(node).names += 1;
        if let Content::Folder { children, subfolders, .. } = &mut self.at(folder).content {
            children.push((name.into(), node));
            *subfolders += u32::from(is_folder);
        }
        self.names.entry(folder).or_default().insert(name.into(), node);
    }

    /// A name in a folder that is still free: itself, else with the next `@VERSION`.
    fn free_name(&mut self, folder: NodeId, name: &[u8]) -> Box<[u8]> {
        if self.child(folder, name).is_none() {
            return name.into();
        }
        loop {
            let version = self.versions.entry((folder, name.into())).or_default();
            *version += 1;
            let versioned = [name, format!("@{version}").as_bytes()].concat();
            if self.child(folder, &versioned).is_none() {
                return versioned.into();
            }
        }
    }

    /// The folder `name` in `folder`, made if need be; under another name where a file has that one. Also that name.
    fn folder_in(&mut self, folder: NodeId, name: &[u8]) -> (NodeId, Box<[u8]>) {
        let mut name: Box<[u8]> = name.into();
        for version in 1.. {
            match self.child(folder, &name) {
                Some(found) if self.is_folder(found) => return (found, name),
                Some(_) => name = [&name[..], format!("@{version}").as_bytes()].concat().into(),
                None => break,
            }
        }
        let made = self.folder(folder);
        self.link(folder, &name, made);
        (made, name)
    }

    /// The folder that holds `path`'s last component, the folder's own path in the mount, and that component; `None` for a path without one.
    fn place<'p>(&mut self, path: &'p [u8]) -> Option<(NodeId, Vec<u8>, &'p [u8])> {
        let mut parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).peekable();
        let (mut folder, mut shown) = (NodeId::BY_PATH, b"by-path".to_vec());
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return Some((folder, shown, part));
            }
            let (next, name) = self.folder_in(folder, part);
            folder = next;
            shown = [&shown, &b"/"[..], &name].concat();
        }
        None
    }

    /// Adds a lost file under its paths and its inode. Returns its first name in the mount.
    fn add(&mut self, file: &LostFile, id: FileId) -> Box<[u8]> {
        if file.kind == Kind::Dir {
            return self.add_folder(file, id);
        }
        let node = self.node(Content::Lost, Some(id));
        let mut first: Option<Box<[u8]>> = None;
        for path in &file.paths {
            let Some((folder, shown, name)) = self.place(path) else { continue };
            let name = self.free_name(folder, name);
            self.link(folder, &name, node);
            first.get_or_insert_with(|| [&shown, &b"/"[..], &name].concat().into());
        }
        if let Some(ino) = file.ino {
            let name = if file.version == 0 { ino.to_string() } else { format!("{ino}@{}", file.version) };
            let name = self.free_name(NodeId::BY_INODE, name.as_bytes());
            self.link(NodeId::BY_INODE, &name, node);
            first.get_or_insert_with(|| [b"by-inode/".as_slice(), &name].concat().into());
        }
        first.unwrap_or_default()
    }

    /// Adds a lost folder. Older lives of one path are one folder: their files stand in it with versions. Folders are not
    /// under `by-inode`, since the kernel allows a folder only one place.
    fn add_folder(&mut self, file: &LostFile, id: FileId) -> Box<[u8]> {
        let unnamed = format!("/#{}", file.ino.map_or(0, |ino| ino.0)).into_bytes();
        let path = file.paths.first().unwrap_or(&unnamed);
        let Some((folder, shown, name)) = self.place(path) else { return Box::default() };
        let (node, name) = self.folder_in(folder, name);
        self.at(node).file.get_or_insert(id);
        [&shown, &b"/"[..], &name].concat().into()
    }
}

impl Tree {
    /// Arranges everything that was lost.
    pub fn build(recovery: Arc<Recovery>) -> Tree {
        let mut builder = Builder { nodes: vec![], names: HashMap::new(), versions: HashMap::new() };
        let root = builder.folder(NodeId::ROOT);
        for name in [&b"by-path"[..], b"by-inode"] {
            let folder = builder.folder(root);
            builder.link(root, name, folder);
        }
        for (name, content) in [(&b"ABOUT.txt"[..], Content::About), (b"report.json", Content::Report)] {
            let node = builder.node(content, None);
            builder.link(root, name, node);
        }
        let mut mount_paths = vec![Box::default(); recovery.files().len()];
        for id in recovery.ids() {
            mount_paths[id.0 as usize] = builder.add(recovery.file(id), id);
        }
        let Builder { nodes, names, .. } = builder;
        Tree { recovery, nodes, names, mount_paths, about: OnceLock::new(), report: OnceLock::new() }
    }

    fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(usize::try_from(id.0.checked_sub(1)?).ok()?)
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
        let (kind, mode) = if matches!(node.content, Content::Folder { .. }) { (Kind::Dir, 0o755) } else { (Kind::File, 0o444) };
        let size = self.own_bytes(node).map_or(0, |bytes| bytes.len() as u64);
        Some(Attributes {
            kind,
            size,
            blocks512: size.div_ceil(512),
            mode,
            uid: 0,
            gid: 0,
            atime: written,
            mtime: written,
            ctime: written,
            links,
        })
    }

    /// The bytes of a file that undelfs writes itself, made when they are first asked for.
    fn own_bytes(&self, node: &Node) -> Option<&[u8]> {
        match node.content {
            Content::About => Some(self.about.get_or_init(|| report::about(self)).as_bytes()),
            Content::Report => Some(self.report.get_or_init(|| report::report_json(self))),
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
            (Content::Lost, Some(file)) => Some(Body::Lost(file)),
            _ => self.own_bytes(node).map(Body::Bytes),
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
        let size = self.attributes(id)?.size;
        let Some(Body::Lost(file)) = self.body(id) else { return (from < size).then_some(from) };
        let data = |evidence: Evidence| evidence.is_data() || missing_is_data && evidence.is_missing();
        let range = self.recovery.ranges_from(file, from).find(|range| data(range.evidence) && range.offset + range.length > from)?;
        Some(range.offset.max(from)).filter(|at| *at < size)
    }

    /// The first byte of a hole at or after `from` (`SEEK_HOLE`); the end of the file counts as one. `None` past it.
    pub fn seek_hole(&self, id: NodeId, from: u64, missing_is_data: bool) -> Option<u64> {
        let size = self.attributes(id)?.size;
        if from >= size {
            return None;
        }
        let Some(Body::Lost(file)) = self.body(id) else { return Some(size) };
        let hole = |evidence: Evidence| !(evidence.is_data() || missing_is_data && evidence.is_missing());
        let range = self.recovery.ranges_from(file, from).find(|range| hole(range.evidence) && range.offset + range.length > from);
        Some(range.map_or(size, |range| range.offset.max(from)))
    }

    /// Names of a node's extended attributes.
    pub fn xattr_names(&self, id: NodeId) -> &'static [&'static str] {
        self.file(id).map_or(&[], |file| xattr::names(self.recovery.file(file)))
    }

    /// Value of one of them.
    pub fn xattr(&self, id: NodeId, name: &[u8]) -> Option<Vec<u8>> {
        xattr::value(&self.recovery, self.file(id)?, name)
    }

    /// The whole.
    pub fn totals(&self) -> Totals {
        let block_size = self.recovery.block_size();
        let blocks = self.recovery.files().iter().map(|file| file.size.div_ceil(block_size)).fold(0, u64::saturating_add);
        Totals { blocks, files: self.recovery.files().len() as u64, block_size: block_size as u32 }
    }
}
