//! Images that the old ext3 driver wrote, put together from the bundles in `tests/data/old-ext3`.

use super::{folder, root};
use serde::Deserialize;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Contents are made in blocks of this size, whatever the filesystem's is.
const CONTENT: u64 = 4096;

/// An image and what it lost.
pub struct Bundle {
    pub image: PathBuf,
    pub block_size: u64,
    pub truth: Truth,
    pub after: Vec<After>,
}

#[derive(Deserialize)]
pub struct Truth {
    #[serde(rename = "bs")]
    pub block_size: u64,
    pub files: Vec<Written>,
    /// Files that were removed to make holes in free space before the loss; where they were is not known.
    pub early: Vec<Early>,
}

#[derive(Deserialize)]
pub struct Written {
    pub path: String,
    pub id: u64,
    pub wav: u64,
    pub size: u64,
    pub deleted: Deleted,
    pub inode: u32,
    pub data: Vec<(u64, u64, u64)>,
    pub ind: Vec<(u8, u64, u64)>,
}

#[derive(Deserialize)]
pub struct Early {
    pub path: String,
    pub id: u64,
    pub wav: u64,
    pub size: u64,
}

/// `true`, `false`, or how it was cut.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum Deleted {
    Removed(bool),
    Cut(String),
}

impl Written {
    pub fn is_lost(&self) -> bool {
        !matches!(self.deleted, Deleted::Removed(false))
    }
}

/// What the loss left of a file.
#[derive(Deserialize)]
pub struct After {
    pub path: String,
    pub data_blocks_intact: u64,
}

fn splitmix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// The content block `number` of the file `id`; `wav` is the size that its header tells, 0 if it has none.
fn content(id: u64, number: u64, wav: u64) -> Vec<u8> {
    let mut state = splitmix(id.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ splitmix(number)).max(1);
    let mut words = vec![id, number];
    words.extend((2..CONTENT / 8).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }));
    let mut bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
    if wav > 0 && number == 0 {
        let (wav, mut head) = (wav as u32, b"RIFF".to_vec());
        head.extend((wav - 8).to_le_bytes());
        head.extend(b"WAVEfmt \x10\0\0\0\x01\0\x02\0");
        [44100, 176_400u32].into_iter().for_each(|rate| head.extend(rate.to_le_bytes()));
        head.extend(b"\x04\0\x10\0data");
        head.extend((wav - 44).to_le_bytes());
        bytes[..44].copy_from_slice(&head);
        bytes[48..56].copy_from_slice(&id.to_le_bytes());
    }
    bytes
}

/// `length` bytes of a file from `offset` on, zeros past its end.
pub fn bytes_of(id: u64, wav: u64, size: u64, offset: u64, length: u64) -> Vec<u8> {
    let (first, end) = (offset / CONTENT, (offset + length).div_ceil(CONTENT));
    let whole: Vec<u8> = (first..end).flat_map(|number| content(id, number, wav)).collect();
    let from = (offset - first * CONTENT) as usize;
    let mut bytes = whole[from..from + length as usize].to_vec();
    let inside = size.saturating_sub(offset).min(length) as usize;
    bytes[inside..].fill(0);
    bytes
}

/// Puts the contents into the image: each line is physical block, count, id, wav, size, file block.
fn hydrate(image: &File, runs: &Path, block_size: u64) -> io::Result<()> {
    for line in fs::read_to_string(runs)?.lines() {
        let numbers: Vec<u64> = line.split_whitespace().map(|word| word.parse().expect("runs are numbers")).collect();
        let [physical, count, id, wav, size, first] = numbers[..] else { panic!("{line}: not a run") };
        for at in (0..count).step_by(1024) {
            let bytes = bytes_of(id, wav, size, (first + at) * block_size, (count - at).min(1024) * block_size);
            image.write_all_at(&bytes, (physical + at) * block_size)?;
        }
    }
    Ok(())
}

/// Copies, zeros as holes.
fn copy_sparse(mut from: impl Read, to: &Path, length: u64) -> io::Result<()> {
    let mut out = File::create(to)?;
    out.set_len(length)?;
    let mut piece = vec![];
    while from.by_ref().take(1 << 16).read_to_end(&mut piece)? > 0 {
        match piece.iter().all(|byte| *byte == 0) {
            true => out.seek(SeekFrom::Current(piece.len() as i64)).map(|_| ())?,
            false => out.write_all(&piece)?,
        }
        piece.clear();
    }
    Ok(())
}

fn unpack(bundle: &Path, name: &str, folder: &Path) -> io::Result<()> {
    let temporary = tempfile::tempdir_in(folder)?;
    let mut archive = tar::Archive::new(zstd::Decoder::new(File::open(bundle)?)?);
    for entry in archive.entries()? {
        let entry = entry?;
        let to = temporary.path().join(entry.path()?.file_name().expect("entries are files"));
        if !to.to_string_lossy().contains(".pre.") {
            let length = entry.size();
            copy_sparse(entry, &to, length)?;
        }
    }
    let part = |suffix: &str| temporary.path().join(format!("{name}{suffix}"));
    let block_size = serde_json::from_slice::<Truth>(&fs::read(part(".truth.json"))?)?.block_size;
    hydrate(&File::options().write(true).open(part(".skel.img"))?, &part(".runs"), block_size)?;
    // The image gets its name last: once it is there, all is.
    for (from, to) in [(".truth.json", ".truth.json"), (".post.json", ".post.json"), (".skel.img", ".img")] {
        fs::rename(part(from), folder.join(format!("{name}{to}")))?;
    }
    Ok(())
}

/// The bundle whose name begins so, unpacked into the folder for images unless it is there already.
pub fn bundle(prefix: &str) -> Bundle {
    let bundles = fs::read_dir(root().join("tests/data/old-ext3")).unwrap().map(|entry| entry.unwrap().path());
    let stem = |path: &Path| path.file_name().unwrap().to_string_lossy().strip_suffix(".tar.zst").map(str::to_owned);
    let (path, name) =
        bundles.filter_map(|path| stem(&path).map(|name| (path, name))).find(|(_, name)| name.starts_with(prefix)).expect(prefix);
    let (folder, beside) = (folder(), |suffix: &str| super::folder().join(format!("{name}{suffix}")));
    let lock = File::create(beside(".lock")).unwrap();
    lock.lock().unwrap();
    if !beside(".img").exists() {
        unpack(&path, &name, &folder).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let truth: Truth = serde_json::from_slice(&fs::read(beside(".truth.json")).unwrap()).unwrap();
    let after = serde_json::from_slice(&fs::read(beside(".post.json")).unwrap()).unwrap();
    Bundle { image: beside(".img"), block_size: truth.block_size, truth, after }
}
