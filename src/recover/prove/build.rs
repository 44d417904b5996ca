//! Tables of which no pointer at all is left, from their rows alone: a block that begins one, and what follows it.
//!
//! Where rows stand the scan has noted.

use super::super::chains;
use super::super::{FileId, LostFile, Mapping, Progress, Recovery};
use super::Piece;
use super::count::Ruler;
use super::gap::Gap;
use super::index::{self, Found, Index};
use super::keys::Leaves;
use super::solver::Solver;
use super::state::Start;
use super::subject::{self, Subject};
use super::walk::{Node, walk};
use crate::content::myisam::dynamic::RowBlocks;
use crate::content::{Facts, Tiling};
use crate::units::{Block, FileBlock};
use roaring::RoaringTreemap;
use std::cell::OnceCell;

/// Blocks with rows beyond which none is built: 64 GiB with blocks of 4 KiB.
const MOST: u64 = 1 << 24;
/// Blocks that a table must have to be built: smaller files have no indirect block to lose, and are too many.
const FEWEST: u64 = 64;
/// Tables that are built at most.
const TABLES: usize = 64;
/// Stretches of a table that are joined at most.
const STRETCHES: usize = 4096;
/// A share of so much of its rows that another stretch has as well makes it two tables.
const SHARED: f64 = 0.01;

const ROWS: Tiling = Tiling::Dynamic(RowBlocks::ANY);

impl Recovery {
    /// Adds the tables that the rows among `rows` alone tell. Whether there were any.
    pub(in super::super) fn build_tables(&mut self, spare: &mut RoaringTreemap, rows: &RoaringTreemap, progress: &dyn Progress) -> bool {
        let rows = rows & &*spare;
        if !(FEWEST..=MOST).contains(&rows.len()) {
            return false;
        }
        let index = Index::new(&self.fs, ROWS, &rows, progress);
        let mut left: Vec<Found> = index.found;
        let leaves = OnceCell::new();
        let mut built = vec![];
        while built.len() < TABLES
            && let Some(longest) =
                left.iter().max_by_key(|found| found.blocks).filter(|found| u64::from(found.blocks) >= FEWEST / 2).copied()
        {
            left.retain(|found| *found != longest);
            let id = FileId((self.files.len() + built.len()) as u32);
            let Some(subject) = self.learn(id, &longest) else { continue };
            let (own, others): (Vec<Found>, Vec<Found>) = left.iter().partition(|found| self.is_own(&subject, found));
            left = others;
            let leaves = leaves.get_or_init(|| Leaves::find(self, spare, |id| subject::may_be_index(self, id)));
            let pieces = self.table(&subject, [own, vec![longest]].concat(), leaves);
            if pieces.iter().map(|piece| piece.blocks).sum::<u64>() >= FEWEST {
                pieces.iter().for_each(|piece| _ = spare.remove_range(piece.first..piece.first + piece.blocks));
                built.extend(file(self, &pieces));
            }
        }
        let any = !built.is_empty();
        self.files.append(&mut built);
        any
    }

    /// What a stretch tells of its table; `None` where no column counts.
    fn learn(&self, id: FileId, found: &Found) -> Option<Subject> {
        let bytes = index::read(&self.fs, found.first..found.first + u64::from(found.blocks))?;
        let order = ROWS.order(Facts::default());
        Some(Subject::learnt(id, ROWS, &*order, &bytes, found.head as usize, self.block_size() as usize))
            .filter(|subject| subject.stride.is_some())
    }

    fn is_own(&self, subject: &Subject, found: &Found) -> bool {
        let blocks = found.first..found.first + u64::from(found.blocks).min(super::candidates::BLOCKS_ALIKE);
        let bytes = index::read(&self.fs, blocks).unwrap_or_default();
        subject.is_alike(&subject.order.ranks(&bytes, found.head as usize))
    }

    /// What can be placed of a table.
    fn table(&self, subject: &Subject, found: Vec<Found>, leaves: &Leaves) -> Vec<Piece> {
        let mut nodes: Vec<Node> = found.iter().take(STRETCHES).flat_map(|found| walk(&self.fs, subject, found)).collect();
        nodes.sort_by_key(|node| (node.rank, node.first));
        if are_two(&nodes) {
            return vec![];
        }
        let order = subject.order.resume_at(0, 0);
        let gap = Gap { first: 0, length: u64::MAX >> 16, before: None, after: None, known_before: None, known_after: None };
        let solver = Solver { subject, gap: &gap, nodes, end: None, has_rivals: false };
        let mut ruler = Ruler::of_rows(self.block_size());
        solver.solve(Some(Start { order, next: None, last: None }), Some(&mut ruler), &|| leaves)
    }
}

/// Whether the same values stand twice: two tables that count alike, or an older copy of the same.
fn are_two(nodes: &[Node]) -> bool {
    let (mut all, mut twice, mut reached) = (0, 0, 0);
    for (first, last) in nodes.iter().filter_map(|node| node.outer) {
        all += last.saturating_sub(first);
        twice += last.min(reached).saturating_sub(first);
        reached = reached.max(last);
    }
    twice as f64 > all as f64 * SHARED
}

/// The lost file; `None` where its first block is not among the pieces.
fn file(recovery: &Recovery, pieces: &[Piece]) -> Option<LostFile> {
    let first = pieces.iter().find(|piece| piece.at == 0).and_then(|piece| Block::new(piece.first))?;
    let mut file = chains::without_pointers(&recovery.fs, first);
    if let Mapping::Indirect { placed, .. } = &mut file.mapping {
        let placed = placed.get_or_insert_default();
        for piece in pieces {
            placed.put_data(FileBlock(piece.at), Block::new(piece.first)?, piece.blocks, piece.basis);
        }
    }
    Some(file)
}
