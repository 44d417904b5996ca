//! What can be known from a file's bytes alone: its kind, its length, which block of it comes next.
//!
//! * [`identify`] tells a file's kind from its first block, [`length`] its exact size, [`end`] where it ends in its last.
//! * [`records::Walker`] follows files that are records without gaps (a MyISAM `.MYD` of any format) from block to block, and
//!   weighs which block can be the next.
//! * [`order`] is the same for every format that ties its blocks together, InnoDB's pages too; [`absolute`] and [`check`] are
//!   for single blocks.
//! * [`Tiling`] finds such records in free space, as [`Stretch`]es of blocks.
//! * [`Verdict`] is the common measure: contradicted, or how many other blocks would fit as well.
//!
//! Pure functions of bytes: no I/O, no logging, nothing that panics. They know no image, no block numbers and no pointers.

mod bytes;
mod counted;
mod identify;
pub mod innodb;
mod knowledge;
mod length;
pub mod myisam;
pub mod records;
pub mod sqlite;
mod stretch;
mod table;
mod text;
mod verdict;

pub use identify::{Kind, identify, identify_anywhere};
pub use knowledge::{Facts, Order, Placement, Tiling, absolute, check, order};
pub use length::{end, length};
pub use records::Walker;
pub use stretch::{Stretch, holds_rows};
pub use verdict::Verdict;
