//! How much of free space was looked through: what an answer about lost files rests on besides the journal.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How far a scan is that is under way.
#[derive(Default, Debug)]
pub struct Extent {
    done: AtomicU64,
    total: AtomicU64,
    stopped: AtomicBool,
}

impl Extent {
    /// Notes that `done` of about `total` bytes are done.
    pub fn set(&self, done: u64, total: u64) {
        self.total.store(total, Ordering::Relaxed);
        self.done.store(done, Ordering::Relaxed);
    }

    /// Notes that the scan has ended before it was through.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Bytes done, and about how many there are in all; 0 of 0 before the first was noted.
    pub fn get(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }
}

/// The share that is done with four decimals, rounded down, always six characters. Under way it is less than 1.
impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (done, total) = self.get();
        let parts = (u128::from(done) * 10_000).checked_div(u128::from(total)).unwrap_or(0).min(9_999);
        write!(f, "0.{parts:04}")
    }
}

/// What of free space was looked through.
#[derive(Clone, Default, Debug)]
pub enum Looked {
    /// Nothing, and nothing will be.
    #[default]
    No,
    /// It is being looked through, or this has ended early.
    Partly(Arc<Extent>),
    /// All of it.
    Whole,
}

impl Looked {
    /// Whether the answer may still change.
    pub fn goes_on(&self) -> bool {
        matches!(self, Looked::Partly(_))
    }
}

/// `no`, `running 0.4213`, `stopped 0.4213` or `complete`.
impl fmt::Display for Looked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Looked::No => f.write_str("no"),
            Looked::Partly(extent) if extent.stopped.load(Ordering::Relaxed) => write!(f, "stopped {extent}"),
            Looked::Partly(extent) => write!(f, "running {extent}"),
            Looked::Whole => f.write_str("complete"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_done_is_complete() {
        let extent = Arc::new(Extent::default());
        let words = || Looked::Partly(Arc::clone(&extent)).to_string();
        for (done, total, expected) in
            [(0, 0, "0.0000"), (0, 7, "0.0000"), (1, 3, "0.3333"), (u64::MAX - 1, u64::MAX, "0.9999"), (9, 9, "0.9999"), (9, 3, "0.9999")]
        {
            extent.set(done, total);
            assert_eq!(words(), format!("running {expected}"));
        }
        extent.stop();
        assert_eq!(words(), "stopped 0.9999");
        assert_eq!((Looked::No.to_string(), Looked::Whole.to_string()), ("no".into(), "complete".into()));
    }
}
