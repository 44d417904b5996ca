//! The truth that `scripts/make-image` writes beside an image.

use serde::Deserialize;
use std::fs;
use std::path::Path;

#[derive(Deserialize)]
pub struct Truth {
    pub name: String,
    pub block_size: u64,
    pub lost: Vec<Life>,
    pub live: Vec<Live>,
}

#[derive(Deserialize)]
pub struct Live {
    pub path: String,
    pub inode: u32,
    pub generation: u32,
    pub size: u64,
    pub sha256: Option<String>,
}

#[derive(Deserialize)]
pub struct Life {
    pub path: String,
    pub path_now: Option<String>,
    pub links: Vec<String>,
    pub inode: u32,
    pub generation: Option<u32>,
    #[serde(rename = "type")]
    pub kind: String,
    pub size: u64,
    pub mode: String,
    pub uid: u32,
    pub gid: u32,
    pub mtime: f64,
    pub lost_at: f64,
    pub lost_by: String,
    pub target: Option<String>,
    pub sha256: Option<String>,
    /// (first file block, first physical block, count).
    pub runs: Option<Vec<(u64, u64, u64)>>,
    /// Level (1 for IND), first file block, physical block of each indirect block.
    #[serde(default)]
    pub indirect: Vec<(u8, u64, u64)>,
    pub hashes: Option<(u64, u64)>,
    /// All its paths, raw: the one that it was lost under, as that is called today, then its hard links.
    #[serde(skip)]
    pub paths: Vec<Vec<u8>>,
}

/// Undoes the percent encoding of names.
pub fn decode(name: &str) -> Vec<u8> {
    let mut bytes = vec![];
    let mut rest = name.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        let escaped = (*byte == b'%').then(|| u8::from_str_radix(std::str::from_utf8(&tail[..2]).unwrap(), 16).unwrap());
        bytes.push(escaped.unwrap_or(*byte));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    bytes
}

/// Truth and block hashes of an image.
pub fn read(image: &Path) -> (Truth, Vec<[u8; 8]>) {
    let json = fs::read(image.with_extension("truth.json")).expect("truth stands beside the image");
    let hashes = fs::read(image.with_extension("hashes")).expect("hashes stand beside the image");
    let mut truth: Truth = serde_json::from_slice(&json).expect("truth is JSON");
    for life in &mut truth.lost {
        let names = [life.path_now.as_ref().unwrap_or(&life.path)].into_iter().chain(&life.links);
        life.paths = names.map(|path| decode(path)).collect();
    }
    (truth, hashes.as_chunks::<8>().0.to_vec())
}

/// What an image lost, without FIFOs, which have no content.
pub fn lost(image: &Path) -> Vec<Life> {
    let (mut truth, _) = read(image);
    truth.lost.retain(|life| !life.is("fifo"));
    truth.lost
}

impl Life {
    pub fn is(&self, kind: &str) -> bool {
        self.kind == kind
    }

    /// Hash of the whole content, in hexadecimal.
    pub fn sha256(&self) -> &str {
        self.sha256.as_deref().unwrap_or_else(|| panic!("{} has a hash", self.path))
    }

    /// What a symbolic link leads to.
    pub fn target(&self) -> Vec<u8> {
        decode(self.target.as_deref().unwrap_or_else(|| panic!("{} is a link", self.path)))
    }

    /// Permissions.
    pub fn mode(&self) -> u32 {
        u32::from_str_radix(&self.mode, 8).expect("octal")
    }

    /// (file block, physical block, hash) of every block that it had.
    pub fn blocks<'a>(&'a self, hashes: &'a [[u8; 8]]) -> impl Iterator<Item = (u64, u64, [u8; 8])> + 'a {
        let first = self.hashes.map_or(0, |(offset, _)| offset as usize);
        let hashed = self.hashes.map_or(0, |(_, count)| count as usize);
        let runs = self.runs.iter().flatten();
        let blocks = runs.flat_map(|(file_block, physical, count)| (0..*count).map(move |n| (file_block + n, physical + n)));
        blocks.zip(hashes[first..first + hashed].iter()).map(|((file_block, physical), hash)| (file_block, physical, *hash))
    }
}
