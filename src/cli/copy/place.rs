//! A folder that is written to, held open. Everything in it is named relative to it and no symbolic link is followed, so that nothing
//! which was recovered, or is put there meanwhile, leads a write out of the destination.

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps};
use rustix::fs::{CWD, Gid, Uid};
use rustix::io::Errno;
use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use undelfs::recover::file::Time;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// What is kept of a file besides its content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keep {
    /// Permission bits; others are never set.
    pub mode: u16,
    /// Owner and group, set by root only.
    pub owner: (u32, u32),
    /// Last access.
    pub atime: Time,
    /// Last change.
    pub mtime: Time,
}

/// One open folder.
pub struct Place {
    fd: OwnedFd,
    /// Device and inode.
    pub identity: (u64, u64),
}

impl Place {
    /// The folder at a path that the user gave.
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        Self::new(rustix::fs::openat(CWD, path, FOLDER, Mode::empty())?)
    }

    fn new(fd: OwnedFd) -> io::Result<Self> {
        let stat = rustix::fs::fstat(&fd)?;
        Ok(Place { fd, identity: (stat.st_dev, stat.st_ino) })
    }

    /// The same folder once more.
    pub fn again(&self) -> io::Result<Self> {
        Ok(Place { fd: self.fd.try_clone()?, identity: self.identity })
    }

    /// A path for asking the system about this folder.
    pub fn proc_path(&self) -> String {
        use std::os::fd::AsRawFd;
        format!("/proc/self/fd/{}", self.fd.as_raw_fd())
    }

    /// The folder `name` in it, which must be there.
    pub fn folder(&self, name: &[u8]) -> io::Result<Self> {
        Self::new(rustix::fs::openat(&self.fd, os(name), FOLDER | OFlags::NOFOLLOW, Mode::empty())?)
    }

    /// The folder `name` in it, made if need be and open to its owner; what it is to be in the end is set by [`Place::keep`].
    pub fn make_folder(&self, name: &[u8]) -> io::Result<Self> {
        match rustix::fs::mkdirat(&self.fd, os(name), Mode::RWXU) {
            Ok(()) => self.folder(name),
            Err(Errno::EXIST) => {
                let folder = self.folder(name).map_err(|error| match Errno::from_io_error(&error) {
                    Some(Errno::NOTDIR | Errno::LOOP) => io::Error::other("exists already, and is no folder"),
                    _ => error,
                })?;
                // An earlier run may have left it with the mode of the lost folder.
                let mode = Mode::from_raw_mode(rustix::fs::fstat(&folder.fd)?.st_mode);
                if !mode.contains(Mode::RWXU) {
                    rustix::fs::fchmod(&folder.fd, (mode & PERMISSIONS) | Mode::RWXU)?;
                }
                Ok(folder)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The folder that it lies in, if that is the one with this identity.
    pub fn parent(&self, identity: (u64, u64)) -> io::Result<Self> {
        let parent = Self::new(rustix::fs::openat(&self.fd, "..", FOLDER, Mode::empty())?)?;
        if parent.identity != identity {
            return Err(io::Error::other("was moved elsewhere during the copy"));
        }
        Ok(parent)
    }

    /// What stands there under this name.
    pub fn look(&self, name: &[u8]) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.fd, os(name), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A new file, for its owner only.
    pub fn create(&self, name: &[u8]) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(&self.fd, os(name), flags, Mode::RUSR | Mode::WUSR)?))
    }

    /// A new symbolic link.
    pub fn symlink(&self, target: &[u8], name: &[u8], keep: &Keep) -> io::Result<()> {
        rustix::fs::symlinkat(os(target), &self.fd, os(name))?;
        if let Some((uid, gid)) = keep.owners() {
            denied(rustix::fs::chownat(&self.fd, os(name), uid, gid, AtFlags::SYMLINK_NOFOLLOW))?;
        }
        Ok(rustix::fs::utimensat(&self.fd, os(name), &keep.times(), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Where a symbolic link leads.
    pub fn target(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(&self.fd, os(name), Vec::new())?.into_bytes())
    }

    /// A hard link to a file in another folder.
    pub fn link(&self, name: &[u8], folder: &Place, other: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::linkat(&folder.fd, os(other), &self.fd, os(name), AtFlags::empty())?)
    }

    /// Gives what is at `part` its `name`. Without `replace`, nothing that has appeared there meanwhile is lost.
    pub fn rename(&self, part: &[u8], name: &[u8], replace: bool) -> io::Result<()> {
        if !replace {
            match rustix::fs::renameat_with(&self.fd, os(part), &self.fd, os(name), RenameFlags::NOREPLACE) {
                // Some filesystems do not know this flag; nothing was there a moment ago.
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
                result => return Ok(result?),
            }
        }
        Ok(rustix::fs::renameat(&self.fd, os(part), &self.fd, os(name))?)
    }

    /// Removes a file, if it is there.
    pub fn remove(&self, name: &[u8]) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.fd, os(name), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the folder itself its owner, mode and times.
    pub fn keep(&self, keep: &Keep) -> io::Result<()> {
        keep.set(&self.fd)
    }
}

/// The bits of a mode that a copy gets: never setuid, setgid or sticky.
const PERMISSIONS: Mode = Mode::RWXU.union(Mode::RWXG).union(Mode::RWXO);

impl Keep {
    /// Sets all of it on an open file or folder: the mode after the owner, since changing that may take bits away, the times last.
    pub fn set(&self, fd: impl AsFd) -> io::Result<()> {
        if let Some((uid, gid)) = self.owners() {
            denied(rustix::fs::fchown(&fd, uid, gid))?;
        }
        denied(rustix::fs::fchmod(&fd, Mode::from_raw_mode(self.mode.into()) & PERMISSIONS))?;
        Ok(rustix::fs::futimens(&fd, &self.times())?)
    }

    /// Owner and group as they are to be set; `None` for everyone but root, whose copies are their own.
    fn owners(&self) -> Option<(Option<Uid>, Option<Gid>)> {
        // All bits set means "leave it" to chown(2), and is no user.
        let (uid, gid) = self.owner;
        rustix::process::geteuid()
            .is_root()
            .then(|| ((uid != u32::MAX).then(|| Uid::from_raw(uid)), (gid != u32::MAX).then(|| Gid::from_raw(gid))))
    }

    fn times(&self) -> Timestamps {
        let timespec = |time: Time| Timespec { tv_sec: time.seconds, tv_nsec: time.nanos.min(999_999_999).into() };
        Timestamps { last_access: timespec(self.atime), last_modification: timespec(self.mtime) }
    }
}

/// Filesystems without owners and modes (FAT, some network shares) refuse to set them; the content counts more.
fn denied(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Err(error @ (Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL)) => {
            log::debug!("owner or mode cannot be kept here: {error}");
            Ok(())
        }
        result => Ok(result?),
    }
}

fn os(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}

/// Whether `name` is the name of something in a folder, and does not lead out of it.
pub fn is_plain(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/') && !name.contains(&0)
}

/// The names under which a file can be written until it is whole. Shortened so that they are names wherever `name` is (`NAME_MAX`).
pub fn part_names(name: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    const NAME_MAX: usize = 255;
    (0u32..).map(move |number| {
        let number = if number == 0 { String::new() } else { number.to_string() };
        let suffix = format!(".undelfs-part{number}");
        let kept = name.get(..NAME_MAX - suffix.len() - 1).unwrap_or(name);
        [b".", kept, suffix.as_bytes()].concat()
    })
}

/// A path below the destination, for messages.
pub fn below<'a>(root: &'a Path, path: &'a [u8]) -> Cow<'a, Path> {
    if path.is_empty() { Cow::Borrowed(root) } else { Cow::Owned(root.join(os(path))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0b"] {
            assert!(!is_plain(name), "{name:?}");
        }
        for name in [&b"..."[..], b".a", b"-rf", b"\xff\n"] {
            assert!(is_plain(name), "{name:?}");
        }
    }

    #[test]
    fn part_names_are_names() {
        let names: Vec<_> = part_names(b"a").take(2).collect();
        assert_eq!(names, [&b".a.undelfs-part"[..], b".a.undelfs-part1"]);
        let long: Vec<_> = part_names(&[b'x'; 255]).take(20).collect();
        assert!(long.iter().all(|name| name.len() == 255) && long[18] != long[19]);
    }

    #[test]
    fn links_are_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let elsewhere = tempfile::tempdir().expect("a folder");
        symlink(elsewhere.path(), folder.path().join("link")).expect("a link");
        symlink(elsewhere.path().join("file"), folder.path().join("dangling")).expect("a link");
        let place = Place::open(folder.path()).expect("an open folder");
        assert!(place.make_folder(b"link").is_err());
        assert!(place.create(b"dangling").is_err());
        assert_eq!(fs::read_dir(elsewhere.path()).expect("a list").count(), 0);
    }

    #[test]
    fn a_folder_that_was_moved_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let elsewhere = tempfile::tempdir().expect("a folder");
        let place = Place::open(folder.path()).expect("an open folder");
        let inner = place.make_folder(b"inner").expect("a new folder");
        assert_eq!(inner.parent(place.identity).map(|parent| parent.identity).ok(), Some(place.identity));
        fs::rename(folder.path().join("inner"), elsewhere.path().join("inner")).expect("moved");
        assert!(inner.parent(place.identity).is_err());
    }

    #[test]
    fn nothing_is_replaced_unasked() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = Place::open(folder.path()).expect("an open folder");
        for (name, text) in [("part", "new"), ("name", "old")] {
            fs::write(folder.path().join(name), text).expect("written");
        }
        assert_eq!(place.rename(b"part", b"name", false).map_err(|error| error.kind()), Err(io::ErrorKind::AlreadyExists));
        place.rename(b"part", b"name", true).expect("replaced");
        assert_eq!(fs::read_to_string(folder.path().join("name")).ok().as_deref(), Some("new"));
        assert!(place.remove(b"part").is_ok());
    }

    #[test]
    fn mode_and_times_are_kept_without_setuid() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = Place::open(folder.path()).expect("an open folder");
        let file = place.create(b"file").expect("a new file");
        let own = fs::metadata(folder.path()).expect("metadata");
        let time = Time { seconds: 1_264_240_800, nanos: 5 };
        let keep = Keep { mode: 0o6751, owner: (own.uid(), own.gid()), atime: time, mtime: time };
        keep.set(&file).expect("set");
        let metadata = file.metadata().expect("metadata");
        assert_eq!((metadata.mode() & 0o7777, metadata.mtime(), metadata.mtime_nsec()), (0o751, 1_264_240_800, 5));
    }
}
