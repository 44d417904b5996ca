//! The catalog: what the scan found, kept in a file, so that it is done once.
//!
//! It is an SQLite database of six small tables, which `schema.sql` beside this file describes; `sqlite3 FILE .schema` prints the same.
//! People may query it. By default it lies in `$XDG_CACHE_HOME/undelfs/` (else `~/.cache/undelfs/`), one file for each image, named by the
//! filesystem's UUID and a checksum of where the image is.
//!
//! # What it vouches for
//!
//! A catalog holds what stands in free blocks, group by group. It counts only as long as the image is what it was when the catalog was made:
//! see `identity`. Of an image file any change is noticed by its inode's change time. A device has none, but every mount
//! changes superblock or journal, and beside each group stands a checksum of its block bitmap: where that differs, the group is looked
//! through again. What comes from the journal is cheap to find and is not kept.
//!
//! # When it is written
//!
//! Groups are written as they are done, in one transaction a second. A kill loses the last second, and the next scan goes on with the groups
//! that are not done. Nothing is written to the filesystem to be recovered, nor over a file that is not a catalog. That a catalog cannot be
//! read or written is a warning: it saves time, and nothing else.
//!
//! # When it goes
//!
//! One that has become stale is made anew in its place. Of those among the user's caches each is noted as used (its modification time) when it
//! is, and those that were not for long are removed by the next one that is: see `prune`. What the user has named stays.

mod identity;
mod prune;
mod store;

use crate::error::{Error, Result};
use crate::fs::Filesystem;
use crate::image::ImageOptions;
use crate::progress::Progress;
use crate::recover::info::uuid;
use crate::scan::extent::Looked;
use crate::scan::sweep::{self, Part, Tally};
use crate::scan::{Gathering, Survey};
use std::fmt;
use std::fs::DirBuilder;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use store::{Known, Obstacle, Store};

/// Where the catalog is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Place {
    /// There is none: what is found is not kept.
    #[default]
    Nowhere,
    /// Among the user's caches.
    Cache,
    /// In this file.
    File(PathBuf),
}

/// What a scan did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Groups that the catalog knew.
    pub known: u64,
    /// Groups that were looked through.
    pub swept: u64,
    /// Free blocks in all of them.
    pub free: u64,
    /// Those that are not all zeros.
    pub written: u64,
    /// Those that cannot be read.
    pub unreadable: u64,
    /// Those that can be indirect blocks.
    pub pages: u64,
}

impl Summary {
    fn add(&mut self, part: &Part) {
        self.free += part.free;
        self.written += part.written.len();
        self.unreadable += part.unreadable;
        self.pages += part.pages.len() as u64;
    }
}

/// What free blocks hold, from the catalog as far as that knows it, and from the image; the catalog is completed.
///
/// # Errors
/// Those of [`Scan::open`].
pub fn survey(fs: &Filesystem, place: &Place, options: &ImageOptions, progress: &dyn Progress) -> Result<Survey> {
    let mut gathering = Gathering::default();
    Scan::open(fs, place, options)?.run(&[], &mut |part| gathering.add(part), progress)?;
    Ok(gathering.finish(fs, Looked::Whole))
}

/// A scan, with the catalog that it goes on from and adds to.
pub struct Scan<'a> {
    fs: &'a Filesystem,
    store: Option<Store>,
    known: Known,
    /// Without a catalog it makes no sense.
    must: bool,
}

impl<'a> Scan<'a> {
    /// Opens the catalog of `fs`, which was opened with `options`. Where it cannot be used, this is said as a warning, and the scan goes
    /// without.
    ///
    /// # Errors
    /// For a file that the user has named: [`Error::Usage`] where it is something else than a catalog, [`Error::Failed`] where it is on the
    /// filesystem to be recovered.
    pub fn open(fs: &'a Filesystem, place: &Place, options: &ImageOptions) -> Result<Self> {
        let (store, known) = match place {
            Place::Nowhere => (None, Known::default()),
            _ => match open_store(fs, place, options) {
                Ok((store, known)) => (Some(store), known),
                Err(refused @ Refused { must: true, .. }) => return Err(refused.error),
                Err(Refused { error, .. }) => {
                    log::warn!("{error}; going on without a catalog");
                    (None, Known::default())
                }
            },
        };
        Ok(Scan { fs, store, known, must: false })
    }

    /// The same, but that the catalog cannot be used is an error, now and later.
    ///
    /// # Errors
    /// As [`Scan::open`], and [`Error::Failed`] where the catalog cannot be read or written.
    pub fn into_catalog(fs: &'a Filesystem, place: &Place, options: &ImageOptions) -> Result<Self> {
        let (store, known) = open_store(fs, place, options).map_err(|refused| refused.error)?;
        Ok(Scan { fs, store: Some(store), known, must: true })
    }

    /// Whether every group is known, so that nothing need be looked for in the image.
    pub fn is_complete(&self) -> bool {
        self.known.groups.len() >= self.fs.geometry().superblock.groups()
    }

    /// Where the catalog is.
    pub fn path(&self) -> Option<&Path> {
        self.store.as_ref().map(Store::path)
    }

    /// Gives what is known to `take`, then looks through all other groups, those of `first` before the rest. That the catalog cannot be
    /// written any more is said as a warning.
    ///
    /// # Errors
    /// [`Error::Failed`] where the catalog cannot be written and the scan makes no sense without.
    pub fn run(self, first: &[u64], take: &mut dyn FnMut(Part), progress: &dyn Progress) -> Result<Summary> {
        let Scan { fs, mut store, known, must } = self;
        let Known { groups: mut seen, parts, blank } = known;
        let (mut summary, tally) = (Summary { known: seen.len(), free: blank, ..Summary::default() }, Tally::default());
        tally.blocks.fetch_add(blank, Ordering::Relaxed);
        let groups = fs.geometry().superblock.groups();
        let mut order: Vec<u64> = first.iter().copied().filter(|group| *group < groups).chain(0..groups).collect();
        order.retain(|group| seen.insert(*group));
        for part in parts.into_values() {
            summary.add(&part);
            tally.add(&part);
            take(part);
        }
        let mut failure = None;
        let mut note = |store: &mut Option<Store>, kept: std::result::Result<(), Obstacle>| {
            if let (Some(failed), Err(why)) = (&*store, kept) {
                failure = Some(Error::Failed(format!("catalog {}: {why}", failed.path().display())));
                *store = None;
            }
            if must && failure.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let mut found = |group, part: Part| {
            summary.swept += 1;
            summary.add(&part);
            let kept = store.as_mut().map_or(Ok(()), |store| store.keep(fs, group, part.clone()));
            take(part);
            note(&mut store, kept)
        };
        sweep::sweep(fs, order, &tally, &mut found, progress);
        let kept = store.as_mut().map_or(Ok(()), |store| store.flush(fs).and_then(|()| store.keep_tables(fs)));
        let _ = note(&mut store, kept);
        match failure {
            Some(error) if must => Err(error),
            Some(error) => {
                log::info!("{error}; what was found is not kept");
                Ok(summary)
            }
            None => Ok(summary),
        }
    }
}

/// Lets `fs`, which was opened with `options`, know from its catalog which blocks of the inode tables hold anything, if that tells.
pub fn recall(fs: &Filesystem, place: &Place, options: &ImageOptions) {
    let path = match place {
        Place::Nowhere => None,
        Place::Cache => in_cache(fs, options),
        Place::File(path) => Some(path.clone()),
    };
    let known = path.filter(|path| store::is_catalog(path)).and_then(|path| Store::tables_of(&path, &identity::identity(fs, options), fs));
    if let Some(written) = known {
        let _ = fs.written_tables().set(written);
    }
}

/// Why there is no catalog.
struct Refused {
    error: Error,
    /// The user has to choose another file.
    must: bool,
}

fn open_store(fs: &Filesystem, place: &Place, options: &ImageOptions) -> std::result::Result<(Store, Known), Refused> {
    let (path, named) = match place {
        Place::File(path) => (path.clone(), true),
        _ => (in_cache(fs, options).ok_or_else(|| failed("no catalog: neither XDG_CACHE_HOME nor HOME is set".into(), false))?, false),
    };
    let name = path.display();
    let broken = |why: &dyn fmt::Display| failed(format!("catalog {name}: {why}"), false);
    if fs.image().holds(&path).map_err(|error| broken(&error))? {
        return Err(failed(format!("{name}: is on the filesystem to be recovered, where nothing may be written"), named));
    }
    if let (false, Some(folder)) = (named, path.parent()) {
        let error = |error| failed(format!("catalog folder {}: {error}", folder.display()), false);
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(error)?;
    }
    match Store::open(&path, identity::identity(fs, options)).and_then(|store| Ok((store.load(fs)?, store))) {
        Ok((known, store)) => {
            if let (false, Some(folder)) = (named, path.parent()) {
                prune::touch(&path);
                prune::prune(folder);
            }
            log::info!("catalog {name}: {} of {} groups are known", known.groups.len(), fs.geometry().superblock.groups());
            Ok((store, known))
        }
        Err(Obstacle::Foreign) => {
            Err(Refused { error: Error::Usage(format!("{name} is not a catalog of undelfs; it is left as it is")), must: named })
        }
        Err(why) => Err(broken(&why)),
    }
}

fn failed(text: String, must: bool) -> Refused {
    Refused { error: Error::Failed(text), must }
}

/// The place among the user's caches, by the XDG Base Directory Specification.
fn in_cache(fs: &Filesystem, options: &ImageOptions) -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?;
    let image = fs.image();
    // Copies of an image share its UUID; with a mapfile, it has other blocks that cannot be read.
    let paths =
        [Some(image.path()), options.mapfile.as_deref()].map(|path| path.map(|path| path.canonicalize().unwrap_or(path.to_owned())));
    let checksum = |crc, path: &PathBuf| crc32c::crc32c_append(crc, path.as_os_str().as_bytes());
    let place = paths.iter().flatten().fold(crc32c::crc32c(&image.base().to_le_bytes()), checksum);
    Some(caches.join("undelfs").join(format!("{}-{place:08x}.sqlite", uuid(fs.geometry().superblock.uuid))))
}
