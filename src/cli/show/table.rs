//! What `undelfs show` says of a file of a MyISAM table: its format, and how many of its rows are there.

use super::super::terminal::{self, Output, count};
use std::io::{self, Write};
use undelfs::content::myisam::dynamic::RowBlocks;
use undelfs::content::myisam::header::{Header, RowFormat};
use undelfs::content::myisam::packed;
use undelfs::content::myisam::rows::{Format, Rows, Tally};
use undelfs::content::{self, Kind};
use undelfs::recover::{FileId, Recovery};

/// Up to this size rows are counted without being asked: in a quarter of a second, on an image that is in memory.
const COUNTED: u64 = 64 << 20;
/// Bytes read at a time.
const PIECE: usize = 1 << 20;
/// What the head of a `.MYI` can take (`header_length` has 16 bits).
const HEAD: usize = 1 << 16;

/// Shows what a table's file holds, or nothing where the file belongs to none. Rows are counted in small files, or if `content`
/// asks for it.
pub fn show(recovery: &Recovery, id: FileId, all: bool, content: bool, output: &mut Output) -> io::Result<()> {
    let Some(head) = head(recovery, id) else { return Ok(()) };
    let kind = content::identify(&head);
    if kind == Some(Kind::MyisamIndex) {
        return match Header::parse(&head) {
            Some(header) => index(&header, output),
            None => Ok(()),
        };
    }
    let header = index_of(recovery, id);
    let named = is_named(recovery, id, b".MYD");
    let formats = formats(kind, &head, header.as_ref(), named);
    if formats.is_empty() {
        return Ok(());
    }
    if !content && recovery.file(id).size > COUNTED {
        title(output)?;
        return writeln!(output.out, "  {:<11} not counted in a file of this size: --content reads it and counts them", "rows");
    }
    let mut counted = vec![];
    for (format, name) in formats {
        counted.extend(tally(recovery, id, format)?.map(|tally| (tally, name)));
    }
    // Of two ways to read the rows, the right one finds more of them and fails more rarely.
    match counted.into_iter().max_by_key(|(tally, _)| tally.rows.saturating_sub(tally.breaks.len() as u64)) {
        Some((tally, name)) if tally.rows > 0 => rows(&tally, name, header.as_ref(), all, output),
        _ => Ok(()),
    }
}

fn title(output: &mut Output) -> io::Result<()> {
    writeln!(output.out, "\n{}", output.heading("Table"))
}

/// The first bytes, as far as they are there.
fn head(recovery: &Recovery, id: FileId) -> Option<Vec<u8>> {
    let mut head = vec![0; HEAD.min(usize::try_from(recovery.file(id).size).unwrap_or(HEAD))];
    let length = recovery.read_at(id, 0, &mut head).ok()?;
    head.truncate(length);
    (length > 0).then_some(head)
}

fn is_named(recovery: &Recovery, id: FileId, ext: &[u8]) -> bool {
    recovery.file(id).paths.iter().any(|path| path.ends_with(ext))
}

/// What the lost `.MYI` of the same table says: of several, the one lost last that can be read.
fn index_of(recovery: &Recovery, id: FileId) -> Option<Header> {
    let wanted: Vec<_> = recovery.file(id).paths.iter().filter_map(|path| Some([path.strip_suffix(b".MYD")?, b".MYI"].concat())).collect();
    let is_wanted = |other: &FileId| recovery.file(*other).paths.iter().any(|path| wanted.contains(path));
    let mut found: Vec<_> = if wanted.is_empty() { vec![] } else { recovery.ids().filter(is_wanted).collect() };
    found.sort_by_key(|other| recovery.file(*other).version);
    found.into_iter().find_map(|other| Header::parse(&head(recovery, other)?))
}

/// The ways in which the rows may stand, with a name each.
fn formats(kind: Option<Kind>, head: &[u8], index: Option<&Header>, named: bool) -> Vec<(Format, &'static str)> {
    const DYNAMIC: &str = "dynamic: rows of varying length, in blocks with heads of their own";
    const PACKED: &str = "compressed by myisampack, read-only";
    let mut formats = vec![];
    match (kind, index.map(|index| index.format)) {
        (Some(Kind::MyisamPacked), _) => {
            let Some(header) = packed::Header::parse(head) else { return formats };
            let blobs = index.map(|index| index.blobs > 0);
            let ways = [false, true].into_iter().filter(|way| blobs.is_none_or(|blobs| blobs == *way));
            formats.extend(ways.map(|blobs| (Format::Packed(packed::Rows { header, blobs }), PACKED)));
        }
        (Some(Kind::MyisamDynamic), _) | (None, Some(RowFormat::Dynamic)) => formats.push((Format::Dynamic(RowBlocks::ANY), DYNAMIC)),
        (_, Some(RowFormat::Fixed)) => {
            let length = index.map_or(0, |index| index.packed_length);
            formats.push((Format::Fixed(length), "fixed: all rows of one length"));
        }
        // Nothing is left that tells, if not the rows themselves.
        (None, None) if named => formats.push((Format::Dynamic(RowBlocks::ANY), DYNAMIC)),
        _ => (),
    }
    formats
}

/// Reads the whole file. `None` for a row length that no table has.
fn tally(recovery: &Recovery, id: FileId, format: Format) -> io::Result<Option<Tally>> {
    let Some(mut rows) = Rows::new(format) else { return Ok(None) };
    let mut piece = vec![0; PIECE];
    for range in recovery.ranges(id) {
        if range.evidence.is_missing() {
            rows.missing(range.length);
            continue;
        }
        let (mut at, end) = (range.offset, range.offset.saturating_add(range.length));
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
            let read = recovery.read_at(id, at, &mut piece[..wanted])?;
            if read == 0 {
                break;
            }
            rows.feed(&piece[..read]);
            at += read as u64;
        }
    }
    Ok(Some(rows.finish()))
}

fn rows(tally: &Tally, format: &str, index: Option<&Header>, all: bool, output: &mut Output) -> io::Result<()> {
    title(output)?;
    writeln!(output.out, "  {:<11} rows of a MyISAM table, {format}", "format")?;
    let split = if tally.split > 0 { format!(", {} of them in several parts", tally.split) } else { String::new() };
    writeln!(output.out, "  {:<11} {} whole{split}", "rows", tally.rows)?;
    if tally.damaged > 0 {
        writeln!(output.out, "  {:<11} {} of which only a part is there", "damaged", count(tally.damaged, "row", "rows"))?;
    }
    if tally.deleted > 0 {
        writeln!(output.out, "  {:<11} {} before the loss", "deleted", count(tally.deleted, "row or part was", "rows or parts were"))?;
    }
    if let Some(index) = index {
        writeln!(output.out, "  {:<11} {}, says the .MYI", "had", count(index.records, "row", "rows"))?;
    }
    if !tally.breaks.is_empty() {
        let first = tally.breaks[0];
        let places = count(tally.breaks.len() as u64, "place", "places");
        writeln!(output.out, "  {:<11} no row begins where one must at {places}, the first of them byte {first}", "foreign")?;
    }
    if tally.unread > 0 {
        writeln!(output.out, "  {:<11} {} bytes beside missing ranges: the rest of rows that begin there", "unread", tally.unread)?;
    }
    if tally.gaps.is_empty() {
        return Ok(());
    }
    let (bytes, rows) =
        tally.gaps.iter().fold((0u64, 0u64), |(bytes, rows), gap| (bytes.saturating_add(gap.length), rows.saturating_add(gap.rows)));
    let ranges = count(tally.gaps.len() as u64, "range", "ranges");
    writeln!(output.out, "  {:<11} {} in {ranges}, which held about {}", "missing", terminal::size(bytes), count(rows, "row", "rows"))?;
    writeln!(output.out, "\n{}", output.heading("Rows in missing ranges, at a guess"))?;
    writeln!(output.out, "  {:>14}  {:>14}  {:>10}", "OFFSET", "BYTES", "ROWS")?;
    super::rows(tally.gaps.iter(), all, &mut output.out, |out, gap| {
        writeln!(out, "  {:>14}  {:>14}  {:>10}", gap.offset, gap.length, gap.rows)
    })
}

fn index(header: &Header, output: &mut Output) -> io::Result<()> {
    title(output)?;
    let format = match header.format {
        RowFormat::Fixed => "fixed",
        RowFormat::Dynamic => "dynamic",
        RowFormat::Compressed => "compressed",
    };
    writeln!(output.out, "  {:<11} {} of a MyISAM table in {format} format", "format", count(header.keys.into(), "key", "keys"))?;
    writeln!(output.out, "  {:<11} {}", "rows", header.records)?;
    writeln!(output.out, "  {:<11} {} bytes", "its .MYD", header.data_file_length)?;
    if header.open_count > 0 {
        writeln!(output.out, "  {:<11} no: it was open for writing, so what it says may be older than the rows", "closed")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tells_the_format() {
        let count = |kind, named| formats(kind, &[0; 64], None, named).len();
        assert_eq!(count(Some(Kind::MyisamDynamic), false), 1);
        assert_eq!((count(None, true), count(None, false)), (1, 0), "a name alone is enough to try");
        assert_eq!((count(Some(Kind::Sqlite), true), count(Some(Kind::MyisamPacked), true)), (0, 0), "no head of a compressed table");
        let head = [0xfe, 0xfe, 8, 2, 0xb6, 2, 0, 0, 0x0a, 0, 0, 0, 0x57, 0, 0, 0, 0x29, 1, 0, 0, 1, 0, 0, 0, 4, 0, 1, 3, 0, 0, 0, 0];
        assert_eq!(formats(Some(Kind::MyisamPacked), &head, None, true).len(), 2, "with and without blobs");
    }
}
