//! A medium that is slow, or stops in the middle, when a test wants it to: a FUSE server that shows a folder with one image in it.

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, MountOption,
    OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, Request,
};
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;

const IMAGE: INodeNo = INodeNo(2);

/// How the medium reads.
#[derive(Default)]
struct Manner {
    /// Bytes that are not read now, and who waits for them.
    withheld: Range<u64>,
    waiting: Vec<(u64, u32, ReplyData)>,
    /// What each read of 64 KiB and more takes.
    delay: Duration,
}

struct Server {
    image: File,
    metadata: Metadata,
    manner: Arc<Mutex<Manner>>,
}

impl Server {
    fn attributes(&self, node: INodeNo) -> FileAttr {
        let file = node == IMAGE;
        let time = |seconds: i64, nanos: i64| SystemTime::UNIX_EPOCH + Duration::new(seconds as u64, nanos as u32);
        FileAttr {
            ino: node,
            size: if file { self.metadata.len() } else { 0 },
            blocks: if file { self.metadata.blocks() } else { 0 },
            atime: SystemTime::UNIX_EPOCH,
            mtime: time(self.metadata.mtime(), self.metadata.mtime_nsec()),
            ctime: time(self.metadata.ctime(), self.metadata.ctime_nsec()),
            crtime: SystemTime::UNIX_EPOCH,
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

fn answer(image: &File, offset: u64, size: u32, reply: ReplyData) {
    let mut bytes = vec![0; size as usize];
    match image.read_at(&mut bytes, offset) {
        Ok(read) => reply.data(&bytes[..read]),
        Err(error) => reply.error(error.into()),
    }
}

impl Filesystem for Server {
    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match parent == INodeNo::ROOT && name == "disk.img" {
            true => reply.entry(&Duration::from_secs(600), &self.attributes(IMAGE), Generation(0)),
            false => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&Duration::from_secs(600), &self.attributes(ino));
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
        let mut manner = self.manner.lock().expect("no panic");
        if offset < manner.withheld.end && manner.withheld.start < offset + u64::from(size) {
            return manner.waiting.push((offset, size, reply));
        }
        let delay = manner.delay;
        drop(manner);
        if size >= 64 << 10 {
            std::thread::sleep(delay);
        }
        answer(&self.image, offset, size, reply);
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _lock_owner: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }
}

/// An image on such a medium.
pub struct Medium {
    folder: TempDir,
    original: PathBuf,
    manner: Arc<Mutex<Manner>>,
    session: Option<BackgroundSession>,
}

impl Medium {
    /// Shows `image` in a folder of its own.
    pub fn new(image: &Path) -> Medium {
        let file = File::open(image).expect("the image opens");
        let metadata = file.metadata().expect("it is there");
        let (folder, manner) = (tempfile::tempdir().expect("a folder"), Arc::<Mutex<Manner>>::default());
        let mut config = Config::default();
        config.mount_options = vec![MountOption::RO, MountOption::FSName("medium".into())];
        config.n_threads = Some(4);
        let server = Server { image: file, metadata, manner: Arc::clone(&manner) };
        let session = fuser::spawn_mount(server, folder.path(), &config).expect("mounted");
        Medium { folder, original: image.to_owned(), manner, session: Some(session) }
    }

    /// The image.
    pub fn image(&self) -> PathBuf {
        self.folder.path().join("disk.img")
    }

    /// Lets each long read take so much time.
    pub fn slow(self, delay: Duration) -> Medium {
        self.manner.lock().expect("no panic").delay = delay;
        self
    }

    /// Does not answer who reads these bytes, until they are released.
    pub fn withhold(self, bytes: Range<u64>) -> Medium {
        self.manner.lock().expect("no panic").withheld = bytes;
        self
    }

    /// Whether somebody waits for what is withheld.
    pub fn is_waited_for(&self) -> bool {
        !self.manner.lock().expect("no panic").waiting.is_empty()
    }

    /// Gives back what was withheld, and goes on without delay.
    pub fn release(&self) {
        let former = std::mem::take(&mut *self.manner.lock().expect("no panic"));
        let image = File::open(&self.original).expect("the image opens");
        former.waiting.into_iter().for_each(|(offset, size, reply)| answer(&image, offset, size, reply));
    }
}

impl Drop for Medium {
    fn drop(&mut self) {
        self.release();
        if let Some(session) = self.session.take() {
            // A process holds it until the last of its threads is gone. A test that has failed may still have its mount on top of this one.
            let unmount = || Command::new("umount").arg(self.folder.path()).stderr(Stdio::null()).status().expect("umount runs");
            let begun = Instant::now();
            while !unmount().success() {
                if std::thread::panicking() {
                    return;
                }
                assert!(begun.elapsed() < Duration::from_secs(20), "the medium is still in use after 20 seconds");
                std::thread::sleep(Duration::from_millis(10));
            }
            let ended = session.join();
            assert!(std::thread::panicking() || ended.is_ok(), "{ended:?}");
        }
    }
}
