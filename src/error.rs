//! Errors are for questions that cannot be answered. Damage found on the image is not an error: it is recorded
//! ([`crate::fs::Filesystem::damage`]) and recovery goes on.

use std::path::{Path, PathBuf};

/// What ends a command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line asks for something that makes no sense. Exit status 2.
    #[error("{0}")]
    Usage(String),
    /// What was asked for is not there. Exit status 1.
    #[error("{0}")]
    NotFound(String),
    /// The image is not ext2/3, or uses what is not supported, or is too damaged to start from. Exit status 3.
    #[error("{0}")]
    Image(String),
    /// Reading the image failed at this byte, counted from the start of the file or device. Exit status 3.
    #[error("cannot read {what} at byte {offset}: {source}")]
    Read {
        /// What was to be read there.
        what: String,
        /// Absolute byte.
        offset: u64,
        /// The system's word.
        source: std::io::Error,
    },
    /// Anything else that the system refused: a destination, a mount point. Exit status 1.
    #[error("{path}: {source}", path = .path.display())]
    Path {
        /// Where.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// Ran, but failed for the reason given. Exit status 1.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// An I/O error at `path`.
    pub fn path(path: &Path, source: std::io::Error) -> Self {
        Error::Path { path: path.to_owned(), source }
    }

    /// The exit status that the contract gives to this kind.
    pub fn exit_status(&self) -> u8 {
        match self {
            Error::NotFound(_) | Error::Failed(_) | Error::Path { .. } => 1,
            Error::Usage(_) => 2,
            Error::Image(_) | Error::Read { .. } => 3,
        }
    }
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;
