//! Copies one file, hard link or symbolic link. Each is made under another name and gets its own when it is whole.

use super::content::{self, Failure};
use super::copier::{Copier, Spot, data, interrupted, not_a_name};
use super::place::{self, Keep, Place};
use rustix::fs::{FileType, Stat};
use std::io;
use undelfs::recover::file::{FileId, Kind, LostFile};
use undelfs::tree::NodeId;
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

/// Whether what is there looks like a copy of `file`. Whole seconds, since not every filesystem keeps more.
fn is_copy(stat: &Stat, file: &LostFile) -> bool {
    let same_size = u64::try_from(stat.st_size) == Ok(file.size);
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && same_size && stat.st_mtime == file.mtime.seconds
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
        let (Some(id), Some(keep)) = (self.tree.file(node), self.keep_of(node)) else { return Ok(()) };
        let result = match kind {
            Kind::Symlink => self.symlink(spot, node, &keep),
            Kind::File | Kind::Dir => self.file(spot, node, id, &keep),
        };
        match result {
            Ok(()) => Ok(()),
            Err(Trouble::Skip(error)) => self.failed(spot.path, error),
            Err(Trouble::Stop(error)) => Err(error),
        }
    }

    fn file(&mut self, spot: &Spot, node: NodeId, id: FileId, keep: &Keep) -> Attempt<()> {
        let file = self.tree.recovery().file(id);
        let several = file.paths.len() > 1;
        if several && self.hard_link(spot, node, file)? {
            return Ok(());
        }
        let missing = file.tally.missing();
        if self.policy.strict && missing > 0 {
            self.advance(data(file));
            return Err(skip(format!("not copied, since {missing} of {} bytes are missing", file.size)));
        }
        let missing = if self.is_there(spot, |stat| Ok(is_copy(stat, file)))? {
            self.advance(data(file));
            missing
        } else {
            let missing = self.put(spot, |copier, part| copier.write(spot.place, part, id, keep))?;
            self.outcome.bytes = self.outcome.bytes.saturating_add(file.size);
            missing
        };
        if missing > 0 {
            let path = self.shown(spot.path);
            self.outcome.partial(&path, missing, file.size);
        }
        if several {
            self.links.entry(node).or_insert_with(|| spot.path.to_vec());
        }
        Ok(())
    }

    /// Writes content, owner, mode and times; returns how many bytes are missing.
    fn write(&mut self, place: &Place, part: &[u8], id: FileId, keep: &Keep) -> Attempt<u64> {
        let recovery = self.tree.recovery();
        let out = place.create(part)?;
        out.set_len(recovery.file(id).size)?;
        let strict = self.policy.strict;
        match content::write(recovery, id, &out, strict, &mut |bytes| self.advance(bytes)) {
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
    fn hard_link(&mut self, spot: &Spot, node: NodeId, file: &LostFile) -> Attempt<bool> {
        let Some(first) = self.links.get(&node) else { return Ok(false) };
        let mut parts: Vec<&[u8]> = first.split(|byte| *byte == b'/').collect();
        let Some(name) = parts.pop() else { return Ok(false) };
        let start = self.target.place.again()?;
        let folder = parts.iter().try_fold(start, |folder, part| folder.folder(part))?;
        let name = name.to_vec();
        let Some(first) = folder.look(&name)? else { return Ok(false) };
        let force = self.policy.force;
        // A copy of its own, from a run that did not see the others, is as good, but for --force.
        let same = |stat: &Stat| Ok((first.st_dev, first.st_ino) == (stat.st_dev, stat.st_ino) || !force && is_copy(stat, file));
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
