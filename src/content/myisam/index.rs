//! Key pages of a `.MYI`: each key ends with the place of its row, so a surviving index says where in the `.MYD` rows begin,
//! whatever pointers are left of that (MariaDB storage/myisam/mi_search.c: `_mi_get_static_key`, `_mi_dpos`, `_mi_kpos`;
//! mi_open.c: `mi_keydef_read`).

use super::super::Verdict;
use super::super::bytes::{be16, be64};
use super::header::{Header, RowFormat};
use super::row_block::{ALIGN, NoBlock, Role, RowBlock};

/// `MI_MIN_KEY_BLOCK_LENGTH`: key pages begin at multiples of this.
pub const PAGE_ALIGN: usize = 1024;
/// `MI_BASE_INFO_SIZE`, `MI_KEYDEF_SIZE`, `HA_KEYSEG_SIZE`.
const SIZES: (usize, usize, usize) = (100, 12, 18);
/// `HA_VAR_LENGTH_KEY` and `HA_BINARY_PACK_KEY` (include/my_base.h): keys whose length only those before them tell.
const PACKED: u16 = 8 | 32;

/// `HA_OPTION_PACK_RECORD` and `HA_OPTION_TEMP_COMPRESS_RECORD`.
const KEEP_POINTERS: u16 = 1 | 1 << 9;

/// A key whose entries all have the same length: integers, dates, `CHAR` of tables without packed keys; not `NULL`, not `VARCHAR`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    /// Its number in the table, from 0 on.
    pub number: u8,
    /// Bytes of its pages.
    pub page_length: usize,
    /// Bytes of an entry with the pointer to the row.
    pub entry: usize,
    row_pointer: usize,
    page_pointer: usize,
    /// Bytes of a row where pointers are row numbers, else 1.
    scale: u64,
    align: u64,
    data_length: u64,
    index_length: u64,
}

/// An entry of a key page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// The columns of the key, as they are sorted: unsigned integers big-endian.
    pub key: &'a [u8],
    /// Offset of the row in the `.MYD`.
    pub row: u64,
}

/// The keys of a table that [`Key::entries`] can read, from the head of its `.MYI`. `row_pointer` is that of
/// [`packed::Header`](super::packed::Header) for a compressed table: if it was a fixed one, its keys have other pointers than
/// the `.MYI` says (mi_open.c and mi_packrec.c, `fix_keys`).
pub fn keys(head: &[u8], row_pointer: Option<u8>) -> Vec<Key> {
    let Some(header) = Header::parse(head) else { return vec![] };
    let Some(base) = be16(head, 12).map(usize::from) else { return vec![] };
    let fixed = be16(head, 4).is_some_and(|options| options & KEEP_POINTERS == 0);
    let pointer = usize::from(row_pointer.filter(|_| fixed).unwrap_or(header.row_pointer));
    let mut at = base + SIZES.0;
    let mut found = vec![];
    for number in 0..header.keys {
        let (Some(&segments), Some(flags), Some(page), Some(length)) =
            (head.get(at), be16(head, at + 2), be16(head, at + 4), be16(head, at + 6))
        else {
            break;
        };
        at += SIZES.1 + SIZES.2 * usize::from(segments);
        let entry = usize::from(length) + pointer;
        let entry = entry.checked_sub(header.row_pointer.into());
        let Some(entry) =
            entry.filter(|&entry| entry > pointer && flags & PACKED == 0 && usize::from(page).is_multiple_of(PAGE_ALIGN) && page > 0)
        else {
            continue;
        };
        found.push(Key {
            number,
            page_length: page.into(),
            entry,
            row_pointer: pointer,
            page_pointer: header.page_pointer.into(),
            scale: if header.format == RowFormat::Fixed { header.packed_length.into() } else { 1 },
            align: if header.format == RowFormat::Dynamic { ALIGN as u64 } else { 1 },
            data_length: header.data_file_length,
            index_length: header.key_file_length,
        });
    }
    found
}

impl Key {
    /// The entries of a page of this key at the start of `page`, both of leaves and of nodes. `None` for other data: the length
    /// must be that of whole entries, and all their pointers must lead into the files. Pages of other keys and of no keys were
    /// never seen to pass (tests/content.rs).
    pub fn entries<'a>(&self, page: &'a [u8]) -> Option<Vec<Entry<'a>>> {
        let word = be16(page, 0)?;
        let (node, length) = (if word & 0x8000 != 0 { self.page_pointer } else { 0 }, usize::from(word & 0x7fff));
        let entries = page.get(2..length.min(self.page_length))?;
        if length > self.page_length || !self.is_child(entries.get(..node)?) {
            return None;
        }
        let entries = &entries[node..];
        let size = self.entry + node;
        if entries.is_empty() || !entries.len().is_multiple_of(size) {
            return None;
        }
        entries.chunks_exact(size).map(|raw| self.entry(raw)).collect()
    }

    fn entry<'a>(&self, raw: &'a [u8]) -> Option<Entry<'a>> {
        let (entry, child) = raw.split_at_checked(self.entry)?;
        let (key, pointer) = entry.split_at_checked(self.entry - self.row_pointer)?;
        let row = number(pointer)?.checked_mul(self.scale)?;
        (row < self.data_length && row.is_multiple_of(self.align) && self.is_child(child)).then_some(Entry { key, row })
    }

    /// Whether the pointer of a node leads to a page; none at all in a leaf.
    fn is_child(&self, pointer: &[u8]) -> bool {
        pointer.is_empty()
            || number(pointer).and_then(|page| page.checked_mul(PAGE_ALIGN as u64)).is_some_and(|at| at > 0 && at < self.index_length)
    }
}

/// A big-endian number of up to 8 bytes.
fn number(bytes: &[u8]) -> Option<u64> {
    let mut wide = [0; 8];
    wide.get_mut(8usize.checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
    be64(&wide, 0)
}

/// The share of the rows named by the keys that must be there: those changed after the index was last written are not.
const MIN_SHARE: usize = 90;
/// No more is claimed than this, however many rows agree: the index itself may be another life of the file.
const MAX_BITS: u32 = 40;

/// Whether `block` of a dynamic table has rows at the bytes that the keys name: `starts` are those of its place in the file,
/// from its first byte on. Proves the place in the file by itself where there are a few.
///
/// Another block of the table has a row at one of `length / 4` places with the chance of its rows among them, and so for each row: two
/// in 4 KiB count 18 bits, eight the most. Measured over 104,135 wrong blocks of three tables, 7 passed with 10 bits or more, all of the table
/// that is full of long blobs; no right block was contradicted (tests/content.rs, `keys_name_the_rows`).
pub fn starts_fit(block: &[u8], starts: &[usize]) -> Verdict {
    let is_row = |&at: &usize| match block.get(at..).map(|bytes| (bytes, RowBlock::parse(bytes))) {
        Some((bytes, Ok(row))) => Some(matches!(row.role, Role::Whole | Role::First) && row.slack_is_zero(bytes)),
        Some((_, Err(NoBlock::Wrong))) => Some(false),
        Some((_, Err(NoBlock::Cut))) | None => None,
    };
    let told: Vec<bool> = starts.iter().filter_map(is_row).collect();
    let rows = told.iter().filter(|&&row| row).count();
    if rows * 100 < told.len() * MIN_SHARE {
        return Verdict::Contradicted;
    }
    let each = (block.len() / ALIGN / rows.max(1)).checked_ilog2().unwrap_or(0);
    Verdict::Fits { bits: u32::try_from(rows).unwrap_or(u32::MAX).saturating_mul(each).min(MAX_BITS) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> Key {
        Key {
            number: 0,
            page_length: 1024,
            entry: 8,
            row_pointer: 4,
            page_pointer: 2,
            scale: 1,
            align: 4,
            data_length: 1000,
            index_length: 8192,
        }
    }

    fn page(word: u16, body: &[u8]) -> Vec<u8> {
        let mut page = [&word.to_be_bytes()[..], body].concat();
        page.resize(1024, 0x55);
        page
    }

    #[test]
    fn leaves_and_nodes() {
        let leaf = page(2 + 16, &[0, 0, 0, 7, 0, 0, 1, 0, 0, 0, 0, 9, 0, 0, 0, 0]);
        let rows = |page: &[u8]| key().entries(page).map(|entries| entries.iter().map(|e| (e.key[3], e.row)).collect::<Vec<_>>());
        assert_eq!(rows(&leaf), Some(vec![(7, 256), (9, 0)]));
        let node = page(0x8000 | (2 + 2 + 10), &[0, 1, 0, 0, 0, 7, 0, 0, 1, 0, 0, 2]);
        assert_eq!(rows(&node), Some(vec![(7, 256)]));
        for (wrong, why) in [
            (page(2, &[]), "empty"),
            (page(2 + 15, &[0; 15]), "half an entry"),
            (page(2000, &[0; 15]), "longer than the page"),
            (page(2 + 8, &[0, 0, 0, 7, 0, 0, 1, 1]), "a row that is not aligned"),
            (page(2 + 8, &[0, 0, 0, 7, 0, 0, 4, 0]), "a row behind the end"),
            (page(0x8000 | (2 + 2 + 10), &[0, 9, 0, 0, 0, 7, 0, 0, 1, 0, 0, 2]), "a page behind the end"),
            (vec![0; 1024], "zeros"),
            (vec![], "nothing"),
        ] {
            assert_eq!(rows(&wrong), None, "{why}");
        }
    }

    #[test]
    fn rows_at_the_places_that_keys_name() {
        let block = [&[3, 0, 90, 6][..], &[0x55; 90], &[0; 6]].concat().repeat(10);
        assert_eq!(starts_fit(&block, &[0, 100, 200]), Verdict::Fits { bits: 18 });
        assert_eq!(starts_fit(&block, &[0, 104, 200]), Verdict::Contradicted);
        assert_eq!(starts_fit(&block, &[]), Verdict::POSSIBLE);
        assert_eq!(starts_fit(&block, &[5000]), Verdict::POSSIBLE);
        assert_eq!(starts_fit(&[], &[0]), Verdict::POSSIBLE);
    }

    proptest! {
        #[test]
        fn nothing_panics(head in proptest::collection::vec(any::<u8>(), 0..600), page in proptest::collection::vec(any::<u8>(), 0..1100), starts in proptest::collection::vec(any::<usize>(), 0..4)) {
            let with_magic = [&super::super::header::MAGIC[..], &head].concat();
            for key in keys(&with_magic, None).into_iter().chain([key()]) {
                key.entries(&page);
            }
            starts_fit(&page, &starts);
        }
    }
}
