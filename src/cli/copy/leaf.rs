//! Copies one file, hard link or symbolic link. Each is made under another name and gets its own when it is whole.

use super::content::{self, Failure};
use super::copier::{Copier, Spot, data, interrupted, not_a_name};
use super::place::{self, Keep, Place};
use rustix::fs::{FileType, Stat};
use std::io;
use undelfs::recover::file::Kind;
use undelfs::tree::{Attributes, Body, NodeId, Source};
use undelfs::{Error, Result};

/// Why something is not copied.
enum Trouble {
    /// It alone.
    Skip(io::Error),
    /// And nothing after it.
    Stop(Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble::Skip(error)
    }
}

/// What became of one attempt.
type Attempt<T> = std::result::Result<T, Trouble>;

fn skip(why: impl Into<String>) -> Trouble {
    Trouble::Skip(io::Error::other(why.into()))
}

/// Whether what is there looks like a copy of what has these attributes. Whole seconds, since not every filesystem keeps more.
fn is_copy(stat: &Stat, original: &Attributes) -> bool {
    let same_size = u64::try_from(stat.st_size) == Ok(original.size);
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && same_size && stat.st_mtime == original.mtime.seconds
}

impl Copier<'_> {
    /// Copies a file or a symbolic link to `spot`.
    ///
    /// # Errors
    /// Only what makes going on pointless.
    pub(super) fn leaf(&mut self, spot: &Spot, node: NodeId, kind: Kind) -> Result<()> {
        self.check_stop()?;
        if !place::is_plain(spot.name) {
            return self.failed(spot.path, not_a_name());
        }
        let Some(keep) = self.keep_of(node) else { return Ok(()) };
        let result = match kind {
            Kind::Symlink => self.symlink(spot, node, &keep),
            Kind::File | Kind::Dir => self.file(spot, node, &keep),
        };
        match result {
            Ok(()) => Ok(()),
            Err(Trouble::Skip(error)) => self.failed(spot.path, error),
            Err(Trouble::Stop(error)) => Err(error),
        }
    }

    fn file(&mut self, spot: &Spot, node: NodeId, keep: &Keep) -> Attempt<()> {
        let (Some(attributes), Some(Body::Image(source))) = (self.tree.attributes(node), self.tree.body(node)) else { return Ok(()) };
        let several = self.tree.has_several_names(node);
        if several && self.hard_link(spot, node, &attributes)? {
            return Ok(());
        }
        let (size, data) = (attributes.size, data(self.tree, node));
        let missing = match source {
            Source::Lost(id) => self.tree.recovery().file(id).tally.missing(),
            Source::Unclaimed => 0,
        };
        if self.policy.strict && missing > 0 {
            self.advance(data);
            return Err(skip(format!("not copied, since {missing} of {size} bytes are missing")));
        }
        let missing = if self.is_there(spot, |stat| Ok(is_copy(stat, &attributes)))? {
            self.advance(data);
            missing
        } else {
            let missing = self.put(spot, |copier, part| copier.write(spot.place, part, (source, data), keep))?;
            self.outcome.bytes = self.outcome.bytes.saturating_add(size);
            missing
        };
        if missing > 0 {
            let path = self.shown(spot.path);
            self.outcome.partial(&path, missing, size);
        }
        if several {
            self.links.entry(node).or_insert_with(|| spot.path.to_vec());
        }
        Ok(())
    }

    /// Writes content (of which about so many bytes are data), owner, mode and times; returns how many bytes are missing.
    fn write(&mut self, place: &Place, part: &[u8], from: (Source, u64), keep: &Keep) -> Attempt<u64> {
        let recovery = self.tree.recovery();
        let out = place.create(part)?;
        out.set_len(from.0.size(recovery))?;
        let strict = self.policy.strict;
        match content::write(recovery, from, &out, strict, &mut |bytes| self.advance(bytes)) {
            Ok(missing) => {
                keep.set(&out)?;
                Ok(missing)
            }
            Err(Failure::Read(error)) => Err(skip(format!("not copied, since {error}"))),
            Err(Failure::Write(error)) => Err(error.into()),
            Err(Failure::Stopped) => Err(Trouble::Stop(interrupted())),
        }
    }

    fn symlink(&mut self, spot: &Spot, node: NodeId, keep: &Keep) -> Attempt<()> {
        let target = self.tree.link_target(node).map_err(|error| skip(format!("where it led to is not known: {error}")))?;
        let same = |stat: &Stat| Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Symlink && spot.place.target(spot.name)? == target);
        if self.is_there(spot, same)? {
            return Ok(());
        }
        self.put(spot, |_, part| Ok(spot.place.symlink(&target, part, keep)?))
    }

    /// Makes a hard link to where the same file was put before; `false` where it was not, or the destination knows no hard links.
    fn hard_link(&mut self, spot: &Spot, node: NodeId, original: &Attributes) -> Attempt<bool> {
        let Some(first) = self.links.get(&node) else { return Ok(false) };
        let mut parts: Vec<&[u8]> = first.split(|byte| *byte == b'/').collect();
        let Some(name) = parts.pop() else { return Ok(false) };
        let start = self.target.place.again()?;
        let folder = parts.iter().try_fold(start, |folder, part| folder.folder(part))?;
        let name = name.to_vec();
        let Some(first) = folder.look(&name)? else { return Ok(false) };
        let force = self.policy.force;
        // A copy of its own, from a run that did not see the others, is as good, but for --force.
        let same = |stat: &Stat| Ok((first.st_dev, first.st_ino) == (stat.st_dev, stat.st_ino) || !force && is_copy(stat, original));
        if self.is_there(spot, same)? {
            return Ok(true);
        }
        match self.put(spot, |_, part| Ok(spot.place.link(part, &folder, &name)?)) {
            Ok(()) => Ok(true),
            Err(Trouble::Skip(error)) => {
                log::info!("{}: copied once more, since it cannot be a hard link here: {error}", self.shown(spot.path));
                Ok(false)
            }
            Err(stop) => Err(stop),
        }
    }

    /// Whether what stands at `spot` is what belongs there, left by an earlier run. If something else is, it is asked whether that may
    /// give way; folders and devices never do.
    fn is_there(&mut self, spot: &Spot, same: impl FnOnce(&Stat) -> io::Result<bool>) -> Attempt<bool> {
        let Some(stat) = spot.place.look(spot.name)? else { return Ok(false) };
        if self.policy.resume && same(&stat)? {
            self.outcome.already += 1;
            return Ok(true);
        }
        let plain = matches!(FileType::from_raw_mode(stat.st_mode), FileType::RegularFile | FileType::Symlink);
        match (plain, self.policy.force, self.policy.resume) {
            (true, true, _) => Ok(false),
            (true, false, true) => Err(skip("exists already, and differs (--force replaces it)")),
            (true, false, false) => Err(skip("exists already (--force replaces it)")),
            (false, ..) => Err(skip("exists already, and is no file")),
        }
    }

    /// Has something made under a name of its own, and then gives it that of `spot`.
    fn put<T>(&mut self, spot: &Spot, make: impl FnOnce(&mut Self, &[u8]) -> Attempt<T>) -> Attempt<T> {
        // A lost file may have such a name itself; its copy must not be taken for what an interrupted run has left.
        let is_free = |part: &Vec<u8>| spot.folder.is_none_or(|folder| self.tree.lookup(folder, part).is_none());
        let part = place::part_names(spot.name).find(is_free).ok_or_else(|| skip("no name is free to write it under"))?;
        spot.place.remove(&part)?;
        let made = make(self, &part).and_then(|made| {
            spot.place.rename(&part, spot.name, self.policy.force)?;
            Ok(made)
        });
        match &made {
            Ok(_) => {
                log::info!("{}: copied", self.shown(spot.path));
                self.outcome.copied += 1;
            }
            // Why it failed is what matters, not what becomes of its beginning.
            Err(_) => drop(spot.place.remove(&part)),
        }
        made
    }
}
