//! How long a file is, from its own bytes.

use super::bytes::{be32, le32, le64};
use super::myisam::{frm, header};
use super::{Kind, innodb, sqlite};
use crate::format::superblock;

/// Exact bytes of the whole file where its first block says so, by format:
///
/// | format | from |
/// |---|---|
/// | `.MYI` | `state.key_file_length` (mi_open.c). It says its `.MYD`'s length too: [`header::Header::data_file_length`] |
/// | `.ibd` | `FSP_SIZE` × page size (fsp0fsp.h) |
/// | `.frm` | bytes 10-13, MariaDB 10.0 and later (sql/unireg.cc) |
/// | SQLite | page size × pages, if change counter and version-valid-for agree (fileformat.html 1.3.7) |
/// | wav, webp | RIFF size + 8; aiff: FORM size + 8; djvu: + 12. Not avi: above 1 GB it is several RIFFs |
/// | bmp | `bfSize` |
/// | 7z | 32 + offset + size of the end header (7zFormat.txt) |
/// | cab | `cbCabinet` ([MS-CAB] 2.1) |
/// | woff, woff2 | `length` (W3C WOFF 1.0 §3, 2.0 §4) |
/// | dex | `file_size` (dex-format) |
/// | swf | `FileLength`, if it is not compressed |
/// | wmv | File Size of the File Properties Object (ASF specification 3.2) |
/// | dsf | total file size (DSF specification) |
/// | ico | where the last image ends |
/// | filesystem image | `s_blocks_count` × block size (the partition may be a little longer) |
///
/// `None` for all others, zip, gzip, tar, JPEG and MP4 among them: see [`end`] for those that say it at their end.
pub fn length(kind: Kind, head: &[u8]) -> Option<u64> {
    match kind {
        Kind::MyisamIndex => header::Header::parse(head).map(|h| h.key_file_length),
        Kind::Frm => frm::Definition::parse(head)?.length.map(u64::from),
        Kind::Innodb => innodb::Space::parse(head).map(|s| s.length()),
        Kind::Sqlite => sqlite::Database::parse(head)?.length(),
        Kind::MyisamDynamic | Kind::MyisamFixed | Kind::MyisamPacked => None,
        Kind::Common { ext, .. } => common(ext, head),
    }
    .filter(|&length| length > 0)
}

fn common(ext: &str, head: &[u8]) -> Option<u64> {
    // Writers that could not seek back leave 0 or all ones.
    let known = |size: u32| (size != 0 && size != u32::MAX).then_some(u64::from(size));
    let chunks = |size: u64, header: u64| size.checked_add(header);
    match ext {
        "wav" | "webp" => chunks(known(le32(head, 4)?)?, 8),
        "aiff" => chunks(known(be32(head, 4)?)?, 8),
        "djvu" => chunks(known(be32(head, 8)?)?, 12),
        "bmp" => known(le32(head, 2)?),
        "7z" => le64(head, 12)?.checked_add(le64(head, 20)?)?.checked_add(32).filter(|&length| length > 32 && length < 1 << 48),
        "cab" => known(le32(head, 8)?),
        "woff" | "woff2" => known(be32(head, 8)?),
        "dex" => known(le32(head, 32)?),
        "swf" if head.starts_with(b"FWS") => known(le32(head, 4)?),
        "wmv" => windows_media(head),
        "dsf" => le64(head, 12),
        "ico" => icon(head),
        "img" => {
            superblock::Superblock::parse(head.get(superblock::OFFSET as usize..)?).ok().and_then(|s| s.blocks.checked_mul(s.block_size))
        }
        _ => None,
    }
}

/// ASF_File_Properties_Object, as it stands in the file.
const FILE_PROPERTIES: [u8; 16] = [0xa1, 0xdc, 0xab, 0x8c, 0x47, 0xa9, 0xcf, 0x11, 0x8e, 0xe4, 0x00, 0xc0, 0x0c, 0x20, 0x53, 0x65];

fn windows_media(head: &[u8]) -> Option<u64> {
    // The header object's own 30 bytes, then objects of GUID, size and data.
    let mut at = 30;
    while let Some(guid) = head.get(at..at + 16) {
        if guid == FILE_PROPERTIES {
            return le64(head, at + 40);
        }
        at = at.checked_add(usize::try_from(le64(head, at + 16)?).ok().filter(|size| (24..1 << 32).contains(size))?)?;
    }
    None
}

fn icon(head: &[u8]) -> Option<u64> {
    let count = usize::from(super::bytes::le16(head, 4)?);
    let ends = (0..count).map(|n| Some(u64::from(le32(head, 14 + 16 * n)?) + u64::from(le32(head, 18 + 16 * n)?)));
    ends.collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// Where in its last block (or the last few) a file ends that says so at its end: bytes of `tail` that belong to it. The rest
/// must be zeros, as the kernel leaves them, so that a mark in the middle of the file does not count.
///
/// PNG `IEND`, JPEG `EOI`, GIF trailer, zip end of central directory with its comment, PDF `%%EOF`, text. Not gzip, tar or MP4:
/// nothing in their last bytes says that these are the last.
pub fn end(kind: Kind, tail: &[u8]) -> Option<usize> {
    let used = tail.iter().rposition(|&byte| byte != 0)? + 1;
    let ends = |mark: &[u8]| tail[..used].ends_with(mark).then_some(used);
    match kind.ext() {
        "png" => ends(&[0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82]),
        "jpg" => ends(&[0xff, 0xd9]),
        "gif" => ends(&[0, 0x3b]),
        "pdf" => ends(b"%%EOF").or_else(|| ends(b"%%EOF\n")).or_else(|| ends(b"%%EOF\r\n")).or_else(|| ends(b"%%EOF\r")),
        "zip" | "docx" | "xlsx" | "pptx" | "odt" | "ods" | "odp" | "epub" | "ora" => zip_end(tail, used),
        _ if kind.folder() == "text" => Some(used),
        _ => None,
    }
}

/// The end of central directory record (APPNOTE.TXT 4.3.16): 22 bytes and a comment, whose length may end in zeros.
fn zip_end(tail: &[u8], used: usize) -> Option<usize> {
    let at = tail.windows(4).rposition(|w| w == b"PK\x05\x06")?;
    let end = at + 22 + usize::from(super::bytes::le16(tail, at + 20)?);
    (end >= used && end <= tail.len()).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::identify;

    /// `bytes` at `at`, zeros elsewhere, 256 bytes.
    fn head(parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut head = vec![0; 256];
        for (at, bytes) in parts {
            head[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        head
    }

    #[test]
    fn lengths_in_the_head() {
        for (bytes, ext, expected) in [
            (head(&[(0, b"RIFF\x24\x10\0\0WAVEfmt ")]), "wav", Some(0x1024 + 8)),
            (head(&[(0, b"RIFF\xff\xff\xff\xffWAVEfmt ")]), "wav", None),
            (head(&[(0, b"RIFF\x24\x10\0\0AVI LIST")]), "avi", None),
            (head(&[(0, b"FORM\0\0\x10\x24AIFFCOMM")]), "aiff", Some(0x1024 + 8)),
            (head(&[(0, b"BM\x36\x10"), (10, &[54]), (14, &[40])]), "bmp", Some(0x1036)),
            (head(&[(0, b"7z\xbc\xaf\x27\x1c\0\x04"), (12, &[0, 1]), (20, &[50])]), "7z", Some(32 + 256 + 50)),
            (head(&[(0, b"MSCF"), (8, &[0, 2])]), "cab", Some(512)),
            (head(&[(0, b"wOFF\0\x01\0\0\0\0\x01\0")]), "woff", Some(256)),
            (head(&[(0, &[0, 0, 1, 0, 1, 0, 16, 16, 0, 0, 1, 0, 32, 0, 0x68, 4, 0, 0, 22])]), "ico", Some(0x468 + 22)),
            (
                head(&[
                    (0, &[0x30, 0x26, 0xb2, 0x75, 0x8e, 0x66, 0xcf, 0x11, 0xa6, 0xd9]),
                    (30, &FILE_PROPERTIES),
                    (46, &[104]),
                    (70, &[0, 0, 1]),
                ]),
                "wmv",
                Some(65536),
            ),
            (head(&[(0, b"PK\x03\x04\x14\0\0\0\x08\0")]), "zip", None),
        ] {
            let kind = identify(&bytes).unwrap_or_else(|| panic!("{ext}"));
            assert_eq!((kind.ext(), length(kind, &bytes)), (ext, expected));
        }
    }

    #[test]
    fn ends() {
        const fn common(ext: &'static str) -> Kind {
            Kind::Common { ext, folder: if matches!(ext.as_bytes(), b"txt") { "text" } else { "x" } }
        }
        let zip = [&b"PK\x05\x06"[..], &[0; 16], &[3, 0, b'a', 0, 0, 0, 0]].concat();
        for (ext, tail, expected) in [
            ("jpg", &[1, 0xff, 0xd9, 0, 0][..], Some(3)),
            ("jpg", &[1, 0xff, 0xd9, 7, 0], None),
            ("png", b"\0\0\0\0IEND\xaeB`\x82\0\0", Some(12)),
            ("gif", &[9, 0, 0x3b], Some(3)),
            ("pdf", b"x%%EOF\n\0\0", Some(7)),
            ("txt", b"the end\n\0\0\0", Some(8)),
            ("zip", &zip, Some(25)),
            ("gz", &[1, 2, 0], None),
            ("jpg", &[0; 9], None),
            ("jpg", &[], None),
        ] {
            assert_eq!(end(common(ext), tail), expected, "{ext} {tail:?}");
        }
    }
}
