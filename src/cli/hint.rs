//! `--hint`: what the user knows of a lost file.

use super::terminal::quote;
use super::values;
use undelfs::recover::{Hint, Time};
use undelfs::units::Ino;

/// Parses `path=…,inode=…,size=…,deleted=…`: any of them, in any order. A comma inside a value stands behind a backslash, or the value in
/// double quotes; a backslash itself is doubled.
pub fn parse(text: &[u8]) -> Result<Hint, String> {
    let mut hint = Hint::default();
    for (name, value) in fields(text)? {
        let plain = || std::str::from_utf8(&value).map_err(|_| format!("{}: not a value", quote(&value)));
        let twice = match &name[..] {
            b"path" => hint.path.replace(path(&value)?).is_some(),
            b"inode" => hint.ino.replace(inode(plain()?)?).is_some(),
            b"size" => hint.size.replace(values::bytes(plain()?)?).is_some(),
            b"deleted" => hint.deleted.replace(deleted(plain()?)?).is_some(),
            _ => return Err(format!("'{}' is not known: path=, inode=, size= and deleted= are", quote(&name))),
        };
        if twice {
            return Err(format!("{}= is given twice; a second file takes a second --hint", quote(&name)));
        }
    }
    Ok(hint)
}

type Field = (Vec<u8>, Vec<u8>);

/// Splits at commas, and each part at its `=`.
fn fields(text: &[u8]) -> Result<Vec<Field>, String> {
    let mut fields = vec![];
    let mut rest = text.iter().copied().peekable();
    loop {
        let mut name = vec![];
        while let Some(byte) = rest.next_if(|byte| !b"=,".contains(byte)) {
            name.push(byte);
        }
        if rest.next_if_eq(&b'=').is_none() {
            return Err(match name.is_empty() {
                true => "expected path=…, inode=…, size=… or deleted=…, with commas between them".into(),
                false => format!("'{}' has no value: a comma inside a path is written \\,", quote(&name)),
            });
        }
        let mut value = vec![];
        let quoted = rest.next_if_eq(&b'"').is_some();
        let mut closed = !quoted;
        while let Some(byte) = rest.next_if(|byte| quoted || *byte != b',') {
            match byte {
                b'"' if quoted => {
                    closed = true;
                    break;
                }
                b'\\' => value.push(rest.next().ok_or("a backslash at the end has nothing to stand for: write \\\\")?),
                byte => value.push(byte),
            }
        }
        if !closed {
            return Err(format!("{}=: the closing \" is missing", quote(&name)));
        }
        fields.push((name, value));
        match rest.next() {
            None => return Ok(fields),
            Some(b',') => {}
            Some(_) => return Err("after a closing \" a comma follows, or nothing".into()),
        }
    }
}

/// A path from the filesystem's root on.
fn path(value: &[u8]) -> Result<Vec<u8>, String> {
    let parts: Vec<&[u8]> = value.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.is_empty() || parts.contains(&&b".."[..]) || parts.iter().any(|part| part.contains(&0)) {
        return Err(format!("path={}: expected a full path, such as /mysql/tb/messages.MYD", quote(value)));
    }
    Ok(parts.iter().flat_map(|part| [b"/", *part].concat()).collect())
}

fn inode(text: &str) -> Result<Ino, String> {
    let number = text.parse().ok().filter(|number| *number > 0 && text.bytes().all(|byte| byte.is_ascii_digit()));
    number.map(Ino).ok_or_else(|| format!("inode={text}: expected the number of an inode"))
}

fn deleted(text: &str) -> Result<(Time, Time), String> {
    let (first, last) = values::period(text).map_err(|why| format!("deleted={text}: {why}"))?;
    Ok((time(first), time(last)))
}

fn time(timestamp: jiff::Timestamp) -> Time {
    const NANOS: i128 = 1_000_000_000;
    let nanos = timestamp.as_nanosecond();
    // The range of a timestamp is some 20,000 years.
    Time { seconds: nanos.div_euclid(NANOS) as i64, nanos: nanos.rem_euclid(NANOS) as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(path: Option<&[u8]>, ino: Option<u32>, size: Option<u64>) -> Hint {
        Hint { path: path.map(<[u8]>::to_vec), ino: ino.map(Ino), size, deleted: None }
    }

    #[test]
    fn every_part_in_any_order() {
        let whole = hint(Some(b"/mysql/tb/messages.MYD"), Some(4711), Some(10 << 30));
        for (text, expected) in [
            (&b"path=/mysql/tb/messages.MYD,inode=4711,size=10G"[..], whole.clone()),
            (b"size=10G,path=mysql//tb/./messages.MYD/,inode=4711", whole),
            (b"inode=12", hint(None, Some(12), None)),
            (b"path=/a\\,b=c,size=1", hint(Some(b"/a,b=c"), None, Some(1))),
            (b"path=\"/a,b \\\"c\\\"\",size=1", hint(Some(b"/a,b \"c\""), None, Some(1))),
            (b"path=/back\\\\slash", hint(Some(b"/back\\slash"), None, None)),
            (b"path=/caf\xe9 \"x\"", hint(Some(b"/caf\xe9 \"x\""), None, None)),
        ] {
            assert_eq!(parse(text).as_ref(), Ok(&expected), "{}", text.escape_ascii());
        }
        let second = Time { seconds: 1_264_240_800, nanos: 0 };
        assert_eq!(
            parse(b"deleted=2010-01-23T10:00:00Z").map(|hint| hint.deleted),
            Ok(Some((second, Time { nanos: 999_999_999, ..second })))
        );
        let before_1970 = parse(b"deleted=1969-12-31T23:59:59Z").map(|hint| hint.deleted);
        assert_eq!(before_1970, Ok(Some((Time { seconds: -1, nanos: 0 }, Time { seconds: -1, nanos: 999_999_999 }))));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (text, part) in [
            (&b""[..], "expected path="),
            (b"inode=12,", "expected path="),
            (b"/mysql/a", "'/mysql/a' has no value"),
            (b"path=/a,b", "'b' has no value: a comma inside a path is written \\,"),
            (b"name=/a", "'name' is not known"),
            (b"path=/a,path=/b", "path= is given twice"),
            (b"path=\"/a", "the closing \" is missing"),
            (b"path=\"/a\"b", "after a closing \""),
            (b"path=/a\\", "a backslash at the end"),
            (b"path=/", "path=/: expected a full path"),
            (b"path=/a/../b", "expected a full path"),
            (b"inode=0", "inode=0: expected the number"),
            (b"inode=+1", "inode=+1: expected the number"),
            (b"inode=4294967296", "expected the number"),
            (b"size=many", "expected a number of bytes"),
            (b"size=\xff", "not a value"),
            (b"deleted=yesterday", "deleted=yesterday: expected"),
        ] {
            let why = parse(text).expect_err(&text.escape_ascii().to_string());
            assert!(why.contains(part), "{why}");
        }
    }
}
