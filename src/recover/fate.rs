//! What became of a lost file's blocks since: decided block by block.

use super::chain::{Cache, Chain, Claims, Spot};
use crate::format::indirect;
use crate::units::{Block, Moment};

/// What became of a block.
pub(super) enum Fate {
    Stands,
    /// It stands, unless something happened that the journal no longer tells.
    Likely,
    Overwritten(&'static str),
    /// No block that a file can have.
    Absurd,
}

impl<C: Claims + ?Sized, K: Cache + ?Sized> Chain<'_, C, K> {
    pub(super) fn fate(&self, block: Block, spot: Spot) -> Fate {
        let (fs, span) = (self.fs, &self.file.span);
        if fs.geometry().is_metadata(block) {
            return Fate::Absurd;
        }
        if self.reuse.was_retaken(fs, block, self.freed_from(block)) && !self.is_untouched(block) {
            return Fate::Overwritten("in use again since");
        }
        if self.reuse.was_metadata_since(fs, block, span.freed_by) && !self.is_untouched(block) {
            return Fate::Overwritten("held metadata since");
        }
        let held = fs.is_allocated(block);
        if held && !self.is_held_by_successor(block, spot) && !self.is_untouched(block) {
            return Fate::Overwritten("in use now");
        }
        if !held && span.dated && self.reuse.was_used_since(fs, block, span.freed_by) && !self.claims.was_kept(block, spot) {
            return Fate::Overwritten("in use again since");
        }
        if self.claims.lost_to_newer(block, spot) {
            return Fate::Overwritten("belonged to a file lost later");
        }
        if span.covered { Fate::Stands } else { Fate::Likely }
    }

    /// The first moment at which a block can have been free: the first at which the loss shows, unless transactions
    /// before that are missing. What was freed together with the file's indirect blocks was its own until then.
    fn freed_from(&self, block: Block) -> Moment {
        let span = &self.file.span;
        let with_others = || span.is_revoked() && self.reuse.was_freed_between(self.fs, block, span.freed, span.freed_by);
        if span.covered || with_others() { span.freed } else { Moment(span.last.0.saturating_add(1)).min(span.freed) }
    }

    /// The last moment at which a block was certainly still the file's.
    pub(super) fn owned_until(&self) -> Moment {
        let span = &self.file.span;
        if span.covered || span.is_revoked() { span.freed } else { span.last }
    }

    /// Whether a block was given to new metadata that has not left the journal yet, so that its old content still stands.
    fn is_untouched(&self, block: Block) -> bool {
        let (fs, span) = (self.fs, &self.file.span);
        fs.journal().is_dirty() && span.covered && self.reuse.is_only_in_the_log(fs, block, span.freed)
    }

    /// Whether the same life of the inode still has the block, where it had it.
    fn is_held_by_successor(&self, block: Block, spot: Spot) -> bool {
        let Some(successor) = &self.file.span.successor else { return false };
        spot.first().0 < self.file.span.cut
            && match spot {
                Spot::Data(at) => self.fs.current_block(successor, at) == Some(block),
                Spot::Indirect(..) => successor[12..].contains(&Some(block)) || self.is_current_indirect(successor, block),
            }
    }

    /// Whether `block` is an IND or DIND that the successor still uses.
    fn is_current_indirect(&self, successor: &[Option<Block>; 15], block: Block) -> bool {
        let pointers = |of: Option<Block>| -> Vec<Block> {
            let bytes = of.and_then(|of| self.fs.read_block(of).ok()).unwrap_or_default();
            indirect::parse(&bytes).flatten().collect()
        };
        let second = pointers(successor[13]);
        if second.contains(&block) {
            return true;
        }
        let third = pointers(successor[14]);
        third.contains(&block) || third.into_iter().any(|below| pointers(Some(below)).contains(&block))
    }
}
