//! The head of a `.MYI`: `MI_STATE_INFO`, `MI_BASE_INFO` and the table's columns (MariaDB storage/myisam/mi_open.c,
//! `mi_state_info_read`, `mi_n_base_info_read`, `mi_recinfo_read`; the order of the parts is in mi_create.c).

use super::super::bytes::{be16, be32, be64};

/// `myisam_file_magic` (storage/myisam/mi_static.c).
pub const MAGIC: [u8; 4] = [0xfe, 0xfe, 7, 1];

/// `HA_OPTION_*` bits of `state.header.options` (include/my_base.h).
mod option {
    pub const PACK_RECORD: u16 = 1;
    pub const COMPRESS_RECORD: u16 = 4;
    pub const CHECKSUM: u16 = 32;
    pub const TEMP_COMPRESS_RECORD: u16 = 1 << 9;
}

/// `MI_STATE_INFO_SIZE`: what stands before the key roots.
const STATE_INFO_SIZE: usize = 24 + 14 * 8 + 7 * 4 + 2 * 2 + 8;
/// `MI_BASE_INFO_SIZE`.
const BASE_INFO_SIZE: u16 = 100;
/// Bytes that `myisampack` writes behind the last row (`MEMMAP_EXTRA_MARGIN`, include/myisam.h); `data_file_length` leaves them out.
pub const PACKED_MARGIN: u64 = 7;

/// How the rows of a table stand in its `.MYD`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RowFormat {
    /// Each row has the same length.
    Fixed,
    /// Rows are chains of blocks with headers of their own.
    Dynamic,
    /// Written by `myisampack`, read-only.
    Compressed,
}

/// `enum en_fieldtype` (include/my_base.h): how a column is packed in a dynamic row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FieldType {
    /// Stands as it is (`FIELD_NORMAL`, `FIELD_CHECK`).
    Normal,
    /// Spaces are left out at the end or at the start.
    SkipSpace,
    /// Left out where it is zero.
    SkipZero,
    /// Length, then so many bytes; left out where it is empty.
    Blob,
    /// Length of 1 or 3 bytes, then so many bytes.
    Varchar,
}

/// `MI_COLUMNDEF`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Column {
    /// How it is packed.
    pub kind: FieldType,
    /// Bytes of it in an unpacked row.
    pub length: u16,
}

/// What the head of a `.MYI` says about both files of the table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// How rows stand in the `.MYD`.
    pub format: RowFormat,
    /// Each row carries a checksum, or the table is compressed and had one.
    pub checksum: bool,
    /// Bytes before the first key page (`header_length`).
    pub header_length: u64,
    /// Where the first key page stands (`base.keystart`).
    pub key_start: u64,
    /// Live rows (`state.records`).
    pub records: u64,
    /// Deleted row blocks (`state.del`).
    pub deleted: u64,
    /// Row blocks of all kinds (`split`).
    pub split: u64,
    /// File offset of the newest deleted block (`dellink`); `None` where there is none.
    pub dellink: Option<u64>,
    /// Bytes of the `.MYI`.
    pub key_file_length: u64,
    /// Bytes of the `.MYD`, its end margin included where the table is compressed.
    pub data_file_length: u64,
    /// Bytes of deleted blocks (`state.empty`).
    pub empty: u64,
    /// Last value of the `AUTO_INCREMENT` column.
    pub auto_increment: u64,
    /// Programs that had it open for writing when this was written; more than 0 after a crash (`open_count`).
    pub open_count: u16,
    /// When the table was created, seconds since 1970.
    pub create_time: u64,
    /// Bytes of an unpacked row (`base.reclength`).
    pub record_length: u32,
    /// Bytes of a fixed row in the file (`base.pack_reclength`); of a dynamic one at most, without blobs.
    pub packed_length: u32,
    /// Bytes of a dynamic row at most, without its blobs (`base.max_pack_length`).
    pub max_packed_length: u32,
    /// Bytes of the flags at the start of a dynamic row (`base.pack_bits`).
    pub pack_bits: u16,
    /// Columns that are blobs.
    pub blobs: u16,
    /// Bytes of a pointer to a row in the keys (`base.rec_reflength`).
    pub row_pointer: u8,
    /// Bytes of a pointer to a key page (`base.key_reflength`).
    pub page_pointer: u8,
    /// Keys of the table.
    pub keys: u8,
    /// The columns in their order, as far as the bytes given hold them; the first may be the NULL bits.
    pub columns: Vec<Column>,
}

impl Header {
    /// Parses the head of a `.MYI`; the columns stand near its end, so give it a whole first block or more. `None` where a field
    /// contradicts another.
    pub fn parse(bytes: &[u8]) -> Option<Header> {
        if bytes.first_chunk() != Some(&MAGIC) {
            return None;
        }
        let options = be16(bytes, 4)?;
        let header_length = be16(bytes, 6)?;
        let base_length = be16(bytes, 10)?;
        let base_pos = be16(bytes, 12)?;
        let keys = *bytes.get(18)?;
        let key_parts = be16(bytes, 14)?;
        let key_blocks = usize::from(*bytes.get(21)?);
        let base = STATE_INFO_SIZE + 8 * (usize::from(keys) + key_blocks) + 4 * usize::from(key_parts);
        if base_length != BASE_INFO_SIZE || usize::from(base_pos) != base {
            return None;
        }
        // Before it stand create_time, recover_time, check_time, rec_per_key_rows and 4 bytes for each key part.
        let creation = base - 4 * usize::from(key_parts) - 4 * 8;
        let format = match options {
            o if o & option::COMPRESS_RECORD != 0 => RowFormat::Compressed,
            o if o & option::PACK_RECORD != 0 => RowFormat::Dynamic,
            _ => RowFormat::Fixed,
        };
        let margin = if format == RowFormat::Compressed { PACKED_MARGIN } else { 0 };
        let header = Header {
            format,
            checksum: options & (option::CHECKSUM | option::TEMP_COMPRESS_RECORD) != 0,
            header_length: header_length.into(),
            open_count: be16(bytes, 24)?,
            records: be64(bytes, 28)?,
            deleted: be64(bytes, 36)?,
            split: be64(bytes, 44)?,
            dellink: Some(be64(bytes, 52)?).filter(|&link| link != u64::MAX),
            key_file_length: be64(bytes, 60)?,
            data_file_length: be64(bytes, 68)?.checked_add(margin)?,
            empty: be64(bytes, 76)?,
            auto_increment: be64(bytes, 92)?,
            create_time: be64(bytes, creation)?,
            key_start: be64(bytes, base)?,
            record_length: be32(bytes, base + 44)?,
            packed_length: be32(bytes, base + 48)?,
            max_packed_length: be32(bytes, base + 56)?,
            row_pointer: *bytes.get(base + 72)?,
            page_pointer: *bytes.get(base + 73)?,
            keys,
            pack_bits: be16(bytes, base + 76)?,
            blobs: be16(bytes, base + 78)?,
            columns: columns(bytes, header_length, be32(bytes, base + 64)?),
        };
        header.is_sound(base, *bytes.get(base + 74)?).then_some(header)
    }

    /// Fields that a table cannot have together, so that bytes which only begin like a `.MYI` are refused.
    fn is_sound(&self, base: usize, base_keys: u8) -> bool {
        let pointers = (2..=8).contains(&self.row_pointer) && (2..=8).contains(&self.page_pointer);
        let starts = self.key_start >= self.header_length && self.header_length > base as u64;
        let lengths = self.key_file_length >= self.key_start && self.key_file_length < 1 << 56 && self.data_file_length < 1 << 56;
        let rows = self.record_length > 0 && self.records <= self.data_file_length && self.empty <= self.data_file_length;
        let aligned = self.format != RowFormat::Dynamic || self.data_file_length.is_multiple_of(4);
        let fixed = self.format != RowFormat::Fixed || self.data_file_length == self.fixed_length();
        pointers && starts && lengths && rows && aligned && fixed && base_keys == self.keys
    }

    /// Bytes of the `.MYD` that the counts of a fixed table ask for (mi_check.c, `chk_size`).
    fn fixed_length(&self) -> u64 {
        self.records.saturating_add(self.deleted).saturating_mul(self.packed_length.into())
    }
}

/// `MI_COLUMNDEF_SIZE`.
const COLUMN_SIZE: usize = 7;

/// The column definitions, which end the header; empty where the bytes given do not reach them or they make no sense.
fn columns(bytes: &[u8], header_length: u16, fields: u32) -> Vec<Column> {
    let length = usize::try_from(fields).unwrap_or(usize::MAX).saturating_mul(COLUMN_SIZE);
    let Some(raw) = usize::from(header_length).checked_sub(length).and_then(|at| bytes.get(at..usize::from(header_length))) else {
        return vec![];
    };
    let parsed: Option<Vec<_>> = raw.as_chunks::<COLUMN_SIZE>().0.iter().map(column).collect();
    parsed.unwrap_or_default()
}

fn column(&[t1, t0, l1, l0, ..]: &[u8; COLUMN_SIZE]) -> Option<Column> {
    // `enum en_fieldtype`: FIELD_CONSTANT, FIELD_INTERVALL and FIELD_ZERO (5 to 7) are `myisampack`'s; a packed row does not
    // use them.
    let kind = match u16::from_be_bytes([t1, t0]) {
        0 | 9 => FieldType::Normal,
        1 | 2 => FieldType::SkipSpace,
        3 => FieldType::SkipZero,
        4 => FieldType::Blob,
        8 => FieldType::Varchar,
        _ => return None,
    };
    Some(Column { kind, length: u16::from_be_bytes([l1, l0]) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The head of a real `.MYI` (MariaDB 10.11): a dynamic table of 7 columns, two keys, with deleted rows.
    const REAL: [&str; 7] = [
        "fefe0701000301a900b0006400d80002000002002d020000000039ff000000000000950400000000000003d4000000000000ad5e00000000012843cc00000000",
        "000bb800000000000139a278000000000005dcdc00000000000000000000000000009e34000000000000000000005d8f00000011000000000000000600000000",
        "0001140000000000000b9400ffffffffffffffffffffffffffffffff00000000000000006b03ede80000000000000003000000006b03ede80000000000000000",
        "000000006b03ede80000000000009c40000000010000000400000000000008000000000000000000000000000000000000000000000000000000000000000000",
        "000000000000048300000485000000040101048d0000001400000007000000040606020100010002080001500000000000000000000000000000000001010011",
        "0400000a000a000a093f00000000004000040000000100000000010100280800014600070149112d00020000000801400000000a000000000000000100000000",
        "0300040000000003000500000000080142000000000803220100000004000a0000000004000b020000",
    ];

    fn real() -> Vec<u8> {
        let digits = REAL.concat();
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn real_head() {
        let header = Header::parse(&real()).unwrap();
        assert_eq!((header.format, header.records, header.deleted, header.split), (RowFormat::Dynamic, 38_148, 980, 44_382));
        assert_eq!((header.key_file_length, header.data_file_length, header.empty), (768_000, 20_554_360, 384_220));
        assert_eq!((header.auto_increment, header.row_pointer, header.page_pointer, header.keys), (40_500, 6, 6, 2));
        assert_eq!((header.pack_bits, header.blobs, header.key_start, header.dellink), (1, 2, 2048, Some(0x0128_43cc)));
        let kinds: Vec<_> = header.columns.iter().map(|c| (c.kind, c.length)).collect();
        use FieldType::{Blob, Normal, SkipZero, Varchar};
        assert_eq!(kinds, [(Normal, 1), (SkipZero, 4), (SkipZero, 5), (Varchar, 322), (Varchar, 802), (Blob, 10), (Blob, 11)]);
    }

    #[test]
    fn contradictions() {
        for (at, byte, why) in [
            (3, 2, "another version"),
            (11, 0x65, "base_info_length"),
            (13, 0xd9, "base_pos against the counts"),
            (18, 3, "keys against base_pos"),
            (75, 0x79, "data_file_length is not aligned"),
            (76, 1, "more empty bytes than the file has"),
            (0xd8 + 72, 9, "row pointers of 9 bytes"),
            (0xd8 + 74, 3, "keys twice"),
        ] {
            let mut bytes = real();
            bytes[at] = byte;
            assert_eq!(Header::parse(&bytes), None, "{why}");
        }
        assert_eq!(Header::parse(&real()[..200]), None);
        assert_eq!(Header::parse(&real()[..424]).unwrap().columns, [], "columns that are cut are left out");
    }
}
