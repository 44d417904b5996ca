//! Numbers at a byte of a slice; `None` past its end.

/// `N` bytes at `at`.
pub fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// 16 bits, big-endian (MyISAM's `mi_uint2korr`).
pub fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_be_bytes)
}

/// 24 bits, big-endian (MyISAM's `mi_uint3korr`).
pub fn be24(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]))
}

/// 32 bits, big-endian.
pub fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_be_bytes)
}

/// 64 bits, big-endian (MyISAM's `mi_sizekorr`).
pub fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_be_bytes)
}

/// 16 bits, little-endian.
pub fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_le_bytes)
}

/// 32 bits, little-endian.
pub fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

/// 64 bits, little-endian.
pub fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}

/// Moves a position in a file forward. Stops at 2^62, which no file reaches, so that what is added to it in memory never overflows.
pub fn advance(position: u64, bytes: u64) -> u64 {
    position.saturating_add(bytes).min(1 << 62)
}

/// Whether all bytes are zero.
pub fn all_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ends() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        assert_eq!((be16(&bytes, 0), be24(&bytes, 1), be32(&bytes, 2)), (Some(0x0102), Some(0x02_0304), Some(0x0304_0506)));
        assert_eq!((be64(&bytes, 1), be64(&bytes, 2)), (Some(0x0203_0405_0607_0809), None));
        assert_eq!((le16(&bytes, 7), le16(&bytes, 8), le16(&bytes, usize::MAX)), (Some(0x0908), None, None));
        assert_eq!((le32(&bytes, 5), le64(&bytes, 1)), (Some(0x0908_0706), Some(0x0908_0706_0504_0302)));
        assert!(all_zero(&[]) && all_zero(&[0, 0]) && !all_zero(&[0, 1]));
    }
}
