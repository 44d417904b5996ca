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
    pub runs: Option<Vec<(u64, u64, u64)>>,
    pub hashes: Option<(u64, u64)>,
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
    (serde_json::from_slice(&json).expect("truth is JSON"), hashes.as_chunks::<8>().0.to_vec())
}

impl Life {
    /// (file block, physical block, hash) of every block that it had.
    pub fn blocks<'a>(&'a self, hashes: &'a [[u8; 8]]) -> impl Iterator<Item = (u64, u64, [u8; 8])> + 'a {
        let first = self.hashes.map_or(0, |(offset, _)| offset as usize);
        let hashed = self.hashes.map_or(0, |(_, count)| count as usize);
        let runs = self.runs.iter().flatten();
        let blocks = runs.flat_map(|(file_block, physical, count)| (0..*count).map(move |n| (file_block + n, physical + n)));
        blocks.zip(hashes[first..first + hashed].iter()).map(|((file_block, physical), hash)| (file_block, physical, *hash))
    }
}
