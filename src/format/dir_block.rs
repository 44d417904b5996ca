//! Folder blocks: entries of `struct ext3_dir_entry_2`, and what removed entries leave in the slack between them.

use crate::units::Ino;

/// `file_type` of a folder (`EXT3_FT_DIR`).
pub const FT_DIR: u8 = 2;
/// `file_type` of the checksum tail (`EXT4_FT_DIR_CSUM`).
const FT_DIR_CSUM: u8 = 0xDE;
const NAME_OFFSET: usize = 8;

/// One entry, live or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry<'a> {
    /// Byte in the block.
    pub offset: usize,
    /// The inode that it names.
    pub ino: Ino,
    /// Raw name, 1 to 255 bytes.
    pub name: &'a [u8],
    /// `file_type`; 0 where the filesystem has none.
    pub file_type: u8,
    /// Whether it was removed: it stands in another entry's slack.
    pub removed: bool,
}

/// A folder block taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirBlock<'a> {
    /// Inode of `.`, if this is a folder's first block.
    pub dot: Option<Ino>,
    /// Inode of `..`, likewise.
    pub dotdot: Option<Ino>,
    /// All other entries in the order in which they stand.
    pub entries: Vec<Entry<'a>>,
    /// The block's first entry, if it was removed by a kernel that takes only its inode number (`ext3_delete_entry`: there
    /// is none before it that could take its space).
    pub anonymous: Option<Anonymous<'a>>,
}

/// An entry that lost its inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anonymous<'a> {
    /// Raw name.
    pub name: &'a [u8],
    /// `file_type`; 0 where the filesystem has none.
    pub file_type: u8,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?).into())
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// `ext3_rec_len_from_disk`: 65,535 and 0 stand for 65,536 with 64 KiB blocks.
fn rec_len(bytes: &[u8], at: usize) -> Option<usize> {
    let raw = u16_at(bytes, at + 4)?;
    Some(if bytes.len() == 65536 && (raw == 65535 || raw == 0) { 65536 } else { raw })
}

/// `EXT3_DIR_REC_LEN`.
const fn used_len(name_len: usize) -> usize {
    (NAME_OFFSET + name_len).next_multiple_of(4)
}

/// Whether a name can stand in a folder.
fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && !name.contains(&0) && !name.contains(&b'/')
}

/// The entry at `at`, if its name lies within `end` and its inode is at most `inodes`. `file_type` is the high byte of
/// `name_len` where the filesystem has no types, and must be a known type where it has.
fn entry(bytes: &[u8], at: usize, end: usize, inodes: u32, removed: bool) -> Option<Entry<'_>> {
    let ino = u32_at(bytes, at)?;
    let (name_len, file_type) = (usize::from(*bytes.get(at + 6)?), *bytes.get(at + 7)?);
    let name = bytes.get(at + NAME_OFFSET..at + NAME_OFFSET + name_len)?;
    (at + used_len(name_len) <= end && ino != 0 && ino <= inodes && file_type <= 7 && is_name(name)).then_some(Entry {
        offset: at,
        ino: Ino(ino),
        name,
        file_type,
        removed,
    })
}

impl<'a> DirBlock<'a> {
    /// Takes a block apart. `None` unless it is a folder block throughout: entries tile it exactly, each with a
    /// legal length and name, and at least one of them, or of the removed, has a name.
    /// Where the block is the root or a node of a hash tree (fs/ext3/namei.c, `struct dx_root`), only `.` and `..` are entries.
    pub fn parse(bytes: &'a [u8], inodes: u32) -> Option<DirBlock<'a>> {
        let mut block = DirBlock { dot: None, dotdot: None, entries: vec![], anonymous: None };
        let mut at = 0;
        while at < bytes.len() {
            let length = rec_len(bytes, at)?;
            let end = at.checked_add(length)?;
            if length < 12 || length % 4 != 0 || end > bytes.len() {
                return None;
            }
            let ino = u32_at(bytes, at)?;
            let (name_len, file_type) = (usize::from(bytes[at + 6]), bytes[at + 7]);
            if used_len(name_len) > length || ino > inodes || file_type > 7 && !(ino == 0 && file_type == FT_DIR_CSUM) {
                return None;
            }
            let mut slack = at + used_len(name_len);
            let name = &bytes[at + NAME_OFFSET..at + NAME_OFFSET + name_len];
            if ino != 0 {
                match name {
                    b"." if at == 0 => block.dot = Some(Ino(ino)),
                    b".." if at == 12 && block.dot.is_some() => {
                        block.dotdot = Some(Ino(ino));
                        if is_hash_root(bytes, slack) {
                            return Some(block);
                        }
                    }
                    _ if is_name(name) && name != b"." && name != b".." => {
                        block.entries.push(Entry { offset: at, ino: Ino(ino), name, file_type, removed: false });
                    }
                    _ => return None,
                }
            } else if name_len == 0 {
                // Emptied by a kernel that wipes, or never used: whatever was here begins at the entry itself.
                slack = at + 12;
            } else if at == 0 && file_type <= 7 && is_name(name) && name != b"." && name != b".." {
                block.anonymous = Some(Anonymous { name, file_type });
            }
            while slack + 12 <= end {
                match entry(bytes, slack, end, inodes, true) {
                    Some(removed) => {
                        slack += used_len(removed.name.len());
                        block.entries.push(removed);
                    }
                    None => slack += 4,
                }
            }
            at = end;
        }
        (block.dot.is_some() || !block.entries.is_empty() || block.anonymous.is_some()).then_some(block)
    }

    /// Entries that were live when the block was written.
    pub fn live(&self) -> impl Iterator<Item = &Entry<'a>> {
        self.entries.iter().filter(|entry| !entry.removed)
    }
}

/// `struct dx_root_info` behind `..`: reserved_zero, hash_version, info_length 8, indirect_levels.
fn is_hash_root(bytes: &[u8], at: usize) -> bool {
    matches!(bytes.get(at..at + 8), Some([0, 0, 0, 0, version, 8, levels, _]) if *version <= 6 && *levels <= 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block of (inode, rec_len, name) entries; names in the slack are placed by hand.
    fn block(size: usize, entries: &[(u32, usize, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; size];
        let mut at = 0;
        for (ino, length, name) in entries {
            put(&mut bytes, at, *ino, *length, name);
            at += length;
        }
        bytes
    }

    fn put(bytes: &mut [u8], at: usize, ino: u32, length: usize, name: &[u8]) {
        bytes[at..at + 4].copy_from_slice(&ino.to_le_bytes());
        bytes[at + 4..at + 6].copy_from_slice(&(length as u16).to_le_bytes());
        bytes[at + 6] = name.len() as u8;
        bytes[at + 7] = 1;
        bytes[at + 8..at + 8 + name.len()].copy_from_slice(name);
    }

    #[test]
    fn live_and_removed() {
        let mut bytes = block(1024, &[(12, 12, b"."), (2, 12, b".."), (13, 1000, b"keep")]);
        put(&mut bytes, 24 + 12, 14, 16, b"gone one");
        put(&mut bytes, 24 + 12 + 16, 15, 12, b"two");
        let parsed = DirBlock::parse(&bytes, 100).unwrap();
        assert_eq!((parsed.dot, parsed.dotdot), (Some(Ino(12)), Some(Ino(2))));
        let names: Vec<_> = parsed.entries.iter().map(|e| (e.ino.0, e.name, e.removed)).collect();
        assert_eq!(names, [(13, &b"keep"[..], false), (14, b"gone one", true), (15, b"two", true)]);
    }

    #[test]
    fn first_entry_without_inode() {
        let mut bytes = block(1024, &[(0, 1012, b"first"), (13, 12, b"kept")]);
        put(&mut bytes, 16, 14, 12, b"two");
        let parsed = DirBlock::parse(&bytes, 100).unwrap();
        assert_eq!(parsed.anonymous, Some(Anonymous { name: b"first", file_type: 1 }));
        assert_eq!(parsed.entries.iter().map(|e| (e.ino.0, e.removed)).collect::<Vec<_>>(), [(14, true), (13, false)]);
        // Only a first entry is not merged into the one before it; elsewhere such an entry was made in other ways.
        assert_eq!(DirBlock::parse(&block(1024, &[(13, 12, b"kept"), (0, 1012, b"not")]), 100).unwrap().anonymous, None);
        assert!(DirBlock::parse(&block(1024, &[(0, 1024, b"alone")]), 100).is_some());
        assert_eq!(DirBlock::parse(&block(1024, &[(0, 1024, b"a/b")]), 100), None);
    }

    #[test]
    fn hash_tree_root_has_no_other_entries() {
        let mut bytes = block(1024, &[(12, 12, b"."), (2, 1012, b"..")]);
        bytes[24 + 4] = 1;
        bytes[24 + 5] = 8;
        put(&mut bytes, 100, 14, 16, b"looks so");
        assert!(DirBlock::parse(&bytes, 100).unwrap().entries.is_empty());
    }

    #[test]
    fn refuses_what_is_no_folder() {
        assert_eq!(DirBlock::parse(&[0; 1024], 100), None);
        for entries in [
            &[(12u32, 1020usize, &b"a"[..])][..],
            &[(12, 10, b"a"), (13, 1014, b"b")],
            &[(101, 1024, b"a")],
            &[(12, 1024, b"a/b")],
            &[(12, 12, b"too long a name"), (13, 1012, b"b")],
        ] {
            assert_eq!(DirBlock::parse(&block(1024, entries), 100), None, "{entries:?}");
        }
        assert!(DirBlock::parse(&block(1024, &[(0, 1024, b"")]), 100).is_none());
    }
}
