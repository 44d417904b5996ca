//! What each format knows of the order of its blocks, behind one face, so that who places blocks need not know the formats.

use super::myisam::counter::Counter;
use super::myisam::dynamic::{RowBlocks, row_blocks};
use super::myisam::fixed::FixedRows;
use super::myisam::header::{Header, RowFormat};
use super::myisam::packed;
use super::myisam::row_block::{Role, RowBlock};
use super::records::{MIN_SYNC, Phases, Records, Walker};
use super::{Kind, Verdict, bytes, innodb, sqlite};

/// A place in a file that was followed up to there: what must come next.
pub trait Order: Send {
    /// How well `next` fits as the next block. Cut the file's last block at its end.
    fn fits(&self, next: &[u8]) -> Verdict;
    /// Takes `block` as the next one, and says how well it fitted. After one that contradicts, nothing is known until records are found in a later one.
    fn feed(&mut self, block: &[u8]) -> Verdict;
    /// Passes over bytes that are missing.
    fn skip(&mut self, bytes: u64);
    /// Bytes of `next` that belong to the file if it is the last block; `None` where the content does not end in it, or does not say.
    fn ends_in(&self, _next: &[u8]) -> Option<usize> {
        None
    }
    /// A copy, to try one way among several.
    fn fork(&self) -> Box<dyn Order>;
}

/// What is known of a file beyond the bytes of the block in question.
#[derive(Clone, Copy, Default, Debug)]
pub struct Facts<'a> {
    /// The file's first block; empty where it is lost.
    pub head: &'a [u8],
    /// The head of the table's `.MYI`.
    pub index: Option<&'a Header>,
}

/// A place that a block proves for itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placement {
    /// Offset in the file of the block's first byte.
    pub offset: u64,
    /// How well that is proven.
    pub verdict: Verdict,
}

/// Follows a file of this kind from its start. `None` for kinds whose content says nothing about the order of its blocks: SQLite (pages carry no number),
/// `.MYI` (nor do its pages), `.frm`, all common formats; and for those whose lengths stand in a head that is lost.
pub fn order(kind: Kind, facts: Facts<'_>) -> Option<Box<dyn Order>> {
    match kind {
        Kind::MyisamDynamic => Some(Box::new(Table {
            walker: Some(Walker::new(row_blocks_of(facts), 0, 0)),
            position: 0,
            counter: Counter::default(),
            max: row_blocks_of(facts),
        })),
        Kind::MyisamPacked => {
            let rows = packed_rows(facts)?;
            Some(Box::new(Tiles { walker: Some(Walker::new(rows, 0, rows.header.length.into())), position: 0, records: rows }))
        }
        Kind::MyisamFixed => Some(Box::new(FixedRows::new(facts.index.filter(|h| h.format == RowFormat::Fixed)?.packed_length, 0)?)),
        Kind::Innodb => Some(Box::new(Pages { space: innodb::Space::parse(facts.head)?, position: 0, page: vec![] })),
        _ => None,
    }
}

fn row_blocks_of(facts: Facts<'_>) -> RowBlocks {
    // A row without blobs is at most as long as all its columns with their lengths and flags.
    let max = facts.index.filter(|h| h.format == RowFormat::Dynamic && h.blobs == 0).map(|h| h.max_packed_length);
    max.map_or(RowBlocks::ANY, |max_row| RowBlocks { max_row })
}

fn packed_rows(facts: Facts<'_>) -> Option<packed::Rows> {
    Some(packed::Rows { header: packed::Header::parse(facts.head)?, blobs: facts.index?.blobs > 0 })
}

/// The place in the file that `block`'s bytes prove alone. Only pages of InnoDB carry their number; all other formats need what comes before ([`order`]) or
/// the links of other blocks ([`Link`](super::myisam::dynamic::Link)).
///
/// For InnoDB give it a whole page: its checksum then proves it. The first filesystem block of a page alone says where it claims to stand, and that counts
/// 16 bits (tablespace, number, type and LSN agree with what is known of the file).
pub fn absolute(kind: Kind, facts: Facts<'_>, block: &[u8]) -> Option<Placement> {
    if kind != Kind::Innodb {
        return None;
    }
    let space = innodb::Space::parse(facts.head)?;
    let page = space.header(block)?;
    let offset = u64::from(page.number) * u64::from(space.page_size);
    let bits = match block.get(..space.page_size as usize).map(innodb::seal) {
        Some(innodb::Seal::Checksum | innodb::Seal::Lsn) => 32,
        Some(innodb::Seal::Broken) => return None,
        None => 16,
    };
    Some(Placement { offset, verdict: Verdict::Fits { bits } })
}

/// Whether `block` can stand at `offset` of such a file, from its bytes alone: to find pointers that lead to another life of a block, or to another file's.
/// What comes before it says far more: follow the file with [`order`] where its blocks are known.
pub fn check(kind: Kind, facts: Facts<'_>, offset: u64, block: &[u8]) -> Verdict {
    if offset == 0 {
        return match kind {
            Kind::MyisamFixed | Kind::Common { .. } => Verdict::POSSIBLE,
            Kind::MyisamDynamic => Walker::new(row_blocks_of(facts), 0, 0).fits(block),
            _ if super::identify(block) == Some(kind) => Verdict::Fits { bits: 16 },
            _ => Verdict::Contradicted,
        };
    }
    match kind {
        Kind::Innodb => innodb_at(facts, offset, block),
        Kind::MyisamFixed => {
            facts.index.and_then(|h| FixedRows::new(h.packed_length, offset)).map_or(Verdict::POSSIBLE, |rows| rows.fits(block))
        }
        Kind::Sqlite => sqlite_at(facts, offset, block),
        // Anywhere else blocks begin in the middle of a row.
        _ => Verdict::POSSIBLE,
    }
}

fn innodb_at(facts: Facts<'_>, offset: u64, block: &[u8]) -> Verdict {
    let Some(space) = innodb::Space::parse(facts.head) else { return Verdict::POSSIBLE };
    if offset >= space.length() {
        return Verdict::Contradicted;
    }
    if !offset.is_multiple_of(space.page_size.into()) || bytes::all_zero(block) {
        return Verdict::POSSIBLE;
    }
    match absolute(Kind::Innodb, facts, block) {
        Some(placement) if placement.offset == offset => placement.verdict,
        _ => Verdict::Contradicted,
    }
}

fn sqlite_at(facts: Facts<'_>, offset: u64, block: &[u8]) -> Verdict {
    match sqlite::Database::parse(facts.head) {
        Some(database) if database.length().is_some_and(|length| offset >= length) => Verdict::Contradicted,
        Some(_) if block.starts_with(sqlite::MAGIC) => Verdict::Contradicted,
        _ => Verdict::POSSIBLE,
    }
}

/// A dynamic table: the chain of row blocks, and a column that counts.
#[derive(Clone)]
struct Table {
    walker: Option<Walker<RowBlocks>>,
    position: u64,
    counter: Counter,
    max: RowBlocks,
}

/// The data of whole rows in a block whose row blocks begin at `phase`.
fn whole_rows(block: &[u8], phase: usize) -> Vec<&[u8]> {
    let rows = row_blocks(block, phase).into_iter().filter(|(_, row)| row.role == Role::Whole);
    rows.map(|(at, row)| &block[(at + usize::from(row.header)).min(block.len())..]).collect()
}

impl Order for Table {
    fn fits(&self, next: &[u8]) -> Verdict {
        let phase = match &self.walker {
            Some(walker) => match walker.fits(next) {
                Verdict::Contradicted => return Verdict::Contradicted,
                verdict => (walker.boundary().and_then(|at| usize::try_from(at).ok()).or_else(|| best_phase(&self.max, next)), verdict),
            },
            None => (best_phase(&self.max, next), Verdict::POSSIBLE),
        };
        let (Some(at), verdict) = phase else { return phase.1 };
        verdict.and(self.counter.fits(whole_rows(next, at).into_iter()))
    }

    fn feed(&mut self, block: &[u8]) -> Verdict {
        let verdict = self.fits(block);
        self.position += block.len() as u64;
        let counter = &mut self.counter;
        let mut seen = |_: u64, head: &[u8]| {
            if let Ok(row) = RowBlock::parse(head)
                && row.role == Role::Whole
            {
                counter.row(head.get(usize::from(row.header)..).unwrap_or_default());
            }
        };
        let followed = match &mut self.walker {
            Some(walker) => walker.feed(block, &mut seen).is_ok(),
            None => false,
        };
        if !followed {
            self.walker = Walker::resume(self.max, self.position - block.len() as u64, block);
        }
        verdict
    }

    fn skip(&mut self, bytes: u64) {
        self.position = self.position.saturating_add(bytes);
        self.walker.take_if(|walker| !walker.skip(bytes));
    }

    fn ends_in(&self, next: &[u8]) -> Option<usize> {
        self.walker.as_ref()?.ends_in(next)
    }

    fn fork(&self) -> Box<dyn Order> {
        Box::new(self.clone())
    }
}

fn best_phase(records: &impl Records, block: &[u8]) -> Option<usize> {
    Phases::of(records, block).best().filter(|&(_, count)| count >= MIN_SYNC).map(|(at, _)| at)
}

/// Records without more than their lengths.
#[derive(Clone)]
struct Tiles<R> {
    walker: Option<Walker<R>>,
    position: u64,
    records: R,
}

impl<R: Records + Clone + Send + 'static> Order for Tiles<R> {
    fn fits(&self, next: &[u8]) -> Verdict {
        self.walker.as_ref().map_or(Verdict::POSSIBLE, |walker| walker.fits(next))
    }

    fn feed(&mut self, block: &[u8]) -> Verdict {
        let verdict = self.fits(block);
        if self.walker.as_mut().is_none_or(|walker| walker.feed(block, |_, _| ()).is_err()) {
            self.walker = Walker::resume(self.records.clone(), self.position, block);
        }
        self.position += block.len() as u64;
        verdict
    }

    fn skip(&mut self, bytes: u64) {
        self.position = self.position.saturating_add(bytes);
        self.walker.take_if(|walker| !walker.skip(bytes));
    }

    fn ends_in(&self, next: &[u8]) -> Option<usize> {
        self.walker.as_ref()?.ends_in(next)
    }

    fn fork(&self) -> Box<dyn Order> {
        Box::new(self.clone())
    }
}

impl Order for FixedRows {
    fn fits(&self, next: &[u8]) -> Verdict {
        FixedRows::fits(self, next)
    }

    fn feed(&mut self, block: &[u8]) -> Verdict {
        let verdict = FixedRows::fits(self, block);
        FixedRows::feed(self, block);
        verdict
    }

    fn skip(&mut self, bytes: u64) {
        FixedRows::skip(self, bytes);
    }

    fn fork(&self) -> Box<dyn Order> {
        Box::new(self.clone())
    }
}

/// A tablespace: each page carries its number, and ends with a checksum of all its blocks.
#[derive(Clone)]
struct Pages {
    space: innodb::Space,
    position: u64,
    /// The blocks of the current page so far; empty also where one of them is missing.
    page: Vec<u8>,
}

impl Pages {
    fn in_page(&self) -> u64 {
        self.position % u64::from(self.space.page_size)
    }
}

impl Order for Pages {
    fn fits(&self, next: &[u8]) -> Verdict {
        let head = self.space.header(next);
        if self.in_page() == 0 {
            let expected = self.position / u64::from(self.space.page_size);
            return match head {
                _ if bytes::all_zero(next) => Verdict::POSSIBLE,
                Some(page) if u64::from(page.number) == expected => Verdict::Fits { bits: 16 },
                _ => Verdict::Contradicted,
            };
        }
        let whole = self.page.len() as u64 == self.in_page() && self.page.len() + next.len() == self.space.page_size as usize;
        if !whole || bytes::all_zero(&self.page) {
            return Verdict::POSSIBLE;
        }
        match innodb::seal(&[self.page.as_slice(), next].concat()) {
            innodb::Seal::Checksum => Verdict::Fits { bits: 32 },
            // The older checksums are not computed; the LSN stands in the first and the last block only.
            innodb::Seal::Lsn => Verdict::Fits { bits: 16 },
            innodb::Seal::Broken => Verdict::Contradicted,
        }
    }

    fn feed(&mut self, block: &[u8]) -> Verdict {
        let verdict = self.fits(block);
        if self.in_page() == 0 {
            self.page.clear();
        }
        if self.page.len() as u64 == self.in_page() {
            self.page.extend(block);
        }
        self.position += block.len() as u64;
        verdict
    }

    fn skip(&mut self, bytes: u64) {
        self.position = self.position.saturating_add(bytes);
        self.page.clear();
    }

    fn fork(&self) -> Box<dyn Order> {
        Box::new(self.clone())
    }
}
