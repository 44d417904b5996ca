//! How the files look: their attributes, less what a mount that only shows must not have.

use super::options::MountOptions;
use crate::recover::{Kind, Time};
use crate::tree::Attributes;
use fuser::{FileAttr, FileType, INodeNo};
use std::time::{Duration, SystemTime};

/// What programs are told to read at a time (`st_blksize`).
const BLKSIZE: u32 = 4096;

/// Attributes as `options` want them shown, with this inode number.
pub fn shown(inode: u64, attributes: &Attributes, options: &MountOptions) -> FileAttr {
    FileAttr {
        ino: INodeNo(inode),
        size: attributes.size,
        blocks: attributes.blocks512,
        atime: system_time(attributes.atime),
        mtime: system_time(attributes.mtime),
        ctime: system_time(attributes.ctime),
        crtime: SystemTime::UNIX_EPOCH,
        kind: file_type(attributes.kind),
        perm: permissions(attributes.kind, attributes.mode, options.umask),
        nlink: attributes.links,
        uid: options.uid.unwrap_or(attributes.uid),
        gid: options.gid.unwrap_or(attributes.gid),
        rdev: 0,
        blksize: BLKSIZE,
        flags: 0,
    }
}

fn system_time(time: Time) -> SystemTime {
    let seconds = Duration::from_secs(time.seconds.unsigned_abs());
    let whole = if time.seconds < 0 { SystemTime::UNIX_EPOCH.checked_sub(seconds) } else { SystemTime::UNIX_EPOCH.checked_add(seconds) };
    whole.and_then(|whole| whole.checked_add(Duration::from_nanos(time.nanos.into()))).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The kind in the kernel's words.
pub const fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Dir => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
    }
}

/// The permissions that are shown: the file's own or what `umask=` leaves, never writing and never setuid.
fn permissions(kind: Kind, own: u16, umask: Option<u16>) -> u16 {
    match (kind, umask) {
        // A link's own mode means nothing.
        (Kind::Symlink, _) => 0o777,
        (_, None) => own & 0o1555,
        (Kind::File, Some(umask)) if own & 0o111 == 0 => 0o444 & !umask,
        (_, Some(umask)) => 0o555 & !umask,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_without_writing_and_setuid() {
        for (kind, own, umask, expected) in [
            (Kind::File, 0o4755, None, 0o555),
            (Kind::File, 0o600, None, 0o400),
            (Kind::File, 0o000, None, 0o000),
            (Kind::Dir, 0o1777, None, 0o1555),
            (Kind::Dir, 0o2770, None, 0o550),
            (Kind::File, 0o600, Some(0o022), 0o444),
            (Kind::File, 0o700, Some(0o022), 0o555),
            (Kind::Dir, 0o000, Some(0o077), 0o500),
            (Kind::Symlink, 0o777, Some(0o077), 0o777),
            (Kind::Symlink, 0o000, None, 0o777),
        ] {
            assert_eq!(permissions(kind, own, umask), expected, "{kind:?} {own:o} {umask:?}");
        }
    }

    #[test]
    fn times_before_1970_and_beyond_all_clocks() {
        let before = system_time(Time { seconds: -2, nanos: 500_000_000 });
        assert_eq!(before, SystemTime::UNIX_EPOCH - Duration::from_millis(1500));
        for seconds in [i64::MIN, i64::MAX] {
            system_time(Time { seconds, nanos: 999_999_999 });
        }
    }
}
