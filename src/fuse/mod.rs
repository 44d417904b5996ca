//! The FUSE side: `adapter` turns the kernel's requests into questions to the [`crate::tree::Tree`], [`mount`] brings the mount up and
//! takes it down again. Nothing else touches `fuser`.

pub mod mount;

mod adapter;
mod attach;
mod background;
mod checks;
mod contents;
mod look;
mod options;
mod shown;
