//! Compressed tables: the head of a `.MYD` that `myisampack` wrote, and its rows' lengths (MariaDB storage/myisam/mi_packrec.c:
//! `_mi_read_pack_info`, `_mi_pack_get_block_info`, `read_pack_length`).

use super::super::bytes::{le16, le32};
use super::super::records::{Records, Step};

/// `myisam_pack_file_magic` without its fourth byte, the version: 1 or 2.
pub const MAGIC: [u8; 3] = [0xfe, 0xfe, 8];
/// `HEAD_LENGTH`: the fixed part of the header.
const FIXED: u32 = 32;

/// The header of a compressed `.MYD`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// 2; 1 in files from before MySQL 5.0.
    pub version: u8,
    /// Bytes of the header with its Huffman trees: where the first row begins.
    pub length: u32,
    /// The shortest row, in bytes without its length.
    pub min_row: u32,
    /// The longest.
    pub max_row: u32,
    /// Bytes that are enough for the lengths at the start of a row: `ref_length`.
    pub length_bytes: u8,
    /// Bytes of a pointer to a row in the keys.
    pub row_pointer: u8,
}

impl Header {
    /// Parses the 32 bytes that start the file.
    pub fn parse(bytes: &[u8]) -> Option<Header> {
        let version = *bytes.get(3)?;
        let header = Header {
            version,
            length: le32(bytes, 4)?,
            min_row: le32(bytes, 8)?,
            max_row: le32(bytes, 12)?,
            length_bytes: *bytes.get(26)?,
            row_pointer: *bytes.get(27)?,
        };
        let trees = le16(bytes, 24)?;
        let sound = matches!(version, 1 | 2) && header.length > FIXED && header.length < 1 << 28 && header.min_row <= header.max_row;
        let pointers = (1..=10).contains(&header.length_bytes) && (1..=8).contains(&header.row_pointer);
        (bytes.starts_with(&MAGIC) && sound && pointers && trees > 0).then_some(header)
    }

    /// The row at the start of `bytes`: bytes of its lengths, and of its data. A table with blobs has a second length, that of
    /// the unpacked blobs. `None` where the bytes end before it or the length is none that this table has.
    pub fn row(&self, bytes: &[u8], blobs: bool) -> Option<(u32, u32)> {
        let (mut head, data) = self.number(bytes)?;
        if blobs {
            head += self.number(bytes.get(head as usize..)?)?.0;
        }
        (self.min_row..=self.max_row).contains(&data).then_some((head, data))
    }

    /// Whether the bytes end within the lengths of a row.
    fn is_cut(&self, bytes: &[u8], blobs: bool) -> bool {
        match self.number(bytes) {
            None => true,
            Some((head, data)) => {
                let second = || bytes.get(head as usize..).and_then(|rest| self.number(rest));
                blobs && (self.min_row..=self.max_row).contains(&data) && second().is_none()
            }
        }
    }

    /// `read_pack_length`: bytes it takes, and the number.
    fn number(&self, bytes: &[u8]) -> Option<(u32, u32)> {
        match (bytes.first()?, self.version) {
            (254, _) => Some((3, le16(bytes, 1)?.into())),
            (255, 1) => Some((4, le32(bytes, 0)? >> 8)),
            (255, _) => Some((5, le32(bytes, 1)?)),
            (&short, _) => Some((1, short.into())),
        }
    }
}

/// The rows of a compressed table, for [`Walker`](super::super::Walker); the first begins at [`Header::length`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rows {
    /// The head of the file.
    pub header: Header,
    /// Whether the table has blobs (`base.blobs` of the `.MYI`): then each row begins with a second length.
    pub blobs: bool,
}

impl Records for Rows {
    fn align(&self) -> usize {
        1
    }

    fn head(&self) -> usize {
        // Two numbers of at most 5 bytes.
        10
    }

    fn step(&self, bytes: &[u8]) -> Step {
        match self.header.row(bytes, self.blobs) {
            Some((head, data)) => Step::Record(head.saturating_add(data)),
            None if bytes.len() < self.head() && self.header.is_cut(bytes, self.blobs) => Step::Cut,
            None => Step::Wrong,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of a real table (MariaDB 10.11).
    const REAL: [u8; 32] =
        [0xfe, 0xfe, 8, 2, 0xb6, 2, 0, 0, 0x0a, 0, 0, 0, 0x57, 0, 0, 0, 0x29, 1, 0, 0, 1, 0, 0, 0, 4, 0, 1, 3, 0, 0, 0, 0];

    #[test]
    fn header() {
        let header = Header::parse(&REAL).unwrap();
        assert_eq!((header.length, header.min_row, header.max_row, header.length_bytes, header.row_pointer), (694, 10, 87, 1, 3));
        for (at, byte) in [(2, 7), (3, 3), (4, 0), (24, 0), (26, 0), (12, 1)] {
            let mut bytes = REAL;
            bytes[at] = byte;
            if at == 4 {
                bytes[5] = 0;
            }
            assert_eq!(Header::parse(&bytes), None, "byte {at}");
        }
    }

    #[test]
    fn row_lengths() {
        let header = Header { max_row: 1 << 30, ..Header::parse(&REAL).unwrap() };
        for (bytes, blobs, row) in [
            (&[20][..], false, Some((1, 20))),
            (&[9], false, None),
            (&[254, 0, 1], false, Some((3, 256))),
            (&[255, 0, 0, 1, 0], false, Some((5, 65536))),
            (&[20, 254, 0, 1], true, Some((4, 20))),
            (&[20], true, None),
            (&[254, 0], false, None),
        ] {
            assert_eq!(header.row(bytes, blobs), row, "{bytes:?}");
        }
        let old = Header { version: 1, ..header };
        assert_eq!(old.row(&[255, 0, 0, 1], false), Some((4, 65536)));
    }
}
