//! Bitmaps that are kept in memory, those that were used last.

use lru::LruCache;
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many are kept: 4 KiB each with 4 KiB blocks, so 1 MiB; a file's blocks lie in few groups at a time.
const MOST: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// The bitmaps, shared by all threads.
pub struct Bitmaps<K: Hash + Eq>(Mutex<Held<K>>);

struct Held<K: Hash + Eq> {
    all: LruCache<K, Arc<Vec<u8>>>,
    /// The one asked for last. The next block of a file commonly asks for the same.
    latest: Option<(K, Arc<Vec<u8>>)>,
}

impl<K: Hash + Eq> Default for Bitmaps<K> {
    fn default() -> Self {
        Bitmaps(Mutex::new(Held { all: LruCache::new(MOST), latest: None }))
    }
}

impl<K: Hash + Eq + Copy> Bitmaps<K> {
    /// A panic elsewhere cannot have left it in a state that matters.
    fn lock(&self) -> MutexGuard<'_, Held<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks one up.
    pub fn get(&self, key: K) -> Option<Arc<Vec<u8>>> {
        let mut held = self.lock();
        if let Some((_, bitmap)) = held.latest.as_ref().filter(|(latest, _)| *latest == key) {
            return Some(Arc::clone(bitmap));
        }
        let bitmap = Arc::clone(held.all.get(&key)?);
        held.latest = Some((key, Arc::clone(&bitmap)));
        Some(bitmap)
    }

    /// Keeps one, and gives it back.
    pub fn put(&self, key: K, bitmap: Vec<u8>) -> Arc<Vec<u8>> {
        let bitmap = Arc::new(bitmap);
        let mut held = self.lock();
        held.all.put(key, Arc::clone(&bitmap));
        held.latest = Some((key, Arc::clone(&bitmap)));
        bitmap
    }
}
