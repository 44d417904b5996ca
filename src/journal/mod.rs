//! The journal read as history: not only what replay would need but every transaction that still stands in the log,
//! and from them the versions over time of every metadata block.

mod log;
mod walk;

pub use log::Log;
pub use walk::Transaction;

use crate::error::Result;
use crate::format::journal::Superblock;
use crate::geometry::Geometry;
use crate::image::Image;
use crate::units::{Block, Moment};
use foldhash::{HashMap, HashMapExt};
use std::io;
use std::path::Path;

/// A copy of a block in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// The transaction that it was part of.
    pub moment: Moment,
    /// Where it stands, in blocks from the journal's start.
    pub index: u32,
    /// Its first 4 bytes were the journal's magic.
    pub escaped: bool,
}

/// Everything that the journal remembers. Empty for a filesystem without one.
#[derive(Default)]
pub struct Journal {
    log: Option<Log>,
    dirty: bool,
    transactions: Vec<Transaction>,
    copies: HashMap<Block, Vec<Copy>>,
    revokes: HashMap<Block, Vec<Moment>>,
    loose: Vec<Copy>,
    replayed: HashMap<Block, Copy>,
    covered_from: Option<Moment>,
    accounted_from: Option<Moment>,
}

impl Journal {
    /// Reads the journal of a filesystem: inside it, or `external`. One that cannot be read is damage, not an error.
    pub fn read(image: &Image, geometry: &Geometry, external: Option<&Path>, damage: &mut Vec<String>) -> Result<Journal> {
        match Log::find(image, geometry, external, damage)? {
            Some((log, superblock)) => Ok(Journal::from_log(log, &superblock, image, geometry, damage)),
            None => Ok(Journal::default()),
        }
    }

    fn from_log(log: Log, superblock: &Superblock, image: &Image, geometry: &Geometry, damage: &mut Vec<String>) -> Journal {
        let walk = walk::walk(&log, superblock, image, damage);
        let (mut copies, mut revokes) = (HashMap::<Block, Vec<Copy>>::new(), HashMap::<Block, Vec<Moment>>::new());
        for transaction in &walk.transactions {
            for (block, copy) in &transaction.copies {
                if geometry.superblock.blocks > block.get() {
                    copies.entry(*block).or_default().push(*copy);
                }
            }
            for block in &transaction.revokes {
                revokes.entry(*block).or_default().push(transaction.moment);
            }
        }
        let mut replayed = HashMap::new();
        for transaction in walk.transactions.iter().filter(|t| walk.replay.contains(&t.moment)) {
            for (block, copy) in &transaction.copies {
                let revoked = revokes.get(block).is_some_and(|at| at.iter().any(|at| *at >= copy.moment && walk.replay.contains(at)));
                if !revoked {
                    replayed.insert(*block, *copy);
                }
            }
        }
        Journal {
            log: Some(log),
            dirty: superblock.start != 0,
            transactions: walk.transactions,
            copies,
            revokes,
            loose: walk.loose,
            replayed,
            covered_from: walk.covered_from,
            accounted_from: walk.accounted_from,
        }
    }

    /// Whether replay is due (`s_start` is not 0).
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// The transactions that survive, oldest first.
    pub fn transactions(&self) -> &[Transaction] {
        &self.transactions
    }

    /// All blocks of which a copy survives.
    pub fn copied_blocks(&self) -> impl Iterator<Item = (Block, &[Copy])> {
        self.copies.iter().map(|(block, copies)| (*block, copies.as_slice()))
    }

    /// The copies of a block, oldest first.
    pub fn copies(&self, block: Block) -> &[Copy] {
        self.copies.get(&block).map_or(&[], Vec::as_slice)
    }

    /// When a block was revoked, oldest first.
    pub fn revokes(&self, block: Block) -> &[Moment] {
        self.revokes.get(&block).map_or(&[], Vec::as_slice)
    }

    /// Copies that no descriptor names any more (theirs was overwritten): only their content tells what they are.
    pub fn loose(&self) -> &[Copy] {
        &self.loose
    }

    /// The copy that replay would write over a block.
    pub fn replayed(&self, block: Block) -> Option<Copy> {
        self.replayed.get(&block).copied()
    }

    /// Whether every transaction after `moment` survives whole, so that nothing can have happened unseen since.
    pub fn covers_since(&self, moment: Moment) -> bool {
        self.covered_from.is_some_and(|from| moment >= from)
    }

    /// Whether every transaction after `moment` survives at least in part.
    pub fn accounts_since(&self, moment: Moment) -> bool {
        self.accounted_from.is_some_and(|from| moment >= from)
    }

    /// How many of the transactions after `moment` are gone without a trace, at most; `None` if the journal does not tell when it was.
    pub fn missing_since(&self, moment: Moment) -> Option<u64> {
        let kept = (self.transactions.len() - self.transactions.partition_point(|t| t.moment <= moment)) as u64;
        let newest = self.transactions.last().map_or(0, |newest| newest.moment.0);
        match self.accounts_since(moment) {
            true => Some(0),
            false => (moment > Moment::PAST).then(|| newest.saturating_sub(moment.0).saturating_sub(kept)),
        }
    }

    /// Whether more of the transactions after `moment` survive than are gone.
    pub fn keeps_most_since(&self, moment: Moment) -> bool {
        let kept = (self.transactions.len() - self.transactions.partition_point(|t| t.moment <= moment)) as u64;
        self.missing_since(moment).is_some_and(|missing| missing <= kept)
    }

    /// Whether something survives of every transaction after `from` up to `to`.
    pub fn is_unbroken(&self, from: Moment, to: Moment) -> bool {
        let until = |moment: Moment| self.transactions.partition_point(|t| t.moment <= moment) as u64;
        let newest = self.transactions.last().map_or(Moment::PAST, |newest| newest.moment);
        from > Moment::PAST && until(to) - until(from) >= to.min(newest).0.saturating_sub(from.0) || self.accounts_since(from)
    }

    /// Whether the old ext3 driver wrote it: its jbd left the time of commits zero.
    pub fn is_of_old_driver(&self) -> bool {
        !self.transactions.is_empty() && self.transactions.iter().all(|transaction| transaction.time.is_none())
    }

    /// Time of the commit at a moment, in seconds since 1970, where the log says it.
    pub fn commit_time(&self, moment: Moment) -> Option<(i64, u32)> {
        let at = self.transactions.binary_search_by_key(&moment, |t| t.moment).ok()?;
        self.transactions[at].time
    }

    /// Reads a copy, as it was before it was escaped.
    pub fn read_copy(&self, image: &Image, copy: Copy) -> io::Result<Vec<u8>> {
        self.log.as_ref().ok_or(io::ErrorKind::NotFound)?.read_copy(image, copy)
    }

    /// Bytes of the log; `None` without a journal.
    pub fn size(&self) -> Option<u64> {
        self.log.as_ref().map(Log::size)
    }

    /// Whether a block of the filesystem is one of the log's.
    pub fn occupies(&self, block: Block) -> bool {
        self.log.as_ref().is_some_and(|log| log.occupies(block))
    }

    /// Byte of the image at which a log block stands; `None` for an external journal.
    pub fn image_offset(&self, index: u32) -> Option<u64> {
        self.log.as_ref()?.image_offset(index)
    }
}
