//! On-disk records of ext2/3 and of its journal: pure functions from bytes to meaning. No I/O, no logging, and no
//! input that panics. Field names are the kernel's (include/linux/ext3_fs.h, include/linux/jbd2.h).

pub mod dir_block;
pub mod group;
pub mod indirect;
pub mod inode;
pub mod journal;
pub mod superblock;
