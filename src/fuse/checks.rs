//! What can be told before mounting, each in one clear line that says what to do.

use super::options::{Access, MountOptions};
use crate::error::{Error, Result};
use crate::image::mountinfo;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The FUSE device.
const DEVICE: &str = "/dev/fuse";

/// Where the kernel knows no FUSE.
pub const NO_MODULE: &str = "the kernel has no FUSE: modprobe fuse";

/// Whether mounting takes `fusermount3`: as an ordinary user, and for `auto_unmount`, which is its doing.
pub fn needs_helper(options: &MountOptions) -> bool {
    options.auto_unmount || !rustix::process::geteuid().is_root()
}

/// Finds `fusermount3`, or `fusermount` where only that is there.
///
/// # Errors
/// [`Error::Failed`] saying what to install.
pub fn find_helper() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Where it may be though PATH does not say so, as for a user on Debian or under cron.
    let folders = std::env::split_paths(&path).chain(["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin"].map(PathBuf::from));
    let folders: Vec<_> = folders.filter(|folder| folder.is_absolute()).collect();
    let candidates = ["fusermount3", "fusermount"].into_iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    candidates
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| Error::Failed("fusermount3 is not there, and mounting as an ordinary user needs it: install fuse3".into()))
}

/// Opens the FUSE device.
///
/// # Errors
/// [`Error::Failed`] saying what to do.
pub fn open_device() -> Result<OwnedFd> {
    let device = OpenOptions::new().read(true).write(true).open(DEVICE).map_err(|error| explain(&error))?;
    Ok(device.into())
}

fn explain(error: &io::Error) -> Error {
    Error::Failed(match error.raw_os_error() {
        Some(libc::ENOENT) => format!("{DEVICE} is not there: modprobe fuse; in a container add --device {DEVICE} --cap-add SYS_ADMIN"),
        Some(libc::ENODEV | libc::ENXIO) => NO_MODULE.into(),
        Some(libc::EACCES | libc::EPERM) => {
            format!("{DEVICE} may not be opened: chmod 666 {DEVICE}, which is its usual mode; in a container add --device {DEVICE}")
        }
        _ => format!("cannot open {DEVICE}: {error}"),
    })
}

/// Checks everything about mounting that does not depend on the image, and returns the mount point as the mount table will show it.
///
/// # Errors
/// [`Error::Usage`] for a mount point or option that will not do, [`Error::Failed`] where the system lacks something.
pub fn check(point: &Path, options: &MountOptions) -> Result<PathBuf> {
    let point = check_point(point)?;
    if needs_helper(options) {
        find_helper()?;
    }
    // The helper, too, opens it with the user's own rights.
    open_device()?;
    if !rustix::process::getuid().is_root() {
        let conf = "/etc/fuse.conf";
        if options.access != Access::Owner && !allows_others(&fs::read(conf).unwrap_or_default()) {
            return Err(Error::Usage(format!("allow_other and allow_root are for root, unless {conf} says user_allow_other")));
        }
        // The helper looks whether the mount is dead before it unmounts it, and root may not look into the mount of a user.
        if options.auto_unmount && options.access == Access::Owner {
            return Err(Error::Usage("auto_unmount works for an ordinary user only with allow_root or allow_other".into()));
        }
    }
    Ok(point)
}

/// Whether the text of `/etc/fuse.conf` has the line `user_allow_other` (`read_conf`, util/fusermount.c of libfuse).
fn allows_others(text: &[u8]) -> bool {
    text.split(|&byte| byte == b'\n').any(|line| line.trim_ascii() == b"user_allow_other")
}

fn check_point(point: &Path) -> Result<PathBuf> {
    let name = point.display();
    let refuse = |what: String| Err(Error::Usage(format!("mount point {name} {what}")));
    let resolved = fs::metadata(point).and_then(|metadata| Ok((metadata, fs::canonicalize(point)?)));
    let (metadata, resolved) = match resolved {
        Ok(resolved) => resolved,
        Err(error) => {
            return match error.raw_os_error() {
                Some(libc::ENOENT) => refuse(format!("does not exist: mkdir {name}")),
                Some(libc::ENOTCONN | libc::ECONNABORTED) => {
                    refuse(format!("is what a dead FUSE server left behind: fusermount3 -u {name}, or umount {name}"))
                }
                _ => refuse(format!("cannot be used: {error}")),
            };
        }
    };
    if !metadata.is_dir() {
        return refuse("is not a folder".into());
    }
    // What systemd mounts on demand is a mount point too, waiting to be covered by this mount.
    let taken = |mount: &mountinfo::Mount| mount.point == resolved && mount.kind != b"autofs";
    if mountinfo::read().unwrap_or_default().iter().any(taken) {
        return refuse(format!("has something mounted on it already: umount {name}, or choose another"));
    }
    // A folder that may be entered but not listed is left to the system to judge.
    if fs::read_dir(&resolved).is_ok_and(|mut entries| entries.next().is_some()) {
        return refuse("is not empty: choose an empty folder".into());
    }
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_that_will_not_do() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        for (point, word) in [
            (folder.path().join("absent"), "mkdir"),
            (folder.path().join("file"), "is not a folder"),
            (folder.path().to_owned(), "is not empty"),
            (PathBuf::from("/proc"), "mounted on it already"),
        ] {
            let Err(Error::Usage(text)) = check_point(&point) else { panic!("{point:?}") };
            assert!(text.contains(word) && text.contains(&*point.to_string_lossy()), "{text}");
        }
        let point = folder.path().join("empty");
        fs::create_dir(&point).unwrap();
        std::os::unix::fs::symlink(&point, folder.path().join("link")).unwrap();
        assert_eq!(check_point(&folder.path().join("link")).unwrap(), fs::canonicalize(point).unwrap());
    }

    #[test]
    fn fuse_conf() {
        assert!(allows_others(b"# x\nmount_max = 5\n user_allow_other \n"));
        assert!(!allows_others(b"#user_allow_other\n# user_allow_other\n"));
        assert!(!allows_others(b""));
    }
}
