//! `undelfs info`: the filesystem, and what there is to work with.

use super::args::{Global, InfoArgs};
use super::open;
use super::terminal::{self, Output, count, quote, size};
use serde::Serialize;
use std::io::{self, Write};
use undelfs::Result;
use undelfs::recover::file::Time;
use undelfs::recover::info::{Info, JournalInfo};
use undelfs::report::Totals;

/// The JSON of `undelfs info`.
#[derive(Serialize)]
struct Report<'a> {
    image: String,
    #[serde(flatten)]
    info: &'a Info,
    lost: Totals,
}

/// Describes the filesystem.
///
/// # Errors
/// Where it cannot be read, or the output not be written.
pub fn run(args: &InfoArgs, global: &Global) -> Result<()> {
    let tree = open(&args.image, global)?;
    let recovery = tree.recovery();
    let (info, lost) = (recovery.info(), Totals::of(recovery));
    let image = args.image.image.to_string_lossy();
    let mut output = Output::new(global);
    let written = if args.json {
        let report = Report { image: image.into_owned(), info: &info, lost };
        serde_json::to_writer_pretty(&mut output.out, &report).map_err(io::Error::from).and_then(|()| writeln!(output.out))
    } else {
        text(&image, &info, &lost, &mut output)
    };
    output.finish(written)
}

fn text(image: &str, info: &Info, lost: &Totals, output: &mut Output) -> io::Result<()> {
    let time = |time: Option<Time>| time.map_or_else(|| "unknown".to_owned(), terminal::local);
    let label = if info.label.is_empty() { "none".into() } else { quote(info.label.as_bytes()) };
    let mounted_on = if info.mounted_on.is_empty() { String::new() } else { format!(", on {}", quote(info.mounted_on.as_bytes())) };
    section(
        output,
        "Filesystem",
        &[
            ("image", terminal::line(image).into_owned()),
            ("type", if info.offset == 0 { info.kind.to_owned() } else { format!("{}, from byte {} on", info.kind, info.offset) }),
            ("label", label.into_owned()),
            ("UUID", info.uuid.clone()),
            ("size", format!("{}: {} blocks of {} bytes", size(info.blocks.saturating_mul(info.block_size)), info.blocks, info.block_size)),
            ("free", format!("{}: {} blocks", size(info.free_blocks.saturating_mul(info.block_size)), info.free_blocks)),
            ("inodes", format!("{} of {} bytes, in {}", info.inodes, info.inode_size, count(info.groups, "group", "groups"))),
            ("features", info.features.join(" ")),
            ("superblock", format!("in block {}", info.superblock)),
            ("last mounted", format!("{}{mounted_on}", time(info.last_mount))),
            ("last written", time(info.last_write)),
            ("state", if info.clean { "clean".into() } else { "not clean".into() }),
        ],
    )?;
    match &info.journal {
        Some(journal) => section(output, "Journal", &journal_rows(journal))?,
        None => section(output, "Journal", &[("", "none that can be read".into())])?,
    }
    let files = format!("{}: {} complete, {} partial, {} empty", lost.files, lost.complete, lost.partial, lost.empty);
    let orphans = match lost.orphans {
        0 => None,
        orphans => Some(("orphans", format!("{orphans} of them, whose inode is gone"))),
    };
    let sums = [("size", size(lost.size)), ("there", size(lost.recovered)), ("missing", size(lost.missing))];
    section(output, "Lost files", &[("found", files)].into_iter().chain(orphans).chain(sums).collect::<Vec<_>>())?;
    if !info.damage.is_empty() {
        let rows: Vec<(&str, String)> = info.damage.iter().map(|damage| ("", terminal::line(damage).into_owned())).collect();
        section(output, "Damage", &rows)?;
    }
    Ok(())
}

fn journal_rows(journal: &JournalInfo) -> Vec<(&'static str, String)> {
    let reach = match (journal.oldest_commit, journal.newest_commit) {
        (Some(oldest), Some(newest)) => format!("from {} to {}", terminal::local(oldest), terminal::local(newest)),
        // jbd wrote no commit times until Linux 2.6.37.
        _ => "unknown: the driver that wrote it noted no times".into(),
    };
    vec![
        ("size", size(journal.size)),
        ("state", if journal.dirty { "needs replay (taken into account, the image stays as it is)".into() } else { "clean".into() }),
        (
            "remembers",
            format!(
                "{}, {} of blocks",
                count(journal.transactions, "transaction", "transactions"),
                count(journal.copies, "copy", "copies")
            ),
        ),
        ("reaches", reach),
    ]
}

fn section(output: &mut Output, title: &str, rows: &[(&str, String)]) -> io::Result<()> {
    writeln!(output.out, "{}", output.heading(title))?;
    for (name, value) in rows {
        if name.is_empty() { writeln!(output.out, "  {value}")? } else { writeln!(output.out, "  {name:<13} {value}")? }
    }
    Ok(())
}
