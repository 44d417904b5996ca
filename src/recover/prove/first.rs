//! The first block of a chain, and its exact size, by content.
//!
//! Which block began a file is a guess by the allocators' habits where its inode is lost. A block that holds a table's rows cannot begin a
//! file that holds none; and where some spare block nearby says that its file is exactly as long as this one, it is the one.

use super::super::file::SizeFrom;
use super::super::placed::Basis;
use super::super::{FileId, Mapping, Recovery};
use super::{index, subject};
use crate::content::myisam::dynamic::RowBlocks;
use crate::content::{self, Kind, Tiling, Walker};
use crate::format::indirect;
use crate::run::Evidence;
use crate::units::{Block, FileBlock};
use roaring::RoaringTreemap;

/// How far from a file's first known block its beginning is looked for, in blocks: see `REACH` of `chains`.
const REACH: u64 = 1024;
/// Blocks before a file's last one from which its rows are followed.
const TAIL: u64 = 16;
/// Known blocks that tell whether a file holds rows.
const SAMPLE: u64 = 8;

/// The folder of kinds whose head is strict enough to tell a length by.
const DATABASE: &str = "database";

const ROWS: Tiling = Tiling::Dynamic(RowBlocks::ANY);

/// What is to be changed of one file.
struct Change {
    id: FileId,
    /// The guess for its first block is wrong.
    refused: Option<Block>,
    /// This one is it.
    found: Option<Block>,
    size: Option<u64>,
}

impl Recovery {
    /// Checks which block begins each chain, looks for others among what is `spare`, and takes sizes from content. Whether anything changed.
    pub(in super::super) fn examine_beginnings(&mut self, spare: &mut RoaringTreemap) -> bool {
        let mut changes = vec![];
        for id in self.ids().filter(|id| self.file(*id).size_from == SizeFrom::Chain) {
            let change = self.beginning(id, spare);
            if let Some(change) = change.filter(|change| change.refused.is_some() || change.found.is_some() || change.size.is_some()) {
                spare.extend(change.refused.map(Block::get));
                change.found.into_iter().for_each(|block| _ = spare.remove(block.get()));
                changes.push(change);
            }
        }
        for change in &changes {
            let file = &mut self.files[change.id.0 as usize];
            if let Some(size) = change.size {
                (file.size, file.size_from) = (size, SizeFrom::Content);
            }
            if let Mapping::Indirect { pointers, placed, .. } = &mut file.mapping {
                if change.refused.is_some() {
                    pointers[0] = None;
                }
                if let Some(block) = change.found {
                    placed.get_or_insert_default().put_data(FileBlock(0), block, 1, Basis::Head);
                }
            }
        }
        !changes.is_empty()
    }

    /// Where the rows of a dynamic table end in the last of `blocks`: the zeros at the end of a row are its own.
    fn length_of_rows(&self, id: FileId, blocks: u64) -> Option<u64> {
        let size = self.block_size() as usize;
        let last = blocks.checked_sub(1).filter(|last| *last > 0)?;
        let before = TAIL.min(last);
        let bytes = subject::read(self, id, FileBlock(last - before), before)?;
        let stretch = ROWS.stretches(&bytes, size).pop().filter(|stretch| (stretch.first + stretch.blocks) * size == bytes.len())?;
        let mut rows = Walker::new(RowBlocks::ANY, 0, stretch.head as u64);
        bytes[stretch.first * size..].chunks(size).try_for_each(|block| rows.feed(block, |_, _| ()).map(drop)).ok()?;
        let block = self.run_at(id, FileBlock(last)).filter(subject::is_named)?.block?;
        let end = rows.ends_in(&index::read(&self.fs, block.get()..block.get() + 1)?)?;
        last.checked_mul(size as u64)?.checked_add(end as u64)
    }

    fn beginning(&self, id: FileId, spare: &RoaringTreemap) -> Option<Change> {
        let file = self.file(id);
        let Mapping::Indirect { pointers, certain: false, .. } = &file.mapping else { return None };
        let (size, blocks) = (self.block_size(), file.size.div_ceil(self.block_size()));
        let guess = pointers[0].filter(|pointer| pointer.evidence == Evidence::Inferred).map(|pointer| pointer.block);
        let exact = |head: &[u8]| {
            let kind = content::identify(head)?;
            content::length(kind, head).filter(|length| length.div_ceil(size) == blocks && kind.folder() == DATABASE)
        };
        let mut change = Change { id, refused: None, found: None, size: None };
        let head = index::read(&self.fs, guess?.get()..guess?.get() + 1);
        if let Some(length) = head.as_deref().and_then(exact) {
            change.size = Some(length);
            return Some(change);
        }
        let tail = self.length_of_rows(id, blocks).or_else(|| subject::index_of(self, id).map(|index| index.data_file_length));
        change.size = tail.filter(|length| length.div_ceil(size) == blocks);
        let Some(known) = self.runs(id).find(|run| run.file_block.0 >= indirect::DIRECT && subject::is_named(run)) else {
            return Some(change);
        };
        let Some(sample) = subject::read(self, id, known.file_block, known.length.min(SAMPLE)) else { return Some(change) };
        let has_rows = |bytes: &[u8]| !ROWS.stretches(bytes, size as usize).is_empty();
        let is_kind = head.as_deref().is_some_and(|head| content::identify(head).is_some_and(|kind| kind != Kind::MyisamDynamic));
        if head.is_none_or(|head| has_rows(&head)) == has_rows(&sample) || is_kind {
            return Some(change);
        }
        change.refused = guess;
        let around = known.block?.get();
        let candidates = spare.iter().skip_while(|block| block + REACH < around).take_while(|block| *block < around + REACH);
        let mut fitting = candidates.filter_map(|block| Some((block, exact(&index::read(&self.fs, block..block + 1)?)?)));
        if let (Some((block, length)), None) = (fitting.next(), fitting.next()) {
            (change.found, change.size) = (Block::new(block), Some(length));
        }
        Some(change)
    }
}
