//! Counts the rows of a `.MYD` of which parts may be missing.

use super::super::bytes::advance;
use super::super::records::{Break, MIN_SYNC, Phases, Records, Walker};
use super::dynamic::RowBlocks;
use super::fixed::FixedRows;
use super::packed;
use super::row_block::{ALIGN, Role, RowBlock};

/// Behind a gap, how many bytes are looked at together to find where rows begin: first few, because a chain of rows must reach
/// their end unbroken, then more, because rows may be long. Of rows still longer than the last, one after another, nothing is
/// found.
const WINDOWS: [usize; 4] = [1 << 14, 1 << 16, 1 << 18, 1 << 20];
/// Heads in a row from which rows are taken up again where no more bytes can be had. Fewer than [`MIN_SYNC`]: a wrong guess
/// costs the count of a row or two.
const MIN_AT_END: u32 = 2;

/// How the rows of a `.MYD` are read.
#[derive(Clone, Debug)]
pub enum Format {
    /// Dynamic; the longest row if the `.MYI` says it.
    Dynamic(RowBlocks),
    /// Fixed, with rows of so many bytes.
    Fixed(u32),
    /// Compressed.
    Packed(packed::Rows),
}

/// A missing range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its bytes.
    pub length: u64,
    /// Rows that it held, at a guess: by the mean row of the rest of the file.
    pub rows: u64,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Rows of which all bytes are there.
    pub rows: u64,
    /// Rows of which only a part is there.
    pub damaged: u64,
    /// Deleted rows, or row blocks.
    pub deleted: u64,
    /// Rows in several parts among [`rows`](Self::rows). Parts are counted, not followed: with as many first as last parts all
    /// are taken for whole.
    pub split: u64,
    /// Places, other than behind missing ranges, at which no row begins although one must: contents that do not belong there.
    pub breaks: Vec<u64>,
    /// Bytes that are there but not understood: behind a gap or break, before the next place where rows surely begin.
    pub unread: u64,
    /// The missing ranges.
    pub gaps: Vec<Gap>,
}

enum Reader {
    Dynamic(Walker<RowBlocks>),
    Packed(Walker<packed::Rows>),
    Fixed(FixedRows),
}

/// Reads a `.MYD` from its start to its end, in pieces of any size.
///
/// Tables of 40,000 and 60,000 rows with 7% of their blocks missing: the rows counted as whole are within 0.1% of those all of whose bytes
/// stand (tests/content.rs). Memory is bounded but for [`Tally::gaps`] and [`Tally::breaks`].
pub struct Rows {
    reader: Reader,
    position: u64,
    tally: Tally,
    /// Bytes since the last gap in which no rows were found yet; `None` while it is known where rows begin.
    lost: Option<Vec<u8>>,
    /// The role of the row block that goes on in the next piece.
    open: Option<Role>,
    firsts: u64,
    lasts: u64,
    understood: u64,
}

impl Rows {
    /// Before the first byte. `None` for a fixed format whose row length no table has.
    pub fn new(format: Format) -> Option<Rows> {
        let reader = match format {
            Format::Dynamic(blocks) => Reader::Dynamic(Walker::new(blocks, 0, 0)),
            Format::Packed(rows) => Reader::Packed(Walker::new(rows, 0, rows.header.length.into())),
            Format::Fixed(length) => Reader::Fixed(FixedRows::new(length, 0)?),
        };
        Some(Rows { reader, position: 0, tally: Tally::default(), lost: None, open: None, firsts: 0, lasts: 0, understood: 0 })
    }

    /// The next bytes of the file.
    pub fn feed(&mut self, bytes: &[u8]) {
        match &mut self.lost {
            Some(lost) => {
                self.position = advance(self.position, bytes.len() as u64);
                lost.extend(bytes);
                let before = lost.len() - bytes.len();
                if WINDOWS.iter().any(|&window| before < window && lost.len() >= window) {
                    self.take_up(MIN_SYNC);
                }
            }
            None => self.read(bytes),
        }
    }

    /// The next `length` bytes of the file are missing.
    pub fn missing(&mut self, length: u64) {
        self.take_up(MIN_AT_END);
        self.give_up();
        let start = self.position;
        self.position = advance(start, length);
        self.tally.gaps.push(Gap { offset: start, length, rows: 0 });
        self.break_open_row();
        let goes_on = match &mut self.reader {
            Reader::Dynamic(walker) => self.lost.is_none() && walker.skip(length),
            Reader::Packed(walker) => self.lost.is_none() && walker.skip(length),
            Reader::Fixed(rows) => {
                rows.skip(length);
                // The row that begins in the gap and goes on behind it; one that began before it is counted already.
                let behind = self.position % rows.length();
                self.tally.damaged += u64::from(behind != 0 && self.position - behind >= start);
                true
            }
        };
        self.lost = (!goes_on).then(Vec::new);
    }

    /// After the last byte.
    pub fn finish(mut self) -> Tally {
        self.take_up(MIN_AT_END);
        self.give_up();
        self.break_open_row();
        self.tally.split = self.firsts.min(self.lasts);
        self.tally.rows += self.tally.split;
        self.tally.damaged += self.firsts.abs_diff(self.lasts);
        let all = u128::from(self.tally.rows + self.tally.damaged);
        for gap in &mut self.tally.gaps {
            gap.rows = u64::try_from(all * u128::from(gap.length) / u128::from(self.understood.max(1))).unwrap_or(u64::MAX);
        }
        self.tally
    }

    /// Finds where rows begin in the bytes since the gap, and reads on from there.
    fn take_up(&mut self, min: u32) {
        let Some(lost) = &self.lost else { return };
        // Records are aligned in the file, wherever the gap ended.
        let start = self.position - lost.len() as u64;
        let skew = (start.next_multiple_of(ALIGN as u64) - start) as usize;
        let phases = |records: &dyn Records, skew, end| {
            Phases::of(records, lost.get(skew..end).unwrap_or_default()).best().map(|(at, n)| (at + skew, n))
        };
        let best = match &self.reader {
            Reader::Dynamic(walker) => phases(&walker.records, skew, lost.len()),
            // A chain of rows does not reach beyond the zeros that myisampack leaves at the end.
            Reader::Packed(walker) => phases(&walker.records, 0, lost.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)),
            Reader::Fixed(_) => return,
        };
        if let Some((at, _)) = best.filter(|&(_, count)| count >= min) {
            let lost = self.lost.take().unwrap_or_default();
            self.position -= (lost.len() - at) as u64;
            self.tally.unread += at as u64;
            match &mut self.reader {
                Reader::Dynamic(walker) => *walker = Walker::new(walker.records, self.position, 0),
                Reader::Packed(walker) => *walker = Walker::new(walker.records, self.position, 0),
                Reader::Fixed(_) => (),
            }
            self.read(&lost[at..]);
        } else if lost.len() >= WINDOWS[WINDOWS.len() - 1] {
            self.give_up();
        }
    }

    /// Stops looking at what was looked at without a result.
    fn give_up(&mut self) {
        if let Some(lost) = &mut self.lost {
            self.tally.unread += lost.len() as u64;
            lost.clear();
        }
    }

    fn read(&mut self, bytes: &[u8]) {
        let start = self.position;
        self.position = advance(self.position, bytes.len() as u64);
        let (tally, firsts, lasts, open) = (&mut self.tally, &mut self.firsts, &mut self.lasts, &mut self.open);
        let result = match &mut self.reader {
            Reader::Dynamic(walker) => walker.feed(bytes, |_, head| {
                let Ok(block) = RowBlock::parse(head) else { return };
                *open = Some(block.role);
                match block.role {
                    Role::Whole => tally.rows += 1,
                    Role::First => *firsts += 1,
                    Role::Last => *lasts += 1,
                    Role::Deleted => tally.deleted += 1,
                    Role::Middle => (),
                }
            }),
            Reader::Packed(walker) => walker.feed(bytes, |_, _| {
                *open = Some(Role::Whole);
                tally.rows += 1;
            }),
            Reader::Fixed(rows) => {
                *open = fixed(rows, bytes, tally).or(*open);
                Ok(0)
            }
        };
        let understood = match result {
            Ok(_) => bytes.len(),
            // The margin that myisampack leaves, or the rest of the last filesystem block.
            Err(Break { zeros: true, at }) if bytes.len() - at < 4096 && matches!(self.reader, Reader::Packed(_)) => {
                self.open = None;
                at
            }
            Err(Break { at, .. }) => {
                self.tally.breaks.push(start + at as u64);
                self.lost = Some(bytes[at..].to_vec());
                at
            }
        };
        self.understood += understood as u64;
        if self.lost.is_some() {
            self.open = None;
        }
    }

    /// The row, or part of one, that was being read goes on in a gap, or the file ends in it.
    fn break_open_row(&mut self) {
        let open = match &self.reader {
            Reader::Dynamic(walker) => !walker.can_end(),
            Reader::Packed(walker) => !walker.can_end(),
            Reader::Fixed(rows) => rows.boundary() != 0,
        };
        match self.open.take().filter(|_| open) {
            Some(Role::Whole) => {
                self.tally.rows -= 1;
                self.tally.damaged += 1;
            }
            Some(Role::First) => {
                self.firsts -= 1;
                self.tally.damaged += 1;
            }
            Some(Role::Last) => self.lasts -= 1,
            Some(Role::Middle | Role::Deleted) | None => (),
        }
    }
}

/// Rows that begin in these bytes, the last of which may go on behind them; what that is.
fn fixed(rows: &mut FixedRows, bytes: &[u8], tally: &mut Tally) -> Option<Role> {
    let mut last = None;
    for row in bytes.get(rows.boundary()..).unwrap_or_default().chunks(rows.length() as usize) {
        last = match row[0] {
            0 => {
                tally.deleted += 1;
                Some(Role::Deleted)
            }
            first if FixedRows::is_row(first) => {
                tally.rows += 1;
                Some(Role::Whole)
            }
            _ => {
                tally.damaged += 1;
                None
            }
        };
    }
    rows.feed(bytes);
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table of 100 rows of 100 bytes with a split row and a deleted block at the end.
    fn dynamic() -> Vec<u8> {
        let mut file: Vec<u8> = (0..100u8).flat_map(|n| [&[3, 0, 90, 6][..], &[n | 16; 90], &[0; 6]].concat()).collect();
        file.extend([&[5, 0, 30, 0, 11][..], &10_044u64.to_be_bytes(), &[1; 11]].concat());
        file.extend([&[0, 0, 0, 20][..], &[0xff; 16]].concat());
        file.extend([&[9, 0, 19, 1][..], &[1; 19], &[0]].concat());
        file
    }

    fn count(format: Format, pieces: &[(&[u8], u64)]) -> Tally {
        let mut rows = Rows::new(format).unwrap();
        for (bytes, missing) in pieces {
            bytes.chunks(333).for_each(|piece| rows.feed(piece));
            if *missing > 0 {
                rows.missing(*missing);
            }
        }
        rows.finish()
    }

    #[test]
    fn whole_file() {
        let tally = count(Format::Dynamic(RowBlocks::ANY), &[(&dynamic(), 0)]);
        assert_eq!(tally, Tally { rows: 101, deleted: 1, split: 1, ..Tally::default() });
    }

    #[test]
    fn gaps_and_breaks() {
        let file = dynamic();
        // Rows 2 to 5 are touched by the gap; the first of them begins before it, the last is cut by its end.
        let tally = count(Format::Dynamic(RowBlocks::ANY), &[(&file[..250], 300), (&file[550..], 0)]);
        assert_eq!((tally.rows, tally.damaged, tally.unread, tally.split), (97, 1, 50, 1));
        assert_eq!(tally.gaps, [Gap { offset: 250, length: 300, rows: 3 }]);

        // A gap within one row: the next begins where it must.
        let tally = count(Format::Dynamic(RowBlocks::ANY), &[(&file[..210], 50), (&file[260..], 0)]);
        assert_eq!((tally.rows, tally.damaged, tally.unread), (100, 1, 0));

        let mut wrong = file.clone();
        wrong[3000..3100].fill(0x55);
        let tally = count(Format::Dynamic(RowBlocks::ANY), &[(&wrong, 0)]);
        assert_eq!((tally.rows, tally.breaks.as_slice(), tally.unread), (100, &[3000][..], 100));

        let tally = count(Format::Dynamic(RowBlocks::ANY), &[(&file[..10_000 + 24], 44)]);
        assert_eq!((tally.rows, tally.damaged), (100, 1), "the last part of the split row is missing");
    }

    /// The last rows of a compressed table, behind a gap: myisampack's margin of zeros follows them.
    #[test]
    fn packed_rows_before_the_margin() {
        let header = packed::Header { version: 2, length: 40, min_row: 20, max_row: 40, length_bytes: 1, row_pointer: 4 };
        let file = [vec![1; 40], [vec![25], vec![0xf7; 25]].concat().repeat(40), vec![0; 7]].concat();
        let format = Format::Packed(packed::Rows { header, blobs: false });
        let tally = count(format, &[(&file[..200], 300), (&file[500..], 0)]);
        assert_eq!((tally.rows, tally.damaged, tally.unread, tally.breaks.len()), (6 + 22, 1, 8, 0));
    }

    #[test]
    fn fixed_rows() {
        let file: Vec<u8> = (0..100u8).flat_map(|n| [[if n % 10 == 0 { 0 } else { 0xf1 }].as_slice(), &[n; 19]].concat()).collect();
        let tally = count(Format::Fixed(20), &[(&file, 0)]);
        assert_eq!((tally.rows, tally.deleted, tally.damaged), (90, 10, 0));
        let tally = count(Format::Fixed(20), &[(&file[..250], 100), (&file[350..], 0)]);
        assert_eq!((tally.rows, tally.deleted, tally.damaged), (84, 10, 2));
        assert_eq!(tally.gaps, [Gap { offset: 250, length: 100, rows: 4 }]);
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(pieces in proptest::collection::vec((proptest::collection::vec(0u8..24, 0..300), proptest::num::u64::ANY), 0..20), length in 1u32..50) {
            let header = packed::Header { version: 2, length: 40, min_row: 3, max_row: 300, length_bytes: 3, row_pointer: 4 };
            for format in [Format::Dynamic(RowBlocks::ANY), Format::Fixed(length), Format::Packed(packed::Rows { header, blobs: false })] {
                let mut rows = Rows::new(format).unwrap();
                for (bytes, gap) in &pieces {
                    rows.feed(bytes);
                    if gap % 3 == 0 {
                        rows.missing(*gap >> (gap % 64));
                    }
                }
                rows.finish();
            }
        }
    }
}
