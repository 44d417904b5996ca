//! A file that has gaps, and what its known blocks tell of all of them.

use super::super::{FileId, Recovery, file};
use crate::content::myisam::header::{Header, RowFormat};
use crate::content::{self, Facts, Kind, Order, Tiling};
use crate::run::{Place, Run};
use crate::units::FileBlock;
use std::cmp::Reverse;

/// Known blocks from which is learnt.
const SAMPLE: u64 = 256;
/// Runs of a file among which these are looked for.
const RUNS: usize = 4096;
/// Fewest blocks that tell that a file without its first block is a table.
const FEWEST: usize = 4;
/// Bytes at the start of a file from which its kind is told.
const HEAD: u64 = 1 << 16;

/// Blocks by whose rows the rank of the next block may differ from what it should be: rows that were changed stand elsewhere.
const LEAP: u64 = 32;
/// The least by which the rank may rise from the last rows of a block to the first of the next, see
/// [`Counter::fits`](crate::content::myisam::counter::Counter::fits).
const NEXT: u64 = 28;

/// Records by which it is judged whether another file counts in the same way.
const ALIKE: usize = 16;

/// A file whose content tells the order of its blocks.
pub struct Subject {
    /// The file.
    pub id: FileId,
    /// How its records are told apart.
    pub tiling: Tiling,
    /// What was learnt of it; its place is of no use.
    pub order: Box<dyn Order>,
    /// By how much the rank rises in a block; `None` where nothing counts.
    pub stride: Option<u64>,
    /// Nearly every record's rank is one above that of the record before.
    pub is_dense: bool,
}

impl Subject {
    /// Learns from the known blocks of a file. `None` where its kind says nothing, or too few are known.
    pub fn of(recovery: &Recovery, id: FileId) -> Option<Subject> {
        let head = head(recovery, id);
        let index = index_of(recovery, id);
        let facts = Facts { head: &head, index: index.as_ref() };
        let is_fixed = index.as_ref().is_some_and(|index| index.format == RowFormat::Fixed);
        let kind = content::identify(&head).filter(|_| !is_fixed);
        let of = |tiling: Tiling| Subject::with(recovery, id, tiling, facts);
        if let Some(tiling) = kind.or(head.is_empty().then_some(Kind::MyisamDynamic)).and_then(Tiling::of) {
            let found = of(tiling);
            if found.is_some() || !head.is_empty() {
                return found;
            }
        }
        if kind.is_some_and(|kind| kind != Kind::MyisamPacked) {
            return None;
        }
        // Rows without heads: what they have in common tells them.
        if kind.is_none() && index.as_ref().is_some_and(|index| index.format != RowFormat::Fixed) {
            return None;
        }
        let length = index.as_ref().filter(|_| is_fixed).map(|index| u64::from(index.packed_length));
        let learnt = learnt(recovery, id, kind, facts)?;
        of(learnt).filter(|own| length.is_none_or(|length| own.tiling.length() == Some(length)))
    }

    /// The same where it is known how records are told apart.
    fn with(recovery: &Recovery, id: FileId, tiling: Tiling, facts: Facts<'_>) -> Option<Subject> {
        let order = tiling.order(facts);
        let block_size = recovery.block_size();
        let mut best: Option<(usize, Subject)> = None;
        for run in recovery.runs(id).take(RUNS).filter(is_named) {
            let count = run.length.min(SAMPLE);
            if best.as_ref().is_some_and(|(blocks, _)| *blocks as u64 >= count) {
                continue;
            }
            let Some(bytes) = read(recovery, id, run.file_block, count) else { continue };
            let size = block_size as usize;
            let stretch = tiling.stretches(&bytes, size).into_iter().max_by_key(|stretch| stretch.blocks);
            let Some(stretch) = stretch.filter(|stretch| best.as_ref().is_none_or(|(blocks, _)| *blocks < stretch.blocks)) else {
                continue;
            };
            let bytes = &bytes[stretch.first * size..];
            let bytes = &bytes[..(stretch.blocks * size).min(bytes.len())];
            best = Some((stretch.blocks, Subject::learnt(id, tiling.clone(), &*order, bytes, stretch.head, size)));
            if stretch.blocks as u64 == SAMPLE {
                break;
            }
        }
        best.filter(|(blocks, _)| !facts.head.is_empty() || *blocks >= FEWEST).map(|(_, subject)| subject)
    }
}

impl Subject {
    /// Learns from a stretch of a file.
    pub fn learnt(id: FileId, tiling: Tiling, order: &dyn Order, bytes: &[u8], head: usize, block_size: usize) -> Subject {
        let mut order = order.resume_at(0, head);
        bytes.chunks(block_size).for_each(|block| _ = order.feed(block));
        let rise = order.rank_from(bytes, head).zip(order.reached()).and_then(|(first, last)| last.checked_sub(first));
        let stride = rise.map(|rise| (rise / bytes.len().div_ceil(block_size) as u64).max(1));
        let ranks = order.ranks(bytes, head);
        let steps = ranks.windows(2).filter(|pair| pair[0].0.checked_add(1) == Some(pair[1].0)).count();
        let is_dense = (steps + 1) * 100 >= ranks.len() * 99;
        Subject { id, tiling, order, stride, is_dense }
    }

    /// A copy.
    pub fn same(&self) -> Subject {
        Subject { tiling: self.tiling.clone(), order: self.order.fork(), ..*self }
    }

    /// Whether a scan sees its records where they stand: those of a dynamic table, unless they are long.
    pub fn is_known_to_scan(&self, recovery: &Recovery) -> bool {
        let seen = |blocks: u64| sample(recovery, self.id, blocks).map(|bytes| content::holds_rows(&bytes));
        matches!(self.tiling, Tiling::Dynamic(_)) && [16, 4, 1].into_iter().find_map(seen) == Some(true)
    }

    /// Whether the rank of a block is none that the file can have so many blocks behind one of rank `before`.
    pub fn leaps(&self, before: u64, rank: u64, blocks: u64) -> bool {
        let step = self.stride.unwrap_or(0).saturating_mul(LEAP).saturating_add(LEAP);
        rank.saturating_add(step) < before || rank > before.saturating_add(step.saturating_mul(blocks.max(1)))
    }

    /// How far behind the last rank the next one can be, where both are typical for a few records.
    pub fn window(&self) -> u64 {
        self.stride.unwrap_or(0).saturating_mul(2).max(NEXT)
    }

    /// Whether a record of rank `next` can be the first whose rank is known behind one of rank `last`. A single one between, whose rank is
    /// cut by the end of a block, may be missing.
    pub fn follows(&self, last: u64, next: u64) -> bool {
        next > last && next - last <= if self.is_dense { 2 } else { self.window() }
    }

    /// Whether these bytes hold records that count like this file's: then another table has the same columns.
    pub fn is_alike(&self, ranks: &[(u64, usize)]) -> bool {
        let rises = ranks.windows(2).filter(|pair| pair[0].0 < pair[1].0 && pair[1].0 - pair[0].0 <= NEXT).count();
        ranks.len() > ALIKE && rises * 10 >= (ranks.len() - 1) * 9
    }
}

/// Runs of a file in which rows of one length are looked for, and blocks of each.
const TRIED: usize = 3;
const LEARN: u64 = 64;

/// How the rows of a file are told apart, from its longest runs.
fn learnt(recovery: &Recovery, id: FileId, kind: Option<Kind>, facts: Facts<'_>) -> Option<Tiling> {
    let mut runs: Vec<Run> = recovery.runs(id).take(RUNS).filter(is_named).collect();
    runs.sort_by_key(|run| Reverse(run.length));
    runs.iter().take(TRIED).find_map(|run| {
        let bytes = read(recovery, id, run.file_block, run.length.min(LEARN))?;
        Tiling::learnt(kind, facts, &bytes, run.file_block.0.checked_mul(recovery.block_size())?)
    })
}

/// Whether it is known which blocks these are, and no other file has them.
pub fn is_named(run: &Run) -> bool {
    run.evidence.is_data() || super::confirm::is_doubtful(run)
}

/// The first bytes of a file; empty where nothing tells which its first block was.
fn head(recovery: &Recovery, id: FileId) -> Vec<u8> {
    let size = recovery.block_size();
    let blocks = recovery.run_at(id, FileBlock(0)).filter(is_named).map_or(0, |run| run.length.min((HEAD / size).max(1)));
    read(recovery, id, FileBlock(0), blocks).unwrap_or_default()
}

/// What the lost `.MYI` of the same table says.
pub fn index_of(recovery: &Recovery, id: FileId) -> Option<Header> {
    index_file(recovery, id).and_then(|index| Header::parse(&head(recovery, index)))
}

/// The lost `.MYI` of the same table: of several the one lost last that can be read.
pub fn index_file(recovery: &Recovery, id: FileId) -> Option<FileId> {
    let wanted: Vec<_> = recovery.file(id).paths.iter().filter_map(|path| Some([path.strip_suffix(b".MYD")?, b".MYI"].concat())).collect();
    let is_wanted = |other: &FileId| recovery.file(*other).paths.iter().any(|path| wanted.contains(path));
    let mut found: Vec<_> = if wanted.is_empty() { vec![] } else { recovery.ids().filter(is_wanted).collect() };
    found.sort_by_key(|other| recovery.file(*other).version);
    found.into_iter().find(|other| Header::parse(&head(recovery, *other)).is_some())
}

/// Whether a file is a `.MYI`, or may be one, its first block being lost.
pub fn may_be_index(recovery: &Recovery, id: FileId) -> bool {
    let file = recovery.file(id);
    if file.orphan.is_none() && !file.paths.iter().any(|path| path.ends_with(b".MYI")) {
        return false;
    }
    let head = head(recovery, id);
    head.is_empty() || content::identify(&head) == Some(Kind::MyisamIndex)
}

/// Whether a file may hold a table's rows, by its name, or because it has none.
pub fn may_be_rows(recovery: &Recovery, id: FileId) -> bool {
    let file = recovery.file(id);
    file.kind == file::Kind::File && (file.orphan.is_some() || file.paths.iter().any(|path| path.ends_with(b".MYD")))
}

/// Some of a file's first named blocks in a row.
pub fn sample(recovery: &Recovery, id: FileId, blocks: u64) -> Option<Vec<u8>> {
    let run = recovery.runs(id).take(RUNS).find(|run| is_named(run) && run.length >= blocks)?;
    read(recovery, id, run.file_block, blocks)
}

/// Consecutive blocks of a file that are named, up to its end; `None` where one is not, or cannot be read.
pub fn read(recovery: &Recovery, id: FileId, first: FileBlock, blocks: u64) -> Option<Vec<u8>> {
    let size = recovery.block_size();
    let mut bytes = vec![];
    let mut at = first;
    while at < first.plus(blocks) {
        let Some(run) = recovery.run_at(id, at) else { break };
        let run = run.part(at, first.plus(blocks).0 - at.0).filter(is_named)?;
        let from = bytes.len();
        bytes.resize(from + usize::try_from(run.length.checked_mul(size)?).ok()?, 0);
        match run.place {
            Place::Home => recovery.image().read_exact_at(&mut bytes[from..], run.block?.get().checked_mul(size)?).ok()?,
            Place::Log { .. } => {
                let length = recovery.read_at(id, at.0.checked_mul(size)?, &mut bytes[from..]).ok()?;
                bytes.truncate(from + length);
            }
        }
        at = run.end();
    }
    let length = recovery.file(id).size.saturating_sub(first.0.saturating_mul(size));
    bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
    Some(bytes)
}
