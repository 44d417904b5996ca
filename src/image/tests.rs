use super::*;
use gpt::disk::LogicalBlockSize;
use std::io::Write;
use tempfile::{NamedTempFile, tempdir};

const MIB: u64 = 1 << 20;

/// A sparse file of `len` bytes with ext superblocks for filesystems that begin at `starts`.
fn disk(len: u64, starts: &[u64]) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(len).unwrap();
    for start in starts {
        let mut block = [0; 1024];
        block[4..8].copy_from_slice(&1000u32.to_le_bytes());
        block[56..58].copy_from_slice(&[0x53, 0xEF]);
        file.as_file().write_all_at(&block, start + 1024).unwrap();
    }
    file
}

/// Writes an MBR or extended boot record at byte `at`: type, first sector and sectors of each entry.
fn boot_record(file: &NamedTempFile, at: u64, entries: &[(u8, u32, u32)]) {
    let mut sector = [0; 512];
    for (entry, (kind, start, sectors)) in sector[446..510].chunks_exact_mut(16).zip(entries) {
        entry[4] = *kind;
        entry[8..12].copy_from_slice(&start.to_le_bytes());
        entry[12..16].copy_from_slice(&sectors.to_le_bytes());
    }
    sector[510..].copy_from_slice(&[0x55, 0xAA]);
    file.as_file().write_all_at(&sector, at).unwrap();
}

fn open(file: &NamedTempFile) -> Result<Image> {
    Image::open(&ImageOptions::new(file.path()))
}

fn open_partition(file: &NamedTempFile, number: u32) -> Result<Image> {
    Image::open(&ImageOptions { partition: Some(number), ..ImageOptions::new(file.path()) })
}

fn area(image: Result<Image>) -> (u64, u64) {
    image.map(|image| (image.base(), image.len())).unwrap()
}

#[test]
fn a_filesystem_at_the_start_wins_over_any_table() {
    let file = disk(10 * MIB, &[0, MIB]);
    boot_record(&file, 0, &[(0x83, 2048, 2048)]);
    assert_eq!(area(open(&file)), (0, 10 * MIB));
    assert_eq!(area(open_partition(&file, 1)), (MIB, MIB));
    assert_eq!(area(Image::open(&ImageOptions { offset: Some(5), ..ImageOptions::new(file.path()) })), (5, 10 * MIB - 5));
}

#[test]
fn the_only_ext_partition_of_an_mbr_is_taken() {
    let file = disk(10 * MIB, &[4 * MIB]);
    boot_record(&file, 0, &[(0x83, 2048, 2048), (0x07, 8192, 4096)]);
    assert_eq!(area(open(&file)), (4 * MIB, 2 * MIB));
}

#[test]
fn a_partition_that_the_image_cuts_off_ends_with_the_image() {
    let file = disk(5 * MIB, &[4 * MIB]);
    boot_record(&file, 0, &[(0x83, 8192, 1 << 31)]);
    assert_eq!(area(open(&file)), (4 * MIB, MIB));
}

#[test]
fn several_ext_partitions_are_named() {
    let file = disk(10 * MIB, &[MIB, 4 * MIB]);
    boot_record(&file, 0, &[(0x83, 2048, 2048), (0x83, 8192, 4096)]);
    let Err(Error::Usage(text)) = open(&file) else { panic!() };
    assert!(text.contains("--partition") && text.contains("1 (1 MiB at byte 1048576), 2 (2 MiB at byte 4194304)"), "{text}");
    let Err(Error::Usage(text)) = open_partition(&file, 3) else { panic!() };
    assert!(text.contains("no partition 3"), "{text}");
}

#[test]
fn a_linux_partition_without_superblock_may_have_a_backup() {
    let file = disk(10 * MIB, &[]);
    boot_record(&file, 0, &[(0x07, 2048, 2048), (0x83, 8192, 4096)]);
    assert_eq!(area(open(&file)), (4 * MIB, 2 * MIB));
    boot_record(&file, 0, &[(0x07, 2048, 2048)]);
    let Err(Error::Image(text)) = open(&file) else { panic!() };
    assert!(text.contains("no partition of it looks like ext2/3"), "{text}");
}

#[test]
fn logical_partitions_count_from_5() {
    let file = disk(10 * MIB, &[6 * MIB]);
    boot_record(&file, 0, &[(0x83, 2048, 2048), (0x05, 4096, 16384)]);
    boot_record(&file, 2 * MIB, &[(0x83, 2048, 2048), (0x05, 6144, 4096)]);
    boot_record(&file, 5 * MIB, &[(0x83, 2048, 2048)]);
    assert_eq!(area(open(&file)), (6 * MIB, MIB));
    assert_eq!(area(open_partition(&file, 5)), (3 * MIB, MIB));
    assert_eq!(area(open_partition(&file, 6)), (6 * MIB, MIB));
}

#[test]
fn extended_records_in_a_ring_and_with_hostile_numbers_end() {
    let file = disk(10 * MIB, &[]);
    boot_record(&file, 0, &[(0x05, 4096, 16384)]);
    boot_record(&file, 2 * MIB, &[(0x83, u32::MAX, u32::MAX), (0x05, 0, 4096)]);
    assert_eq!(area(open(&file)), (0, 10 * MIB));
    boot_record(&file, 2 * MIB, &[(0x83, 2048, 2048), (0x05, u32::MAX, 4096)]);
    assert_eq!(area(open(&file)), (3 * MIB, MIB));
}

/// A GPT disk with one Linux partition of 2 MiB, its own start returned.
fn gpt_disk(sector: LogicalBlockSize) -> (NamedTempFile, u64) {
    let file = disk(10 * MIB, &[]);
    let mut table =
        gpt::GptConfig::new().writable(true).logical_block_size(sector).create_from_device(file.reopen().unwrap(), None).unwrap();
    let number = table.add_partition("data", 2 * MIB, gpt::partition_types::LINUX_FS, 0, None).unwrap();
    let start = table.partitions()[&number].bytes_start(sector).unwrap();
    table.write().unwrap();
    (file, start)
}

#[test]
fn gpt_with_either_sector_size_and_from_its_backup() {
    for sector in [LogicalBlockSize::Lb512, LogicalBlockSize::Lb4096] {
        let (file, start) = gpt_disk(sector);
        assert_eq!(area(open(&file)), (start, 2 * MIB));
        file.as_file().write_all_at(&[0; 4096], sector.as_u64()).unwrap();
        assert_eq!(area(open_partition(&file, 1)), (start, 2 * MIB), "from the backup");
    }
}

#[test]
fn a_hostile_gpt_is_no_table() {
    let (file, _) = gpt_disk(LogicalBlockSize::Lb512);
    let mut header = [0; 512];
    for (at, value) in [(80, u32::MAX), (84, 256)] {
        for place in [512, 10 * MIB - 512] {
            file.as_file().read_exact_at(&mut header, place).unwrap();
            header[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
            header[16..20].fill(0);
            let checksum = crc32(&header[..92]);
            header[16..20].copy_from_slice(&checksum.to_le_bytes());
            file.as_file().write_all_at(&header, place).unwrap();
        }
        assert_eq!(area(open(&file)), (0, 10 * MIB));
    }
}

/// CRC-32 as GPT headers have it, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes
        .iter()
        .fold(!0u32, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 }))
}

#[test]
fn what_is_no_image_gets_one_clear_line() {
    let folder = tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    let packed = folder.path().join("disk.img.gz");
    std::fs::write(&packed, b"\x1f\x8b\x08\0").unwrap();
    let empty = folder.path().join("empty");
    File::create(&empty).unwrap();
    for (path, word) in [
        (folder.path(), "is a folder"),
        (&fifo, "not a file or block device"),
        (Path::new("/dev/null"), "not a file or block device"),
        (&folder.path().join("absent"), "no such file"),
        (&packed, "gunzip"),
        (&empty, "is empty"),
    ] {
        let Err(Error::Image(text)) = Image::open(&ImageOptions::new(path)) else { panic!("{path:?}") };
        assert!(text.contains(word) && !text.contains('\n'), "{text}");
    }
    let file = disk(MIB, &[]);
    for (options, word) in [
        (ImageOptions { offset: Some(MIB), ..ImageOptions::new(file.path()) }, "beyond the end"),
        (ImageOptions { partition: Some(1), ..ImageOptions::new(file.path()) }, "no partition table"),
        (ImageOptions { partition: Some(1), offset: Some(0), ..ImageOptions::new(file.path()) }, "exclude each other"),
        (ImageOptions { mapfile: Some("/absent".into()), ..ImageOptions::new(file.path()) }, "mapfile"),
    ] {
        let Err(Error::Usage(text)) = Image::open(&options) else { panic!("{options:?}") };
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn bytes_count_from_the_filesystems_start_and_end_with_it() {
    let file = disk(4 * MIB, &[]);
    file.as_file().write_all_at(b"hello", MIB).unwrap();
    for io in [Io::Map, Io::Pread] {
        let image = Image::open(&ImageOptions { offset: Some(MIB), io, ..ImageOptions::new(file.path()) }).unwrap();
        let mut buf = [0; 5];
        image.read_exact_at(&mut buf, 0).unwrap();
        assert_eq!(&buf, b"hello");
        image.read_exact_at(&mut buf, 3 * MIB - 5).unwrap();
        for offset in [3 * MIB - 4, u64::MAX - 2] {
            assert_eq!(image.read_exact_at(&mut buf, offset).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
            assert!(image.slice(offset, 5).is_none());
            image.will_need(offset, MIB);
        }
        assert_eq!(image.slice(3 * MIB - 5, 5).map(<[u8]>::len), (io == Io::Map).then_some(5));
        assert!(!image.holds(Path::new("/proc")).unwrap());
    }
}

#[test]
fn an_image_that_shrinks_gives_errors() {
    let file = disk(4 * MIB, &[]);
    let image = open(&file).unwrap();
    file.as_file().set_len(MIB).unwrap();
    let mut buf = [0; 5];
    image.read_exact_at(&mut buf, 0).unwrap();
    assert_eq!(image.read_exact_at(&mut buf, 2 * MIB).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    // The kernel reads through the map, and says that it cannot.
    let mut sink = tempfile::tempfile().unwrap();
    let error = sink.write_all(image.slice(2 * MIB, 5).unwrap()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EFAULT));
    image.will_need(2 * MIB, MIB);
}

#[test]
fn what_the_mapfile_does_not_call_rescued_cannot_be_read() {
    let file = disk(4 * MIB, &[]);
    let mut mapfile = NamedTempFile::new().unwrap();
    mapfile.write_all(b"0 +\n0 0x180000 +\n0x180000 0x1000 -\n0x181000 0x27f000 +\n").unwrap();
    let options = ImageOptions { offset: Some(MIB), mapfile: Some(mapfile.path().into()), ..ImageOptions::new(file.path()) };
    let image = Image::open(&options).unwrap();
    let mut buf = [0; 4096];
    image.read_exact_at(&mut buf, 0x7f000).unwrap();
    image.read_exact_at(&mut buf, 0x81000).unwrap();
    for offset in [0x80000, 0x7f001, 0x80fff] {
        assert!(image.is_unread(offset, 4096) && image.slice(offset, 4096).is_none());
        assert_eq!(image.read_exact_at(&mut buf, offset).unwrap_err().kind(), io::ErrorKind::Other);
    }
    assert!(image.slice(0x7f000, 4096).is_some());
}

#[test]
fn holes_of_the_image_file_are_skipped() {
    let file = disk(16 * MIB, &[]);
    file.as_file().write_all_at(b"x", 8 * MIB).unwrap();
    let image = Image::open(&ImageOptions { offset: Some(MIB), ..ImageOptions::new(file.path()) }).unwrap();
    let data = image.next_data(0).unwrap();
    assert!(data <= 7 * MIB);
    assert_eq!(image.next_data(7 * MIB), Some(7 * MIB));
    assert_eq!(image.next_data(15 * MIB), None);
    if data == 7 * MIB {
        assert_eq!(image.next_data(8 * MIB), None, "only a hole follows");
    }
}
