//! The life of a mount, from the command to the unmount.

pub use super::background::CHILD_ARGUMENT;
pub use super::options::{Access, MountOptions};

use super::adapter::Adapter;
use super::attach::{Attachment, Detached, attach};
use super::shown::Shown;
use super::{background, checks};
use crate::behind::Behind;
use crate::error::{Error, Result};
use crate::recover::Recovery;
use crate::sys::TerminationSignals;
use crate::tree::Tree;
use fuser::{Config, Notifier, Session, SessionACL};
use std::ffi::OsString;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// KiB that the kernel reads ahead. Measured: 128, its default, costs a third of the sequential speed; 1024 slows the first random
/// reads of a mapped file down.
const READ_AHEAD_KIB: u32 = 512;

/// What is to be mounted.
pub struct Opened {
    /// What is known so far.
    pub tree: Arc<Tree>,
    /// The scan that goes on behind the mount and finds the rest.
    pub behind: Option<Behind>,
}

/// Where the mount is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// By this process, which keeps the terminal (`-f`).
    Foreground,
    /// By a child that this process starts with [`CHILD_ARGUMENT`] in front of the same arguments.
    Background,
    /// By this process, which is that child.
    Child,
}

/// Mounts on `point` what `open` returns, with what a scan behind it still finds, and serves it until it is unmounted: by `fusermount3 -u`, `umount`, SIGINT, SIGTERM or
/// SIGHUP. `image` is shown in the mount table. Returns the exit status; with [`Mode::Background`] as soon as the mount is ready or has
/// failed, and then the child has already said why.
///
/// `open` runs in the serving process, with its working folder and terminal as they were at the start; after it the working folder
/// is `/` and the terminal is gone, so whatever is to be opened later must not be named by a relative path.
///
/// # Errors
/// Those of `open`; [`Error::Usage`] for a mount point or options that will not do; [`Error::Failed`] for what the system refuses.
pub fn run(point: &Path, image: &Path, options: &MountOptions, mode: Mode, open: &mut dyn FnMut() -> Result<Opened>) -> Result<u8> {
    if mode == Mode::Background {
        return background::start();
    }
    let resolved = checks::check(point, options)?;
    let source = match &options.fsname {
        Some(name) => OsString::from(name),
        // As mount(8) looks for it when it is asked whether an fstab entry is mounted.
        None => std::fs::canonicalize(image).unwrap_or_else(|_| image.to_owned()).into(),
    };
    let stage = watch_signals()?;
    let Opened { tree, behind } = open()?;
    let shown = Arc::new(Shown::new(tree));
    let mut mounting = lock(&stage);
    let (device, mut attachment) = attach(&resolved, &source, options)?;
    let served = device
        .try_clone()
        .and_then(|own| Session::from_fd(Adapter::new(Arc::clone(&shown), own, options), device, acl(options), config()))
        .and_then(Session::spawn);
    let session = match served {
        Ok(session) => session,
        Err(error) => {
            detach(&mut attachment);
            return Err(Error::Failed(format!("cannot serve the mount: {error}")));
        }
    };
    attachment.set_read_ahead(READ_AHEAD_KIB);
    *mounting = Stage::Mounted(attachment);
    drop(mounting);
    if mode == Mode::Child
        && let Err(error) = background::ready()
    {
        log::warn!("nobody waits for the mount: {error}");
        unmount(&stage);
    }
    let scan = behind.map(|behind| {
        let stop = behind.stop();
        grow(behind, shown, session.notifier());
        stop
    });
    let ended = session.join();
    if let Some(scan) = scan {
        scan.stop();
    }
    // Unmounted from outside or by a signal, there is nothing left to do; but a server that fails must not leave a dead mount.
    unmount(&stage);
    ended.map_err(|error| Error::Failed(format!("the mount has ended: {error}")))?;
    Ok(0)
}

/// Shows what the scan finds, in a thread of its own. What it is about when the mount ends, nobody waits for.
fn grow(behind: Behind, shown: Arc<Shown>, notifier: Notifier) {
    let extent = behind.extent();
    let mut show = move |recovery: Recovery| {
        if !recovery.looked().goes_on() {
            recovery.remarks().iter().for_each(|line| log::warn!("{line}"));
            log::info!("the scan is complete");
        }
        shown.replace(Tree::after(&shown.newest(), Arc::new(recovery)), &notifier);
    };
    let grow = move || {
        let why = match catch_unwind(AssertUnwindSafe(|| behind.grow(&mut show))) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "internal error".into(),
        };
        extent.stop();
        log::error!("{why}; what the scan would have found is not shown");
    };
    if let Err(error) = thread::Builder::new().name("grow".into()).spawn(grow) {
        log::error!("what the scan finds cannot be shown: {error}");
    }
}

fn acl(options: &MountOptions) -> SessionACL {
    match options.access {
        Access::Owner => SessionACL::Owner,
        Access::Root => SessionACL::RootAndOwner,
        Access::Everybody => SessionACL::All,
    }
}

fn config() -> Config {
    let mut config = Config::default();
    // More than one, so that a slow medium does not hold up everybody; more than four gained nothing.
    config.n_threads = Some(thread::available_parallelism().map_or(2, usize::from).clamp(2, 4));
    config
}

/// How far the mount has come, for a signal to know what to do.
enum Stage {
    /// Nothing is mounted yet.
    Opening,
    /// The mount is up.
    Mounted(Attachment),
    /// It has been unmounted.
    Leaving,
}

fn lock(stage: &Mutex<Stage>) -> MutexGuard<'_, Stage> {
    stage.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Blocks the termination signals in this thread and in all that it starts from now on, and has one thread wait for them. Without
/// that they would end the process and leave a mount that answers nothing but "Transport endpoint is not connected".
fn watch_signals() -> Result<Arc<Mutex<Stage>>> {
    let failed = |error: io::Error| Error::Failed(format!("cannot wait for signals: {error}"));
    let stage = Arc::new(Mutex::new(Stage::Opening));
    let signals = TerminationSignals::block().map_err(failed)?;
    let watched = Arc::clone(&stage);
    let wait = move || {
        while let Ok(signal) = signals.wait() {
            if !unmount(&watched) {
                // Not mounted yet, or no longer but still in use: end as the signal would have ended us.
                std::process::exit(128 + signal);
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(wait).map_err(failed)?;
    Ok(stage)
}

/// Unmounts what is mounted; the session ends by that. Returns whether anything was.
fn unmount(stage: &Mutex<Stage>) -> bool {
    let mut stage = lock(stage);
    let Stage::Mounted(attachment) = &mut *stage else { return false };
    if detach(attachment) {
        *stage = Stage::Leaving;
    }
    true
}

fn detach(attachment: &mut Attachment) -> bool {
    match attachment.detach() {
        Ok(Detached::Clean) => true,
        Ok(Detached::Lazy) => {
            log::warn!(
                "the mount is gone, but files of it are still open; they are served until they are closed, or a second signal comes"
            );
            true
        }
        Err(error) => {
            log::error!("cannot unmount: {error}");
            false
        }
    }
}
