//! What kind of file begins with these bytes.

use super::bytes::{le16, le32};
use super::myisam::row_block::{NoBlock, RowBlock};
use super::myisam::{frm, header, packed};
use super::{innodb, sqlite, text};
use crate::format::superblock;

/// A kind of file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// Rows of a dynamic MyISAM table.
    MyisamDynamic,
    /// Rows of a fixed MyISAM table. Nothing in them says so: only the `.MYI`, the `.frm` or the name does, never [`identify`].
    MyisamFixed,
    /// Rows of a MyISAM table that `myisampack` compressed.
    MyisamPacked,
    /// Keys and state of a MyISAM table.
    MyisamIndex,
    /// A table's definition.
    Frm,
    /// A tablespace of InnoDB.
    Innodb,
    /// A SQLite database.
    Sqlite,
    /// Another format, of which no more is known here than how to name it.
    Common {
        /// Its usual extension.
        ext: &'static str,
        /// Its [`folder`](Kind::folder).
        folder: &'static str,
    },
}

impl Kind {
    /// The usual extension, without the dot.
    pub const fn ext(self) -> &'static str {
        match self {
            Kind::MyisamDynamic | Kind::MyisamFixed | Kind::MyisamPacked => "MYD",
            Kind::MyisamIndex => "MYI",
            Kind::Frm => "frm",
            Kind::Innodb => "ibd",
            Kind::Sqlite => "sqlite",
            Kind::Common { ext, .. } => ext,
        }
    }

    /// One word for what a person would look for: `database`, `image`, `video`, `audio`, `archive`, `document`, `text`,
    /// `program`, `font`, `disk`.
    pub const fn folder(self) -> &'static str {
        match self {
            Kind::Common { folder, .. } => folder,
            _ => "database",
        }
    }

    /// The kind of a MyISAM `.MYD`, from what the `.MYI` or the `.frm` says.
    pub const fn of_rows(format: header::RowFormat) -> Kind {
        match format {
            header::RowFormat::Fixed => Kind::MyisamFixed,
            header::RowFormat::Dynamic => Kind::MyisamDynamic,
            header::RowFormat::Compressed => Kind::MyisamPacked,
        }
    }
}

const fn common(ext: &'static str, folder: &'static str) -> Option<Kind> {
    Some(Kind::Common { ext, folder })
}

/// Tells the kind of a file from its first bytes: better a whole filesystem block, or more, than less; at the end of a short
/// file the zeros that fill its last block may follow.
///
/// Strict, because a wrong extension misleads more than none: a signature counts if it is at least 4 bytes long or if fields
/// behind it agree. Of 100,000 blocks of random bytes none passes, nor does any block of zeros (tests below).
pub fn identify(head: &[u8]) -> Option<Kind> {
    databases(head).or_else(|| signatures(head)).or_else(|| by_infer(head)).or_else(|| text::identify(head))
}

/// The same for a block of which nothing tells that it begins a file: text, and rows without a header, stand anywhere in one.
pub fn identify_anywhere(block: &[u8]) -> Option<Kind> {
    let inferred = || {
        // As far as signatures stand; some are looked for behind them as well.
        let signature = block.get(..SIGNATURES).unwrap_or(block);
        if may_be_inferred(block) { by_infer(signature).and_then(|_| by_infer(block)) } else { None }
    };
    headed(block).or_else(|| signatures(block)).or_else(inferred)
}

/// Bytes in which all signatures stand: that of `tar` ends here.
const SIGNATURES: usize = 262;

/// Whether a signature of [`STRICT`] can stand in a block: by its first byte, or by those that stand farther on. Asked of everything on a disk.
fn may_be_inferred(block: &[u8]) -> bool {
    const FIRST: &[u8] = b"\x00\x04\x1a\x30\x7f\x89\xca\xce\xcf\xd0\xed\xfd\xfe!#%-78<ACDFGIMOPQRdfow{";
    const BEHIND: [(usize, &[u8]); 4] = [(4, b"ftyp"), (60, b"BOOKMOBI"), (128, b"DICM"), (257, b"ustar")];
    block.first().is_some_and(|first| FIRST.contains(first))
        || BEHIND.iter().any(|(at, magic)| block.get(*at..).is_some_and(|rest| rest.starts_with(magic)))
}

fn databases(head: &[u8]) -> Option<Kind> {
    headed(head).or_else(|| begins_with_rows(head).then_some(Kind::MyisamDynamic))
}

/// Databases that begin with a header.
fn headed(head: &[u8]) -> Option<Kind> {
    if header::Header::parse(head).is_some() {
        return Some(Kind::MyisamIndex);
    }
    if packed::Header::parse(head).is_some() {
        return Some(Kind::MyisamPacked);
    }
    if frm::Definition::parse(head).is_some() {
        return Some(Kind::Frm);
    }
    if sqlite::Database::parse(head).is_some() {
        return Some(Kind::Sqlite);
    }
    if innodb::Space::parse(head).is_some() {
        return Some(Kind::Innodb);
    }
    None
}

/// Row blocks that must follow each other from byte 0. At a random place one passes in 1 of 200 blocks of random bytes; four in
/// a row were found at no place in any block of files that are not dynamic tables (tests/content.rs).
const MIN_ROW_BLOCKS: usize = 4;

fn begins_with_rows(head: &[u8]) -> bool {
    let mut at = 0;
    let mut count = 0;
    loop {
        match head.get(at..).map(RowBlock::parse) {
            Some(Ok(block)) if block.slack_is_zero(&head[at..]) => (at, count) = (at + block.total as usize, count + 1),
            Some(Err(NoBlock::Cut)) | None => return count >= MIN_ROW_BLOCKS,
            // The zeros that fill the last block of a short file.
            Some(_) => return count >= MIN_ROW_BLOCKS && super::bytes::all_zero(&head[at..]),
        }
    }
}

/// Formats whose signature alone is too short, and those that `infer` does not know.
fn signatures(head: &[u8]) -> Option<Kind> {
    let is = |magic: &[u8]| head.starts_with(magic);
    let at = |at: usize, magic: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(magic));
    // maria_file_magic (storage/maria/ma_static.c).
    if is(&[0xfe, 0xfe, 9]) && head.get(3).is_some_and(|&version| version <= 9) {
        return common("MAI", "database");
    }
    if let Ok(raw) = superblock_of(head) {
        return (raw.block_group == 0).then_some(Kind::Common { ext: "img", folder: "disk" });
    }
    if is(b"BM") && le32(head, 6) == Some(0) && bmp_header(head) {
        return common("bmp", "image");
    }
    if is(b"MZ") {
        let pe = le32(head, 60).and_then(|at| usize::try_from(at).ok());
        return if pe.is_some_and(|pe| at(pe, b"PE\0\0")) { common("exe", "program") } else { None };
    }
    // RFC 1952: deflate, no reserved flag, an operating system that exists.
    if is(&[0x1f, 0x8b, 8]) {
        let sound = head.get(3).is_some_and(|&flags| flags < 32) && head.get(9).is_some_and(|&os| os <= 13 || os == 255);
        return if sound { common("gz", "archive") } else { None };
    }
    // A level, and the magic of the first block (pi) or of the end of an empty file (the square root of pi).
    if is(b"BZh") {
        let sound = head.get(3).is_some_and(|level| (b'1'..=b'9').contains(level))
            && (at(4, &[0x31, 0x41, 0x59, 0x26, 0x53, 0x59]) || at(4, &[0x17, 0x72, 0x45, 0x38, 0x50, 0x90]));
        return if sound { common("bz2", "archive") } else { None };
    }
    // ID3v2: a version that exists, and a size of 7-bit bytes.
    if is(b"ID3") {
        let sound = head.get(3).is_some_and(|v| (2..=4).contains(v)) && head.get(6..10).is_some_and(|size| size.iter().all(|&b| b < 128));
        return if sound { common("mp3", "audio") } else { None };
    }
    // JPEG: SOI, then the marker of a segment that may come first.
    if is(&[0xff, 0xd8, 0xff]) {
        let marker = head.get(3).is_some_and(|m| matches!(m, 0xc0..=0xc4 | 0xdb | 0xdd | 0xe0..=0xef | 0xfe));
        return if marker { common("jpg", "image") } else { None };
    }
    if is(b"070701") || is(b"070702") {
        let digits = head.get(6..110).is_some_and(|fields| fields.iter().all(u8::is_ascii_hexdigit));
        return if digits { common("cpio", "archive") } else { None };
    }
    icon(head)
}

/// `BITMAPFILEHEADER` and the size of the header behind it.
fn bmp_header(head: &[u8]) -> bool {
    let (size, data, dib) = (le32(head, 2), le32(head, 10), le32(head, 14));
    matches!((size, data, dib), (Some(size), Some(data), Some(12 | 40 | 52 | 56 | 64 | 108 | 124)) if data >= 26 && (size == 0 || data < size))
}

fn superblock_of(head: &[u8]) -> Result<superblock::Superblock, superblock::Unusable> {
    superblock::Superblock::parse(head.get(superblock::OFFSET as usize..).unwrap_or_default())
}

/// `ICONDIR`: a few images, of which the first begins behind the directory.
fn icon(head: &[u8]) -> Option<Kind> {
    let (reserved, kind, count) = (le16(head, 0)?, le16(head, 2)?, le16(head, 4)?);
    let (size, at) = (le32(head, 14)?, le32(head, 18)?);
    let first = u32::from(count) * 16 + 6;
    (reserved == 0 && kind == 1 && (1..=64).contains(&count) && at == first && size > 0 && head.get(9) == Some(&0)).then_some(())?;
    common("ico", "image")
}

/// What is taken from `infer`: formats whose signature there is at least 4 bytes long, or a structure. Its others, with
/// signatures of two or three bytes that all sorts of data have, stand in [`signatures`] with more to ask for, or are left out.
const STRICT: [&str; 71] = [
    "7z", "aiff", "amr", "ape", "ar", "avi", "avif", "cab", "class", "cr2", "crx", "dcm", "deb", "dex", "dey", "djvu", "doc", "docx",
    "dsf", "dwg", "elf", "epub", "flac", "flv", "gif", "heif", "html", "jp2", "lz4", "m4a", "m4v", "mach", "midi", "mkv", "mobi", "mp4",
    "msi", "odp", "ods", "odt", "ogg", "opus", "ora", "otf", "par2", "pdf", "pem", "png", "ppt", "pptx", "psd", "qcow2", "rar", "rpm",
    "rtf", "sh", "tar", "tif", "ttf", "wasm", "wav", "webm", "webp", "wmv", "woff", "woff2", "xls", "xlsx", "xml", "xz", "zip",
];

fn by_infer(head: &[u8]) -> Option<Kind> {
    let found = infer::get(head).filter(|found| STRICT.contains(&found.extension()))?;
    let ext = found.extension();
    let folder = match found.matcher_type() {
        infer::MatcherType::Archive if matches!(ext, "pdf" | "rtf") => "document",
        infer::MatcherType::App if ext == "qcow2" => "disk",
        infer::MatcherType::App if ext == "pem" => "text",
        infer::MatcherType::App => "program",
        infer::MatcherType::Archive => "archive",
        infer::MatcherType::Audio => "audio",
        infer::MatcherType::Book | infer::MatcherType::Doc => "document",
        infer::MatcherType::Font => "font",
        infer::MatcherType::Image => "image",
        infer::MatcherType::Text => "text",
        infer::MatcherType::Video => "video",
        infer::MatcherType::Custom => return None,
    };
    match ext {
        "sh" => Some(text::script(head)),
        "ttf" if !is_truetype(head) => None,
        // infer takes what merely begins with a tag; the rest must be text as well.
        "html" | "xml" | "rtf" | "pem" if text::identify(head).is_none() => None,
        _ => common(ext, folder),
    }
}

/// The table directory: a number of tables, and what follows from it (OpenType specification, "Table Directory").
fn is_truetype(head: &[u8]) -> bool {
    let (Some(tables), Some(range)) = (super::bytes::be16(head, 4), super::bytes::be16(head, 6)) else { return false };
    (4..=64).contains(&tables) && range == 16 << tables.ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A stream of random bytes that is the same in each run (xorshift64*).
    fn random(seed: u64) -> impl Iterator<Item = u8> {
        let mut state = seed;
        std::iter::repeat_with(move || {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
        })
    }

    #[test]
    fn known_heads() {
        let rows = [&[3, 0, 8, 8][..], &[5; 8], &[0; 8]].concat();
        let with = |magic: &[u8]| [magic, &[0; 64]].concat();
        for (head, expected) in [
            (rows.repeat(4), Some(("MYD", "database"))),
            ([rows.repeat(4), vec![0; 100]].concat(), Some(("MYD", "database"))),
            (rows.repeat(3), None),
            (with(b"\x89PNG\r\n\x1a\n"), Some(("png", "image"))),
            (with(b"\xff\xd8\xff\xe0\0\x10JFIF"), Some(("jpg", "image"))),
            (with(b"\xff\xd8\xff\0"), None),
            (with(b"%PDF-1.4\n"), Some(("pdf", "document"))),
            (with(b"PK\x03\x04\x14\0"), Some(("zip", "archive"))),
            (with(b"\x1f\x8b\x08\0\0\0\0\0\0\x03"), Some(("gz", "archive"))),
            (with(b"\x1f\x8b\x08\xff\0\0\0\0\0\x03"), None),
            (with(b"BZh91AY&SY"), Some(("bz2", "archive"))),
            (with(b"BZh9 is no bzip2 file\x01"), None),
            (with(b"ID3\x03\0\0\0\0\x0f\x76"), Some(("mp3", "audio"))),
            (with(b"MZ and no PE header behind it"), Some(("txt", "text"))),
            (with(b"BM\x01 and no bitmap header"), None),
            (with(b"\x7fELF\x02\x01\x01"), Some(("elf", "program"))),
            (with(b"\xfe\xfe\x07\x01"), None),
            (with(b"\xfe\x01\x0a\x09"), None),
            (with(b"SQLite format 3\0"), None),
            (with(b""), None),
        ] {
            assert_eq!(
                identify(&head).map(|kind| (kind.ext(), kind.folder())),
                expected,
                "{:?}",
                String::from_utf8_lossy(&head[..head.len().min(16)])
            );
        }
    }

    #[test]
    fn random_blocks_have_no_kind() {
        let mut bytes = random(1);
        for _ in 0..100_000 {
            let block: Vec<u8> = bytes.by_ref().take(128).collect();
            assert_eq!(identify(&block), None, "{block:?}");
        }
        assert_eq!((identify(&[0; 4096]), identify(&[0xff; 4096])), (None, None));
    }

    proptest! {
        #[test]
        fn nothing_panics(mut head in proptest::collection::vec(any::<u8>(), 0..2048), magic in 0usize..10) {
            let wmv = [0x30, 0x26, 0xb2, 0x75, 0x8e, 0x66, 0xcf, 0x11, 0xa6, 0xd9];
            let frm = [0xfe, 1, 10, 9];
            let icon = [0, 0, 1, 0, 1, 0];
            let magics: [&[u8]; 10] =
                [b"", &header::MAGIC, &packed::MAGIC, &frm, sqlite::MAGIC, b"BM", b"MZ", b"RIFF", &wmv, &icon];
            let magic = magics[magic];
            if head.len() >= magic.len() {
                head[..magic.len()].copy_from_slice(magic);
            }
            let kind = identify(&head);
            for kind in kind.into_iter().chain([Kind::MyisamIndex, Kind::Frm, Kind::Innodb, Kind::Sqlite]) {
                super::super::length(kind, &head);
                super::super::end(kind, &head);
            }
            for ext in ["wav", "wmv", "ico", "img", "7z", "zip", "jpg"] {
                super::super::length(Kind::Common { ext, folder: "x" }, &head);
                super::super::end(Kind::Common { ext, folder: "x" }, &head);
            }
        }
    }
}
