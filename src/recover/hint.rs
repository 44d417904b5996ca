//! What the user knows of a lost file.

use super::file::Time;
use crate::units::Ino;

/// What the user knows of one lost file: any part may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    /// Its full path, raw bytes, beginning with `/`.
    pub path: Option<Vec<u8>>,
    /// Its inode.
    pub ino: Option<Ino>,
    /// Bytes.
    pub size: Option<u64>,
    /// The time span in which it was deleted: first and last moment, inclusive.
    pub deleted: Option<(Time, Time)>,
}
