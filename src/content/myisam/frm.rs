//! `.frm`: a table's definition, in one file beside its data (MariaDB sql/unireg.cc, `build_frm_image`, `prepare_frm_header`; read by
//! sql/table.cc, `TABLE_SHARE::init_from_binary_frm_image`; MySQL 5.0 to 5.7 write the same header).

use super::super::bytes::{le16, le32};
use super::header::RowFormat;

/// `IO_SIZE`, which the older servers wrote as the place of the next block.
const IO_SIZE: u16 = 4096;
/// `HA_OPTION_PACK_RECORD` (include/my_base.h).
const PACK_RECORD: u16 = 1;

/// `legacy_db_type` (sql/handler.h): the engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Engine {
    /// `DB_TYPE_MYISAM`: `.MYD` and `.MYI`.
    MyIsam,
    /// `DB_TYPE_INNODB`: `.ibd`.
    InnoDb,
    /// `DB_TYPE_MRG_MYISAM`: `.MRG`.
    Merge,
    /// `DB_TYPE_ARIA`: `.MAD` and `.MAI`.
    Aria,
    /// Another one, by its number.
    Other(u8),
}

/// What the header of a `.frm` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Definition {
    /// The engine of the table.
    pub engine: Engine,
    /// Bytes of the whole `.frm`; `None` in those of MySQL and of MariaDB before 10.0, whose header counts otherwise.
    pub length: Option<u32>,
    /// Bytes of an unpacked row (`reclength`). The `.MYI` counts the same, without pointers to blobs where those are packed.
    pub record_length: u16,
    /// `HA_OPTION_PACK_RECORD`: columns of varying length, so a MyISAM table is dynamic unless [`row_type`](Self::row_type)
    /// says otherwise.
    pub packs_rows: bool,
    /// `ROW_FORMAT=` as it was asked for (`enum row_type`): 0 default, 1 fixed, 2 dynamic, 3 compressed.
    pub row_type: u8,
    /// Version of the server that wrote it, as 101119 for 10.11.19.
    pub server: u32,
}

impl Definition {
    /// Parses the 64 bytes that start the file.
    pub fn parse(bytes: &[u8]) -> Option<Definition> {
        // Byte 2 is FRM_VER (6) and what was added since; byte 33 is 5 since MySQL 5.0.
        if bytes.get(..2)? != [0xfe, 1] || !(6..=14).contains(bytes.get(2)?) || *bytes.get(33)? != 5 {
            return None;
        }
        let engine = match *bytes.get(3)? {
            9 => Engine::MyIsam,
            12 => Engine::InnoDb,
            10 => Engine::Merge,
            42 => Engine::Aria,
            other => Engine::Other(other),
        };
        let (next_block, length, row_type) = (le16(bytes, 6)?, le32(bytes, 10)?, *bytes.get(40)?);
        let definition = Definition {
            engine,
            length: (next_block != IO_SIZE).then_some(length),
            record_length: le16(bytes, 16)?,
            packs_rows: le16(bytes, 30)? & PACK_RECORD != 0,
            row_type,
            server: le32(bytes, 51)?,
        };
        ((64..1 << 24).contains(&length) && row_type <= 8).then_some(definition)
    }

    /// How a MyISAM table of this definition stores its rows (`ha_myisam::create`). `myisampack` may have compressed it since,
    /// which only the `.MYI` and the `.MYD` know. `None` for other engines.
    pub fn row_format(&self) -> Option<RowFormat> {
        (self.engine == Engine::MyIsam).then_some(if self.packs_rows { RowFormat::Dynamic } else { RowFormat::Fixed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of a real MyISAM table with a blob (MariaDB 10.11.19).
    const REAL: [u8; 64] = [
        0xfe, 1, 0x0a, 9, 0x16, 0, 0x5a, 0, 1, 0, 0x77, 0x0a, 0, 0, 0xe2, 3, 0x83, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0x39, 0, 9, 0, //
        0, 5, 0, 0, 0, 0, 0x2d, 0, 0, 0, 0, 0, 0, 0, 0, 0xe2, 3, 0, 0, 0xff, 0x8a, 1, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0,
    ];

    #[test]
    fn real() {
        let definition = Definition::parse(&REAL).unwrap();
        assert_eq!((definition.engine, definition.length, definition.server), (Engine::MyIsam, Some(2679), 101_119));
        assert_eq!(definition.row_format(), Some(RowFormat::Dynamic));
    }

    #[test]
    fn variations() {
        for (at, byte, expected) in [
            (3, 12, Some((None, Some(2679)))),
            (30, 8, Some((Some(RowFormat::Fixed), Some(2679)))),
            (7, 0x10, Some((Some(RowFormat::Dynamic), Some(2679)))),
            (1, 2, None),
            (2, 0x20, None),
            (33, 4, None),
            (40, 99, None),
            (13, 9, None),
        ] {
            let mut bytes = REAL;
            bytes[at] = byte;
            assert_eq!(Definition::parse(&bytes).map(|d| (d.row_format(), d.length)), expected, "byte {at}");
        }
        let mut old = REAL;
        old[6..8].copy_from_slice(&IO_SIZE.to_le_bytes());
        assert_eq!(Definition::parse(&old).unwrap().length, None);
        assert_eq!(Definition::parse(&REAL[..50]), None);
    }
}
