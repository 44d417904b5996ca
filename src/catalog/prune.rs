//! Which catalogs among the user's caches are still wanted: those of images that are long gone would lie there for ever.

use super::store;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Nobody comes back to a case after that, and who does scans once more.
const UNUSED: Duration = Duration::from_secs(180 * DAY.as_secs());

/// So many catalogs are kept for that long; who works through more images than that wants the others only as long as he is at it.
const KEPT: usize = 64;

/// How long the others are kept.
const UNUSED_OF_MANY: Duration = Duration::from_secs(30 * DAY.as_secs());

/// Notes that a catalog is used now. Where that cannot be noted, it is taken for unused the sooner.
pub fn touch(catalog: &Path) {
    if let Err(error) = File::options().write(true).open(catalog).and_then(|file| file.set_modified(SystemTime::now())) {
        log::debug!("catalog {}: {error}", catalog.display());
    }
}

/// Removes from `folder` the catalogs that were not used for long. What is no catalog, and no plain file, stays.
pub fn prune(folder: &Path) {
    for catalog in unused(folder, SystemTime::now()).unwrap_or_default() {
        match fs::remove_file(&catalog) {
            Ok(()) => log::info!("catalog {}: not used for long, removed", catalog.display()),
            Err(error) => log::debug!("catalog {}: not used for long, and cannot be removed: {error}", catalog.display()),
        }
    }
}

fn unused(folder: &Path, now: SystemTime) -> io::Result<Vec<PathBuf>> {
    let mut catalogs = vec![];
    for entry in fs::read_dir(folder)?.flatten() {
        let path = entry.path();
        let is_named_so = path.extension().is_some_and(|extension| extension == "sqlite");
        // Not through links.
        if is_named_so && entry.file_type().is_ok_and(|kind| kind.is_file()) && store::is_catalog(&path) {
            catalogs.push((entry.metadata()?.modified()?, path));
        }
    }
    catalogs.sort_unstable_by(|a, b| b.cmp(a));
    let is_unused = |(nth, (used, _)): &(usize, (SystemTime, PathBuf))| {
        // What was used in the future was used just now.
        let since = now.duration_since(*used).unwrap_or_default();
        since > UNUSED || *nth >= KEPT && since > UNUSED_OF_MANY
    };
    Ok(catalogs.into_iter().enumerate().filter(is_unused).map(|(_, (_, path))| path).collect())
}
