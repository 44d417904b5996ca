//! What the rows of one fixed table have in common: their length, and bits that are the same in nearly all of them. By that they are found in
//! free space, though they have no heads (MariaDB storage/myisam/mi_statrec.c).

use super::super::records::{Records, Step};
use super::counter::Counter;
use super::fixed::FixedRows;
use super::period;
use std::borrow::Cow;
use std::sync::Arc;

/// Rows from which is learnt, and how many are needed.
const MOST_ROWS: usize = 4096;
const FEWEST_ROWS: usize = 64;
/// Bits that must be the same: with 24, of which a quarter may differ, one in 90 rows of random bytes passes, and one chain of four in
/// 60 millions.
const FEWEST_BITS: u32 = 24;
/// Bits that must be known of a row that is cut, or deleted, to call it one.
const ENOUGH: u32 = 8;
/// Bytes of the mark and the link of a deleted row at most: what stands behind them is what stood there before (`_mi_delete_static_record`).
const LINK: usize = 9;
/// The column that counts stands so near the start of a row.
const NEAR: usize = 20;

/// Bits of one byte that are the same in all rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Constant {
    at: usize,
    mask: u8,
    value: u8,
}

/// What all rows of a fixed table have in common.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shape {
    length: usize,
    first: Constant,
    /// All others, in their order; not those of the column that counts.
    constants: Arc<[Constant]>,
    bits: u32,
}

impl Shape {
    /// Learns from consecutive bytes of a table; `offset` is the place of the first in the file, as far as is known: where rows begin follows
    /// from it, unless that is no row's start. `None` where no column counts, or rows have too little in common.
    pub fn of(bytes: &[u8], offset: u64) -> Option<Shape> {
        let (length, counts) = period::rows(bytes)?;
        let known = usize::try_from((length as u64 - offset % length as u64) % length as u64).ok()?;
        // The start that the offset asks for, else the nearest one before the column.
        let mut starts: Vec<usize> = (1..=NEAR.min(length - 3)).map(|back| (counts + length - back) % length).collect();
        starts.sort_by_key(|start| *start != known);
        starts.into_iter().find_map(|start| Shape::at(bytes, start, length))
    }

    /// The same where rows begin at byte `start`.
    fn at(bytes: &[u8], start: usize, length: usize) -> Option<Shape> {
        let rows: Vec<&[u8]> = bytes.get(start..)?.chunks_exact(length).take(MOST_ROWS).collect();
        let live: Vec<&[u8]> = rows.iter().copied().filter(|row| row[0] & 1 == 1).collect();
        let deleted = rows.iter().filter(|row| row[0] == 0).count();
        if live.len() < FEWEST_ROWS || (live.len() + deleted) * 50 < rows.len() * 49 {
            return None;
        }
        let mut counter = Counter::default();
        live.iter().for_each(|row| counter.row(row));
        let column = counter.column()?;
        // Nearly all: a few strange rows must not spoil it.
        let is_same = |ones: usize| ones * 50 <= live.len() || (live.len() - ones) * 50 <= live.len();
        let constant = |at: usize| {
            let mut constant = Constant { at, mask: 0, value: 0 };
            for bit in (0..8).map(|bit| 1u8 << bit) {
                let ones = live.iter().filter(|row| row[at] & bit != 0).count();
                if is_same(ones) {
                    constant.mask |= bit;
                    constant.value |= if ones * 2 > live.len() { bit } else { 0 };
                }
            }
            constant
        };
        let constants: Arc<[Constant]> = (1..length).filter(|at| !column.contains(at)).map(constant).filter(|one| one.mask != 0).collect();
        let bits = constants.iter().map(|constant| constant.mask.count_ones()).sum();
        (bits >= FEWEST_BITS).then_some(Shape { length, first: constant(0), constants, bits })
    }

    /// Bytes of a row.
    pub const fn length(&self) -> usize {
        self.length
    }

    /// Whether rows of another table, or of the same one seen elsewhere, look the same.
    pub fn is_like(&self, other: &Shape) -> bool {
        let of = |constants: &[Constant], at: usize| constants.binary_search_by_key(&at, |one| one.at).ok().map(|found| constants[found]);
        let (mut both, mut differ) = (0, 0);
        for constant in self.constants.iter() {
            if let Some(one) = of(&other.constants, constant.at) {
                let mask = one.mask & constant.mask;
                both += mask.count_ones();
                differ += ((one.value ^ constant.value) & mask).count_ones();
            }
        }
        self.length == other.length && both * 2 >= self.bits.max(other.bits) && differ * 8 <= both
    }

    /// Whether a row can begin here, as far as the bytes go.
    fn fits(&self, bytes: &[u8]) -> bool {
        let Some(first) = bytes.first() else { return true };
        let row = &bytes[..bytes.len().min(self.length)];
        let is_cut = row.len() < self.length;
        let from = match first {
            0 if !is_cut && row.iter().all(|byte| *byte == 0) => return false,
            0 => LINK,
            _ if !FixedRows::is_row(*first) || (first ^ self.first.value) & self.first.mask != 0 => return false,
            _ => 1,
        };
        let (mut known, mut strange) = (0, 0);
        for constant in self.constants.iter().skip_while(|constant| constant.at < from) {
            let Some(byte) = row.get(constant.at) else { break };
            known += constant.mask.count_ones();
            strange += ((byte ^ constant.value) & constant.mask).count_ones();
            if strange * 4 > self.bits {
                return false;
            }
        }
        strange * 4 <= known && (known >= ENOUGH || is_cut)
    }
}

impl Records for Shape {
    fn align(&self) -> usize {
        1
    }

    fn head(&self) -> usize {
        1
    }

    fn step(&self, bytes: &[u8]) -> Step {
        match bytes {
            [] => Step::Cut,
            _ if self.fits(bytes) => Step::Record(self.length as u32),
            _ => Step::Wrong,
        }
    }

    /// A deleted row does not: zeros stand anywhere.
    fn is_telling(&self, bytes: &[u8]) -> bool {
        bytes.first().is_some_and(|first| *first != 0)
    }

    fn data<'a>(&self, bytes: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        bytes.first().filter(|first| **first != 0)?;
        Some(Cow::Borrowed(&bytes[..bytes.len().min(self.length)]))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::stretch::stretches;
    use super::*;

    fn row(id: u32) -> Vec<u8> {
        let name = format!("name {:<12}", id.wrapping_mul(7919) % 100_000);
        [&[if id.is_multiple_of(50) { 0 } else { 0xf9 }][..], &id.to_le_bytes(), &u64::from(id * 977 % 1009).to_le_bytes(), name.as_bytes()]
            .concat()
    }

    fn table(ids: std::ops::Range<u32>) -> Vec<u8> {
        ids.flat_map(row).collect()
    }

    #[test]
    fn learns_and_finds_rows() {
        let table = table(1..4000);
        let length = row(1).len();
        let shape = Shape::of(&table[4096..4096 * 9], 4096).unwrap();
        assert_eq!(shape.length(), length);
        let strange: Vec<u8> = (0..8192u32).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 11) as u8).collect();
        let bytes = [&strange[..4096], &table[4096 * 11..4096 * 13], &[0; 4096], &strange[4096..]].concat();
        let found: Vec<_> = stretches(&shape, &bytes, 4096).iter().map(|found| (found.first, found.blocks, found.head)).collect();
        assert_eq!(found, [(1, 2, (length - 4096 * 11 % length) % length)]);
        assert!(shape.is_like(&Shape::of(&table[4096 * 14..4096 * 20], 4096 * 14).unwrap()));
        assert!(!shape.is_like(&Shape { length: length + 1, ..shape.clone() }));
    }

    #[test]
    fn where_the_place_is_not_known() {
        let table = table(1..4000);
        let shape = Shape::of(&table[4096..4096 * 9], 77).unwrap();
        let found = stretches(&shape, &table[4096..4096 * 9], 4096);
        assert_eq!((found.len(), found[0].blocks), (1, 8), "the flags are the nearest byte that can begin a row");
    }

    #[test]
    fn what_has_no_shape() {
        let random: Vec<u8> = (0..70_000u32).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 11) as u8).collect();
        assert!([vec![], vec![0; 70_000], random].iter().all(|bytes| Shape::of(bytes, 0).is_none()));
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(0u8..4, 0..3000), offset in proptest::num::u64::ANY, length in 5usize..90) {
            Shape::of(&bytes, offset);
            let counted: Vec<u8> = bytes.chunks(length).zip(0u32..).flat_map(|(row, n)| [&[1][..], &n.to_le_bytes(), row].concat()).collect();
            if let Some(shape) = Shape::of(&counted, offset) {
                stretches(&shape, &bytes, 512);
            }
        }
    }
}
