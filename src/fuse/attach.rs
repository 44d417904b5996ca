//! Mounting and unmounting: by mount(2) where this process may, else through `fusermount3`, the setuid helper of the fuse3 package.

use super::checks;
use super::options::{Access, MountOptions};
use crate::error::{Error, Result};
use crate::image::mountinfo;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::process::{getgid, getuid};
use std::ffi::{CString, OsStr, OsString};
use std::io::{self, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What the mount table shows as the type: `fuse` with our name as its subtype.
pub const KIND: &str = "fuse.undelfs";

/// How an unmount went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Detached {
    /// Gone.
    Clean,
    /// Somebody still has a file or folder of it open: gone from the tree of folders, but served until that is closed.
    Lazy,
}

/// A mount that is up.
#[derive(Debug)]
pub struct Attachment {
    point: PathBuf,
    /// `st_dev` of the mount, so that another mount at the same place is never mistaken for it; `None` where `/proc` did not tell.
    device: Option<(u32, u32)>,
    helper: Option<PathBuf>,
    /// With `auto_unmount`, the helper that waits for our end of the socket to close.
    guard: Option<(Child, UnixStream)>,
}

/// Mounts on `point`, which is absolute and without symbolic links, and returns the open FUSE device.
///
/// # Errors
/// [`Error::Failed`] with what the system said and what to do.
pub fn attach(point: &Path, source: &OsStr, options: &MountOptions) -> Result<(OwnedFd, Attachment)> {
    let (device, helper, guard) = if checks::needs_helper(options) {
        let helper = checks::find_helper()?;
        let (device, guard) = mount_with_helper(&helper, point, source, options)?;
        (device, Some(helper), guard)
    } else {
        (mount_directly(point, source, options)?, None, None)
    };
    let mounts = mountinfo::read().unwrap_or_default();
    let own = mounts.iter().rev().find(|mount| mount.point == point && mount.kind == KIND.as_bytes());
    Ok((device, Attachment { point: point.to_owned(), device: own.map(|mount| mount.device), helper, guard }))
}

fn mount_directly(point: &Path, source: &OsStr, options: &MountOptions) -> Result<OwnedFd> {
    let device = checks::open_device()?;
    let (user, group) = (getuid().as_raw(), getgid().as_raw());
    // rootmode is S_IFDIR; the rest as fs/fuse/inode.c (fuse_fs_parameters) has it.
    let mut data = format!("fd={},rootmode=40000,user_id={user},group_id={group}", device.as_raw_fd());
    for word in words(options) {
        data.push(',');
        data.push_str(word);
    }
    let data = CString::new(data).map_err(|error| Error::path(point, error.into()))?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOATIME;
    rustix::mount::mount(source, point, KIND, flags, Some(data.as_c_str())).map_err(|error| {
        let reason = match error {
            Errno::PERM => "not permitted; a container needs --device /dev/fuse --cap-add SYS_ADMIN".to_owned(),
            Errno::NODEV => checks::NO_MODULE.to_owned(),
            error => io::Error::from(error).to_string(),
        };
        Error::Failed(format!("cannot mount on {}: {reason}", point.display()))
    })?;
    Ok(device)
}

/// Words for the kernel that both ways pass on.
fn words(options: &MountOptions) -> impl Iterator<Item = &'static str> {
    // What everybody may look at, everybody may look at within the files' own modes. `allow_root` is not known to the kernel: it lets
    // everybody ask, and the session sends the others away.
    let allow = (options.access != Access::Owner).then_some("allow_other");
    let check = (options.default_permissions || options.access == Access::Everybody).then_some("default_permissions");
    allow.into_iter().chain(check)
}

/// `fusermount3` mounts, and sends the open device through a socket whose number it finds in its environment.
fn mount_with_helper(
    helper: &Path,
    point: &Path,
    source: &OsStr,
    options: &MountOptions,
) -> Result<(OwnedFd, Option<(Child, UnixStream)>)> {
    let failed = |reason: String| Error::Failed(format!("cannot mount on {}: {reason}", point.display()));
    let system = |error: io::Error| failed(format!("{}: {error}", helper.display()));
    let mut list = OsString::from("ro,nosuid,nodev,noexec,noatime,subtype=undelfs,fsname=");
    list.push(escape(source));
    for word in words(options).chain(options.auto_unmount.then_some("auto_unmount")) {
        list.push(",");
        list.push(word);
    }
    let (ours, theirs) = UnixStream::pair().map_err(system)?;
    // The socket as its standard input: nothing else need be inherited.
    let mut child = Command::new(helper)
        .arg("-o")
        .arg(list)
        .arg("--")
        .arg(point)
        .env("_FUSE_COMMFD", "0")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(system)?;
    let Some(device) = receive_descriptor(&ours).map_err(system)? else {
        let mut text = String::new();
        if let Some(stderr) = &mut child.stderr {
            stderr.read_to_string(&mut text).map_err(system)?;
        }
        child.wait().map_err(system)?;
        let line = text.lines().next().unwrap_or("no reason given");
        return Err(failed(line.split_once(": ").map_or(line, |(_, reason)| reason).to_owned()));
    };
    if options.auto_unmount {
        return Ok((device, Some((child, ours))));
    }
    child.wait().map_err(system)?;
    Ok((device, None))
}

/// `fusermount3` takes `\` for an escape in `fsname` and ends it at a comma.
fn escape(source: &OsStr) -> OsString {
    let escaped = source.as_bytes().iter().flat_map(|byte| match byte {
        b',' | b'\\' => vec![b'\\', *byte],
        _ => vec![*byte],
    });
    OsString::from_vec(escaped.collect())
}

/// Receives a message with a file descriptor; `None` where the other side closes without one.
fn receive_descriptor(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    rustix::io::retry_on_intr(|| rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC))?;
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    }))
}

impl Attachment {
    /// Unmounts, lazily where it is in use. Nothing happens where it is already unmounted.
    ///
    /// # Errors
    /// The system's word; the mount is still up then.
    pub fn detach(&mut self) -> io::Result<Detached> {
        let result = if !self.is_attached() {
            Ok(Detached::Clean)
        } else if let Some(helper) = &self.helper {
            unmount_with_helper(helper, &self.point)
        } else {
            unmount_directly(&self.point)
        };
        if result.is_ok()
            && let Some((mut child, socket)) = self.guard.take()
        {
            drop(socket);
            child.wait()?;
        }
        result
    }

    fn is_attached(&self) -> bool {
        let own = |mount: &mountinfo::Mount| mount.point == self.point && self.device.is_none_or(|device| mount.device == device);
        mountinfo::read().map_or(true, |mounts| mounts.iter().any(own))
    }

    /// Lets the kernel read `kib` KiB ahead on this mount; only root may, and for anybody else its default stays.
    pub fn set_read_ahead(&self, kib: u32) {
        if let Some((major, minor)) = self.device
            && let Err(error) = std::fs::write(format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb"), kib.to_string())
        {
            log::debug!("read-ahead stays at the kernel's default: {error}");
        }
    }
}

fn unmount_directly(point: &Path) -> io::Result<Detached> {
    match rustix::mount::unmount(point, UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(Detached::Clean),
        Err(Errno::BUSY) => {
            rustix::mount::unmount(point, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)?;
            Ok(Detached::Lazy)
        }
        Err(error) => Err(error.into()),
    }
}

fn unmount_with_helper(helper: &Path, point: &Path) -> io::Result<Detached> {
    let run = |flags: &[&str]| {
        Command::new(helper).args(flags).arg("--").arg(point).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output()
    };
    if run(&["-u"])?.status.success() {
        return Ok(Detached::Clean);
    }
    let lazily = run(&["-u", "-z"])?;
    if lazily.status.success() {
        Ok(Detached::Lazy)
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&lazily.stderr).trim().to_owned()))
    }
}
