//! Goes through what is to be copied, folder by folder.

use super::outcome::Outcome;
use super::place::{self, Keep, Place};
use crate::cli::progress::Meter;
use rustix::io::Errno;
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use undelfs::recover::file::Kind;
use undelfs::run::Evidence;
use undelfs::tree::{Body, NodeId, Source, Tree};
use undelfs::{Error, Result};

/// How to copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Replace what is there already.
    pub force: bool,
    /// Leave files alone of which anything is missing.
    pub strict: bool,
    /// What has the size and the time of the lost file is a copy that an earlier run has made.
    pub resume: bool,
}

/// The destination.
pub struct Target<'a> {
    /// The folder that is copied into.
    pub place: Place,
    /// Its path, for messages.
    pub path: &'a Path,
}

/// One copy under way.
pub struct Copier<'a> {
    pub(super) tree: &'a Tree,
    pub(super) target: Target<'a>,
    pub(super) policy: Policy,
    meter: &'a Meter,
    stop: &'a AtomicBool,
    /// Bytes of data to copy in all, and done.
    total: u64,
    done: u64,
    /// Where a file with several links was put, as a path below the destination.
    pub(super) links: HashMap<NodeId, Vec<u8>>,
    /// What became of it.
    pub outcome: Outcome,
}

/// A name in an open folder: where something is to be copied to.
pub(super) struct Spot<'a> {
    pub(super) place: &'a Place,
    pub(super) name: &'a [u8],
    /// The folder of the tree that it comes from, if all of that is copied.
    pub(super) folder: Option<NodeId>,
    /// The path below the destination.
    pub(super) path: &'a [u8],
}

/// A folder that is being copied.
struct Frame {
    node: NodeId,
    /// The entry to copy next.
    next: usize,
    identity: (u64, u64),
    /// What is set on it in the end; nothing on the destination itself.
    keep: Option<Keep>,
}

impl<'a> Copier<'a> {
    /// Prepares to copy `total` bytes to `target`, until `stop` is set.
    pub fn new(tree: &'a Tree, target: Target<'a>, policy: Policy, meter: &'a Meter, stop: &'a AtomicBool, total: u64) -> Self {
        Copier { tree, target, policy, meter, stop, total, done: 0, links: HashMap::new(), outcome: Outcome::default() }
    }

    /// Copies what is at `node` under `name`; of a folder without a name what is in it.
    ///
    /// # Errors
    /// Only what makes going on pointless. The rest is in the outcome.
    pub fn copy(&mut self, node: NodeId, name: Option<&[u8]>) -> Result<()> {
        let Some(kind) = self.tree.attributes(node).map(|attributes| attributes.kind) else { return Ok(()) };
        let here = self.target.place.again().map_err(|error| Error::path(self.target.path, error))?;
        let mut path = Vec::new();
        match name {
            None => {
                let frame = Frame { node, next: 0, identity: here.identity, keep: None };
                self.folder(here, frame, &mut path)
            }
            Some(name) if kind == Kind::Dir => match self.enter(&here, name, node, &mut path)? {
                Some((here, frame)) => self.folder(here, frame, &mut path),
                None => Ok(()),
            },
            Some(name) => self.leaf(&Spot { place: &here, name, folder: None, path: name }, node, kind),
        }
    }

    /// Copies a folder and all below it. Only the folder at hand is held open, however deep they lie in one another.
    fn folder(&mut self, mut here: Place, frame: Frame, path: &mut Vec<u8>) -> Result<()> {
        let tree = self.tree;
        let mut stack = vec![frame];
        while let Some(frame) = stack.last_mut() {
            let folder = frame.node;
            match tree.entry(folder, frame.next) {
                Some((name, node, Kind::Dir)) => {
                    frame.next += 1;
                    if let Some((place, frame)) = self.enter(&here, name, node, path)? {
                        here = place;
                        stack.push(frame);
                    }
                }
                Some((name, node, kind)) => {
                    frame.next += 1;
                    let length = path.len();
                    push(path, name);
                    self.leaf(&Spot { place: &here, name, folder: Some(folder), path }, node, kind)?;
                    path.truncate(length);
                }
                None => {
                    if let Some(Err(error)) = frame.keep.map(|keep| here.keep(&keep)) {
                        self.failed(path, error)?;
                    }
                    stack.pop();
                    if let Some(outer) = stack.last() {
                        here = here.parent(outer.identity).map_err(|error| Error::Failed(format!("{}: {error}", self.shown(path))))?;
                        path.truncate(path.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes the folder `name` in `here` and appends it to `path`; `None` where that cannot be.
    fn enter(&mut self, here: &Place, name: &[u8], node: NodeId, path: &mut Vec<u8>) -> Result<Option<(Place, Frame)>> {
        self.check_stop()?;
        let length = path.len();
        push(path, name);
        let made = if place::is_plain(name) { here.make_folder(name) } else { Err(not_a_name()) };
        let made = made.and_then(|place| {
            // Another filesystem may be mounted below the destination, that which is to be recovered too.
            let elsewhere = place.identity.0 != self.target.place.identity.0;
            if elsewhere && self.tree.recovery().image().holds(Path::new(&place.proc_path()))? {
                return Err(io::Error::other("is on the filesystem to be recovered, where nothing may be written"));
            }
            Ok(place)
        });
        match made {
            Ok(place) => {
                let frame = Frame { node, next: 0, identity: place.identity, keep: self.keep_of(node) };
                Ok(Some((place, frame)))
            }
            Err(error) => {
                self.failed(path, error)?;
                path.truncate(length);
                Ok(None)
            }
        }
    }

    /// Counts bytes that are done; answers whether to go on.
    pub(super) fn advance(&mut self, bytes: u64) -> bool {
        self.done = self.done.saturating_add(bytes);
        self.meter.bytes("copying", self.done, self.total);
        !self.stop.load(Ordering::Relaxed)
    }

    /// Ends the copy where the user wants it to end.
    pub(super) fn check_stop(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) { Err(interrupted()) } else { Ok(()) }
    }

    /// Notes that something was not copied, or ends the copy where nothing more can be.
    pub(super) fn failed(&mut self, path: &[u8], error: io::Error) -> Result<()> {
        let shown = self.shown(path);
        match Errno::from_io_error(&error) {
            Some(Errno::NOSPC | Errno::DQUOT) => Err(Error::Failed(format!(
                "{shown}: {error}; what was copied before it is whole, and the same command goes on with the rest"
            ))),
            Some(Errno::ROFS | Errno::IO | Errno::NODEV | Errno::NXIO) => Err(Error::Failed(format!("{shown}: {error}"))),
            _ => {
                self.outcome.problem(&shown, error);
                Ok(())
            }
        }
    }

    /// A path below the destination, for messages.
    pub(super) fn shown(&self, path: &[u8]) -> String {
        place::below(self.target.path, path).display().to_string()
    }

    /// What a copy keeps: of a lost file its own, of a folder that still exists what the mount shows of it, where nobody may write.
    pub(super) fn keep_of(&self, node: NodeId) -> Option<Keep> {
        let attributes = self.tree.attributes(node)?;
        let mode = match self.tree.file(node) {
            Some(id) => self.tree.recovery().file(id).mode,
            None => attributes.mode | 0o200,
        };
        Some(Keep { mode, owner: (attributes.uid, attributes.gid), atime: attributes.atime, mtime: attributes.mtime })
    }
}

fn push(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

pub(super) fn not_a_name() -> io::Error {
    io::Error::other("no file can have this name")
}

pub(super) fn interrupted() -> Error {
    Error::Failed("interrupted; what was copied is whole, and the same command goes on with the rest".into())
}

/// The bytes of what is at `node` that are really copied.
pub fn data(tree: &Tree, node: NodeId) -> u64 {
    match tree.body(node) {
        Some(Body::Image(Source::Lost(id))) => {
            let tally = &tree.recovery().file(id).tally;
            Evidence::ALL.into_iter().filter(|evidence| evidence.is_data()).map(|evidence| tally.of(evidence)).sum()
        }
        Some(Body::Image(Source::Unclaimed)) => tree.unclaimed_bytes(),
        Some(Body::Text(_)) | None => 0,
    }
}
