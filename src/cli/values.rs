//! Sizes and times as people write them.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan, Zoned};
use std::ops::RangeInclusive;

/// Characters of `2010-01-23`.
const DAY: usize = 10;

/// A number of bytes: `4096`, `512s` (sectors of 512 bytes), `4K` or `4KiB` (1024), `4kB` (1000), and so on to T.
pub fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| "expected a number of bytes, such as 4096, 63s, 4K or 1MiB".to_owned())?;
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "s" => 512,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(format!("unknown unit '{unit}': s, K, M, G, T, KiB … (1024) and kB … (1000) are known")),
    };
    number.checked_mul(factor).ok_or_else(|| "too large".to_owned())
}

/// A point in time: RFC 3339, a local date with or without a time, `@SECONDS` since 1970, or how long ago.
pub fn time(text: &str) -> Result<Timestamp, String> {
    time_at(text, &Zoned::now())
}

fn time_at(text: &str, now: &Zoned) -> Result<Timestamp, String> {
    let text = text.trim();
    let seconds = text.strip_prefix('@').and_then(|seconds| seconds.parse().ok());
    let local = |time: DateTime, zone: &TimeZone| zone.to_timestamp(time).ok();
    // A date alone also parses as a date with a time of midnight; spans come last, since no date reads as one.
    seconds
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .or_else(|| text.parse::<Timestamp>().ok())
        .or_else(|| local(text.parse::<DateTime>().ok()?, now.time_zone()))
        .or_else(|| local(text.parse::<Date>().ok()?.to_datetime(jiff::civil::Time::midnight()), now.time_zone()))
        .or_else(|| now.checked_sub(text.parse::<Span>().ok()?.abs()).ok().map(|then| then.timestamp()))
        .ok_or_else(|| "expected a time: '2026-01-23', '2026-01-23 10:00', '2026-01-23T10:00:00Z', or '2h', '3d' (ago)".to_owned())
}

/// The first and the last moment of a day (`2010-01-23`), a minute (`2010-01-23 10:00`) or a second, in local time or RFC 3339.
pub fn period(text: &str) -> Result<(Timestamp, Timestamp), String> {
    period_in(text, &TimeZone::system())
}

fn period_in(text: &str, zone: &TimeZone) -> Result<(Timestamp, Timestamp), String> {
    let text = text.trim();
    let exact = || {
        let first = text.parse::<Timestamp>().ok()?;
        Some((first, first.checked_add(1.second()).ok()?))
    };
    // As a date with a time it would be midnight.
    let day = || {
        let day: Date = text.parse().ok().filter(|_| text.len() <= DAY)?;
        let first = day.to_zoned(zone.clone()).ok()?;
        Some((first.timestamp(), day.tomorrow().ok()?.to_zoned(zone.clone()).ok()?.timestamp()))
    };
    let time = || {
        let first: DateTime = text.parse().ok().filter(|_| text.len() > DAY)?;
        let length = if text.matches(':').count() < 2 { 1.minute() } else { 1.second() };
        let first = zone.to_timestamp(first).ok()?;
        Some((first, first.checked_add(length).ok()?))
    };
    let last = |(first, next): (Timestamp, Timestamp)| Some((first, next.checked_sub(1.nanosecond()).ok()?));
    let found = exact().or_else(day).or_else(time).and_then(last);
    found.ok_or_else(|| "expected '2010-01-23' (that day), '2010-01-23 10:00' (local), or '2010-01-23T10:00:00Z'".to_owned())
}

/// Block groups: `12` or `12-40`.
pub fn groups(text: &str) -> Result<RangeInclusive<u64>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last => Ok(first..=last),
        _ => Err("expected a block group or a range of them, such as 12 or 12-40".to_owned()),
    }
}

/// An inode: `inode:12`.
pub fn inode(text: &str) -> Result<u32, String> {
    let number = text.strip_prefix("inode:").and_then(|number| number.parse().ok());
    number.filter(|number| *number > 0).ok_or_else(|| "expected an inode, such as inode:12".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_with_units() {
        for (text, expected) in [
            ("0", 0),
            ("32256", 32256),
            ("63s", 32256),
            ("4K", 4096),
            ("4k", 4096),
            ("1MiB", 1 << 20),
            ("1MB", 1_000_000),
            ("2G", 2 << 30),
            ("16T", 16 << 40),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "K", "-1", "1.5G", "1X", "99999999999999999999", "99999999T", "1 K"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn groups_and_inodes() {
        assert_eq!((groups("12"), groups("0-3")), (Ok(12..=12), Ok(0..=3)));
        assert_eq!(inode("inode:12"), Ok(12));
        assert!(["", "-", "3-", "-3", "4-3", "a"].iter().all(|text| groups(text).is_err()));
        assert!(["", "12", "inode:", "inode:0", "inode:-1", "inode:4294967296"].iter().all(|text| inode(text).is_err()));
    }

    #[test]
    fn periods() {
        let zone = TimeZone::get("Europe/Berlin").expect("a zone");
        for (text, first, last) in [
            ("2010-01-23", "2010-01-22T23:00:00Z", "2010-01-23T22:59:59.999999999Z"),
            ("20100123", "2010-01-22T23:00:00Z", "2010-01-23T22:59:59.999999999Z"),
            // Of 23 hours.
            ("2026-03-29", "2026-03-28T23:00:00Z", "2026-03-29T21:59:59.999999999Z"),
            ("2010-01-23 10:00", "2010-01-23T09:00:00Z", "2010-01-23T09:00:59.999999999Z"),
            ("2010-01-23T10:00:30", "2010-01-23T09:00:30Z", "2010-01-23T09:00:30.999999999Z"),
            ("2010-01-23T10:00:00Z", "2010-01-23T10:00:00Z", "2010-01-23T10:00:00.999999999Z"),
            ("2010-01-23 10:00:00+05:00", "2010-01-23T05:00:00Z", "2010-01-23T05:00:00.999999999Z"),
        ] {
            let found = period_in(text, &zone).map(|(first, last)| (first.to_string(), last.to_string()));
            assert_eq!(found, Ok((first.to_owned(), last.to_owned())), "{text}");
        }
        for text in ["", "2010", "2010-01", "yesterday", "2h", "10:00", "2010-13-01", "9999-12-31"] {
            assert!(period_in(text, &zone).is_err(), "{text}");
        }
    }

    #[test]
    fn times_in_every_form() {
        let now: Zoned = "2026-03-01T12:00:00+01:00[Europe/Berlin]".parse().expect("a time");
        for (text, expected) in [
            ("2026-01-23T10:00:00Z", "2026-01-23T10:00:00Z"),
            ("2026-01-23T10:00:00+02:00", "2026-01-23T08:00:00Z"),
            ("2026-01-23 10:00", "2026-01-23T09:00:00Z"),
            ("2026-01-23T10:00:30", "2026-01-23T09:00:30Z"),
            ("2026-07-23", "2026-07-22T22:00:00Z"),
            ("2h", "2026-03-01T09:00:00Z"),
            ("2h ago", "2026-03-01T09:00:00Z"),
            ("3d", "2026-02-26T11:00:00Z"),
            ("1 week", "2026-02-22T11:00:00Z"),
            ("90min", "2026-03-01T09:30:00Z"),
            ("@86400", "1970-01-02T00:00:00Z"),
        ] {
            assert_eq!(time_at(text, &now).map(|time| time.to_string()), Ok(expected.to_owned()), "{text}");
        }
        for text in ["", "yesterday evening", "2026-13-01", "10:00", "5", "@x", "99999y"] {
            assert!(time_at(text, &now).is_err(), "{text}");
        }
    }
}
