//! MyISAM tables: `.MYD` (rows), `.MYI` (keys, and the table's state in its head), `.frm` (the definition).

pub mod counter;
pub mod dynamic;
pub mod fixed;
pub mod frm;
pub mod header;
pub mod index;
pub mod leaf;
pub mod packed;
pub mod period;
pub mod row_block;
pub mod rows;
pub mod shape;
pub mod unpack;
