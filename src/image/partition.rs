//! Where the filesystem begins: finds it on the image of a whole disk, through its MBR or GPT partition table.

use crate::error::{Error, Result};
use gpt::disk::LogicalBlockSize;
use gpt::partition_types::OperatingSystem;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of a sector, tried in turn: partition tables count in the disk's own sectors, which its image does not tell.
const SECTOR_SIZES: [LogicalBlockSize; 2] = [LogicalBlockSize::Lb512, LogicalBlockSize::Lb4096];

/// Extended boot records that are followed before a chain of them is taken for a loop, as in block/partitions/msdos.c.
const EXTENDED_LIMIT: usize = 100;

/// Entries of a GPT that are looked at. Tools make 128; the gpt crate allocates what the header asks for.
const GPT_LIMIT: u32 = 4096;

/// A partition.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Partition {
    /// As the kernel counts them: `sda1` is 1, logical ones begin at 5.
    number: u32,
    /// First byte on the disk.
    start: u64,
    /// Bytes.
    len: u64,
    /// Whether the table says that it holds a Linux filesystem.
    linux: bool,
}

/// Finds the filesystem on `file`, which is `len` bytes long: returns its first byte and how many bytes it may have.
///
/// With `wanted`, that partition. Without, the whole file where a superblock stands at its start, else the only partition that has
/// one, else the only one that the table says is Linux's, since its superblock may be damaged. Without a table, again the whole file.
///
/// # Errors
/// [`Error::Usage`] where there is no such partition or more than one to choose from; [`Error::Image`] where no partition fits.
pub fn locate(path: &Path, file: &File, len: u64, wanted: Option<u32>) -> Result<(u64, u64)> {
    let whole = (0, len);
    if wanted.is_none() && has_superblock(file, 0) {
        return Ok(whole);
    }
    // The sector size under which the table leads to a filesystem, else the one under which there is a table at all.
    let tables = SECTOR_SIZES.map(|sector| read_table(file, len, sector));
    let leads = |table: &Vec<Partition>| table.iter().any(|part| has_superblock(file, part.start));
    let table = tables.iter().find(|table| leads(table)).or(tables.iter().find(|table| !table.is_empty()));
    let Some(table) = table else {
        return match wanted {
            Some(number) => Err(Error::Usage(format!("{} has no partition table, so no partition {number}", path.display()))),
            None => Ok(whole),
        };
    };
    let area = |part: &Partition| (part.start, part.len.min(len.saturating_sub(part.start)));
    if let Some(number) = wanted {
        return table
            .iter()
            .find(|part| part.number == number)
            .map(area)
            .ok_or_else(|| Error::Usage(format!("{} has no partition {number}; it has {}", path.display(), names(table.iter()))));
    }
    let with_superblock: Vec<_> = table.iter().filter(|part| has_superblock(file, part.start)).collect();
    let linux: Vec<_> = table.iter().filter(|part| part.linux).collect();
    match if with_superblock.is_empty() { &linux[..] } else { &with_superblock[..] } {
        [] => Err(Error::Image(format!(
            "{} is a whole disk, and no partition of it looks like ext2/3; it has {}. Choose one with --partition N, or give --offset BYTES",
            path.display(),
            names(table.iter())
        ))),
        [only] => Ok(area(only)),
        several => Err(Error::Usage(format!(
            "{} is a whole disk with {} partitions that may be meant; choose one with --partition N: {}",
            path.display(),
            several.len(),
            names(several.iter().copied())
        ))),
    }
}

/// `1 (512 MiB at byte 1048576), 2 (…)`.
fn names<'a>(parts: impl Iterator<Item = &'a Partition>) -> String {
    let name = |part: &Partition| format!("{} ({} MiB at byte {})", part.number, part.len >> 20, part.start);
    parts.map(name).collect::<Vec<_>>().join(", ")
}

/// Whether an ext superblock stands where one belongs in a filesystem that begins at byte `start`. Not that of an external journal.
pub fn has_superblock(file: &File, start: u64) -> bool {
    const OFFSET: u64 = 1024;
    let mut block = [0; 100];
    let Some(offset) = start.checked_add(OFFSET) else { return false };
    if file.read_exact_at(&mut block, offset).is_err() {
        return false;
    }
    let field = |at: usize| u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    // s_magic, s_blocks_count_lo, s_log_block_size (64 KiB is the largest), s_feature_incompat without INCOMPAT_JOURNAL_DEV.
    field(56) & 0xffff == 0xEF53 && field(4) > 0 && field(24) <= 6 && field(96) & 8 == 0
}

/// The partitions of a GPT, else of an MBR; those that begin beyond the image are left out. Empty where there is no table.
fn read_table(file: &File, len: u64, sector: LogicalBlockSize) -> Vec<Partition> {
    let mut parts = read_gpt(file, len, sector).unwrap_or_else(|| read_mbr(file, sector));
    parts.retain(|part| part.start < len && part.len > 0);
    parts.sort_by_key(|part| part.number);
    parts
}

/// The partitions of the primary GPT, or of its backup in the last sector; `None` where both are absent or damaged.
fn read_gpt(file: &File, len: u64, sector: LogicalBlockSize) -> Option<Vec<Partition>> {
    // The crate looks for a header in the second sector of what it is given: that of the disk, then that of its last two sectors.
    let last_two = len.checked_sub(len % sector.as_u64())?.checked_sub(2 * sector.as_u64())?;
    [0, last_two].into_iter().find_map(|base| {
        let header = gpt::header::read_header_from_arbitrary_device(&mut Window { file, base, at: 0 }, sector).ok()?;
        // The crate panics on other entry sizes, and would allocate any number of them.
        if header.part_size != 128 || header.num_parts > GPT_LIMIT {
            return None;
        }
        let entries = gpt::partition::file_read_partitions(&mut Window { file, base: 0, at: 0 }, &header, sector).ok()?;
        let parts = entries.into_iter().filter(|(_, entry)| entry.is_used()).filter_map(|(number, entry)| {
            let linux = entry.part_type_guid.os == OperatingSystem::Linux;
            Some(Partition { number, start: entry.bytes_start(sector).ok()?, len: entry.bytes_len(sector).ok()?, linux })
        });
        Some(parts.collect())
    })
}

/// The partitions of an MBR, logical ones included.
fn read_mbr(file: &File, sector: LogicalBlockSize) -> Vec<Partition> {
    const EMPTY: u8 = 0;
    const LINUX: u8 = 0x83;
    const PROTECTIVE: u8 = 0xEE;
    let bytes = sector.as_u64();
    let Some(table) = read_boot_record(file, 0) else { return Vec::new() };
    let mut parts = Vec::new();
    let mut extended = Vec::new();
    for (number, entry) in table.iter() {
        let start = u64::from(entry.starting_lba) * bytes;
        if entry.is_extended() {
            extended.push(start);
        } else if entry.sys != EMPTY && entry.sys != PROTECTIVE {
            parts.push(Partition { number: number as u32, start, len: u64::from(entry.sectors) * bytes, linux: entry.sys == LINUX });
        }
    }
    let mut number = 5;
    for origin in extended {
        // A chain of records, each with one partition (counted from the record) and the next record (counted from the first).
        let mut next = Some(origin);
        for _ in 0..EXTENDED_LIMIT {
            let Some(record) = next.take() else { break };
            let Some(table) = read_boot_record(file, record) else { break };
            for (_, entry) in table.iter().take(2) {
                let start = u64::from(entry.starting_lba) * bytes;
                if entry.is_extended() {
                    next = Some(origin + start);
                } else if entry.sys != EMPTY && entry.sectors > 0 {
                    let len = u64::from(entry.sectors) * bytes;
                    parts.push(Partition { number, start: record + start, len, linux: entry.sys == LINUX });
                    number += 1;
                }
            }
        }
    }
    parts
}

/// The boot record (master or extended) at byte `at`. Sums of its 32-bit sector numbers times the sector size stay far below 2^64.
fn read_boot_record(file: &File, at: u64) -> Option<mbrman::MBRHeader> {
    let mut sector = [0; 512];
    file.read_exact_at(&mut sector, at).ok()?;
    mbrman::MBRHeader::read_from(&mut Cursor::new(sector)).ok()
}

/// A part of a file, from `base` to its end, that is read with `pread` and so leaves the file's own position alone.
struct Window<'a> {
    file: &'a File,
    base: u64,
    at: u64,
}

impl Read for Window<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let offset = self.base.checked_add(self.at).ok_or(io::ErrorKind::InvalidInput)?;
        let count = self.file.read_at(buf, offset)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Window<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(_) => None,
        }
        .ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
