//! GNU ddrescue mapfiles: which bytes of an image were really read from the medium. Format: ddrescue manual, "Mapfile structure".

use std::io::{self, Write};

/// The parts of an image that ddrescue has rescued.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mapfile {
    /// First byte and first byte after it; sorted, apart from each other.
    rescued: Vec<(u64, u64)>,
}

impl Mapfile {
    /// Parses the text of a mapfile.
    ///
    /// # Errors
    /// The number of the first line that makes no sense, counted from 1, and what is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, (usize, &'static str)> {
        let mut rescued: Vec<(u64, u64)> = Vec::new();
        let mut head_seen = false;
        for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let fail = |reason| (index + 1, reason);
            let line = std::str::from_utf8(line).map_err(|_| fail("is not text"))?.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut fields = line.split_ascii_whitespace();
            let first = fields.next().and_then(number).ok_or(fail("does not begin with a number"))?;
            if !head_seen {
                // The head: where ddrescue was, and in which phase. The phase's letters tell a mapfile from any other table.
                let phase = fields.next().unwrap_or_default();
                if phase.len() != 1 || !"?*/-FG+".contains(phase) {
                    return Err(fail("is not the head of a ddrescue mapfile (position, status)"));
                }
                head_seen = true;
                continue;
            }
            let size = fields.next().and_then(number).ok_or(fail("has no size"))?;
            let end = first.checked_add(size).ok_or(fail("reaches beyond 2^64 bytes"))?;
            match fields.next() {
                Some("+") => rescued.push((first, end)),
                Some("?" | "*" | "/" | "-") => {}
                _ => return Err(fail("has a status that is none of ? * / - +")),
            }
        }
        if !head_seen {
            return Err((1, "is empty: not a ddrescue mapfile"));
        }
        Ok(Self { rescued: merge(rescued) })
    }

    /// Whether every one of these bytes was rescued. Bytes that the mapfile does not mention were not.
    pub fn is_rescued(&self, offset: u64, len: u64) -> bool {
        let Some(end) = offset.checked_add(len) else { return false };
        let after = self.rescued.partition_point(|range| range.0 <= offset);
        len == 0 || after.checked_sub(1).is_some_and(|at| self.rescued[at].1 >= end)
    }
}

/// Sorts ranges and joins those that touch or overlap; empty ones vanish.
fn merge(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    ranges.retain(|range| range.0 < range.1);
    ranges.sort_unstable();
    ranges.dedup_by(|next, last| {
        let touch = next.0 <= last.1;
        if touch {
            last.1 = last.1.max(next.1);
        }
        touch
    });
    ranges
}

/// Numbers as `strtoll` reads them with base 0: decimal, `0x` hexadecimal, `0` octal.
fn number(text: &str) -> Option<u64> {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        u64::from_str_radix(digits, 16).ok()
    } else if text.len() > 1 && text.starts_with('0') {
        u64::from_str_radix(text, 8).ok()
    } else {
        text.parse().ok()
    }
}

/// What a written mapfile says of a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// The bytes are there (`+`).
    Rescued,
    /// Nobody has read them: they are gone, or nothing says where they were (`?`).
    Untried,
    /// The medium gave an error (`-`).
    Bad,
}

impl Status {
    const fn letter(self) -> char {
        match self {
            Status::Rescued => '+',
            Status::Untried => '?',
            Status::Bad => '-',
        }
    }
}

/// Writes a mapfile that describes a file's ranges: first byte, bytes, status; in order and without gaps, as ddrescue asks for.
/// Neighbours with the same status become one line.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut impl Write, ranges: impl IntoIterator<Item = (u64, u64, Status)>) -> io::Result<()> {
    writeln!(out, "# Mapfile. Created by undelfs {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "# current_pos  current_status  current_pass")?;
    writeln!(out, "0x00000000     +               1")?;
    writeln!(out, "#      pos        size  status")?;
    let mut line = |(offset, len, status): (u64, u64, Status)| writeln!(out, "0x{offset:08X}  0x{len:08X}  {}", status.letter());
    let mut pending: Option<(u64, u64, Status)> = None;
    for (offset, len, status) in ranges {
        match &mut pending {
            Some(last) if last.2 == status && last.0.checked_add(last.1) == Some(offset) => last.1 = last.1.saturating_add(len),
            _ => {
                if let Some(last) = pending.replace((offset, len, status)) {
                    line(last)?;
                }
            }
        }
    }
    pending.map_or(Ok(()), line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "\
# Mapfile. Created by GNU ddrescue version 1.27
# Command line: ddrescue -d -c18 /dev/fd0 fdimage mapfile
# current_pos  current_status  current_pass
0x00120000     ?               1
#      pos        size  status
0x00000000  0x00117000  +
0x00117000  0x00000200  -
0x00117200  0x00001000  /
0x00118200  0x00007E00  *
0x00120000  0x00020000  +
0x00140000  0x00020000  +
0x00160000  0x00048000  ?
";

    #[test]
    fn rescued_ranges_of_the_manuals_example() {
        let map = Mapfile::parse(EXAMPLE.as_bytes()).unwrap();
        assert_eq!(map.rescued, [(0, 0x117000), (0x120000, 0x160000)]);
        for (offset, len, expected) in [
            (0, 0x117000, true),
            (0, 0x117001, false),
            (0x116fff, 1, true),
            (0x117000, 1, false),
            (0x11ffff, 2, false),
            (0x13f000, 0x2000, true),
            (0x15ffff, 1, true),
            (0x160000, 1, false),
            (0x1a8000, 1, false),
            (0x117000, 0, true),
            (u64::MAX, 2, false),
        ] {
            assert_eq!(map.is_rescued(offset, len), expected, "{offset:#x}+{len:#x}");
        }
    }

    #[test]
    fn numbers_are_decimal_hexadecimal_or_octal_and_order_does_not_matter() {
        let map = Mapfile::parse(b"0 +\n1024 0x400 +\n0 02000 +\n").unwrap();
        assert_eq!(map.rescued, [(0, 2048)]);
    }

    #[test]
    fn what_is_not_a_mapfile_is_refused_with_its_line() {
        for (text, line) in [
            (&b""[..], 1),
            (b"# only a comment\n", 1),
            (b"\xff\xfe", 1),
            (b"hello\n", 1),
            (b"0 1024 +\n", 1),
            (b"0 +\n0 1024 !\n", 2),
            (b"0 +\n\n0 x +\n", 3),
            (b"0 +\n0xffffffffffffffff 1 +\n", 2),
            (b"0 +\n5\n", 2),
            (b"0 +\n5 5\n", 2),
        ] {
            assert_eq!(Mapfile::parse(text).unwrap_err().0, line, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut text = Vec::new();
        write(
            &mut text,
            [
                (0, 4096, Status::Rescued),
                (4096, 4096, Status::Rescued),
                (8192, 10, Status::Untried),
                (8202, 1, Status::Bad),
                (8203, 7, Status::Rescued),
            ],
        )
        .unwrap();
        assert_eq!(Mapfile::parse(&text).unwrap().rescued, [(0, 8192), (8203, 8210)]);
        assert_eq!(String::from_utf8(text).unwrap().lines().last(), Some("0x0000200B  0x00000007  +"));
    }
}
