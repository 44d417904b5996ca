//! `undelfs show`: what is known of one lost file.

mod gaps;
mod table;

use super::args::{Global, ShowArgs};
use super::select::{select, shown};
use super::terminal::{self, Output, count, quote};
use super::{open, orphan};
use std::collections::VecDeque;
use std::io::{self, Write};
use undelfs::image::mapfile::{self, Status};
use undelfs::recover::file::{FileId, Kind, Loss, LostFile, SizeFrom, State};
use undelfs::recover::{Range, Taker};
use undelfs::report;
use undelfs::run::Evidence;
use undelfs::tree::Tree;
use undelfs::{Error, Result};

/// On a terminal, a longer table is shown by its first and last rows: what lies between is rarely looked at, and there may be millions.
const FIRST_ROWS: usize = 20;
const LAST_ROWS: usize = 10;

/// Shows one lost file.
///
/// # Errors
/// [`Error::NotFound`] where it is not there.
pub fn run(args: &ShowArgs, global: &Global) -> Result<()> {
    let tree = open(&args.image, global)?;
    let selected = select(&tree, &args.file)?;
    let path = shown(&selected.mount_path);
    let id = selected.file.ok_or_else(|| {
        Error::NotFound(match tree.body(selected.node) {
            Some(_) => format!("{}: free space, which is no lost file", quote(path)),
            None => format!("{}: this folder was not lost; `undelfs list --path` lists what was lost from it", quote(path)),
        })
    })?;
    let mut output = Output::new(global);
    let written = if args.map.is_some() {
        map(&tree, id, &mut output.out)
    } else if args.json {
        serde_json::to_writer_pretty(&mut output.out, &report::file_with_ranges(&tree, id))
            .map_err(io::Error::from)
            .and_then(|()| writeln!(output.out))
    } else {
        text(&tree, id, args, &mut output)
    };
    output.finish(written)
}

/// A GNU ddrescue mapfile of the file: what is missing counts as bad, the rest as rescued.
fn map(tree: &Tree, id: FileId, out: &mut impl Write) -> io::Result<()> {
    let ranges = tree.recovery().ranges(id).map(|range| {
        let status = if range.evidence.is_missing() { Status::Bad } else { Status::Rescued };
        (range.offset, range.length, status)
    });
    mapfile::write(out, ranges)
}

fn text(tree: &Tree, id: FileId, args: &ShowArgs, output: &mut Output) -> io::Result<()> {
    let all = args.all_runs || !output.is_terminal;
    let file = tree.recovery().file(id);
    let mount_path = tree.mount_path(id);
    let title = output.name(shown(&mount_path)).into_owned();
    output.out.write_all(output.heading("").as_bytes())?;
    output.out.write_all(&title)?;
    output.out.write_all(b"\n")?;
    facts(tree, id, output)?;
    orphan::show(tree, id, output)?;
    table::show(tree.recovery(), id, all, args.content, output)?;

    writeln!(output.out, "\n{}", output.heading("How it is known"))?;
    for evidence in Evidence::ALL {
        let bytes = file.tally.of(evidence);
        if bytes > 0 {
            writeln!(output.out, "  {:<11} {:>14} bytes  {}", evidence.word(), bytes, evidence.meaning())?;
        }
    }
    if file.size == 0 {
        writeln!(output.out, "  the file has no bytes")?;
    }

    if file.tally.runs > 0 {
        writeln!(output.out, "\n{}", output.heading(&format!("Runs ({})", file.tally.runs)))?;
        writeln!(output.out, "  {:>14}  {:>14}  {:>10}  {:<11}  REASON", "OFFSET", "BYTES", "BLOCK", "EVIDENCE")?;
        rows(tree.recovery().ranges(id), all, &mut output.out, |out, range: Range| {
            let block = range.block.map_or_else(|| "-".to_owned(), |block| block.to_string());
            let row = format!(
                "  {:>14}  {:>14}  {block:>10}  {:<11}  {}",
                range.offset,
                range.length,
                range.evidence.word(),
                terminal::line(&range.reason)
            );
            writeln!(out, "{}", row.trim_end())
        })?;
    }
    if file.tally.missing() == 0 {
        return Ok(());
    }
    let mut takers = if file.tally.of(Evidence::Overwritten) > 0 { tree.recovery().takers(id) } else { vec![] };
    // Who has most comes first; of those who have the same block, who is in use.
    takers.sort_by_key(|taker| (taker.lost, std::cmp::Reverse(taker.blocks.len())));
    let missing = format!("Missing ({} bytes)", file.tally.missing());
    writeln!(output.out, "\n{}", output.heading(&missing))?;
    writeln!(output.out, "  {:>14}  {:>14}  WHY", "OFFSET", "BYTES")?;
    let names: Vec<_> = takers.iter().map(|taker| name_of(taker, output)).collect();
    rows(gaps::of(tree.recovery(), id, &takers), all, &mut output.out, |out, gap| {
        let why = if gap.reason.is_empty() { gap.evidence.meaning() } else { &gap.reason };
        write!(out, "  {:>14}  {:>14}  {}: {}", gap.offset, gap.length, gap.evidence.word(), terminal::line(why))?;
        if let Some(taker) = gap.taker {
            out.write_all(b", by ")?;
            out.write_all(&names[taker])?;
        }
        writeln!(out)
    })?;
    overwritten_by(&takers, &names, all, output)
}

/// How a taker is called: by its path, or by its inode.
fn name_of(taker: &Taker, output: &Output) -> Vec<u8> {
    match (&taker.path, taker.ino) {
        (Some(path), _) => output.name(path).into_owned(),
        (None, Some(ino)) => format!("inode {ino}").into_bytes(),
        (None, None) => b"a file that is lost itself".to_vec(),
    }
}

/// Who has what the file no longer has.
fn overwritten_by(takers: &[Taker], names: &[Vec<u8>], all: bool, output: &mut Output) -> io::Result<()> {
    /// Takers that are shown on a terminal: those that have most come first, and a churned file has thousands.
    const SHOWN: usize = 10;
    if takers.is_empty() {
        return Ok(());
    }
    writeln!(output.out, "\n{}", output.heading("Overwritten by"))?;
    writeln!(output.out, "  {:>10}  {:>10}  PATH", "INODE", "BLOCKS")?;
    let shown = if all { takers.len() } else { takers.len().min(SHOWN) };
    for (taker, name) in takers[..shown].iter().zip(names) {
        let ino = taker.ino.map_or_else(|| "-".to_owned(), |ino| ino.to_string());
        write!(output.out, "  {ino:>10}  {:>10}  ", taker.blocks.len())?;
        output.out.write_all(if taker.path.is_some() { name } else { b"unknown" })?;
        writeln!(output.out, "{}", if taker.lost { ", lost itself" } else { "" })?;
    }
    if shown < takers.len() {
        writeln!(output.out, "  … {} more; --all-runs shows all", takers.len() - shown)?;
    }
    Ok(())
}

fn facts(tree: &Tree, id: FileId, output: &mut Output) -> io::Result<()> {
    let file = tree.recovery().file(id);
    let Output { out, .. } = output;
    let what = match (file.kind, file.loss) {
        (Kind::File, Loss::Deleted) => "file, deleted",
        (Kind::File, Loss::Truncated) => "file, as it was before it was truncated or rewritten",
        (Kind::Dir, _) => "folder, deleted",
        (Kind::Symlink, _) => "symbolic link, deleted",
    };
    let when = file.deleted.map_or_else(|| ", nothing says when".to_owned(), |time| format!(" {}", terminal::local(time)));
    writeln!(out, "  {:<11} {what}{when}", "what")?;
    writeln!(out, "  {:<11} {} ({} bytes), {}", "size", terminal::size(file.size), file.size, size_from(file.size_from))?;
    let state = output.state(file.state(), &state(file));
    let Output { out, .. } = output;
    writeln!(out, "  {:<11} {state}", "state")?;
    match (file.ino, file.generation) {
        (Some(ino), Some(generation)) => writeln!(out, "  {:<11} {ino}, generation {}, {}", "inode", generation.0, life(file.version))?,
        (Some(ino), None) => writeln!(out, "  {:<11} {ino}, {}", "inode", life(file.version))?,
        (None, _) => writeln!(out, "  {:<11} unknown", "inode")?,
    }
    writeln!(out, "  {:<11} {:04o}, owner {}, group {}", "mode", file.mode, file.uid, file.gid)?;
    for (name, time) in [("modified", file.mtime), ("changed", file.ctime), ("accessed", file.atime)] {
        writeln!(out, "  {name:<11} {}", terminal::local(time))?;
    }
    if file.kind == Kind::Symlink {
        match tree.recovery().link_target(id) {
            Ok(target) => name_row(output, "leads to", &target)?,
            Err(error) => writeln!(output.out, "  {:<11} nobody knows: {error}", "leads to")?,
        }
    }
    for path in &file.paths {
        name_row(output, "path", path)?;
    }
    if file.paths.is_empty() {
        writeln!(output.out, "  {:<11} unknown", "path")?;
    }
    name_row(output, "in a mount", &tree.mount_path(id))
}

fn name_row(output: &mut Output, what: &str, name: &[u8]) -> io::Result<()> {
    let name = output.name(name);
    write!(output.out, "  {what:<11} ")?;
    output.out.write_all(&name)?;
    output.out.write_all(b"\n")
}

fn life(version: u32) -> String {
    match version {
        0 => "the last file lost from it".into(),
        version => format!("{} lost from it later", count(version.into(), "file was", "files were")),
    }
}

fn size_from(from: SizeFrom) -> &'static str {
    match from {
        SizeFrom::Inode => "from the inode",
        SizeFrom::Hint => "from the hint",
        SizeFrom::Content => "from the content, which tells its own length",
        SizeFrom::Chain => "from the last block that a pointer names",
    }
}

fn state(file: &LostFile) -> String {
    let there = terminal::percent(file);
    match file.state() {
        State::Complete => "complete: every byte is there".into(),
        State::Partial => format!("partial: {there} is there, {} missing", count(file.tally.missing(), "byte is", "bytes are")),
        State::Empty => "empty: nothing of the content is there".into(),
    }
}

/// Writes each row, or the first and the last of a long table.
fn rows<T, W: Write>(
    items: impl Iterator<Item = T>,
    all: bool,
    out: &mut W,
    write: impl Fn(&mut W, T) -> io::Result<()>,
) -> io::Result<()> {
    let mut held = VecDeque::new();
    let mut left_out: u64 = 0;
    for (index, item) in items.enumerate() {
        if all || index < FIRST_ROWS {
            write(out, item)?;
            continue;
        }
        held.push_back(item);
        if held.len() > LAST_ROWS {
            held.pop_front();
            left_out += 1;
        }
    }
    if left_out > 0 {
        writeln!(out, "  … {} not shown here: --all-runs", count(left_out, "row", "rows"))?;
    }
    held.into_iter().try_for_each(|item| write(out, item))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown_of(number: u32, all: bool) -> Vec<String> {
        let mut out = Vec::new();
        rows(0..number, all, &mut out, |out, n| writeln!(out, "{n}")).expect("a vector takes all");
        String::from_utf8_lossy(&out).lines().map(str::to_owned).collect()
    }

    #[test]
    fn long_tables_are_cut_in_the_middle() {
        assert_eq!(shown_of(30, false).len(), 30);
        let cut = shown_of(32, false);
        assert_eq!(cut[20], "  … 2 rows not shown here: --all-runs");
        assert_eq!((cut.len(), cut[19].as_str(), cut[21].as_str(), cut[30].as_str()), (31, "19", "22", "31"));
        assert_eq!(shown_of(1000, true).len(), 1000);
        assert!(shown_of(0, false).is_empty());
    }
}
