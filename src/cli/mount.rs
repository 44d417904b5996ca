//! `undelfs mount`: what the command line adds to [`undelfs::fuse::mount`].

use super::args::{Global, Missing, MountArgs};
use super::{open, options};
use std::path::Path;
use undelfs::Result;
use undelfs::fuse::mount::{self, Mode, MountOptions};

/// Mounts, and returns the exit status. `child` says that this is the process which serves a mount in the background.
///
/// # Errors
/// Those of opening the image, and of mounting.
pub fn run(mut args: MountArgs, global: &Global, child: bool) -> Result<u8> {
    let words = options::take_ours(&mut args)?;
    let fuse = MountOptions { missing_is_error: args.missing == Missing::Error, ..MountOptions::parse(&words)? };
    let mode = match (child, args.foreground) {
        (true, _) => Mode::Child,
        (false, true) => Mode::Foreground,
        (false, false) => Mode::Background,
    };
    let point: &Path = &args.mountpoint;
    mount::run(point, &args.image.image, &fuse, mode, &mut || open(&args.image, global))
}
