//! Arranges what was lost under names.

use super::{Content, Node, NodeId, Tree};
use crate::content;
use crate::recover::{FileId, Key, Kind, LostFile, Recovery};
use rayon::prelude::*;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// Bytes of an orphan's beginning that are looked at for its kind: a block of 4 KiB, and as much of smaller ones.
const HEAD: usize = 4096;

/// So many orphans have their kind looked at before the mount is ready; each costs a read at a random place of the medium. More than that
/// are splinters, which nobody goes through one by one; those beyond it stand without an extension.
const IDENTIFIED: usize = 100_000;

/// The folder of orphans whose kind is not known.
const UNKNOWN_KIND: &[u8] = b"unknown";

/// The tree that a new one follows, and which node each of its files has.
struct Former<'a> {
    tree: &'a Tree,
    files: HashMap<Key, NodeId>,
}

impl<'a> Former<'a> {
    fn new(tree: &'a Tree) -> Self {
        let nodes = tree.nodes.iter().zip(1..).filter(|(node, _)| matches!(node.content, Content::Lost));
        let files = nodes.filter_map(|(node, number)| Some((tree.recovery.file(node.file?).key()?, NodeId(number)))).collect();
        Former { tree, files }
    }

    /// The node that has this name in a folder.
    fn child(&self, folder: NodeId, name: &[u8]) -> Option<NodeId> {
        self.tree.lookup(folder, name)
    }

    fn is_folder(&self, id: NodeId) -> bool {
        self.tree.node(id).is_some_and(|node| matches!(node.content, Content::Folder { .. }))
    }

    /// The node that showed a file, and whether it showed the same content.
    fn take(&mut self, id: FileId, recovery: &Recovery) -> Option<(NodeId, bool)> {
        // Taken out, so that what claims to be the same file a second time is another.
        let node = self.files.remove(&recovery.file(id).key()?)?;
        Some((node, recovery.shows_alike(id, &self.tree.recovery, self.tree.file(node)?)))
    }
}

/// The folder of chains that are not complete because the scan goes on.
const UNFINISHED: &[u8] = b"unfinished";

/// Builds a [`Tree`].
struct Builder<'a> {
    nodes: Vec<Node>,
    inodes: HashMap<NodeId, u64>,
    former: Option<Former<'a>>,
    names: HashMap<NodeId, HashMap<Box<[u8]>, NodeId>>,
    /// How many versions a name has in a folder.
    versions: HashMap<(NodeId, Box<[u8]>), u32>,
    /// What orphans begin with.
    kinds: HashMap<FileId, content::Kind>,
}

impl Builder<'_> {
    /// A node with a number that none had.
    fn node(&mut self, content: Content, file: Option<FileId>) -> NodeId {
        self.nodes.push(Node { content, file, names: 0 });
        NodeId(self.nodes.len() as u64)
    }

    /// A node that stands for what `former` stood for: it, where that has not changed, else another that shows the same inode number.
    fn node_after(&mut self, former: Option<(NodeId, bool)>, content: Content, file: Option<FileId>) -> NodeId {
        let Some((former, is_same)) = former else { return self.node(content, file) };
        let node = match is_same {
            true => {
                *self.at(former) = Node { content, file, names: 0 };
                former
            }
            false => self.node(content, file),
        };
        let inode = self.former.as_ref().map_or(former.0, |before| before.tree.inode(former));
        if inode != node.0 {
            self.inodes.insert(node, inode);
        }
        node
    }

    fn at(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize - 1]
    }

    fn folder(&mut self, parent: NodeId, name: &[u8]) -> NodeId {
        let former = self.former.as_ref().and_then(|former| former.child(parent, name).filter(|node| former.is_folder(*node)));
        self.node_after(former.map(|node| (node, true)), Content::Folder { parent, children: vec![], subfolders: 0 }, None)
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
        let made = self.folder(folder, &name);
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

    /// Adds a lost file under its paths and its inode, or among the orphans. Returns its first name in the mount.
    fn add(&mut self, recovery: &Recovery, id: FileId) -> Box<[u8]> {
        let file = recovery.file(id);
        if file.kind == Kind::Dir {
            return self.add_folder(file, id);
        }
        let former = self.former.as_mut().and_then(|former| former.take(id, recovery));
        let node = self.node_after(former, Content::Lost, Some(id));
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
        if file.ino.is_none()
            && let Some(path) = self.add_orphan(file, id, node)
        {
            first.get_or_insert(path);
        }
        first.unwrap_or_default()
    }

    /// Adds a chain without an inode under the number of its topmost block, and once more among those of its kind.
    fn add_orphan(&mut self, file: &LostFile, id: FileId, node: NodeId) -> Option<Box<[u8]>> {
        let top = file.orphan.as_ref()?.top;
        if file.is_unfinished() {
            // Not where it will be in the end, so that nobody takes it for the whole.
            let (folder, shown) = self.folder_in(NodeId::ORPHANS, UNFINISHED);
            let name = self.free_name(folder, top.to_string().as_bytes());
            self.link(folder, &name, node);
            return Some([&b"orphans/"[..], &shown, b"/", &name].concat().into());
        }
        let kind = self.kinds.get(&id).copied();
        let name = kind.map_or_else(|| top.to_string(), |kind| format!("{top}.{}", kind.ext()));
        let name = self.free_name(NodeId::ORPHANS, name.as_bytes());
        self.link(NodeId::ORPHANS, &name, node);
        let (kinds, _) = self.folder_in(NodeId::ORPHANS, b"by-kind");
        let (folder, _) = self.folder_in(kinds, kind.map_or(UNKNOWN_KIND, |kind| kind.folder().as_bytes()));
        self.link(folder, &name, node);
        Some([&b"orphans/"[..], &name].concat().into())
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

/// What the orphans among the lost files begin with, as far as that can be told.
fn kinds(recovery: &Recovery) -> HashMap<FileId, content::Kind> {
    let is_named_by_kind = |file: &LostFile| file.ino.is_none() && !file.is_unfinished();
    let orphans: Vec<FileId> = recovery.ids().filter(|id| is_named_by_kind(recovery.file(*id))).take(IDENTIFIED).collect();
    let kind = |id: &FileId| {
        let mut head = vec![0; HEAD];
        let length = recovery.read_at(*id, 0, &mut head).ok()?;
        Some((*id, content::identify(&head[..length])?))
    };
    orphans.par_iter().filter_map(kind).collect()
}

impl Tree {
    /// Arranges everything that was lost.
    pub fn build(recovery: Arc<Recovery>) -> Tree {
        let mut builder = Builder::new(&recovery, None);
        let root = builder.node(Content::Folder { parent: NodeId::ROOT, children: vec![], subfolders: 0 }, None);
        debug_assert_eq!(root, NodeId::ROOT);
        builder.fill(recovery)
    }

    /// Arranges what a later look at the same filesystem found. What has not changed since `former` is the same node.
    pub fn after(former: &Tree, recovery: Arc<Recovery>) -> Tree {
        let mut builder = Builder::new(&recovery, Some(Former::new(former)));
        builder.nodes.resize_with(former.nodes.len(), || Node { content: Content::Gone, file: None, names: 0 });
        *builder.at(NodeId::ROOT) =
            Node { content: Content::Folder { parent: NodeId::ROOT, children: vec![], subfolders: 0 }, file: None, names: 0 };
        builder.fill(recovery)
    }
}

impl<'a> Builder<'a> {
    fn new(recovery: &Recovery, former: Option<Former<'a>>) -> Self {
        let kinds = kinds(recovery);
        Builder { nodes: vec![], inodes: HashMap::new(), former, names: HashMap::new(), versions: HashMap::new(), kinds }
    }

    /// Fills the root, which is the only node so far.
    fn fill(mut self, recovery: Arc<Recovery>) -> Tree {
        let root = NodeId::ROOT;
        for (name, id) in [(&b"by-path"[..], NodeId::BY_PATH), (b"by-inode", NodeId::BY_INODE), (b"orphans", NodeId::ORPHANS)] {
            let folder = self.folder(root, name);
            debug_assert_eq!(folder, id);
            self.link(root, name, folder);
        }
        let own = [(&b"unclaimed.img"[..], Content::Unclaimed), (b"ABOUT.txt", Content::About), (b"report.json", Content::Report)];
        for (name, content) in own {
            let former = self.former.as_ref().and_then(|former| former.child(root, name));
            let node = self.node_after(former.map(|node| (node, false)), content, None);
            self.link(root, name, node);
        }
        let mut mount_paths = vec![Box::default(); recovery.files().len()];
        for id in recovery.ids() {
            mount_paths[id.0 as usize] = self.add(&recovery, id);
        }
        let Builder { nodes, inodes, names, .. } = self;
        Tree { recovery, nodes, inodes, names, mount_paths, about: OnceLock::new(), report: OnceLock::new(), unclaimed: OnceLock::new() }
    }
}
