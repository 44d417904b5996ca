//! The yardstick for reading through a mount: a server that does nothing but answer each read of one file with a slice of a memory map.
//!
//! `bare_server FILE MOUNTPOINT [announce]` shows FILE as `MOUNTPOINT/file` until it is unmounted; with `announce`, for a FILE that is cold on
//! a disk, each long request is told to the system before it is answered, without which a map reads one page at a time. Threads, time-to-live, capabilities and flags
//! are those of `undelfs mount`, so that what is left of a difference is what undelfs spends on finding the bytes.

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, KernelConfig, LockOwner, MountOption,
    OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, Request,
};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::thread;
use std::time::{Duration, SystemTime};
use undelfs::sys::Map;

const FILE: INodeNo = INodeNo(2);
/// What is worth announcing: more than two pages.
const LONG: usize = 8 << 10;
const KEEP: Duration = Duration::from_secs(24 * 60 * 60);

struct Bare {
    map: Map,
    size: u64,
    announces: bool,
}

impl Bare {
    fn attributes(&self, node: INodeNo) -> FileAttr {
        let file = node == FILE;
        let time = SystemTime::UNIX_EPOCH;
        FileAttr {
            ino: node,
            size: if file { self.size } else { 0 },
            blocks: if file { self.size.div_ceil(512) } else { 0 },
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind: if file { FileType::RegularFile } else { FileType::Directory },
            perm: if file { 0o444 } else { 0o555 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Bare {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // What the kernel refuses stays as it is.
        let _ = config.set_max_background(64);
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if parent == INodeNo::ROOT && name == "file" {
            reply.entry(&KEEP, &self.attributes(FILE), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&KEEP, &self.attributes(ino));
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn read(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let len = u64::from(size).min(self.size.saturating_sub(offset));
        let (Ok(offset), Ok(len)) = (usize::try_from(offset), usize::try_from(len)) else { return reply.data(&[]) };
        if self.announces && len >= LONG {
            self.map.will_need(offset, len);
        }
        reply.data(self.map.slice(offset, len).unwrap_or_default());
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _lock_owner: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let (file, point, announces) = match &args[..] {
        [file, point] => (file, point, false),
        [file, point, word] if word == "announce" => (file, point, true),
        _ => return Err("usage: bare_server FILE MOUNTPOINT [announce]".into()),
    };
    let file = File::open(file)?;
    let size = file.metadata()?.len();
    let map = Map::new(&file, usize::try_from(size)?)?;
    let mut config = Config::default();
    config.mount_options = vec![MountOption::RO, MountOption::NoAtime, MountOption::FSName("bare_server".into())];
    config.n_threads = Some(thread::available_parallelism().map_or(2, usize::from).clamp(2, 4));
    fuser::mount(Bare { map, size, announces }, point, &config)?;
    Ok(())
}
