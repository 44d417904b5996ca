//! `undelfs list`: a table of lost files.

use super::args::{Global, ListArgs};
use super::select::shown;
use super::terminal::{self, Output};
use super::{messages, open};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use undelfs::recover::file::{FileId, Kind, LostFile, State};
use undelfs::report::{self, Totals};
use undelfs::tree::Tree;
use undelfs::{Error, Result};

/// Lists the lost files that the filters let through.
///
/// # Errors
/// [`Error::NotFound`] where filters were given and nothing passed them.
pub fn run(args: &ListArgs, global: &Global) -> Result<()> {
    let filter = Filter::new(args)?;
    let tree = open(&args.image, global)?;
    let recovery = tree.recovery();
    let mut ids = report::in_order(recovery);
    ids.retain(|id| filter.passes(recovery.file(*id), || [b"/", &tree.mount_path(*id)[..]].concat()));

    let mut output = Output::new(global);
    let written = if args.json {
        report::write_list(&tree, ids.iter().copied(), &mut output.out)
    } else if args.print0 {
        ids.iter().try_for_each(|id| {
            output.out.write_all(shown(&tree.mount_path(*id)))?;
            output.out.write_all(b"\0")
        })
    } else {
        table(&tree, &ids, !args.no_header, &mut output)
    };
    output.finish(written)?;

    if ids.is_empty() && filter.is_set() {
        return Err(Error::NotFound("no lost file matches".into()));
    }
    if !args.json && !args.print0 && !global.quiet {
        let mut totals = Totals::default();
        ids.iter().for_each(|id| totals.add(recovery.file(*id)));
        messages::note(&summary(&totals));
    }
    Ok(())
}

fn table(tree: &Tree, ids: &[FileId], header: bool, output: &mut Output) -> io::Result<()> {
    let inode = |file: &LostFile| match (file.ino, file.version) {
        (Some(ino), 0) => ino.to_string(),
        (Some(ino), version) => format!("{ino}@{version}"),
        (None, _) => "-".to_owned(),
    };
    let recovery = tree.recovery();
    let wide = ids.iter().map(|id| inode(recovery.file(*id)).len()).max().unwrap_or(0).max("INODE".len());
    if header && !ids.is_empty() {
        let line = format!("{:>wide$}  {:>8}  {:>5}  {:<19}  PATH", "INODE", "SIZE", "THERE", "DELETED");
        writeln!(output.out, "{}", output.heading(&line))?;
    }
    for id in ids {
        let file = recovery.file(*id);
        let size = terminal::size(file.size);
        let there = output.state(file.state(), &format!("{:>5}", terminal::percent(file)));
        let deleted = file.deleted.map_or_else(|| "-".to_owned(), terminal::local);
        write!(output.out, "{:>wide$}  {size:>8}  {there}  {deleted:<19}  ", inode(file))?;
        let path = tree.mount_path(*id);
        let name = output.name(shown(&path));
        output.out.write_all(&name)?;
        output.out.write_all(if file.kind == Kind::Dir { b"/\n" } else { b"\n" })?;
    }
    Ok(())
}

fn summary(totals: &Totals) -> String {
    if totals.files == 0 {
        return "no lost files found".into();
    }
    let mut line = format!("{}, {}", terminal::count(totals.files, "lost file", "lost files"), terminal::size(totals.size));
    let states = [(totals.complete, "complete"), (totals.partial, "partial"), (totals.empty, "empty")];
    let states: Vec<String> = states.iter().filter(|(number, _)| *number > 0).map(|(number, word)| format!("{number} {word}")).collect();
    line += &format!(": {}", states.join(", "));
    if totals.missing > 0 {
        line += &format!("; {} missing", terminal::size(totals.missing));
    }
    line
}

/// Which files are listed.
struct Filter<'a> {
    args: &'a ListArgs,
    /// Patterns for names, those without a `/`.
    names: GlobSet,
    /// Patterns for whole paths.
    paths: GlobSet,
}

impl<'a> Filter<'a> {
    fn new(args: &'a ListArgs) -> Result<Self> {
        let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        let wrong = |error: globset::Error| Error::Usage(format!("--path: {error}"));
        for pattern in &args.path {
            // Every path begins with '/', so a pattern that does not is meant from there on too.
            let rooted = if pattern.starts_with('/') { pattern.clone() } else { format!("/{pattern}") };
            let (set, pattern) = if pattern.contains('/') { (&mut paths, &rooted) } else { (&mut names, pattern) };
            set.add(GlobBuilder::new(pattern).literal_separator(true).build().map_err(wrong)?);
        }
        Ok(Filter { args, names: names.build().map_err(wrong)?, paths: paths.build().map_err(wrong)? })
    }

    fn is_set(&self) -> bool {
        let ListArgs { path, deleted_after, deleted_before, min_size, complete, .. } = self.args;
        !path.is_empty() || deleted_after.is_some() || deleted_before.is_some() || min_size.is_some() || *complete
    }

    /// `mount_path` tells where a file without a path is shown, from the mount's root on.
    fn passes(&self, file: &LostFile, mount_path: impl Fn() -> Vec<u8>) -> bool {
        let ListArgs { path, deleted_after, deleted_before, min_size, complete, .. } = self.args;
        let deleted = file.deleted.map(|time| time.timestamp());
        (path.is_empty() || file.paths.iter().any(|path| self.matches(path)) || file.paths.is_empty() && self.matches(&mount_path()))
            && deleted_after.is_none_or(|limit| deleted.is_some_and(|time| time >= limit))
            && deleted_before.is_none_or(|limit| deleted.is_some_and(|time| time < limit))
            && min_size.is_none_or(|limit| file.size >= limit)
            && (!complete || file.state() == State::Complete)
    }

    fn matches(&self, path: &[u8]) -> bool {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        self.names.is_match(OsStr::from_bytes(name)) || self.paths.is_match(OsStr::from_bytes(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Command, CommandLine};
    use clap::Parser;

    fn passes(options: &[&str], path: &[u8]) -> bool {
        let words = ["undelfs", "list", "image"].iter().chain(options);
        let Ok(CommandLine { command: Command::List(args), .. }) = CommandLine::try_parse_from(words) else { panic!("{options:?}") };
        Filter::new(&args).expect("a good pattern").matches(path)
    }

    #[test]
    fn globs() {
        for (pattern, path, expected) in [
            ("*.MYD", &b"/mysql/tb/messages.MYD"[..], true),
            ("messages.*", b"/mysql/tb/messages.MYD", true),
            ("mysql", b"/mysql/tb/messages.MYD", false),
            ("/mysql/*.MYD", b"/mysql/tb/messages.MYD", false),
            ("/mysql/*/*.MYD", b"/mysql/tb/messages.MYD", true),
            ("mysql/**", b"/mysql/tb/messages.MYD", true),
            ("tb/**", b"/mysql/tb/messages.MYD", false),
            ("**/tb/*", b"/mysql/tb/messages.MYD", true),
            ("/mysql/tb/messages.{MYD,MYI}", b"/mysql/tb/messages.MYI", true),
            ("*", b"/.hidden", true),
            ("caf?", b"/caf\xe9", true),
            ("caf*", b"/a/caf\xe9\n", true),
        ] {
            assert_eq!(passes(&["--path", pattern], path), expected, "{pattern} {path:?}");
        }
        assert!(passes(&["--path", "*.MYI", "--path", "*.MYD"], b"/a.MYD"));
    }
}
