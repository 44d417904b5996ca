//! InnoDB tablespaces: pages that carry their own number and a checksum (MariaDB storage/innobase/include/fil0fil.h,
//! fsp0types.h, fsp0fsp.h; checksums in buf/buf0buf.cc, `buf_page_is_corrupted`, and buf/buf0checksum.cc).

use super::bytes::{advance, all_zero, be16, be32, be64};
use super::{Order, Verdict};

/// `FIL_PAGE_DATA`: bytes of the header of each page.
pub const HEADER: usize = 38;
/// `FIL_PAGE_TYPE_FSP_HDR`: page 0 of a tablespace.
const FSP_HDR: u16 = 8;
/// `FIL_PAGE_INDEX`, a B-tree node; with `FIL_PAGE_RTREE` and `FIL_PAGE_TYPE_INSTANT` below it the only types above 26 in use.
const INDEX_TYPES: std::ops::RangeInclusive<u16> = 17853..=17855;
/// `FIL_PAGE_PAGE_COMPRESSED` and its encrypted forms: only the header is as it was.
const COMPRESSED_TYPES: std::ops::RangeInclusive<u16> = 34354..=37401;
/// `FSP_FLAGS_FCRC32_MASK_MARKER`: pages end with a CRC-32C of all before it (MariaDB 10.4 and later).
const FULL_CRC32: u32 = 1 << 4;
/// `FIL_NULL`.
const NONE: u32 = u32::MAX;

/// The header of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    /// `FIL_PAGE_OFFSET`: the page's number, so its place in the file in pages.
    pub number: u32,
    /// `FIL_PAGE_PREV`: the B-tree node before it on its level.
    pub prev: Option<u32>,
    /// `FIL_PAGE_NEXT`.
    pub next: Option<u32>,
    /// `FIL_PAGE_LSN`: when it was last changed.
    pub lsn: u64,
    /// `FIL_PAGE_TYPE`.
    pub kind: u16,
    /// `FIL_PAGE_SPACE_ID`: the tablespace it belongs to.
    pub space: u32,
}

impl Page {
    /// Parses the header that starts a page. `None` for what no page has: types that do not exist, links to itself, zeros.
    pub fn parse(bytes: &[u8]) -> Option<Page> {
        let link = |at| be32(bytes, at).map(|n| Some(n).filter(|&n| n != NONE));
        let page = Page {
            number: be32(bytes, 4)?,
            prev: link(8)?,
            next: link(12)?,
            lsn: be64(bytes, 16)?,
            kind: be16(bytes, 24)?,
            space: be32(bytes, 34)?,
        };
        let known = (2..=26).contains(&page.kind) || INDEX_TYPES.contains(&page.kind) || COMPRESSED_TYPES.contains(&page.kind);
        let linked = page.prev.is_none_or(|n| n != page.number || n == 0) && page.next.is_none_or(|n| n != page.number || n == 0);
        // An LSN counts bytes of log: one above 2^56 was never reached, and only a page never written has 0.
        (known && linked && page.number != NONE && page.lsn != 0 && page.lsn < 1 << 56).then_some(page)
    }
}

/// How a whole page proves that it is one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seal {
    /// A CRC-32C of the page agrees: about one of 2^32 other pages would pass.
    Checksum,
    /// Only the low half of the LSN at both ends agrees, as pages with the older checksums have it: also about one of 2^32.
    Lsn,
    /// Nothing agrees: not a page, a torn or compressed one, or of another size.
    Broken,
}

/// Checks the end of a page of exactly `page.len()` bytes against its beginning.
pub fn seal(page: &[u8]) -> Seal {
    let Some((body, tail)) = page.split_last_chunk::<4>() else { return Seal::Broken };
    let end = body.len();
    if page.len() < 1024 || all_zero(page) {
        return Seal::Broken;
    }
    // full_crc32: the last 4 bytes, over all before them.
    if u32::from_be_bytes(*tail) == crc32c::crc32c(body) {
        return Seal::Checksum;
    }
    // crc32: header without checksum and flush LSN, and the data up to the trailer of 8 bytes.
    let crc = crc32c::crc32c(&page[4..26]) ^ crc32c::crc32c(&page[HEADER..end - 4]);
    if be32(page, 0) == Some(crc) {
        return Seal::Checksum;
    }
    if be32(page, 20) == be32(page, end) && be32(page, 20) != Some(0) { Seal::Lsn } else { Seal::Broken }
}

/// Bytes that a page can have (`UNIV_PAGE_SIZE`), the usual first.
pub const PAGE_SIZES: [u64; 5] = [16384, 8192, 4096, 32768, 65536];

/// What a whole page says of itself, if a checksum over all of it agrees.
pub fn proven(page: &[u8]) -> Option<Page> {
    Page::parse(page).filter(|_| seal(page) == Seal::Checksum)
}

/// What page 0 says about its tablespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// Number of the tablespace; each of its pages carries it.
    pub id: u32,
    /// `FSP_SIZE`: pages of the file.
    pub pages: u32,
    /// Bytes of a page in the file.
    pub page_size: u32,
}

impl Space {
    /// Parses the first block of the file (page 0). `None` unless it is a file space header that agrees with the page's own header.
    pub fn parse(bytes: &[u8]) -> Option<Space> {
        let page = Page::parse(bytes)?;
        let (id, pages, limit, flags) =
            (be32(bytes, HEADER)?, be32(bytes, HEADER + 8)?, be32(bytes, HEADER + 12)?, be32(bytes, HEADER + 16)?);
        let page_size = page_size(flags)?;
        (page.number == 0 && page.kind == FSP_HDR && page.space == id && (1..NONE).contains(&pages) && limit <= pages.next_multiple_of(256))
            .then_some(Space { id, pages, page_size })
    }

    /// The header of a page of this tablespace, if `bytes` begin with one.
    pub fn header(&self, bytes: &[u8]) -> Option<Page> {
        Page::parse(bytes).filter(|page| page.space == self.id && page.number < self.pages)
    }

    /// Bytes of the whole file.
    pub fn length(&self) -> u64 {
        u64::from(self.pages) * u64::from(self.page_size)
    }
}

/// Bytes of a page in the file, from `FSP_SPACE_FLAGS` (fsp0types.h, `fil_space_t::physical_size`).
fn page_size(flags: u32) -> Option<u32> {
    let logical = |ssize: u32| (3..=7).contains(&ssize).then(|| 512 << ssize);
    if flags & FULL_CRC32 != 0 {
        return logical(flags & 15);
    }
    match ((flags >> 1) & 15, (flags >> 6) & 15) {
        (0, 0) => Some(16384),
        (0, ssize) => logical(ssize),
        // ROW_FORMAT=COMPRESSED: 1 to 16 KiB in the file.
        (zip, _) if zip <= 5 => Some(512 << zip),
        _ => None,
    }
}

/// A tablespace: each page carries its number, and ends with a checksum of all its blocks.
#[derive(Clone)]
pub(super) struct Pages {
    space: Space,
    position: u64,
    /// The blocks of the current page so far; empty also where one of them is missing.
    page: Vec<u8>,
}

impl Pages {
    /// At the start of the file.
    pub(super) fn new(space: Space) -> Self {
        Pages { space, position: 0, page: vec![] }
    }

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
                _ if all_zero(next) => Verdict::POSSIBLE,
                Some(page) if u64::from(page.number) == expected => Verdict::Fits { bits: 16 },
                _ => Verdict::Contradicted,
            };
        }
        let whole = self.page.len() as u64 == self.in_page() && self.page.len() + next.len() == self.space.page_size as usize;
        if !whole || all_zero(&self.page) {
            return Verdict::POSSIBLE;
        }
        match seal(&[self.page.as_slice(), next].concat()) {
            Seal::Checksum => Verdict::Fits { bits: 32 },
            // The older checksums are not computed; the LSN stands in the first and the last block only.
            Seal::Lsn => Verdict::Fits { bits: 16 },
            Seal::Broken => Verdict::Contradicted,
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
        self.position = advance(self.position, block.len() as u64);
        verdict
    }

    fn skip(&mut self, bytes: u64) {
        self.position = advance(self.position, bytes);
        self.page.clear();
    }

    fn rank(&self, block: &[u8]) -> Option<u64> {
        self.space.header(block).map(|page| page.number.into())
    }

    fn fork(&self) -> Box<dyn Order> {
        Box::new(self.clone())
    }

    fn resume_at(&self, offset: u64, _: usize) -> Box<dyn Order> {
        Box::new(Pages { space: self.space, position: offset, page: vec![] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Page `number` of tablespace 7, of 16 KiB, of that type.
    fn page(number: u32, kind: u16) -> Vec<u8> {
        let mut page = vec![0; 16384];
        page[4..8].copy_from_slice(&number.to_be_bytes());
        page[8..16].fill(0xff);
        page[16..24].copy_from_slice(&0x1234_5678u64.to_be_bytes());
        page[24..26].copy_from_slice(&kind.to_be_bytes());
        page[34..38].copy_from_slice(&7u32.to_be_bytes());
        page
    }

    #[test]
    fn page_headers() {
        let parsed = Page::parse(&page(5, 17855)).unwrap();
        assert_eq!((parsed.number, parsed.prev, parsed.next, parsed.space), (5, None, None, 7));
        assert_eq!(Page::parse(&page(5, 99)), None, "no such type");
        assert_eq!(Page::parse(&[0; 64]), None);
        assert_eq!(Page::parse(&[0xff; 64]), None);
    }

    #[test]
    fn seals() {
        let mut full = page(5, 17855);
        assert_eq!(seal(&full), Seal::Broken);
        let crc = crc32c::crc32c(&full[..16380]);
        full[16380..].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(seal(&full), Seal::Checksum);
        full[100] ^= 1;
        assert_eq!(seal(&full), Seal::Broken);

        let mut old = page(5, 17855);
        let crc = crc32c::crc32c(&old[4..26]) ^ crc32c::crc32c(&old[38..16376]);
        old[..4].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(seal(&old), Seal::Checksum);
        let mut oldest = page(5, 17855);
        oldest[16380..].copy_from_slice(&0x1234_5678u32.to_be_bytes());
        assert_eq!(seal(&oldest), Seal::Lsn);
        assert_eq!((seal(&[]), seal(&[0; 16384])), (Seal::Broken, Seal::Broken));
    }

    #[test]
    fn sizes_by_flags() {
        for (flags, size) in [
            (0x15, Some(16384)),
            (0x13, Some(4096)),
            (0x17, Some(65536)),
            (0x12, None),
            (0, Some(16384)),
            (0x21, Some(16384)),
            (0x29 & !16, Some(8192)),
            (6 << 6, Some(32768)),
        ] {
            assert_eq!(page_size(flags), size, "{flags:#x}");
        }
    }

    #[test]
    fn space_header() {
        let mut first = page(0, FSP_HDR);
        first[38..42].copy_from_slice(&7u32.to_be_bytes());
        first[46..50].copy_from_slice(&960u32.to_be_bytes());
        first[54..58].copy_from_slice(&0x15u32.to_be_bytes());
        assert_eq!(Space::parse(&first).unwrap().length(), 15_728_640);
        first[41] = 8;
        assert_eq!(Space::parse(&first), None, "another tablespace's number");
    }
}
