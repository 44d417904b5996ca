//! How worn free space is: what part of the blocks that lost files had is seen to have been used again since, and how much more of it
//! may have been used by files that are gone themselves and left no trace.

use crate::run::{Evidence, Run};

/// What became of the blocks of files of which nothing tells when they were lost.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Wear {
    /// Blocks that pointers to them name.
    named: u64,
    /// Those of them that are seen to be somebody else's, or to have been.
    taken: u64,
}

impl Wear {
    /// Adds a run of such a file.
    pub fn add(&mut self, run: &Run) {
        let count = if run.block.is_some() { run.length } else { 0 };
        self.named += count;
        self.taken += if run.evidence == Evidence::Overwritten { count } else { 0 };
    }

    /// Adds what another file was found to have lost.
    pub fn merge(&mut self, other: Wear) {
        self.named += other.named;
        self.taken += other.taken;
    }

    /// The chance that a block of such a file was used unseen. Of the files that took blocks since, `alive` are in use and show what they
    /// took; as many of them are `dead` as of all others, and can have left nothing.
    pub fn chance(&self, dead: u64, alive: u64) -> f64 {
        self.taken as f64 / self.named.max(1) as f64 * dead as f64 / (dead + alive).max(1) as f64
    }
}
