//! Leaves of the key on a column that counts, told by themselves: whatever `.MYI` they belong to, and though its head is lost, each
//! entry is a value and the place of its row in the `.MYD` (MariaDB storage/myisam/mi_search.c, `_mi_dpos`).

use super::super::bytes::be16;
use super::index::PAGE_ALIGN;

/// Bytes that the column can have: `INT`, `BIGINT`, `MEDIUMINT`.
const WIDE: [usize; 3] = [4, 8, 3];
/// Bytes of a pointer to a row (`myisam_data_pointer_size`): 6 by default, 4 in tables from before MySQL 5.0.6, others where
/// `MAX_ROWS` says so.
const POINTERS: [usize; 4] = [6, 5, 4, 7];
/// Fewest entries: with fewer, other data passes.
const FEWEST: usize = 8;
/// The values may rise by so much from entry to entry on average.
const MAX_STEP: u64 = 16;

/// The entries of each leaf in a block: value and file offset of its row, for tables whose rows begin at multiples of 4 (dynamic ones).
/// Entries must rise in value, densely, and no two lead to the same row.
pub fn leaves(block: &[u8]) -> Vec<Vec<(u64, u64)>> {
    let pages = block.chunks(PAGE_ALIGN).filter_map(|page| {
        let length = usize::from(be16(page, 0).filter(|word| word & 0x8000 == 0)?);
        let body = page.get(2..length)?;
        WIDE.into_iter().flat_map(|wide| POINTERS.map(|pointer| (wide, pointer))).find_map(|(wide, pointer)| leaf(body, wide, pointer))
    });
    pages.collect()
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn leaf(body: &[u8], wide: usize, pointer: usize) -> Option<Vec<(u64, u64)>> {
    let size = wide + pointer;
    let count = body.len() / size;
    if count < FEWEST || !body.len().is_multiple_of(size) {
        return None;
    }
    let entry = |raw: &[u8]| (number(&raw[..wide]), number(&raw[wide..]));
    let (first, last) = (entry(&body[..size]).0, entry(&body[body.len() - size..]).0);
    if last.checked_sub(first)? / count as u64 > MAX_STEP || first > u64::MAX >> 1 {
        return None;
    }
    let entries: Vec<(u64, u64)> = body.chunks_exact(size).map(entry).collect();
    let rises = entries.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 != pair[1].1);
    (rises && entries.iter().all(|(_, row)| row.is_multiple_of(4))).then_some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(wide: usize, pointer: usize, count: u64) -> Vec<u8> {
        let entry = |n: u64| [&(1000 + n * 3).to_be_bytes()[8 - wide..], &(n * 120).to_be_bytes()[8 - pointer..]].concat();
        let body: Vec<u8> = (0..count).flat_map(entry).collect();
        let mut page = [&(2 + body.len() as u16).to_be_bytes()[..], &body].concat();
        page.resize(1024, 0x55);
        page
    }

    #[test]
    fn finds_leaves() {
        for wide in WIDE {
            for pointer in POINTERS {
                let expected: Vec<(u64, u64)> = (0..60).map(|n| (1000 + n * 3, n * 120)).collect();
                let block = [page(wide, pointer, 60), vec![0x33; 1024]].concat();
                assert_eq!(leaves(&block), [expected], "{wide} {pointer}");
            }
        }
        assert_eq!(leaves(&page(4, 6, 7)), Vec::<Vec<_>>::new());
        assert!([vec![], vec![0; 4096], vec![0xff; 4096]].iter().all(|block| leaves(block).is_empty()));
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..3000), low in proptest::collection::vec(0u8..3, 0..3000)) {
            leaves(&bytes);
            leaves(&low);
        }
    }
}
