//! `undelfs copy`: lost files, and whole folders of them, without a mount.

mod content;
mod copier;
mod cutter;
mod leaf;
mod outcome;
mod place;

use super::args::{CopyArgs, Global, Missing};
use super::progress::Meter;
use super::select::{Selected, select};
use super::terminal::quote;
use super::{messages, open};
use copier::{Copier, Policy, Target};
use place::Place;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use undelfs::recover::file::Kind;
use undelfs::sys::TerminationSignals;
use undelfs::tree::{NodeId, Tree};
use undelfs::{Error, Result};

/// Copies lost files.
///
/// # Errors
/// [`Error::Failed`] where anything was not copied; all of that has been said by then.
pub fn run(args: &CopyArgs, global: &Global) -> Result<()> {
    let tree = open(&args.image, global)?;
    let (files, dest) = args.files_and_dest();
    let sources = files.iter().map(|file| select(&tree, file)).collect::<Result<Vec<_>>>()?;
    if tree.recovery().image().holds(dest).map_err(|error| Error::path(dest, error))? {
        return Err(Error::Failed(format!(
            "{}: is on the filesystem to be recovered, where a copy would overwrite what was lost; copy to another disk",
            dest.display()
        )));
    }
    let is_folder = |source: &Selected| tree.attributes(source.node).is_some_and(|attributes| attributes.kind == Kind::Dir);
    let alone = sources.len() == 1 && !sources.iter().any(is_folder);
    distinct_names(&sources)?;

    let metadata = fs::metadata(dest);
    let into_folder = match &metadata {
        Ok(metadata) => metadata.is_dir(),
        Err(_) => !alone || dest.as_os_str().as_bytes().ends_with(b"/") || dest.file_name().is_none(),
    };
    match metadata {
        Ok(_) if !into_folder && !alone => return Err(Error::Usage(format!("{}: is not a folder", dest.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound && into_folder => {
            fs::create_dir(dest).map_err(|error| Error::path(dest, error))?;
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::path(dest, error)),
        _ => {}
    }
    let new_name = dest.file_name().filter(|_| !into_folder).map(OsStrExt::as_bytes);
    let path = if into_folder { dest } else { dest.parent().unwrap_or(Path::new("")) };
    let target = Target { place: Place::open(path).map_err(|error| Error::path(dest, error))?, path };

    let policy = Policy { force: args.image.force, strict: args.missing == Missing::Error, resume: !alone };
    let meter = Meter::new(global);
    let stop = stop_on_signals();
    let total = sources.iter().map(|source| bytes_below(&tree, source.node)).fold(0, u64::saturating_add);
    let mut copier = Copier::new(&tree, target, policy, &meter, &stop, total);
    let ended = sources.iter().try_for_each(|source| copier.copy(source.node, new_name.or(source.name())));
    meter.finish();
    copier.outcome.conclude(ended, global.quiet)
}

/// Two files of one name cannot both be copied into one folder.
fn distinct_names(sources: &[Selected]) -> Result<()> {
    let mut names = HashSet::new();
    match sources.iter().filter_map(Selected::name).find(|name| !names.insert(*name)) {
        Some(name) => Err(Error::Usage(format!("several of these files are called {}: copy them into different folders", quote(name)))),
        None => Ok(()),
    }
}

/// Bytes of data in what lies at `node` and below, hard links counted once.
fn bytes_below(tree: &Tree, node: NodeId) -> u64 {
    let mut linked = HashSet::new();
    let mut bytes = 0u64;
    let mut stack = vec![node];
    while let Some(node) = stack.pop() {
        stack.extend((0..).map_while(|index| tree.entry(node, index)).map(|(_, node, _)| node));
        if !tree.has_several_names(node) || linked.insert(node) {
            bytes = bytes.saturating_add(copier::data(tree, node));
        }
    }
    bytes
}

/// A flag that the first Ctrl-C or SIGTERM sets, so that no half-written file stays behind; the second ends the program at once.
fn stop_on_signals() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    match TerminationSignals::block() {
        Ok(signals) => {
            std::thread::spawn(move || {
                if signals.wait().is_ok() {
                    seen.store(true, Ordering::Relaxed);
                    if signals.wait().is_ok() {
                        std::process::exit(1);
                    }
                }
            });
        }
        Err(error) => messages::error(&format!("an interrupted copy will leave a part of a file behind: {error}")),
    }
    stop
}
