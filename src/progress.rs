//! How far a long job is, told to whoever wants to know, who may also end it.

/// Told how far a long job is.
pub trait Progress: Sync {
    /// `what` is under way and has done `done` of `total` (0 if unknown).
    fn step(&self, what: &str, done: u64, total: u64);

    /// Looking through free blocks has done `done` of about `total` bytes, and found `pages` blocks that can be indirect blocks.
    fn scan(&self, done: u64, total: u64, pages: u64) {
        let _ = pages;
        self.step("looking through free blocks", done, total);
    }

    /// Whether the job is still wanted. Where it is not, a scan ends within a moment, with what it has done kept.
    fn is_wanted(&self) -> bool {
        true
    }
}

/// A [`Progress`] that tells nobody.
impl Progress for () {
    fn step(&self, _: &str, _: u64, _: u64) {}
}
