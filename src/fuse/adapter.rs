//! The kernel's requests, answered from the [`Tree`] that is shown. Nothing is decided here but how the files look and how their bytes travel.
//!
//! Every request that a kernel may send is answered, because `fuser` logs each one that is left out; and no panic gets out, because it
//! would end the thread that serves, and the kernel would repeat the request until no thread is left.

use super::contents::{self, Read};
use super::look::{self, file_type};
use super::options::{Access, MountOptions};
use super::shown::{NO_HANDLE, Shown};
use crate::recover::Kind;
use crate::tree::{Body, NodeId, Tree};
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileAttr, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    IoctlFlags, KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier, RenameFlags, ReplyAttr, ReplyBmap, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLock, ReplyLseek, ReplyOpen, ReplyPoll,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How long the kernel may keep names and attributes: nothing changes under a mount that cannot be written to.
const KEEP: Duration = Duration::from_secs(24 * 60 * 60);

/// The same while the scan goes on behind the mount: what comes from a tree that is replaced just then is forgotten soon. Long enough for
/// what one program does with one file.
const KEEP_FOR_NOW: Duration = Duration::from_secs(1);

/// Requests that the kernel may have on the way for read-ahead; its default of 12 starves several readers.
const MAX_BACKGROUND: u16 = 64;

/// Mounted [`Tree`]s.
pub struct Adapter {
    shown: Arc<Shown>,
    /// Whether there may be more than one of them.
    goes_on: bool,
    /// The open FUSE device.
    device: OwnedFd,
    options: MountOptions,
    /// Whether the kernel must ask each time.
    asked_each_time: bool,
    /// Whether the kernel opens files and folders without asking, once it has been told so by `ENOSYS`.
    opens_itself: bool,
}

/// Runs `answer`. When it panics, the reply that it was given is dropped, and `fuser` answers `EIO`.
fn contain(request: &str, answer: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(answer)).is_err() {
        log::error!("{request}: internal error, answered with EIO");
    }
}

impl Adapter {
    /// Shows trees in the way that `options` ask for. `device` is the FUSE device that the session reads its requests from.
    pub fn new(shown: Arc<Shown>, device: OwnedFd, options: &MountOptions) -> Self {
        // With `allow_root` it is the session that sends other users away, and it only can where the kernel asks each time.
        let asked_each_time = options.access == Access::Root;
        let goes_on = shown.newest().recovery().looked().goes_on();
        Self { shown, goes_on, device, options: options.clone(), asked_each_time, opens_itself: !asked_each_time }
    }

    /// How long the kernel may keep what this tree says.
    fn keep(&self, tree: &Tree) -> Duration {
        match tree.recovery().looked().goes_on() {
            _ if self.asked_each_time => Duration::ZERO,
            true => KEEP_FOR_NOW,
            false => KEEP,
        }
    }

    /// A node's attributes, under the number that the kernel knows it by.
    fn attributes(&self, tree: &Tree, node: NodeId) -> Option<FileAttr> {
        tree.attributes(node).map(|attributes| look::shown(node.0, &attributes, &self.options))
    }

    /// The reply to an open: a handle where content may change, else nothing, once and for all where the kernel can do without.
    fn open_node(&self, node: NodeId, kept: FopenFlags, reply: ReplyOpen) {
        let (is_folder, tree) = (kept.contains(FopenFlags::FOPEN_CACHE_DIR), self.shown.newest());
        if self.opens_itself && !tree.recovery().looked().goes_on() {
            // Opening costs nothing and means nothing. Told so, the kernel does not ask again, and keeps what it has read (fuse_file_open,
            // fs/fuse/file.c).
            return reply.error(Errno::ENOSYS);
        }
        if !self.goes_on {
            return reply.opened(NO_HANDLE, kept);
        }
        let (handle, tree) = self.shown.open(node, is_folder);
        if !tree.contains(node) {
            self.shown.close(handle);
            // It was found meanwhile to have other content. The kernel looks its name up again (vfs_open, fs/namei.c).
            return reply.error(Errno::ESTALE);
        }
        // Of what is still to grow, nothing may be kept but the content of lost files, which is another node when it changes.
        let keep = !tree.recovery().looked().goes_on() || matches!(tree.body(node), Some(Body::Image(_)));
        reply.opened(handle, if keep { kept } else { FopenFlags::empty() });
    }

    /// Goes through a folder from `offset` on, `.` and `..` first, until `add` says that the reply is full. `add` gets the offset of
    /// what follows.
    fn list(tree: &Tree, dir: NodeId, offset: u64, mut add: impl FnMut(NodeId, u64, Kind, &OsStr) -> bool) {
        let dots = [(dir, "."), (tree.parent(dir), "..")];
        for at in offset.. {
            let full = match usize::try_from(at).ok().and_then(|index| dots.get(index)) {
                Some((node, name)) => add(*node, at + 1, Kind::Dir, OsStr::new(name)),
                None => {
                    let index = usize::try_from(at - dots.len() as u64);
                    let Some((name, node, kind)) = index.ok().and_then(|index| tree.entry(dir, index)) else { return };
                    add(node, at + 1, kind, OsStr::from_bytes(name))
                }
            };
            if full {
                return;
            }
        }
    }

    fn answer_xattr(value: Option<&[u8]>, size: u32, reply: ReplyXattr) {
        match value {
            None => reply.error(Errno::NO_XATTR),
            Some(value) => match u32::try_from(value.len()) {
                Ok(len) if size == 0 => reply.size(len),
                Ok(len) if len <= size => reply.data(value),
                _ => reply.error(Errno::ERANGE),
            },
        }
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // One at a time, since a set with one that the kernel does not know is refused as a whole. READDIRPLUS without its AUTO: `ls -l`
        // and `find` in a large folder take half the time.
        let mut wanted = vec![InitFlags::FUSE_PARALLEL_DIROPS, InitFlags::FUSE_CACHE_SYMLINKS];
        if !self.goes_on {
            // It gives each entry one number, but a file that was found to have other content has two: its node's and its inode's.
            wanted.push(InitFlags::FUSE_DO_READDIRPLUS);
        }
        for wanted in wanted {
            if let Err(missing) = config.add_capabilities(wanted) {
                log::debug!("the kernel does not know {missing:?}");
            }
        }
        self.opens_itself &= [InitFlags::FUSE_NO_OPEN_SUPPORT, InitFlags::FUSE_NO_OPENDIR_SUPPORT]
            .into_iter()
            .all(|wanted| config.add_capabilities(wanted).is_ok());
        if let Err(nearest) = config.set_max_background(MAX_BACKGROUND) {
            log::debug!("max_background {MAX_BACKGROUND} refused, {nearest} possible");
        }
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        contain("lookup", || {
            let tree = self.shown.newest();
            let found = tree.lookup(NodeId(parent.0), name.as_bytes());
            match found.and_then(|node| Some((node, self.attributes(&tree, node)?))) {
                Some((node, attributes)) => {
                    let keep = self.keep(&tree);
                    // The node's number stands for the inode's here; where they differ, the kernel has to ask for the attributes.
                    let keep_attributes = if tree.inode(node) == node.0 { keep } else { Duration::ZERO };
                    reply.entry_with_ttls(&keep_attributes, &keep, &attributes, Generation(0));
                }
                None => reply.error(Errno::ENOENT),
            }
        });
    }

    fn forget(&self, _req: &Request, _ino: INodeNo, _nlookup: u64) {}

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        contain("getattr", || {
            let node = NodeId(ino.0);
            let tree = self.shown.with(node);
            match self.attributes(&tree, node) {
                Some(attributes) => reply.attr(&self.keep(&tree), &FileAttr { ino: INodeNo(tree.inode(node)), ..attributes }),
                None => reply.error(Errno::ESTALE),
            }
        });
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        contain("readlink", || match self.shown.with(NodeId(ino.0)).link_target(NodeId(ino.0)) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(error.into()),
        });
    }

    fn open(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        contain("open", || self.open_node(NodeId(ino.0), FopenFlags::FOPEN_KEEP_CACHE, reply));
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        contain("release", || {
            self.shown.close(fh);
            reply.ok();
        });
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let tree = self.shown.of(fh);
        contain("read", || match tree.body(NodeId(ino.0)) {
            Some(Body::Image(source)) => {
                let read = Read { source, offset, size, missing_is_error: self.options.missing_is_error };
                contents::send(tree.recovery(), read, &self.device, req.unique(), reply);
            }
            Some(Body::Text(text)) => reply.data(&text.part(offset, size)),
            None if !tree.contains(NodeId(ino.0)) => reply.error(Errno::ESTALE),
            None => reply.error(Errno::EISDIR),
        });
    }

    fn lseek(&self, _req: &Request, ino: INodeNo, fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        contain("lseek", || {
            let (tree, node) = (self.shown.of(fh), NodeId(ino.0));
            let Ok(from) = u64::try_from(offset) else { return reply.error(Errno::ENXIO) };
            // Where reading what is missing must fail, a program that skips holes must not skip it.
            let missing_is_data = self.options.missing_is_error;
            let found = match whence {
                libc::SEEK_DATA => tree.seek_data(node, from, missing_is_data),
                libc::SEEK_HOLE => tree.seek_hole(node, from, missing_is_data),
                _ => return reply.error(Errno::EINVAL),
            };
            match found.and_then(|found| i64::try_from(found).ok()) {
                Some(found) => reply.offset(found),
                None => reply.error(Errno::ENXIO),
            }
        });
    }

    fn opendir(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        contain("opendir", || self.open_node(NodeId(ino.0), FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE, reply));
    }

    fn releasedir(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, _flags: OpenFlags, reply: ReplyEmpty) {
        contain("releasedir", || {
            self.shown.close(fh);
            reply.ok();
        });
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        contain("readdir", || {
            let tree = self.shown.of(fh);
            Self::list(&tree, NodeId(ino.0), offset, |node, next, kind, name| {
                reply.add(INodeNo(tree.inode(node)), next, file_type(kind), name)
            });
            reply.ok();
        });
    }

    fn readdirplus(&self, _req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        contain("readdirplus", || {
            let tree = self.shown.of(fh);
            let keep = self.keep(&tree);
            Self::list(&tree, NodeId(ino.0), offset, |node, next, _kind, name| match self.attributes(&tree, node) {
                Some(attributes) => reply.add(attributes.ino, next, name, &keep, &attributes, Generation(0)),
                None => {
                    log::error!("{}: listed, but node {} is not in the tree", name.display(), node.0);
                    false
                }
            });
            reply.ok();
        });
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        contain("statfs", || {
            let totals = self.shown.newest().totals();
            // 255 is EXT3_NAME_LEN; a version's suffix may make a name longer, up to the kernel's own limit for FUSE of 1024.
            reply.statfs(totals.blocks, 0, 0, totals.files, 0, totals.block_size, 255, totals.block_size);
        });
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        contain("getxattr", || {
            // Other namespaces do not exist here. Saying so ends the question: `ls -l` asks for the ACL of every file until it hears that
            // the filesystem has none, and a large folder takes it twenty times as long.
            if !name.as_bytes().starts_with(b"user.") {
                return reply.error(Errno::EOPNOTSUPP);
            }
            let value = self.shown.with(NodeId(ino.0)).xattr(NodeId(ino.0), name.as_bytes());
            Self::answer_xattr(value.as_deref(), size, reply);
        });
    }

    fn listxattr(&self, _req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        contain("listxattr", || {
            let mut list = Vec::new();
            let tree = self.shown.with(NodeId(ino.0));
            for name in tree.xattr_names(NodeId(ino.0)) {
                list.extend_from_slice(name.as_bytes());
                list.push(0);
            }
            Self::answer_xattr(Some(&list), size, reply);
        });
    }

    // Asked once; the kernel takes ENOSYS for success and does not ask again (fs/fuse/file.c, fs/fuse/dir.c).

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _lock_owner: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn fsync(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn fsyncdir(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn access(&self, _req: &Request, _ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn poll(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _ph: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(Errno::ENOSYS);
    }

    // Not offered.

    fn bmap(&self, _req: &Request, _ino: INodeNo, _blocksize: u32, _idx: u64, reply: ReplyBmap) {
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn getlk(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        _start: u64,
        _end: u64,
        _typ: i32,
        _pid: u32,
        reply: ReplyLock,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn setlk(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        _start: u64,
        _end: u64,
        _typ: i32,
        _pid: u32,
        _sleep: bool,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    // Writing. The kernel refuses most of it by itself, since the mount is read-only.

    fn setattr(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.error(Errno::EROFS);
    }

    fn mknod(&self, _req: &Request, _parent: INodeNo, _name: &OsStr, _mode: u32, _umask: u32, _rdev: u32, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn mkdir(&self, _req: &Request, _parent: INodeNo, _name: &OsStr, _mode: u32, _umask: u32, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn unlink(&self, _req: &Request, _parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn rmdir(&self, _req: &Request, _parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn symlink(&self, _req: &Request, _parent: INodeNo, _link_name: &OsStr, _target: &Path, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn rename(
        &self,
        _req: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _newparent: INodeNo,
        _newname: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EROFS);
    }

    fn link(&self, _req: &Request, _ino: INodeNo, _newparent: INodeNo, _newname: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn write(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _offset: u64,
        _data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        reply.error(Errno::EROFS);
    }

    fn setxattr(&self, _req: &Request, _ino: INodeNo, _name: &OsStr, _value: &[u8], _flags: i32, _position: u32, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn removexattr(&self, _req: &Request, _ino: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn create(&self, _req: &Request, _parent: INodeNo, _name: &OsStr, _mode: u32, _umask: u32, _flags: i32, reply: ReplyCreate) {
        reply.error(Errno::EROFS);
    }

    fn fallocate(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _offset: u64, _length: u64, _mode: i32, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn copy_file_range(
        &self,
        _req: &Request,
        _ino_in: INodeNo,
        _fh_in: FileHandle,
        _offset_in: u64,
        _ino_out: INodeNo,
        _fh_out: FileHandle,
        _offset_out: u64,
        _len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        reply.error(Errno::EROFS);
    }
}
