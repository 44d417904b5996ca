//! `/proc/self/mountinfo`: what is mounted where (`show_mountinfo`, fs/proc_namespace.c).

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One mount.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mount {
    /// Major and minor number of the device, `st_dev` of the files in it.
    pub device: (u32, u32),
    /// Where it is mounted.
    pub point: PathBuf,
    /// Type, as `ext3` or `fuse.undelfs`.
    pub kind: Vec<u8>,
    /// Whether the filesystem itself, and not only this mount of it, can be written to.
    pub writable: bool,
}

/// Reads the mounts of this process's namespace, oldest first. Lines that make no sense are left out.
///
/// # Errors
/// Where `/proc` is not mounted.
pub fn read() -> io::Result<Vec<Mount>> {
    let text = std::fs::read("/proc/self/mountinfo")?;
    Ok(text.split(|&byte| byte == b'\n').filter_map(parse_line).collect())
}

/// Parses one line: id, parent, device, root, mount point, options, any number of tags, `-`, type, source, options of the filesystem.
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let mut device = std::str::from_utf8(fields.nth(2)?).ok()?.splitn(2, ':');
    let device = (device.next()?.parse().ok()?, device.next()?.parse().ok()?);
    let point = PathBuf::from(OsString::from_vec(unescape(fields.nth(1)?)));
    let mut fields = fields.skip_while(|field| *field != b"-");
    let kind = fields.nth(1)?.to_vec();
    let writable = fields.nth(1)?.split(|&byte| byte == b',').any(|option| option == b"rw");
    Some(Mount { device, point, kind, writable })
}

/// Undoes `mangle` (fs/seq_file.c): blank, tab, newline and backslash stand as three octal digits behind a backslash.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        let code = tail.first_chunk::<3>().and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match code {
            Some(code) if byte == b'\\' => {
                out.push(code);
                rest = &tail[3..];
            }
            _ => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel() {
        let line = br"36 35 98:0 /mnt1 /my\040disk\134 rw,noatime master:1 shared:7 - ext3 /dev/root ro,errors=continue";
        let expected = Mount { device: (98, 0), point: PathBuf::from(r"/my disk\"), kind: b"ext3".to_vec(), writable: false };
        assert_eq!(parse_line(line), Some(expected));
        let line = b"27 1 254:0 / / ro,relatime - ext4 /dev/vda rw,discard";
        assert!(parse_line(line).unwrap().writable);
        for line in [&b""[..], b"27 1 254:0 / / rw,relatime", b"27 1 x:0 / / rw - ext4 /dev/vda rw", b"- - - - -"] {
            assert_eq!(parse_line(line), None);
        }
    }

    #[test]
    fn escapes() {
        assert_eq!(unescape(br"a\040b\011\012\134x\9\04"), b"a b\t\n\\x\\9\\04");
        assert_eq!(unescape(br"\777"), br"\777");
    }

    #[test]
    fn this_machine_has_a_root() {
        assert!(read().unwrap().iter().any(|mount| mount.point == std::path::Path::new("/")));
    }
}
