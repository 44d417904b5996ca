//! The kernel's requests, answered from the [`Tree`]. Nothing is decided here but how the files look and how their bytes travel.
//!
//! Every request that a kernel may send is answered, because `fuser` logs each one that is left out; and no panic gets out, because it
//! would end the thread that serves, and the kernel would repeat the request until no thread is left.

use super::contents::{self, Read};
use super::look::{self, file_type};
use super::options::{Access, MountOptions};
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

/// Requests that the kernel may have on the way for read-ahead; its default of 12 starves several readers.
const MAX_BACKGROUND: u16 = 64;

/// A mounted [`Tree`].
pub struct Adapter {
    tree: Arc<Tree>,
    /// The open FUSE device.
    device: OwnedFd,
    options: MountOptions,
    keep: Duration,
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
    /// Shows `tree` in the way that `options` ask for. `device` is the FUSE device that the session reads its requests from.
    pub fn new(tree: Arc<Tree>, device: OwnedFd, options: &MountOptions) -> Self {
        // With `allow_root` it is the session that sends other users away, and it only can where the kernel asks each time.
        let asked_each_time = options.access == Access::Root;
        let keep = if asked_each_time { Duration::ZERO } else { KEEP };
        Self { tree, device, options: options.clone(), keep, opens_itself: !asked_each_time }
    }

    fn attributes(&self, node: NodeId) -> Option<FileAttr> {
        self.tree.attributes(node).map(|attributes| look::shown(node, &attributes, &self.options))
    }

    /// Goes through a folder from `offset` on, `.` and `..` first, until `add` says that the reply is full. `add` gets the offset of
    /// what follows.
    fn list(&self, dir: NodeId, offset: u64, mut add: impl FnMut(NodeId, u64, Kind, &OsStr) -> bool) {
        let dots = [(dir, "."), (self.tree.parent(dir), "..")];
        for at in offset.. {
            let full = match usize::try_from(at).ok().and_then(|index| dots.get(index)) {
                Some((node, name)) => add(*node, at + 1, Kind::Dir, OsStr::new(name)),
                None => {
                    let index = usize::try_from(at - dots.len() as u64);
                    let Some((name, node, kind)) = index.ok().and_then(|index| self.tree.entry(dir, index)) else { return };
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
        for wanted in [InitFlags::FUSE_DO_READDIRPLUS, InitFlags::FUSE_PARALLEL_DIROPS, InitFlags::FUSE_CACHE_SYMLINKS] {
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
            let found = self.tree.lookup(NodeId(parent.0), name.as_bytes()).and_then(|node| self.attributes(node));
            match found {
                Some(attributes) => reply.entry(&self.keep, &attributes, Generation(0)),
                None => reply.error(Errno::ENOENT),
            }
        });
    }

    fn forget(&self, _req: &Request, _ino: INodeNo, _nlookup: u64) {}

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        contain("getattr", || match self.attributes(NodeId(ino.0)) {
            Some(attributes) => reply.attr(&self.keep, &attributes),
            None => reply.error(Errno::ENOENT),
        });
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        contain("readlink", || match self.tree.link_target(NodeId(ino.0)) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(error.into()),
        });
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        // Opening costs nothing and means nothing. Told so, the kernel does not ask again, and keeps what it has read (fuse_file_open,
        // fs/fuse/file.c).
        if self.opens_itself {
            reply.error(Errno::ENOSYS);
        } else {
            reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
        }
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        contain("read", || match self.tree.body(NodeId(ino.0)) {
            Some(Body::Image(source)) => {
                let read = Read { source, offset, size, missing_is_error: self.options.missing_is_error };
                contents::send(self.tree.recovery(), read, &self.device, req.unique(), reply);
            }
            Some(Body::Bytes(bytes)) => {
                let from = usize::try_from(offset).map_or(bytes.len(), |offset| offset.min(bytes.len()));
                let rest = &bytes[from..];
                reply.data(&rest[..rest.len().min(size as usize)]);
            }
            None => reply.error(Errno::EISDIR),
        });
    }

    fn lseek(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        contain("lseek", || {
            let node = NodeId(ino.0);
            let Ok(from) = u64::try_from(offset) else { return reply.error(Errno::ENXIO) };
            // Where reading what is missing must fail, a program that skips holes must not skip it.
            let missing_is_data = self.options.missing_is_error;
            let found = match whence {
                libc::SEEK_DATA => self.tree.seek_data(node, from, missing_is_data),
                libc::SEEK_HOLE => self.tree.seek_hole(node, from, missing_is_data),
                _ => return reply.error(Errno::EINVAL),
            };
            match found.and_then(|found| i64::try_from(found).ok()) {
                Some(found) => reply.offset(found),
                None => reply.error(Errno::ENXIO),
            }
        });
    }

    fn opendir(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        if self.opens_itself {
            reply.error(Errno::ENOSYS);
        } else {
            reply.opened(FileHandle(0), FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE);
        }
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        contain("readdir", || {
            self.list(NodeId(ino.0), offset, |node, next, kind, name| reply.add(INodeNo(node.0), next, file_type(kind), name));
            reply.ok();
        });
    }

    fn readdirplus(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        contain("readdirplus", || {
            self.list(NodeId(ino.0), offset, |node, next, _kind, name| match self.attributes(node) {
                Some(attributes) => reply.add(attributes.ino, next, name, &self.keep, &attributes, Generation(0)),
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
            let totals = self.tree.totals();
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
            let value = self.tree.xattr(NodeId(ino.0), name.as_bytes());
            Self::answer_xattr(value.as_deref(), size, reply);
        });
    }

    fn listxattr(&self, _req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        contain("listxattr", || {
            let mut list = Vec::new();
            for name in self.tree.xattr_names(NodeId(ino.0)) {
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
