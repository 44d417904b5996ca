//! SQLite databases (<https://www.sqlite.org/fileformat.html>, sections 1.3 and 1.6).

use super::bytes::{be16, be32};

/// The header string of page 1.
pub const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// What page 1 says about the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Database {
    /// Bytes of a page: a power of two from 512 to 65,536.
    pub page_size: u32,
    /// Pages of the file; `None` where the header says that it does not know (written by SQLite before 3.7.0).
    pub pages: Option<u32>,
}

impl Database {
    /// Parses the 100 bytes that start the file.
    pub fn parse(bytes: &[u8]) -> Option<Database> {
        let page_size = match be16(bytes, 16)? {
            1 => 65536,
            size => u32::from(size),
        };
        let fractions = bytes.get(21..24)? == [64, 32, 32];
        let (changes, pages, valid_for) = (be32(bytes, 24)?, be32(bytes, 28)?, be32(bytes, 92)?);
        let sound = bytes.starts_with(MAGIC) && page_size.is_power_of_two() && page_size >= 512 && fractions;
        // The size in the header counts only if it was written together with the change counter (1.3.7 and 1.3.8).
        sound.then_some(Database { page_size, pages: Some(pages).filter(|&n| n > 0 && changes == valid_for) })
    }

    /// Bytes of the whole file, where the header knows them.
    pub fn length(&self) -> Option<u64> {
        self.pages.map(|pages| u64::from(pages) * u64::from(self.page_size))
    }
}

/// What a page says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageKind {
    /// Inner node of an index (2).
    IndexInterior,
    /// Inner node of a table (5).
    TableInterior,
    /// Leaf of an index (10).
    IndexLeaf,
    /// Leaf of a table (13).
    TableLeaf,
}

/// Parses the header of a B-tree page of exactly `page.len()` bytes (not page 1, whose header stands at byte 100): the counts must
/// agree, and each cell must lie between the pointer array and the page's end. Nothing in a page says which page it is, so this
/// proves the kind of file, never the place in it; overflow pages and pages of the free list say nothing at all.
pub fn page(page: &[u8]) -> Option<PageKind> {
    let (kind, header) = match page.first()? {
        2 => (PageKind::IndexInterior, 12),
        5 => (PageKind::TableInterior, 12),
        10 => (PageKind::IndexLeaf, 8),
        13 => (PageKind::TableLeaf, 8),
        _ => return None,
    };
    let (free, cells, fragments) = (be16(page, 1)?, usize::from(be16(page, 3)?), *page.get(7)?);
    let content = match be16(page, 5)? {
        0 => 65536,
        at => usize::from(at),
    };
    let pointers = page.get(header..header + 2 * cells)?;
    let array_end = header + 2 * cells;
    let inside = |at: usize| at >= content && at < page.len();
    let sound = content >= array_end && content <= page.len() && fragments <= 60 && (free == 0 || inside(free.into()));
    let cells_inside = pointers.as_chunks::<2>().0.iter().all(|&raw| inside(u16::from_be_bytes(raw).into()));
    (sound && cells_inside && cells > 0).then_some(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(page_size: u16, pages: u32, valid_for: u32) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(page_size.to_be_bytes());
        bytes.extend([1, 1, 0, 64, 32, 32]);
        bytes.extend(9u32.to_be_bytes());
        bytes.extend(pages.to_be_bytes());
        bytes.resize(92, 0);
        bytes.extend(valid_for.to_be_bytes());
        bytes.resize(100, 0);
        bytes
    }

    #[test]
    fn lengths() {
        for (page_size, pages, valid_for, length) in [
            (4096, 10, 9, Some(Some(40960))),
            (1, 2, 9, Some(Some(131_072))),
            (4096, 10, 8, Some(None)),
            (4096, 0, 9, Some(None)),
            (4097, 10, 9, None),
            (256, 10, 9, None),
        ] {
            let parsed = Database::parse(&header(page_size, pages, valid_for));
            assert_eq!(parsed.map(|d| d.length()), length, "{page_size} {pages} {valid_for}");
        }
        assert_eq!(Database::parse(b"SQLite format 3"), None);
    }

    #[test]
    fn pages() {
        let mut leaf = vec![0; 512];
        leaf[..8].copy_from_slice(&[13, 0, 0, 0, 1, 1, 0xf0, 0]);
        leaf[8..10].copy_from_slice(&[1, 0xf0]);
        assert_eq!(page(&leaf), Some(PageKind::TableLeaf));
        leaf[8] = 0;
        assert_eq!(page(&leaf), None, "the cell lies in the pointer array");
        assert_eq!((page(&[]), page(&[0; 512]), page(&[13; 512])), (None, None, None));
    }
}
