//! What each format knows of the order of its blocks, behind one face, so that who places blocks need not know the formats.

use super::bytes;
use super::myisam::counter::Counter;
use super::myisam::dynamic::RowBlocks;
use super::myisam::fixed::FixedRows;
use super::myisam::header::{Header, RowFormat};
use super::myisam::packed;
use super::myisam::shape::Shape;
use super::myisam::unpack::Numbered;
use super::records::{Phases, Walker};
use super::stretch::{self, Stretch};
use super::table::Table;
use super::{Kind, Verdict, counted, innodb, sqlite};

/// A place in a file that was followed up to there: what must come next.
///
/// # How often a wrong block passes
/// Measured with 4 KiB blocks of real tables (MariaDB 10.11), at each block of the file: 40 other blocks of the same file, 10
/// of another table, 10 of random bytes (tests/content.rs, `rates_of_wrong_blocks`). No right block was ever contradicted. In
/// percent of the blocks tried:
///
/// | table | bits of the right block, mean | wrong, same file: not contradicted | of these with 10 bits | another table | random |
/// |---|---|---|---|---|---|
/// | dynamic, rows of 290 bytes, counting column (`mail`) | 14.4 | 1.4 | 0 of 107,202 | 4.8 | 0.4 |
/// | the same, much updated, a third of it blobs of 96 KB (`churn`) | 7.3 | 17.0 | 1 of 90,910 | 3.0 | 37.9 |
/// | dynamic, rows of 88 bytes, counting column (`names`) | 13.1 | 4.6 | 0 of 51,849 | 0.3 | 0.0 |
/// | dynamic, rows of 20 bytes, no counting column (`tiny`) | 1.5 | 24.9 | 0 of 5,804 | 0.0 | 0.0 |
/// | fixed, rows of 53 bytes, counting column (`fix`) | 13.1 | 14.3 | 0 of 15,479 | 0.0 | 0.0 |
/// | compressed, 141 bytes (`pmail`) | 2.8 | 2.8 | 0 of 55,160 | 4.0 | 0.0 |
/// | compressed, 48 bytes (`pnames`) | 4.4 | 2.7 | 0 of 28,326 | 0.0 | 0.0 |
/// | InnoDB, 61% of its pages never written (`inno`) | 4.6 | 80.9 | 0 of 153,514 | 65.4 | 65.4 |
///
/// So the place of row heads alone leaves 1 to 5 of 100 blocks of the same table (a quarter where rows are 20 bytes long), and
/// it takes several blocks in a row, a counting column, or links to prove one ([`Verdict::proves`]). Within a row longer than
/// the block nothing can be said, nor of pages of InnoDB that were never written or whose end is not reached.
pub trait Order: Send {
    /// How well `next` fits as the next block. Cut the file's last block at its end.
    fn fits(&self, next: &[u8]) -> Verdict;
    /// Takes `block` as the next one, and says how well it fitted. After one that contradicts, nothing is known until records
    /// are found in a later one.
    fn feed(&mut self, block: &[u8]) -> Verdict;
    /// Passes over bytes that are missing.
    fn skip(&mut self, bytes: u64);
    /// Bytes of `next` that belong to the file if it is the last block; `None` where the content does not end in it, or does not say.
    fn ends_in(&self, _next: &[u8]) -> Option<usize> {
        None
    }
    /// A number in this block that rises through the file, to sort blocks and runs of blocks by: the value of a counting column
    /// near its start (learnt from blocks fed before; a few rows may be out of order), or an InnoDB page's number.
    fn rank(&self, _block: &[u8]) -> Option<u64> {
        None
    }
    /// The same for bytes of one or several blocks in a row in which the first record begins at byte `head`.
    fn rank_from(&self, bytes: &[u8], _head: usize) -> Option<u64> {
        self.rank(bytes)
    }
    /// Byte of the next block at which a record begins; `None` where that is not known, or depends on that block.
    fn boundary(&self) -> Option<u64> {
        None
    }
    /// The ranks of the records in `bytes` of which the first begins at byte `head`, each with the record's byte.
    fn ranks(&self, _bytes: &[u8], _head: usize) -> Vec<(u64, usize)> {
        vec![]
    }
    /// The rank that the last rows had, in the same measure.
    fn reached(&self) -> Option<u64> {
        None
    }
    /// Whether a column that counts goes on in `next`; `None` where there is none, or `next` has too few rows to tell.
    fn counts_on(&self, _next: &[u8]) -> Option<bool> {
        None
    }
    /// A copy, to try one way among several.
    fn fork(&self) -> Box<dyn Order>;
    /// What was learnt of the file, at another place: the next block is that at `offset`, and a record begins at its byte `head`.
    fn resume_at(&self, offset: u64, head: usize) -> Box<dyn Order>;
}

/// How records that tile a file are told apart in free space.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tiling {
    /// Row blocks of a dynamic table.
    Dynamic(RowBlocks),
    /// Rows of a compressed table.
    Packed(Numbered),
    /// Rows of one fixed table.
    Fixed(Shape),
}

impl Tiling {
    /// That of a file of which only the kind is known; `None` where that does not tell how its records are told apart.
    pub fn of(kind: Kind) -> Option<Tiling> {
        (kind == Kind::MyisamDynamic).then_some(Tiling::Dynamic(RowBlocks::ANY))
    }

    /// That of a file by consecutive bytes of it, from `offset` on: rows of a compressed table, or where the kind is not known those of a
    /// fixed one.
    pub fn learnt(kind: Option<Kind>, facts: Facts<'_>, bytes: &[u8], offset: u64) -> Option<Tiling> {
        match kind {
            None => Shape::of(bytes, offset).map(Tiling::Fixed),
            Some(Kind::MyisamPacked) => {
                let header = packed::Header::parse(facts.head)?;
                // Whether there are blobs only the `.MYI` says; the rows go on for longer if they are read rightly.
                let blobs = facts.index.map_or(vec![false, true], |index| vec![index.blobs > 0]);
                let first = (u64::from(header.length)).saturating_sub(offset);
                let own = bytes.get(usize::try_from(first).ok()?..)?;
                let chains = blobs.into_iter().filter_map(|blobs| {
                    let rows = packed::Rows { header, blobs };
                    let at = Phases::of(&rows, own).best()?.0;
                    Some((rows, stretch::heads(&rows, own, at)))
                });
                let (rows, heads) = chains.max_by_key(|(_, heads)| heads.len())?;
                Some(Tiling::Packed(Numbered::of(rows, facts.head, own, &heads)))
            }
            Some(_) => None,
        }
    }

    /// Follows a file whose records are told apart so, from a block on of which only the bytes are known.
    pub fn order(&self, facts: Facts<'_>) -> Box<dyn Order> {
        match self {
            Tiling::Dynamic(_) => Box::new(Table::new(None, row_blocks_of(facts))),
            Tiling::Packed(rows) => Box::new(Table::new(None, rows.clone())),
            Tiling::Fixed(shape) => Box::new(Table::new(None, shape.clone())),
        }
    }

    /// Byte of the file at which the first record begins.
    pub fn start(&self) -> u64 {
        match self {
            Tiling::Dynamic(_) | Tiling::Fixed(_) => 0,
            Tiling::Packed(numbered) => numbered.rows.header.length.into(),
        }
    }

    /// Bytes of each record, where all have the same.
    pub fn length(&self) -> Option<u64> {
        match self {
            Tiling::Fixed(shape) => Some(shape.length() as u64),
            Tiling::Dynamic(_) | Tiling::Packed(_) => None,
        }
    }

    /// Whether the records of another file of this kind are told apart in the same way.
    pub fn is_like(&self, other: &Tiling) -> bool {
        match (self, other) {
            (Tiling::Fixed(own), Tiling::Fixed(other)) => own.is_like(other),
            _ => self == other,
        }
    }

    /// The blocks of `bytes` that hold such records, see [`stretch::stretches`].
    pub fn stretches(&self, bytes: &[u8], block_size: usize) -> Vec<Stretch> {
        match self {
            Tiling::Dynamic(rows) => stretch::stretches(rows, bytes, block_size),
            Tiling::Packed(rows) if rows.number.is_some() => counted::stretches(rows, bytes, block_size),
            Tiling::Packed(rows) => stretch::stretches(rows, bytes, block_size),
            Tiling::Fixed(shape) => stretch::stretches(shape, bytes, block_size),
        }
    }

    /// Bytes of `bytes`, in which a record begins at `head`, at which records begin.
    pub fn heads(&self, bytes: &[u8], head: usize) -> Vec<usize> {
        match self {
            Tiling::Dynamic(rows) => stretch::heads(rows, bytes, head),
            Tiling::Packed(rows) => stretch::heads(rows, bytes, head),
            Tiling::Fixed(shape) => stretch::heads(shape, bytes, head),
        }
    }
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

/// Follows a file of this kind from its start. `None` for kinds whose content says nothing about the order of its blocks:
/// SQLite (pages carry no number), `.MYI` (nor do its pages), `.frm`, all common formats; and for those whose lengths stand in
/// a head that is lost.
pub fn order(kind: Kind, facts: Facts<'_>) -> Option<Box<dyn Order>> {
    match kind {
        Kind::MyisamDynamic => {
            let rows = row_blocks_of(facts);
            Some(Box::new(Table::new(Some(Walker::new(rows, 0, 0)), rows)))
        }
        Kind::MyisamPacked => {
            let rows = packed_rows(facts)?;
            Some(Box::new(Table::new(Some(Walker::new(rows, 0, rows.header.length.into())), rows)))
        }
        Kind::MyisamFixed => {
            let rows = FixedRows::new(facts.index.filter(|h| h.format == RowFormat::Fixed)?.packed_length, 0)?;
            Some(Box::new(FixedTable { rows, counter: Counter::default() }))
        }
        Kind::Innodb => Some(Box::new(innodb::Pages::new(innodb::Space::parse(facts.head)?))),
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

/// The place in the file that `block`'s bytes prove alone. Only pages of InnoDB carry their number; all other formats need what
/// comes before ([`order`]) or the links of other blocks ([`Link`](super::myisam::dynamic::Link)).
///
/// For InnoDB give it a whole page: its checksum then proves it. The first filesystem block of a page alone says where it
/// claims to stand, and that counts 16 bits (tablespace, number, type and LSN agree with what is known of the file).
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

/// Whether `block` can stand at `offset` of such a file, from its bytes alone: to find pointers that lead to another life of a
/// block, or to another file's. What comes before it says far more: follow the file with [`order`] where its blocks are known.
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

/// A fixed table: the places of its rows, and a column that counts.
#[derive(Clone)]
struct FixedTable {
    rows: FixedRows,
    counter: Counter,
}

impl FixedTable {
    fn whole_rows<'a>(&self, block: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        let (first, length) = (self.rows.boundary(), self.rows.length() as usize);
        block.get(first..).unwrap_or_default().chunks_exact(length).filter(|row| row[0] != 0)
    }
}

impl Order for FixedTable {
    fn fits(&self, next: &[u8]) -> Verdict {
        self.rows.fits(next).and(self.counter.fits(self.whole_rows(next)))
    }

    fn feed(&mut self, block: &[u8]) -> Verdict {
        let verdict = self.fits(block);
        if verdict != Verdict::Contradicted {
            self.whole_rows(block).for_each(|row| self.counter.row(row));
        }
        self.rows.feed(block);
        verdict
    }

    fn skip(&mut self, bytes: u64) {
        self.rows.skip(bytes);
    }

    fn rank(&self, block: &[u8]) -> Option<u64> {
        self.counter.first(self.whole_rows(block))
    }

    fn reached(&self) -> Option<u64> {
        self.counter.reached()
    }

    fn counts_on(&self, next: &[u8]) -> Option<bool> {
        self.counter.goes_on(self.whole_rows(next))
    }

    fn fork(&self) -> Box<dyn Order> {
        Box::new(self.clone())
    }

    /// Where rows begin follows from the offset.
    fn resume_at(&self, offset: u64, _: usize) -> Box<dyn Order> {
        Box::new(FixedTable { rows: self.rows.at(offset), counter: self.counter.anew() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn space() -> Vec<u8> {
        let mut head = vec![0; 4096];
        head[16..24].copy_from_slice(&9u64.to_be_bytes());
        head[24..26].copy_from_slice(&8u16.to_be_bytes());
        head[49] = 64;
        head[57] = 0x15;
        head
    }

    #[test]
    fn kinds_without_an_order() {
        for kind in [
            Kind::Sqlite,
            Kind::MyisamIndex,
            Kind::Frm,
            Kind::MyisamFixed,
            Kind::MyisamPacked,
            Kind::Innodb,
            Kind::Common { ext: "txt", folder: "text" },
        ] {
            assert!(order(kind, Facts::default()).is_none(), "{kind:?}");
        }
        assert!(order(Kind::MyisamDynamic, Facts::default()).is_some());
        assert!(order(Kind::Innodb, Facts { head: &space(), index: None }).is_some());
    }

    #[test]
    fn a_table_is_found_again_after_a_gap() {
        let row = |id: u32| [&[3, 0, 89, 7, 0xfe][..], &id.to_le_bytes(), &[b'x'; 84], &[0; 7]].concat();
        let file: Vec<u8> = (1..=4000).flat_map(row).collect();
        let blocks: Vec<_> = file.chunks(1024).collect();
        let mut table = order(Kind::MyisamDynamic, Facts::default()).unwrap();
        for block in &blocks[..50] {
            assert_ne!(table.feed(block), Verdict::Contradicted);
        }
        assert!(table.fits(blocks[50]).bits() > table.fits(blocks[50 + 25]).bits(), "the same places, but the counter is far");
        assert_eq!(table.fits(blocks[51]), Verdict::Contradicted);
        assert_eq!(table.fork().feed(&[0x55; 1024]), Verdict::Contradicted);
        assert!(table.rank(blocks[100]).unwrap().abs_diff(100 * 1024 / 100) < 10);
        table.skip(1024);
        assert_eq!(table.fits(blocks[51]).bits(), 4, "records begin in the gap: only the counter says something");
        table.feed(blocks[51]);
        assert!(table.fits(blocks[52]).bits() >= 4);
    }

    #[test]
    fn single_blocks() {
        let head = space();
        let facts = Facts { head: &head, index: None };
        assert_eq!(absolute(Kind::Innodb, facts, &head).map(|p| p.offset), Some(0));
        assert_eq!(check(Kind::Innodb, facts, 16384, &head), Verdict::Contradicted, "page 0 at the place of page 1");
        assert_eq!(check(Kind::Innodb, facts, 64 * 16384, &head), Verdict::Contradicted, "behind the end");
        assert_eq!(check(Kind::Innodb, facts, 16384, &[0; 4096]), Verdict::POSSIBLE);
        assert_eq!(check(Kind::MyisamDynamic, Facts::default(), 0, &[0x55; 4096]), Verdict::Contradicted);
        assert_eq!(check(Kind::Sqlite, Facts::default(), 0, &[0x55; 4096]), Verdict::Contradicted);
        assert_eq!(check(Kind::MyisamDynamic, Facts::default(), 4096, &[0x55; 4096]), Verdict::POSSIBLE);
    }

    /// Blocks that are row blocks here and there.
    fn blocks() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let piece = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..64),
            (0u8..15, 0u8..2, any::<u8>(), proptest::collection::vec(0u8..4, 0..24)).prop_map(|(kind, high, low, rest)| [
                &[kind, high, low][..],
                &rest
            ]
            .concat()),
            Just([&[3, 0, 8, 8][..], &[5; 8], &[0; 8]].concat()),
        ];
        let block = proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat());
        proptest::collection::vec(block, 0..12)
    }

    proptest! {
        #[test]
        fn nothing_panics(blocks in blocks(), gaps in proptest::collection::vec(any::<u64>(), 0..12)) {
            let head = space();
            let packed = packed::Header { version: 2, length: 40, min_row: 3, max_row: 300, length_bytes: 3, row_pointer: 4 };
            let walkers: Vec<Box<dyn Order>> = vec![
                order(Kind::MyisamDynamic, Facts::default()).unwrap(),
                Tiling::Dynamic(RowBlocks::ANY).order(Facts::default()),
                order(Kind::Innodb, Facts { head: &head, index: None }).unwrap(),
                Tiling::Packed(Numbered { rows: packed::Rows { header: packed, blobs: true }, number: None }).order(Facts::default()),
                Box::new(FixedTable { rows: FixedRows::new(17, 0).unwrap(), counter: Counter::default() }),
            ];
            for mut order in walkers {
                for (at, block) in blocks.iter().enumerate() {
                    order.fits(block);
                    order.ends_in(block);
                    order.rank(block);
                    order.feed(block);
                    if let Some(&gap) = gaps.get(at) {
                        order.skip(gap);
                    }
                }
            }
            for kind in [Kind::MyisamDynamic, Kind::MyisamFixed, Kind::MyisamPacked, Kind::Innodb, Kind::Sqlite] {
                for block in &blocks {
                    check(kind, Facts { head: &head, index: None }, gaps.first().copied().unwrap_or(0), block);
                }
            }
        }
    }
}
