//! The options of undelfs that stand behind `-o`, since fstab has no other place for them.

use super::args::{Io, Missing, MountArgs, Scan};
use super::{hint, values};
use clap::ValueEnum;
use undelfs::{Error, Result};

/// Moves the options of the image and of recovery from behind `-o` into their own fields, and returns the others: those of FUSE. What is
/// given in both ways counts as behind `-o`, and of two there the last.
///
/// # Errors
/// [`Error::Usage`] for a value that is none.
pub fn take_ours(args: &mut MountArgs) -> Result<Vec<String>> {
    let mut others = Vec::new();
    for list in std::mem::take(&mut args.options) {
        for word in split(&list) {
            if !take(&word, args)? {
                others.push(escape(&word));
            }
        }
    }
    Ok(others)
}

/// Whether `word` is one of ours; its value is in its field then.
fn take(word: &str, args: &mut MountArgs) -> Result<bool> {
    let wrong = |why: &str| Error::Usage(format!("-o {word}: {why}"));
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    };
    let text = || value.filter(|value| !value.is_empty()).ok_or_else(|| wrong("needs a value"));
    let number = || text()?.parse::<u64>().map_err(|_| wrong("needs a number"));
    let image = &mut args.image;
    match name {
        "offset" => image.offset = Some(values::bytes(text()?).map_err(|why| wrong(&why))?),
        "partition" => image.partition = Some(u32::try_from(number()?).map_err(|_| wrong("no such partition"))?),
        "superblock" => image.superblock = Some(number()?),
        "mapfile" => image.mapfile = Some(text()?.into()),
        "journal" => image.journal = Some(text()?.into()),
        "cache" => image.cache = values::bytes(text()?).map_err(|why| wrong(&why))?,
        "catalog" => image.catalog = Some(text()?.into()),
        "no_catalog" if value.is_none() => image.no_catalog = true,
        "no_content" if value.is_none() => image.recovery.no_content = true,
        "still" if value.is_none() => image.recovery.still = true,
        "io" => image.io = Io::from_str(text()?, false).map_err(|_| wrong("map and pread are known"))?,
        "hint" => image.recovery.hint.push(hint::parse(text()?.as_bytes()).map_err(|why| wrong(&why))?),
        "scan" => image.recovery.scan = Scan::from_str(text()?, false).map_err(|_| wrong("auto, wait, background and no are known"))?,
        "missing" => args.missing = Missing::from_str(text()?, false).map_err(|_| wrong("zero and error are known"))?,
        "force" if value.is_none() => image.force = true,
        _ => return Ok(false),
    }
    Ok(true)
}

/// Splits at commas. As in libfuse, a backslash takes away the meaning of what follows it (`fuse_opt_parse`, lib/fuse_opt.c).
fn split(list: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut chars = list.chars();
    while let Some(c) = chars.next() {
        match c {
            ',' => words.push(std::mem::take(&mut word)),
            '\\' => word.extend(chars.next()),
            c => word.push(c),
        }
    }
    words.push(word);
    words
}

/// A word as [`split`] would read it back.
fn escape(word: &str) -> String {
    word.replace('\\', "\\\\").replace(',', "\\,")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Command, parse};
    use std::path::Path;

    fn options(text: &str) -> Result<(MountArgs, Vec<String>)> {
        let words = ["undelfs", "mount", "image", "/mnt", "-o", text].map(Into::into).to_vec();
        let Ok(Command::Mount(mut args)) = parse(words).map(|line| line.command) else { panic!("{text}") };
        let others = take_ours(&mut args)?;
        Ok((args, others))
    }

    #[test]
    fn ours_are_told_from_those_of_fuse() {
        let text = "rw,nosuid,uid=1000,partition=1,partition=2,offset=63s,fsname=a\\,b\\\\c,missing=error,io=pread,mapfile=/a\\,b,journal=/dev/sdc1,\
                    superblock=32768,force,cache=2M,catalog=/c,no_catalog,no_content,still,scan=no,hint=path=/a\\,size=5,hint=path=/b\\\\\\,c,";
        let (args, others) = options(text).expect("all known");
        assert_eq!(others, ["rw", "nosuid", "uid=1000", "fsname=a\\,b\\\\c", ""]);
        let image = args.image;
        assert_eq!((image.partition, image.offset, image.superblock, image.io), (Some(2), Some(32256), Some(32768), Io::Pread));
        assert_eq!((image.mapfile.as_deref(), image.journal.as_deref()), (Some(Path::new("/a,b")), Some(Path::new("/dev/sdc1"))));
        assert!(image.no_catalog && image.recovery.no_content && image.recovery.still && image.catalog.as_deref() == Some(Path::new("/c")));
        assert!(image.cache == 2 << 20 && image.force && args.missing == Missing::Error && image.recovery.scan == Scan::No);
        let hints: Vec<_> = image.recovery.hint.iter().map(|hint| (hint.path.as_deref(), hint.size)).collect();
        assert_eq!(hints, [(Some(&b"/a"[..]), Some(5)), (Some(b"/b,c"), None)]);
    }

    #[test]
    fn wrong_values_are_named() {
        for text in [
            "partition=one",
            "partition",
            "missing=maybe",
            "mapfile=",
            "offset=x",
            "cache=much",
            "io=fast",
            "superblock=-1",
            "scan=maybe",
            "hint=",
            "hint=name",
        ] {
            let error = options(text).map(|_| ()).expect_err(text);
            assert!(error.to_string().starts_with(&format!("-o {text}: ")) && error.exit_status() == 2, "{error}");
        }
    }
}
