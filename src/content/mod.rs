//! What can be known from a file's bytes alone: its kind, its length, which block of it comes next.

mod bytes;
mod identify;
pub mod innodb;
mod length;
pub mod myisam;
pub mod sqlite;
mod text;

pub use identify::{Kind, identify};
pub use length::{end, length};
