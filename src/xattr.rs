//! The extended attributes `user.undelfs.*` of a lost file, and of the mount's root.

use crate::recover::Recovery;
use crate::recover::file::{FileId, LostFile};
use crate::report::{Bytes, Gap, fraction, missing_ranges};
use std::fmt::Write;

/// The kernel hands out no value beyond 64 KiB (`XATTR_SIZE_MAX`); the rest is room for the closing entry.
const MISSING_MAX: usize = 60 << 10;

/// The attribute of a mount's root that says what of free space was looked through, as [`crate::scan::extent::Looked`] writes it.
pub const SCAN: &str = "user.undelfs.scan";

/// The attributes that a file has: all but those that nothing is known of.
pub fn names(file: &LostFile) -> impl Iterator<Item = &'static str> {
    let all = [
        ("user.undelfs.path", !file.paths.is_empty()),
        ("user.undelfs.deleted", file.deleted.is_some()),
        ("user.undelfs.state", true),
        ("user.undelfs.recovered", true),
        ("user.undelfs.evidence", true),
        ("user.undelfs.missing", true),
        ("user.undelfs.runs", true),
        ("user.undelfs.inode", file.ino.is_some()),
        ("user.undelfs.generation", file.generation.is_some()),
        ("user.undelfs.chain", file.orphan.is_some()),
    ];
    all.into_iter().filter(|(_, known)| *known).map(|(name, _)| name)
}

/// The value of one attribute; `None` where the file has none of that name.
pub fn value(recovery: &Recovery, id: FileId, name: &[u8]) -> Option<Vec<u8>> {
    let file = recovery.file(id);
    let text = match name.strip_prefix(b"user.undelfs.")? {
        b"path" => return file.paths.first().cloned(),
        b"deleted" => file.deleted?.to_string(),
        b"state" => file.state().word().to_owned(),
        b"recovered" => fraction(file),
        b"evidence" => serde_json::to_string(&Bytes(&file.tally)).ok()?,
        b"missing" => missing(file.tally.missing(), missing_ranges(recovery, id)),
        b"runs" => file.tally.runs.to_string(),
        b"inode" => file.ino?.to_string(),
        b"generation" => file.generation?.0.to_string(),
        b"chain" => file.orphan.as_ref()?.top.to_string(),
        _ => return None,
    };
    Some(text.into_bytes())
}

/// The missing ranges as JSON, `[[offset,length,"word"],…]`. Where they are too many, the last entry is `{"cut":true,"bytes":N}` instead,
/// N being the bytes that are missing beyond those listed. `left` is how many are missing in all, so that a complete file is not searched.
fn missing(mut left: u64, mut gaps: impl Iterator<Item = Gap>) -> String {
    let mut text = String::from("[");
    while left > 0
        && let Some(gap) = gaps.next()
    {
        let comma = if text.len() > 1 { "," } else { "" };
        if text.len() > MISSING_MAX {
            let _ = write!(text, "{comma}{{\"cut\":true,\"bytes\":{left}}}");
            break;
        }
        let _ = write!(text, "{comma}[{},{},\"{}\"]", gap.offset, gap.length, gap.evidence.word());
        left = left.saturating_sub(gap.length);
    }
    text.push(']');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recover::Orphan;
    use crate::recover::file::Time;
    use crate::report::tests::lost_file;
    use crate::run::Evidence;
    use crate::units::Block;
    use serde_json::{Value, json};

    fn gaps(count: u64) -> impl Iterator<Item = Gap> {
        (0..count).map(|n| Gap { offset: n * 8192, length: 4096, evidence: Evidence::Unknown })
    }

    #[test]
    fn missing_ranges_are_json_and_fit_into_an_attribute() {
        assert_eq!(missing(0, gaps(5)), "[]");
        assert_eq!(missing(8192, gaps(2)), r#"[[0,4096,"unknown"],[8192,4096,"unknown"]]"#);
        let text = missing(10_000_000 * 4096, gaps(10_000_000));
        assert!(text.len() < 64 << 10, "{}", text.len());
        let Ok(Value::Array(entries)) = serde_json::from_str(&text) else { panic!("no JSON array") };
        let listed = entries.len() as u64 - 1;
        assert_eq!(entries.last(), Some(&json!({"cut": true, "bytes": (10_000_000 - listed) * 4096})));
    }

    #[test]
    fn only_what_is_known_is_named() {
        let mut file = lost_file(0, [0; 7]);
        let all = |file: &LostFile| names(file).map(|name| name.trim_start_matches("user.undelfs.")).collect::<Vec<_>>();
        let always = ["state", "recovered", "evidence", "missing", "runs"];
        assert_eq!(all(&file), always);
        file.deleted = Some(Time::default());
        assert_eq!(all(&file), [&["deleted"][..], &always].concat());
        file.paths = vec![b"/a".to_vec()];
        file.ino = Some(crate::units::Ino(12));
        file.generation = Some(crate::units::Generation(1));
        assert_eq!(all(&file), [&["path", "deleted"][..], &always, &["inode", "generation"]].concat());
        file.deleted = None;
        file.orphan = Block::new(4711).map(|top| Orphan {
            top,
            candidates: std::sync::Arc::default(),
            adrift: false,
            dubious: false,
            unfinished: false,
        });
        assert_eq!(all(&file), [&["path"][..], &always, &["inode", "generation", "chain"]].concat());
        (file.ino, file.generation) = (None, None);
        assert_eq!(all(&file), [&["path"][..], &always, &["chain"]].concat());
    }
}
