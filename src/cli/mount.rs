//! `undelfs mount`: what the command line adds to [`undelfs::fuse::mount`].

use super::args::{Global, ImageArgs, Missing, MountArgs, Scan};
use super::progress::Meter;
use super::{messages, open, open_options, options};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use undelfs::Result;
use undelfs::behind::Behind;
use undelfs::fuse::mount::{self, Mode, MountOptions, Opened};
use undelfs::recover::Past;
use undelfs::tree::Tree;

/// How long a scan may take that is waited for without being told to.
const PATIENCE: Duration = Duration::from_secs(60);

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
    let image = &args.image;
    let open = &mut || match image.recovery.scan {
        Scan::No | Scan::Wait => Ok(Opened { tree: open(image, global)?, behind: None }),
        Scan::Auto => open_with(image, point, global, PATIENCE),
        Scan::Background => open_with(image, point, global, Duration::ZERO),
    };
    mount::run(point, &image.image, &fuse, mode, open)
}

/// Opens the image, and waits for the scan as long as it seems that it will have taken no more than `patience`.
fn open_with(args: &ImageArgs, point: &Path, global: &Global, patience: Duration) -> Result<Opened> {
    let options = open_options(args, global)?;
    let meter = Arc::new(Meter::new(global));
    let opened = (|| {
        let past = Past::read(&options, &*meter)?;
        let behind = Behind::start(past, &options.catalog, &options.image, Arc::clone(&meter) as _)?;
        if !behind.wait(patience) {
            let recovery = behind.by_journal();
            return Ok((recovery, Some(behind)));
        }
        Ok((behind.finish(&*meter)?, None))
    })();
    meter.finish();
    let (recovery, behind) = opened?;
    if behind.is_some() {
        if !global.quiet {
            messages::note(&format!(
                "undelfs: mounted with what the journal remembers; the rest is shown when the scan has found it: getfattr -n user.undelfs.scan {}",
                point.display()
            ));
        }
    } else {
        recovery.remarks().iter().for_each(|line| log::warn!("{line}"));
    }
    Ok(Opened { tree: Arc::new(Tree::build(Arc::new(recovery))), behind })
}
