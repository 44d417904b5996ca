//! undelfs: what ext3 filesystems lost, as ordinary files.
pub mod error;
pub mod format;
pub mod fs;
pub mod image;
pub mod journal;
pub mod fuse;
pub mod recover;
pub mod report;
pub mod run;
pub mod sys;
pub mod tree;
pub mod units;
pub mod xattr;

pub use error::{Error, Result};
