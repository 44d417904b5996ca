//! On-disk records of ext2/3 and of its journal: pure functions from bytes to meaning. No I/O, no logging, and no
//! input that panics. Field names are the kernel's (include/linux/ext3_fs.h, include/linux/jbd2.h).

pub mod dir_block;
pub mod group;
pub mod indirect;
pub mod inode;
pub mod journal;
pub mod superblock;

/// Whether all bytes are 0: compared in pieces, each by as wide instructions as there are, the first of them small, since it commonly tells.
pub fn is_blank(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 1024] = [0; 1024];
    let (head, rest) = bytes.split_at(bytes.len().min(16));
    head == &ZEROS[..head.len()] && rest.chunks(ZEROS.len()).all(|piece| piece == &ZEROS[..piece.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks() {
        for length in [1024, 4096, 65536] {
            let mut bytes = vec![0; length];
            assert!(is_blank(&bytes));
            for at in [0, 15, 16, 1023, length - 1] {
                bytes[at] = 1;
                assert!(!is_blank(&bytes), "{length} {at}");
                bytes[at] = 0;
            }
        }
    }
}
