//! Which tree is shown: the newest, and beside it those in which something is still open.

use crate::tree::{NodeId, Tree};
use fuser::{FileHandle, INodeNo, Notifier};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// What stands for "nothing is kept for this": the number of no handle.
pub const NO_HANDLE: FileHandle = FileHandle(0);

/// The trees of a mount.
pub struct Shown {
    newest: RwLock<Arc<Tree>>,
    handles: Mutex<Handles>,
}

#[derive(Default)]
struct Handles {
    open: HashMap<u64, Open>,
    last: u64,
}

/// Something that is open, and the tree in which it is what it was when it was opened.
struct Open {
    node: NodeId,
    is_folder: bool,
    tree: Arc<Tree>,
}

impl Shown {
    /// Shows a tree.
    pub fn new(tree: Arc<Tree>) -> Self {
        Shown { newest: RwLock::new(tree), handles: Mutex::default() }
    }

    /// The newest tree.
    pub fn newest(&self) -> Arc<Tree> {
        Arc::clone(&self.newest.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The tree in which a handle was opened; the newest without one.
    pub fn of(&self, handle: FileHandle) -> Arc<Tree> {
        let opened = |handle: FileHandle| self.handles().open.get(&handle.0).map(|open| Arc::clone(&open.tree));
        Some(handle).filter(|handle| *handle != NO_HANDLE).and_then(opened).unwrap_or_else(|| self.newest())
    }

    /// The tree that has a node: the newest, else one in which it is open. The kernel asks for attributes without saying for which handle.
    pub fn with(&self, node: NodeId) -> Arc<Tree> {
        let newest = self.newest();
        if newest.contains(node) {
            return newest;
        }
        self.handles().open.values().find(|open| open.node == node).map_or(newest, |open| Arc::clone(&open.tree))
    }

    fn handles(&self) -> MutexGuard<'_, Handles> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a file or folder of the newest tree, which is kept as long as it is open. Returns that tree too.
    pub fn open(&self, node: NodeId, is_folder: bool) -> (FileHandle, Arc<Tree>) {
        let mut handles = self.handles();
        // Under the lock, so that no newer tree comes between.
        let tree = self.newest();
        handles.last += 1;
        let number = handles.last;
        handles.open.insert(number, Open { node, is_folder, tree: Arc::clone(&tree) });
        (FileHandle(number), tree)
    }

    /// Lets go of a handle.
    pub fn close(&self, handle: FileHandle) {
        let closed = self.handles().open.remove(&handle.0);
        // If its tree goes with it, that takes a moment, for which nobody else should have to wait.
        drop(closed);
    }

    /// Shows another tree from now on. Of those before, only those are kept in which something is open that has changed since, and folders
    /// that somebody goes through.
    pub fn replace(&self, tree: Tree, notifier: &Notifier) {
        let tree = Arc::new(tree);
        let former = {
            let mut handles = self.handles();
            for open in handles.open.values_mut().filter(|open| !open.is_folder && tree.contains(open.node)) {
                open.tree = Arc::clone(&tree);
            }
            std::mem::replace(&mut *self.newest.write().unwrap_or_else(PoisonError::into_inner), Arc::clone(&tree))
        };
        // Names that are new need no word: the kernel remembers no names that are not there. No lock may be held here, since the kernel
        // waits for requests about the same folder that are under way.
        for (folder, name) in tree.changed_since(&former) {
            if let Err(error) = notifier.inval_entry(INodeNo(folder.0), OsStr::from_bytes(name)) {
                // It forgets them by itself soon.
                log::debug!("{}: the kernel was not told that it has changed: {error}", OsStr::from_bytes(name).display());
            }
        }
    }
}
