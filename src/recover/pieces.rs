//! Pieces of the files' block maps that are kept in memory, those that were used last.

use super::chain::Piece;
use crate::units::FileBlock;
use lru::LruCache;

/// Bytes of pieces kept in memory if nobody says otherwise, shared by all files. A piece maps 4 MiB with 4 KiB blocks; it commonly is a run
/// or two, and 90 KiB at the worst.
pub const ROOM: usize = 16 << 20;

/// File, level of the indirect block (1 for an IND) and first file block that it maps.
pub type Key = (u32, u8, FileBlock);

/// The pieces.
pub struct Pieces {
    lru: LruCache<Key, Piece>,
    /// What they take in memory.
    bytes: usize,
    /// What they may take.
    room: usize,
}

impl Pieces {
    /// Room for so many bytes.
    pub fn new(room: usize) -> Self {
        Self { lru: LruCache::unbounded(), bytes: 0, room }
    }

    /// Bytes that there is room for.
    pub fn room(&self) -> usize {
        self.room
    }

    /// Forgets them all.
    pub fn clear(&mut self) {
        *self = Pieces::new(self.room);
    }

    /// Looks one up, which is then the one used last.
    pub fn get(&mut self, key: Key) -> Option<Piece> {
        self.lru.get(&key).cloned()
    }

    /// Keeps one, in place of those that were not used for the longest time.
    pub fn put(&mut self, key: Key, piece: Piece) {
        self.bytes += piece.bytes();
        if let Some(former) = self.lru.put(key, piece) {
            self.bytes -= former.bytes();
        }
        while self.bytes > self.room
            && let Some((_, oldest)) = self.lru.pop_lru()
        {
            self.bytes -= oldest.bytes();
        }
    }

    /// Keeps one if there is room for it without another one going.
    pub fn offer(&mut self, key: Key, piece: Piece) {
        if self.bytes + piece.bytes() <= self.room {
            self.put(key, piece);
        }
    }

    /// Goes on with those files only for which `kept`, asked in their order, holds; they are numbered anew.
    pub fn renumber(&mut self, kept: impl Iterator<Item = bool>) {
        let mut next = 0..;
        let numbers: Vec<Option<u32>> = kept.map(|kept| kept.then(|| next.next()).flatten()).collect();
        let mut former = std::mem::replace(self, Pieces::new(self.room));
        while let Some(((file, level, at), piece)) = former.lru.pop_lru() {
            if let Some(Some(file)) = numbers.get(file as usize) {
                self.put((*file, level, at), piece);
            }
        }
    }
}
