//! Plain text, and which kind of it.

use super::Kind;

/// The share of a text's first bytes that is enough to tell it.
const LOOK_AT: usize = 4096;
/// A shorter text says nothing: many short binary files are printable by chance.
const MIN: usize = 16;
/// Lines of a log that must carry a time of day.
const LOG_LINES: usize = 4;

const fn text(ext: &'static str) -> Kind {
    Kind::Common { ext, folder: "text" }
}

/// The kind of text that begins with these bytes; zeros may follow its end. `None` for what has control characters or is too short.
pub fn identify(head: &[u8]) -> Option<Kind> {
    let end = head.iter().rposition(|&byte| byte != 0)? + 1;
    let whole = end < head.len();
    let head = &head[..end.min(LOOK_AT)];
    (head.len() >= MIN && (is_utf8(head, whole && end <= LOOK_AT) || is_latin1(head))).then(|| kind(head))
}

/// UTF-8 without control characters; the last character may be cut unless the text ends here.
fn is_utf8(head: &[u8], whole: bool) -> bool {
    let valid = match std::str::from_utf8(head) {
        Ok(_) => head,
        Err(error) if !whole && error.error_len().is_none() => &head[..error.valid_up_to()],
        Err(_) => return false,
    };
    !valid.iter().any(|&byte| is_control(byte))
}

/// An 8-bit text: letters with accents are rare among plain ones, and there are lines or words.
fn is_latin1(head: &[u8]) -> bool {
    let high = head.iter().filter(|&&byte| byte >= 0xa0).count();
    let letters = head.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    let breaks = head.iter().filter(|&&byte| matches!(byte, b' ' | b'\n' | b'\t')).count();
    let printable = head.iter().all(|&byte| byte >= 0xa0 || byte < 0x7f && !is_control(byte));
    printable && high * 5 <= head.len() && letters * 2 >= head.len() && breaks * 40 >= head.len()
}

/// Control characters that texts do not have. Escape occurs in logs with colours, form feed between pages.
const fn is_control(byte: u8) -> bool {
    (byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b)) || byte == 0x7f
}

fn kind(head: &[u8]) -> Kind {
    let lines = || head.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let starts = |prefix: &[u8]| head.len() >= prefix.len() && head[..prefix.len()].eq_ignore_ascii_case(prefix);
    if head.starts_with(b"#!") {
        return script(head);
    }
    if starts(b"-- MySQL dump")
        || starts(b"-- MariaDB dump")
        || starts(b"--\n-- PostgreSQL")
        || starts(b"CREATE TABLE ")
        || starts(b"INSERT INTO ")
    {
        return text("sql");
    }
    if starts(b"From ") && lines().nth(1).is_some_and(is_mail_header) {
        return text("mbox");
    }
    if lines().take(3).filter(|line| is_mail_header(line)).count() == 3
        && starts_any(head, &[b"Return-Path:", b"Received:", b"From:", b"Delivered-To:", b"Message-ID:"])
    {
        return text("eml");
    }
    let first = lines().map(<[u8]>::trim_ascii).find(|line| !line.is_empty()).unwrap_or_default();
    if matches!(first, [b'{' | b'['] | [b'{', b'"', ..] | [b'[', b'{' | b'"', ..]) && head.contains(&b'"') {
        return text("json");
    }
    // The last line may be cut.
    let (timed, all) =
        lines().filter(|line| !line.is_empty()).fold((0, 0), |(timed, all), line| (timed + usize::from(has_time(line)), all + 1));
    if timed >= LOG_LINES && timed * 5 >= (all - 1) * 4 { text("log") } else { text("txt") }
}

fn starts_any(head: &[u8], prefixes: &[&[u8]]) -> bool {
    prefixes.iter().any(|prefix| head.len() >= prefix.len() && head[..prefix.len()].eq_ignore_ascii_case(prefix))
}

/// `Name: value`, or the next line of one.
fn is_mail_header(line: &[u8]) -> bool {
    let name = line.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'-').count();
    line.starts_with(b" ") || line.starts_with(b"\t") || name > 0 && line.get(name..name + 2) == Some(b": ")
}

/// A time of day (`12:34:56`) near the start of a line.
fn has_time(line: &[u8]) -> bool {
    line[..line.len().min(48)].windows(8).any(|w| {
        w.iter().enumerate().all(|(at, byte)| if at % 3 == 2 { *byte == b':' } else { byte.is_ascii_digit() })
            && w[0] <= b'2'
            && w[3] <= b'5'
            && w[6] <= b'6'
    })
}

/// A script by the interpreter in its first line.
pub fn script(head: &[u8]) -> Kind {
    let line = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let names = |name: &[u8]| line.windows(name.len()).any(|w| w == name);
    let known: [(&[u8], &str); 5] = [(b"python", "py"), (b"perl", "pl"), (b"ruby", "rb"), (b"php", "php"), (b"node", "js")];
    text(known.iter().find(|(name, _)| names(name)).map_or("sh", |(_, ext)| ext))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_text() {
        let log = "2009-01-01 12:00:01 started\n2009-01-01 12:00:02 again\n2009-01-01 12:00:03 x\n2009-01-01 12:00:04 y\n2009-01";
        let mail = "Received: from a\nDate: Mon\nSubject: x\n\nbody";
        for (head, ext) in [
            ("The quick brown fox\n".as_bytes(), Some("txt")),
            ("Grüße an alle, die dies lesen".as_bytes(), Some("txt")),
            (b"Gr\xfc\xdfe an alle, die dies lesen\n", Some("txt")),
            (&"Grüße an alle, die dies ü".as_bytes()[..27], Some("txt")),
            (b"too short", None),
            (b"a text with a bell \x07 in it", None),
            (b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8\xf7\xf6\xf5\xf4\xf3\xf2\xf1\xf0\xff", None),
            (log.as_bytes(), Some("log")),
            (mail.as_bytes(), Some("eml")),
            (b"From a@b Mon Jan 1\nDate: Mon\n\nbody", Some("mbox")),
            (b"-- MySQL dump 10.13\n--\n", Some("sql")),
            (b"#!/usr/bin/env python3\nprint()\n", Some("py")),
            (b"#!/bin/bash\nset -e\n\n", Some("sh")),
            (b"{\"a\": 1, \"b\": [2, 3]}\n", Some("json")),
            (b"a text and the end\n\0\0\0\0\0\0\0\0", Some("txt")),
            (b"a text and \0 a zero in it", None),
            (&[0; 64], None),
            (b"", None),
        ] {
            assert_eq!(identify(head).map(Kind::ext), ext, "{:?}", String::from_utf8_lossy(head));
        }
    }
}
