//! Dynamic tables: row blocks that tile the `.MYD`, and links between them that are file offsets.

use super::super::records::{Records, Step};
use super::row_block::{ALIGN, MAX_HEADER, NoBlock, Role, RowBlock};
use std::borrow::Cow;

/// The row blocks of a dynamic table, for [`Walker`](super::super::Walker).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RowBlocks {
    /// The longest row that the table can have, in bytes; rows above it are none. `u32::MAX` if that is not known.
    pub max_row: u32,
}

impl RowBlocks {
    /// Nothing is known of the table.
    pub const ANY: RowBlocks = RowBlocks { max_row: u32::MAX };
}

impl Records for RowBlocks {
    fn align(&self) -> usize {
        ALIGN
    }

    fn head(&self) -> usize {
        MAX_HEADER
    }

    fn step(&self, bytes: &[u8]) -> Step {
        match RowBlock::parse(bytes) {
            Ok(block) if block.row <= self.max_row && block.data <= self.max_row && block.slack_is_zero(bytes) => Step::Record(block.total),
            Ok(_) | Err(NoBlock::Wrong) => Step::Wrong,
            Err(NoBlock::Cut) => Step::Cut,
        }
    }

    fn is_opaque(&self, head: &[u8]) -> bool {
        head.first() == Some(&0)
    }

    fn data<'a>(&self, bytes: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let row = RowBlock::parse(bytes).ok().filter(|row| row.role == Role::Whole)?;
        bytes.get(usize::from(row.header)..).map(Cow::Borrowed)
    }
}

/// A link from one row block to another, by file offset: what must stand there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// File offset to which it leads.
    pub target: u64,
    /// What stands there.
    pub expects: Expects,
}

/// What a link leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expects {
    /// A part of a row, of at most so many bytes; of exactly so many if it is the last.
    Rest(u32),
    /// A middle or last part; how much of the row is left is not known.
    Part,
    /// A deleted block.
    Deleted,
}

impl Link {
    /// Links that leave a row block.
    pub fn of(block: &RowBlock) -> impl Iterator<Item = Link> {
        let expects = match block.role {
            Role::Deleted => Expects::Deleted,
            Role::First => Expects::Rest(block.row - block.data),
            _ => Expects::Part,
        };
        let link = move |target| Link { target, expects };
        block.next.map(link).into_iter().chain(block.prev.filter(|_| block.role == Role::Deleted).map(link))
    }

    /// Whether `block` is what this link leads to. Where it is `Rest` and the part is the last of its row, its length must
    /// agree as well.
    pub fn accepts(&self, block: &RowBlock) -> bool {
        match (self.expects, block.role) {
            (Expects::Deleted, Role::Deleted) | (Expects::Part, Role::Middle | Role::Last) => true,
            (Expects::Rest(left), Role::Last) => block.data == left,
            (Expects::Rest(left), Role::Middle) => block.data < left,
            _ => false,
        }
    }

    /// What the link says about a filesystem block that it leads to if that is the block which has `blocks` (byte in the block,
    /// row block; from [`row_blocks`]): `Contradicted` if no fitting row block begins there; else how much it proves.
    ///
    /// Measured on a table with many parts and deleted blocks: of other blocks of it, a link to the rest of a row accepts 86 of
    /// 108,462 (10 bits), one to a part of unknown length 178 of 78,491, one to a deleted block 28 of 68,815 (8 bits each, for
    /// tables that have more of them); tests/content.rs, `links_accept_few_wrong_blocks`.
    pub fn verdict(&self, blocks: &[(usize, RowBlock)], block_size: u64) -> super::super::Verdict {
        use super::super::Verdict;
        let at = self.target % block_size.max(1);
        match blocks.iter().find(|(place, _)| *place as u64 == at) {
            Some((_, block)) if self.accepts(block) => {
                Verdict::Fits { bits: if matches!(self.expects, Expects::Rest(_)) { 10 } else { 8 } }
            }
            _ => Verdict::Contradicted,
        }
    }
}

/// The row blocks whose heads stand whole in `block`, the first of them at `phase`, each with its byte in the block. Ends where
/// the chain breaks.
pub fn row_blocks(block: &[u8], phase: usize) -> Vec<(usize, RowBlock)> {
    let mut found = vec![];
    let mut at = phase;
    while let Some(bytes) = block.get(at..).filter(|bytes| !bytes.is_empty()) {
        let Some(parsed) = RowBlock::parse(bytes).ok().filter(|parsed| parsed.slack_is_zero(bytes)) else { break };
        found.push((at, parsed));
        at += parsed.total as usize;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::super::Verdict;
    use super::*;

    fn parts() -> (RowBlock, Vec<u8>) {
        let first = RowBlock::parse(&[&[5, 0, 30, 0, 11][..], &4096u64.to_be_bytes()].concat()).unwrap();
        let last = [&[9, 0, 19, 1][..], &[1; 19], &[0], &[0, 0, 0, 20], &[0xff; 8], &64u64.to_be_bytes()].concat();
        (first, last)
    }

    #[test]
    fn links_and_what_they_accept() {
        let (first, block) = parts();
        let links: Vec<_> = Link::of(&first).collect();
        assert_eq!(links, [Link { target: 4096, expects: Expects::Rest(19) }]);
        let blocks = row_blocks(&block, 0);
        assert_eq!(blocks.iter().map(|(at, row)| (*at, row.role)).collect::<Vec<_>>(), [(0, Role::Last), (24, Role::Deleted)]);
        assert_eq!(Link::of(&blocks[1].1).collect::<Vec<_>>(), [Link { target: 64, expects: Expects::Deleted }]);
        for (target, expects, verdict) in [
            (4096, Expects::Rest(19), Verdict::Fits { bits: 10 }),
            (4096, Expects::Rest(20), Verdict::Contradicted),
            (4096, Expects::Part, Verdict::Fits { bits: 8 }),
            (4096, Expects::Deleted, Verdict::Contradicted),
            (4096 + 24, Expects::Deleted, Verdict::Fits { bits: 8 }),
            (4096 + 4, Expects::Part, Verdict::Contradicted),
        ] {
            assert_eq!(Link { target, expects }.verdict(&blocks, 4096), verdict, "{target} {expects:?}");
        }
        assert_eq!(row_blocks(&block, 28), [], "no row block begins there");
        assert_eq!(row_blocks(&[], 9), []);
    }
}
