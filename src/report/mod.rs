//! What is told of lost files: the JSON of `list`, `show` and `report.json`, and the text of `ABOUT.txt`.

mod about;

pub use about::{about, about_scan};

use crate::recover::file::{FileId, Kind, Loss, LostFile, SizeFrom, State, Tally, Time};
use crate::recover::{Candidate, Recovery, Taker};
use crate::run::Evidence;
use crate::scan::extent::Looked;
use crate::tree::Tree;
use crate::units::Block;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};

/// Inodes that are named at most of those that may have been an orphan's.
pub const CANDIDATES: usize = 64;

/// RFC 3339 in UTC. Times beyond what that can say, which no inode can hold, become the nearest that it can.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.timestamp().fmt(f)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Time {
    /// As a `jiff` timestamp, for arithmetic and for local time.
    pub fn timestamp(self) -> jiff::Timestamp {
        let nanos = i32::try_from(self.nanos.min(999_999_999)).unwrap_or_default();
        let limit = if self.seconds < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
        jiff::Timestamp::new(self.seconds, nanos).unwrap_or(limit)
    }
}

impl State {
    /// The word as it stands in JSON and in the extended attribute.
    pub const fn word(self) -> &'static str {
        match self {
            State::Complete => "complete",
            State::Partial => "partial",
            State::Empty => "empty",
        }
    }
}

impl Evidence {
    /// What the word means, in a clause for people.
    pub const fn meaning(self) -> &'static str {
        match self {
            Evidence::Journal => "the pointer stands in a journal copy of the inode or of an indirect block",
            Evidence::Chain => "the pointer stands in an indirect block that is still on the disk",
            Evidence::Inferred => "no pointer is left; placed by how the allocator works, or by the content itself",
            Evidence::Hole => "the file was sparse here",
            Evidence::Overwritten => "the block belongs to something newer; zeros",
            Evidence::Unknown => "nothing says which block it was; zeros",
            Evidence::Unreadable => "the medium gives an error here; zeros",
        }
    }
}

/// Bytes there / size with four decimals, rounded down, so that `1.0000` means that nothing is missing.
pub fn fraction(file: &LostFile) -> String {
    let parts = match file.state() {
        State::Complete => 10_000,
        _ if file.size == 0 => 0,
        // A complete file alone may say 1; a size whose last bytes are nowhere accounted for must not.
        _ => (u128::from(file.recovered()) * 10_000 / u128::from(file.size)).min(9_999),
    };
    format!("{}.{:04}", parts / 10_000, parts % 10_000)
}

/// Bytes by evidence, as a JSON object with all seven words.
pub(crate) struct Bytes<'a>(pub(crate) &'a Tally);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(Evidence::ALL.len()))?;
        for evidence in Evidence::ALL {
            map.serialize_entry(evidence.word(), &self.0.of(evidence))?;
        }
        map.end()
    }
}

/// One lost file as a JSON object; its fields are the contract of `shared/product.md`, and what follows them.
#[derive(Serialize)]
pub struct FileReport<'a> {
    inode: Option<u32>,
    generation: Option<u32>,
    version: u32,
    path: Option<Cow<'a, str>>,
    /// The exact bytes, where `path` had to replace some.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    /// All paths, where there were several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    paths: Vec<Cow<'a, str>>,
    /// The same in hexadecimal, where one of them had to be altered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    paths_hex: Vec<String>,
    size: u64,
    size_from: SizeFrom,
    mode: String,
    #[serde(rename = "type")]
    kind: Kind,
    uid: u32,
    gid: u32,
    mtime: Time,
    deleted: Option<Time>,
    loss: Loss,
    state: State,
    recovered: u64,
    missing: u64,
    evidence: Bytes<'a>,
    runs: u64,
    mount_path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mount_path_hex: Option<String>,
    /// The topmost indirect block of a chain that was found without an inode.
    top: Option<u64>,
    /// Whose the chain may be, where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    candidates: Option<Vec<CandidateReport<'a>>>,
    /// How many more of them there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    more_candidates: Option<usize>,
}

/// An inode that may have been that of a chain.
#[derive(Serialize)]
struct CandidateReport<'a> {
    inode: u32,
    path: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    deleted: Option<Time>,
}

impl<'a> From<&'a Candidate> for CandidateReport<'a> {
    fn from(candidate: &'a Candidate) -> Self {
        CandidateReport {
            inode: candidate.ino.0,
            path: candidate.path.as_deref().map(String::from_utf8_lossy),
            path_hex: candidate.path.as_deref().and_then(exact),
            deleted: candidate.when,
        }
    }
}

/// The JSON object of one lost file, as `list` and `report.json` have it.
pub fn file(tree: &Tree, id: FileId) -> FileReport<'_> {
    let file = tree.recovery().file(id);
    let mount_path = tree.mount_path(id);
    let several = if file.paths.len() > 1 { file.paths.as_slice() } else { &[] };
    let altered = several.iter().any(|path| exact(path).is_some());
    FileReport {
        inode: file.ino.map(|ino| ino.0),
        generation: file.generation.map(|generation| generation.0),
        version: file.version,
        path: file.paths.first().map(|path| String::from_utf8_lossy(path)),
        path_hex: file.paths.first().and_then(|path| exact(path)),
        paths: several.iter().map(|path| String::from_utf8_lossy(path)).collect(),
        paths_hex: if altered { several.iter().map(|path| hex(path)).collect() } else { Vec::new() },
        size: file.size,
        size_from: file.size_from,
        mode: format!("{:04o}", file.mode),
        kind: file.kind,
        uid: file.uid,
        gid: file.gid,
        mtime: file.mtime,
        deleted: file.deleted,
        loss: file.loss,
        state: file.state(),
        recovered: file.recovered(),
        missing: file.tally.missing(),
        evidence: Bytes(&file.tally),
        runs: file.tally.runs,
        mount_path_hex: exact(&mount_path),
        mount_path: String::from_utf8_lossy(&mount_path).into_owned(),
        top: file.orphan.as_ref().map(|orphan| orphan.top.get()),
        candidates: file.orphan.as_ref().map(|orphan| orphan.candidates.iter().take(CANDIDATES).map(CandidateReport::from).collect()),
        more_candidates: file.orphan.as_ref().and_then(|orphan| orphan.candidates.len().checked_sub(CANDIDATES + 1)).map(|more| more + 1),
    }
}

/// One lost file with all its ranges, as `show` has it.
#[derive(Serialize)]
pub struct FullReport<'a> {
    #[serde(flatten)]
    file: FileReport<'a>,
    atime: Time,
    ctime: Time,
    overwritten_by: Vec<TakerReport>,
    ranges: Ranges<'a>,
}

/// Who has overwritten blocks of a file.
#[derive(Serialize)]
struct TakerReport {
    inode: Option<u32>,
    path: Option<String>,
    lost: bool,
    blocks: u64,
}

/// The JSON object of one lost file with its ranges, which are read from the image while it is written.
pub fn file_with_ranges(tree: &Tree, id: FileId) -> FullReport<'_> {
    let LostFile { atime, ctime, .. } = *tree.recovery().file(id);
    let row = |taker: Taker| TakerReport {
        inode: taker.ino.map(|ino| ino.0),
        path: taker.path.map(|path| String::from_utf8_lossy(&path).into_owned()),
        lost: taker.lost,
        blocks: taker.blocks.len(),
    };
    let overwritten_by = tree.recovery().takers(id).into_iter().map(row).collect();
    FullReport { file: file(tree, id), atime, ctime, overwritten_by, ranges: Ranges(tree.recovery(), id) }
}

/// The ranges of a file, never all in memory: a large file has millions.
struct Ranges<'a>(&'a Recovery, FileId);

impl Serialize for Ranges<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Row {
            offset: u64,
            length: u64,
            evidence: Evidence,
            block: Option<u64>,
            reason: Cow<'static, str>,
        }
        serializer.collect_seq(self.0.ranges(self.1).map(|range| Row {
            offset: range.offset,
            length: range.length,
            evidence: range.evidence,
            block: range.block.map(Block::get),
            reason: range.reason,
        }))
    }
}

/// Bytes of a file that are missing, and in which way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap {
    /// First byte.
    pub offset: u64,
    /// Bytes; never 0.
    pub length: u64,
    /// Why they are missing.
    pub evidence: Evidence,
}

/// The missing ranges of a file. What lies side by side and is missing in the same way is one range, whatever blocks it had.
pub fn missing_ranges(recovery: &Recovery, id: FileId) -> impl Iterator<Item = Gap> {
    let ranges = recovery.ranges(id).filter(|range| range.evidence.is_missing());
    coalesce(ranges.map(|range| Gap { offset: range.offset, length: range.length, evidence: range.evidence }))
}

fn coalesce(gaps: impl Iterator<Item = Gap>) -> impl Iterator<Item = Gap> {
    let mut gaps = gaps.peekable();
    std::iter::from_fn(move || {
        let mut gap = gaps.next()?;
        while let Some(next) = gaps.next_if(|next| next.evidence == gap.evidence && gap.offset.checked_add(gap.length) == Some(next.offset))
        {
            gap.length = gap.length.saturating_add(next.length);
        }
        Some(gap)
    })
}

/// Writes the JSON array of these files, one object a line.
///
/// # Errors
/// Those of `out`.
pub fn write_list(tree: &Tree, ids: impl IntoIterator<Item = FileId>, out: impl Write) -> io::Result<()> {
    write_rows(tree, ids, false, out)
}

/// The same, but where it has `begun` another element stands before these files.
fn write_rows(tree: &Tree, ids: impl IntoIterator<Item = FileId>, begun: bool, mut out: impl Write) -> io::Result<()> {
    let mut before = if begun { ",\n" } else { "[\n" };
    for id in ids {
        out.write_all(before.as_bytes())?;
        serde_json::to_writer(&mut out, &file(tree, id))?;
        before = ",\n";
    }
    out.write_all(if before == "[\n" { b"[]\n" } else { b"\n]\n" })
}

/// How the content of `report.json` begins while the scan goes on: with an element that is no file but says how far it is.
pub fn report_scan(looked: &Looked) -> String {
    if looked.goes_on() { format!("[\n{{\"scan\":\"{looked}\"}}") } else { String::new() }
}

/// The content of `report.json`, behind [`report_scan`]: all lost files.
pub fn report_json(tree: &Tree) -> Vec<u8> {
    let mut json = Vec::new();
    let recovery = tree.recovery();
    let begun = recovery.looked().goes_on();
    // A vector takes every write, and a file's report has nothing that JSON cannot say.
    let _ = write_rows(tree, in_order(recovery), begun, &mut json);
    json
}

/// All lost files as they are listed: by path, folders before what was in them and of one
/// path the last that was lost first; then what has no path.
pub fn in_order(recovery: &Recovery) -> Vec<FileId> {
    let mut ids: Vec<FileId> = (0..).map(FileId).take(recovery.files().len()).collect();
    ids.sort_by(|a, b| {
        let (a, b) = (recovery.file(*a), recovery.file(*b));
        let paths = match (a.paths.first(), b.paths.first()) {
            (Some(a), Some(b)) => in_tree_order(a).cmp(in_tree_order(b)),
            (a, b) => b.is_some().cmp(&a.is_some()),
        };
        let top = |file: &LostFile| file.orphan.as_ref().map(|orphan| orphan.top);
        paths.then(b.deleted.cmp(&a.deleted)).then(a.ino.cmp(&b.ino)).then(a.version.cmp(&b.version)).then(top(a).cmp(&top(b)))
    });
    ids
}

/// The bytes of a path with `/` less than every other, so that a folder's files follow it at once.
fn in_tree_order(path: &[u8]) -> impl Iterator<Item = u8> {
    path.iter().map(|byte| if *byte == b'/' { 0 } else { *byte })
}

/// How many files were lost, and how much of them is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Totals {
    /// Lost files, folders and links.
    pub files: u64,
    /// Of these, how many have all their bytes.
    pub complete: u64,
    /// How many have some.
    pub partial: u64,
    /// How many have none.
    pub empty: u64,
    /// How many were found without an inode.
    pub orphans: u64,
    /// Their sizes together, in bytes.
    pub size: u64,
    /// Bytes that are there.
    pub recovered: u64,
    /// Bytes that are missing.
    pub missing: u64,
}

impl Totals {
    /// Of all lost files.
    pub fn of(recovery: &Recovery) -> Self {
        let mut totals = Totals::default();
        recovery.files().iter().for_each(|file| totals.add(file));
        totals
    }

    /// Counts one more file. Sums saturate: a hostile image can claim any sizes.
    pub fn add(&mut self, file: &LostFile) {
        self.files += 1;
        match file.state() {
            State::Complete => self.complete += 1,
            State::Partial => self.partial += 1,
            State::Empty => self.empty += 1,
        }
        self.orphans += u64::from(file.ino.is_none());
        self.size = self.size.saturating_add(file.size);
        self.recovered = self.recovered.saturating_add(file.recovered());
        self.missing = self.missing.saturating_add(file.tally.missing());
    }
}

/// Hexadecimal of bytes that are not UTF-8; `None` for those that are.
fn exact(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).is_err().then(|| hex(bytes))
}

/// Hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::recover::file::{Mapping, Span};
    use crate::units::Moment;

    /// A file without a name, of so many bytes by evidence.
    pub(crate) fn lost_file(size: u64, bytes: [u64; 7]) -> LostFile {
        LostFile {
            ino: None,
            generation: None,
            version: 0,
            kind: Kind::File,
            size,
            size_from: SizeFrom::Inode,
            mode: 0o644,
            uid: 0,
            gid: 0,
            atime: Time::default(),
            mtime: Time::default(),
            ctime: Time::default(),
            deleted: None,
            loss: Loss::Deleted,
            links: 1,
            span: Span {
                born: Moment::PAST,
                first: Moment::PAST,
                last: Moment::PAST,
                covered: true,
                freed: Moment::NOW,
                freed_by: Moment::NOW,
                unlinked: Moment::NOW,
                made: None,
                ended: None,
                successor: None,
                cut: 0,
                dated: true,
                stayed: u64::MAX,
                kept: 0,
                kept_until: Moment::PAST,
                blocks: 0,
            },
            mapping: Mapping::Inline(Box::default()),
            zeroed: Vec::new(),
            paths: Vec::new(),
            tally: Tally { bytes, runs: 1 },
            number: None,
            orphan: None,
        }
    }

    #[test]
    fn only_complete_files_have_a_fraction_of_1() {
        for (size, missing, expected) in [
            (0, 0, "1.0000"),
            (100, 0, "1.0000"),
            (1 << 40, 1, "0.9999"),
            (10_000, 688, "0.9312"),
            (4096, 4096, "0.0000"),
            (3, 1, "0.6666"),
        ] {
            assert_eq!(fraction(&lost_file(size, [size - missing, 0, 0, 0, 0, missing, 0])), expected, "{missing} of {size}");
        }
        let without_pointers = Mapping::Indirect { pointers: Box::new([None; 15]), certain: false, placed: None };
        assert_eq!(fraction(&LostFile { mapping: without_pointers, ..lost_file(0, [0; 7]) }), "0.0000");
    }

    #[test]
    fn totals_count_orphans_and_never_overflow() {
        let mut totals = Totals::default();
        totals.add(&lost_file(u64::MAX, [0, 0, 0, 0, 0, u64::MAX, 0]));
        totals.add(&LostFile { ino: Some(crate::units::Ino(12)), ..lost_file(2, [1, 0, 0, 0, 0, 1, 0]) });
        let expected =
            Totals { files: 2, partial: 1, empty: 1, orphans: 1, size: u64::MAX, recovered: 1, missing: u64::MAX, ..Totals::default() };
        assert_eq!(totals, expected);
    }

    #[test]
    fn evidence_has_all_words_in_order() {
        let json = serde_json::to_string(&Bytes(&Tally { bytes: [1, 2, 3, 4, 5, 6, 7], runs: 7 }));
        let expected = r#"{"journal":1,"chain":2,"inferred":3,"hole":4,"overwritten":5,"unknown":6,"unreadable":7}"#;
        assert_eq!(json.ok().as_deref(), Some(expected));
    }

    #[test]
    fn times_are_rfc_3339() {
        for (seconds, nanos, expected) in [
            (0, 0, "1970-01-01T00:00:00Z"),
            (1_264_240_800, 500_000_000, "2010-01-23T10:00:00.5Z"),
            (-1, 0, "1969-12-31T23:59:59Z"),
            (i64::MAX, u32::MAX, "9999-12-30T22:00:00.999999999Z"),
            (i64::MIN, 0, "-009999-01-02T01:59:59Z"),
        ] {
            assert_eq!(Time { seconds, nanos }.to_string(), expected);
        }
    }

    #[test]
    fn gaps_side_by_side_are_one() {
        let gap = |offset, length, evidence| Gap { offset, length, evidence };
        let (lost, bad) = (Evidence::Overwritten, Evidence::Unreadable);
        let gaps = [gap(0, 4, lost), gap(4, 4, lost), gap(8, 4, bad), gap(16, 4, bad), gap(20, 1, bad)];
        assert_eq!(coalesce(gaps.into_iter()).collect::<Vec<_>>(), [gap(0, 8, lost), gap(8, 4, bad), gap(16, 5, bad)]);
    }

    #[test]
    fn folders_come_before_their_files() {
        let mut paths = [&b"/a.b"[..], b"/a/b", b"/a", b"/a b", b"/B"];
        paths.sort_by(|a, b| in_tree_order(a).cmp(in_tree_order(b)));
        assert_eq!(paths, [&b"/B"[..], b"/a", b"/a/b", b"/a b", b"/a.b"]);
    }
}
