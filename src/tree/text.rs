//! Files that undelfs writes itself.

/// The content of such a file.
pub struct Text<'a> {
    /// How far the scan is, as long as it goes on: of the same length whenever it is asked for.
    pub(super) head: Box<str>,
    /// Everything else.
    pub(super) rest: &'a [u8],
}

impl Text<'_> {
    /// Bytes of it.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> u64 {
        (self.head.len() + self.rest.len()) as u64
    }

    /// At most `size` bytes from `offset` on, as far as there are any.
    pub fn part(&self, offset: u64, size: u32) -> Vec<u8> {
        let within = |bytes: &[u8], from: u64, size: usize| {
            let from = usize::try_from(from).map_or(bytes.len(), |from| from.min(bytes.len()));
            bytes[from..bytes.len().min(from.saturating_add(size))].to_vec()
        };
        let mut part = within(self.head.as_bytes(), offset, size as usize);
        let left = size as usize - part.len();
        part.extend(within(self.rest, offset.saturating_sub(self.head.len() as u64), left));
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_go_on_from_one_to_the_other() {
        let text = Text { head: "abc".into(), rest: b"defgh" };
        assert_eq!(text.len(), 8);
        for (offset, size, expected) in
            [(0, 8, "abcdefgh"), (0, 2, "ab"), (1, 4, "bcde"), (3, 1, "d"), (5, 9, "fgh"), (8, 1, ""), (u64::MAX, u32::MAX, "")]
        {
            assert_eq!(text.part(offset, size), expected.as_bytes(), "{offset} {size}");
        }
    }
}
