//! What `undelfs::content` knows, held against tables that a real MariaDB made and databases of a real SQLite; and how often a
//! wrong block passes for the right one (`cargo test --release --test content -- --nocapture` prints the rates that the
//! documentation states).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use undelfs::content::myisam::dynamic::{Expects, Link, RowBlocks};
use undelfs::content::myisam::frm::Definition;
use undelfs::content::myisam::header::{Header, RowFormat};
use undelfs::content::myisam::row_block::{Role, RowBlock};
use undelfs::content::myisam::{index, packed, rows};
use undelfs::content::{Facts, Kind, Tiling, Verdict, Walker, absolute, check, identify, innodb, length, order, sqlite};

const BLOCK: usize = 4096;

const TABLES: &str = "
CREATE DATABASE t;
USE t;
CREATE TABLE mail (id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, sent DATETIME NOT NULL, sender VARCHAR(80) NOT NULL, subject VARCHAR(200), body TEXT NOT NULL, KEY (sender)) ENGINE=MyISAM CHARACTER SET utf8mb4;
INSERT INTO mail SELECT seq, '2009-01-01' + INTERVAL seq * 67 SECOND, CONCAT('user', CRC32(seq) MOD 9973, '@example.org'), IF(seq MOD 7, CONCAT('Subject ', MD5(seq)), NULL), REPEAT(SHA1(seq), 1 + CRC32(seq) MOD 9) FROM seq_1_to_40000;
CREATE TABLE churn (id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, body TEXT NOT NULL, att MEDIUMBLOB) ENGINE=MyISAM CHARACTER SET utf8mb4;
INSERT INTO churn SELECT seq, REPEAT(SHA1(seq), 1 + CRC32(seq) MOD 9), IF(seq MOD 500, NULL, REPEAT(MD5(seq), 3000)) FROM seq_1_to_20000;
UPDATE churn SET body = REPEAT(MD5(id), 20 + id MOD 11) WHERE id MOD 13 = 0;
DELETE FROM churn WHERE id MOD 17 = 0;
UPDATE churn SET body = REPEAT(MD5(id), 5) WHERE id MOD 29 = 0;
INSERT INTO churn SELECT seq, REPEAT(SHA1(seq), 40), NULL FROM seq_20001_to_20500;
DELETE FROM churn WHERE id MOD 41 = 0;
CREATE TABLE names (id INT UNSIGNED NOT NULL PRIMARY KEY, name VARCHAR(100), v VARCHAR(300), n BIGINT) ENGINE=MyISAM CHARACTER SET latin1;
INSERT INTO names SELECT seq, CONCAT('name', seq), REPEAT(CHAR(97 + seq MOD 26), CRC32(seq) MOD 120), CRC32(seq) FROM seq_1_to_60000;
CREATE TABLE tiny (a INT NOT NULL, b VARCHAR(10)) ENGINE=MyISAM;
INSERT INTO tiny SELECT CRC32(seq) MOD 1000, 'b' FROM seq_1_to_30000;
CREATE TABLE huge (id INT NOT NULL, b LONGBLOB) ENGINE=MyISAM;
INSERT INTO huge SELECT seq, REPEAT(MD5(seq), 600000) FROM seq_1_to_2;
CREATE TABLE fix (id INT UNSIGNED NOT NULL PRIMARY KEY, a CHAR(32), b DOUBLE, c BIGINT) ENGINE=MyISAM ROW_FORMAT=FIXED CHARACTER SET latin1;
INSERT INTO fix SELECT seq, MD5(seq), SQRT(seq), CRC32(seq) FROM seq_1_to_30000;
DELETE FROM fix WHERE id MOD 11 = 0;
CREATE TABLE summed (id INT NOT NULL, v VARCHAR(50)) ENGINE=MyISAM CHECKSUM=1;
INSERT INTO summed SELECT seq, MD5(seq) FROM seq_1_to_1000;
CREATE TABLE pmail LIKE mail;
INSERT INTO pmail SELECT * FROM mail;
CREATE TABLE pnames LIKE names;
INSERT INTO pnames SELECT * FROM names;
CREATE TABLE pfix LIKE fix;
INSERT INTO pfix SELECT * FROM fix;
CREATE TABLE inno (id INT PRIMARY KEY, v VARCHAR(200), KEY(v)) ENGINE=InnoDB;
INSERT INTO inno SELECT seq, REPEAT(MD5(seq), 3) FROM seq_1_to_20000;
FLUSH TABLES;
";

const MYISAM: [&str; 10] = ["mail", "churn", "names", "tiny", "huge", "fix", "summed", "pmail", "pnames", "pfix"];

fn need(program: &str, package: &str) {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(found.is_ok_and(|status| status.success()), "{program} is missing: apt-get install {package}");
}

/// The folder of the tables, made once a run, in cargo's own folder for tests.
fn tables() -> &'static Path {
    static TABLES_MADE: OnceLock<PathBuf> = OnceLock::new();
    TABLES_MADE.get_or_init(|| {
        need("mariadbd", "mariadb-server");
        need("myisampack", "mariadb-server");
        need("myisamchk", "mariadb-server");
        let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join("content-tables");
        std::fs::remove_dir_all(&data).ok();
        std::fs::create_dir_all(&data).unwrap();
        let sql = data.join("tables.sql");
        std::fs::write(&sql, TABLES).unwrap();
        let options =
            ["--no-defaults", "--bootstrap", "--user=root", "--skip-networking", "--max-allowed-packet=64M", "--innodb-fast-shutdown=0"];
        let made =
            Command::new("mariadbd").args(options).arg("--datadir").arg(&data).stdin(std::fs::File::open(sql).unwrap()).output().unwrap();
        let folder = data.join("t");
        let errors = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success() && !errors.contains("ERROR"), "mariadbd: {errors}");
        for program in ["myisampack", "myisamchk -r"] {
            let mut words = program.split(' ');
            let status = Command::new(words.next().unwrap())
                .args(words)
                .arg("-s")
                .args(["pmail", "pnames", "pfix"])
                .current_dir(&folder)
                .status()
                .unwrap();
            assert!(status.success(), "{program}");
        }
        folder
    })
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(tables().join(name)).unwrap()
}

fn header(table: &str) -> Header {
    Header::parse(&read(&format!("{table}.MYI"))[..BLOCK.min(read(&format!("{table}.MYI")).len())]).unwrap()
}

/// Rows of all formats are found again by what some blocks tell, and the column that counts in them: nothing else is known of the tables.
#[test]
fn rows_that_count() {
    for table in ["mail", "names", "fix", "pmail", "pnames", "pfix"] {
        let data = read(&format!("{table}.MYD"));
        let facts = Facts { head: &data[..data.len().min(1 << 16)], index: None };
        let kind = identify(facts.head);
        let known = &data[8 * BLOCK..72 * BLOCK];
        let tiling = kind.and_then(Tiling::of).or_else(|| Tiling::learnt(kind, facts, known, 8 * BLOCK as u64)).expect(table);
        let first = tiling.stretches(known, BLOCK)[0];
        let mut order = tiling.order(facts).resume_at(0, first.head);
        known[first.first * BLOCK..].chunks(BLOCK).for_each(|block| _ = order.feed(block));
        let bytes = [&[0xff; BLOCK][..], &data[90 * BLOCK..100 * BLOCK], &[0; BLOCK]].concat();
        let found: Vec<_> = tiling.stretches(&bytes, BLOCK).into_iter().filter(|stretch| stretch.blocks > 8).collect();
        assert!(matches!(found[..], [found] if (found.first, found.blocks) == (1, 10)), "{table}: {found:?}");
        let ranks = order.ranks(&bytes[BLOCK..11 * BLOCK], found[0].head);
        assert!(ranks.len() > 100, "{table}: {} rows", ranks.len());
        let steps = ranks.windows(2).filter(|pair| (1..=2).contains(&pair[1].0.wrapping_sub(pair[0].0))).count();
        assert!(steps * 100 > (ranks.len() - 1) * 99, "{table}: {:?}", &ranks[..20]);
        if let Some(length) = tiling.length() {
            // Of rows 1 to n every eleventh is deleted, and says nothing.
            assert!(ranks.iter().all(|(rank, at)| (rank - 1) * length == (90 * BLOCK + at) as u64), "{table}: {:?}", &ranks[..20]);
        }
    }
}

/// Random numbers that are the same in each run (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }

    fn block(&mut self) -> Vec<u8> {
        (0..BLOCK).map(|_| self.below(256) as u8).collect()
    }
}

#[test]
fn kinds_and_lengths_of_real_files() {
    for table in MYISAM {
        let (data, index, definition) = (read(&format!("{table}.MYD")), read(&format!("{table}.MYI")), read(&format!("{table}.frm")));
        let header = header(table);
        assert_eq!(header.data_file_length, data.len() as u64, "{table}");
        assert_eq!((identify(&index), length(Kind::MyisamIndex, &index)), (Some(Kind::MyisamIndex), Some(index.len() as u64)), "{table}");
        assert_eq!((identify(&definition), length(Kind::Frm, &definition)), (Some(Kind::Frm), Some(definition.len() as u64)), "{table}");
        let expected = if table.starts_with('p') {
            RowFormat::Compressed
        } else if table == "fix" {
            RowFormat::Fixed
        } else {
            RowFormat::Dynamic
        };
        assert_eq!(header.format, expected, "{table}");
        let created = Definition::parse(&definition).unwrap().row_format();
        assert_eq!(created, Some(if table.ends_with("fix") { RowFormat::Fixed } else { RowFormat::Dynamic }), "{table}");
        assert_eq!(header.checksum, table == "summed", "{table}");
        assert!(!header.columns.is_empty(), "{table}");
        let kind = identify(&data[..data.len().min(BLOCK)]);
        match table {
            "fix" | "huge" => assert_eq!(kind, None, "{table}: nothing in its first block says so"),
            _ => assert_eq!(kind, Some(Kind::of_rows(expected)), "{table}"),
        }
    }
    let inno = read("inno.ibd");
    assert_eq!((identify(&inno[..BLOCK]), length(Kind::Innodb, &inno[..BLOCK])), (Some(Kind::Innodb), Some(inno.len() as u64)));
}

#[test]
fn sqlite_databases() {
    need("python3", "python3");
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("content.sqlite");
    std::fs::remove_file(&file).ok();
    let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('create table t (a integer primary key, b text)'); \
                  c.executemany('insert into t values (?, ?)', ((n, 'row %d ' % n * 9) for n in range(20000))); c.execute('create index i on t (b)'); c.commit()";
    assert!(Command::new("python3").args(["-c", script]).arg(&file).status().unwrap().success(), "python3 with its sqlite3 module");
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!((identify(&bytes[..BLOCK]), length(Kind::Sqlite, &bytes[..BLOCK])), (Some(Kind::Sqlite), Some(bytes.len() as u64)));
    let size = sqlite::Database::parse(&bytes).unwrap().page_size as usize;
    let pages = bytes.chunks(size).skip(1);
    let known = pages.clone().filter(|page| sqlite::page(page).is_some()).count();
    assert!(known * 100 >= pages.len() * 98, "{known} of {} pages are B-tree pages", pages.len());
    let others = read("mail.MYD");
    assert_eq!(others.chunks_exact(size).filter(|page| sqlite::page(page).is_some()).count(), 0);
}

/// Each row block of a dynamic table, by its offset.
fn all_row_blocks(data: &[u8]) -> Vec<(u64, RowBlock)> {
    let mut walker = Walker::new(RowBlocks::ANY, 0, 0);
    let mut found = vec![];
    for block in data.chunks(BLOCK) {
        let seen = |at, head: &[u8]| found.push((at, RowBlock::parse(head).unwrap()));
        walker.feed(block, seen).unwrap_or_else(|broken| panic!("{broken:?} after {}", walker.position()));
    }
    assert!(walker.can_end());
    found
}

#[test]
fn row_blocks_tile_the_file_and_links_hold() {
    for table in ["mail", "churn", "names", "tiny", "huge", "summed"] {
        let (data, header) = (read(&format!("{table}.MYD")), header(table));
        let blocks = all_row_blocks(&data);
        let count = |role| blocks.iter().filter(|(_, block)| block.role == role).count() as u64;
        assert_eq!(blocks.len() as u64, header.split, "{table}");
        assert_eq!(count(Role::Deleted), header.deleted, "{table}");
        assert_eq!(count(Role::Whole) + count(Role::First), header.records, "{table}");
        assert_eq!(count(Role::First), count(Role::Last), "{table}");
        for (at, block) in &blocks {
            for link in Link::of(block) {
                let target = blocks.binary_search_by_key(&link.target, |(at, _)| *at);
                let holds = target.is_ok_and(|index| link.accepts(&blocks[index].1));
                assert!(holds, "{table}: {link:?} of {block:?} at {at}");
            }
        }
    }
}

#[test]
fn links_accept_few_wrong_blocks() {
    let data = read("churn.MYD");
    let all = all_row_blocks(&data);
    let mut of_block = vec![vec![]; data.len().div_ceil(BLOCK)];
    for (at, block) in &all {
        of_block[*at as usize / BLOCK].push((*at as usize % BLOCK, *block));
    }
    let mut random = Random(9);
    // Links to the rest of a row; to middle and last parts; to deleted blocks.
    let mut tried = [0; 3];
    let mut passed = [0; 3];
    for link in all.iter().flat_map(|(_, block)| Link::of(block)) {
        let class = match link.expects {
            Expects::Rest(_) => 0,
            Expects::Part => 1,
            Expects::Deleted => 2,
        };
        let target = link.target as usize / BLOCK;
        assert_ne!(link.verdict(&of_block[target], BLOCK as u64), Verdict::Contradicted, "{link:?}");
        for other in (0..100).map(|_| random.below(of_block.len())).filter(|other| *other != target && !of_block[*other].is_empty()) {
            tried[class] += 1;
            passed[class] += u32::from(link.verdict(&of_block[other], BLOCK as u64) != Verdict::Contradicted);
        }
    }
    println!("links to rest, part, deleted: {passed:?} of {tried:?} wrong blocks pass");
    assert!(passed[0] * 1000 <= tried[0] && passed[2] * 100 <= tried[2]);
}

#[test]
fn rows_are_counted_over_gaps() {
    for table in ["mail", "churn", "names", "fix", "pmail", "pnames", "pfix"] {
        let (data, header) = (read(&format!("{table}.MYD")), header(table));
        let format = || match header.format {
            RowFormat::Dynamic => rows::Format::Dynamic(RowBlocks::ANY),
            RowFormat::Fixed => rows::Format::Fixed(header.packed_length),
            RowFormat::Compressed => {
                rows::Format::Packed(packed::Rows { header: packed::Header::parse(&data).unwrap(), blobs: header.blobs > 0 })
            }
        };
        let mut whole = rows::Rows::new(format()).unwrap();
        data.chunks(65536).for_each(|piece| whole.feed(piece));
        let tally = whole.finish();
        assert_eq!((tally.rows, tally.damaged, tally.deleted, tally.breaks.len()), (header.records, 0, header.deleted, 0), "{table}");

        // 7% of the blocks missing, each for itself.
        let mut random = Random(7);
        let mut some = rows::Rows::new(format()).unwrap();
        for block in data.chunks(BLOCK) {
            if random.below(100) < 7 { some.missing(block.len() as u64) } else { some.feed(block) }
        }
        let tally = some.finish();
        let lost: u64 = tally.gaps.iter().map(|gap| gap.rows).sum();
        let all = tally.rows + tally.damaged + lost;
        println!(
            "{table}: {} rows of {}, {} damaged, {lost} in {} gaps at a guess, {} bytes unread",
            tally.rows,
            header.records,
            tally.damaged,
            tally.gaps.len(),
            tally.unread
        );
        assert!(tally.breaks.is_empty(), "{table}: {:?}", tally.breaks);
        if matches!(table, "mail" | "names") {
            let missing = |at: u64| tally.gaps.binary_search_by_key(&(at / BLOCK as u64), |gap| gap.offset / BLOCK as u64).is_ok();
            let stands =
                |at: u64, length: u64| !(at / BLOCK as u64..=(at + length - 1) / BLOCK as u64).any(|block| missing(block * BLOCK as u64));
            let truth = all_row_blocks(&data).iter().filter(|(at, block)| stands(*at, block.total.into())).count() as u64;
            println!("{table}: {truth} rows stand");
            assert!(tally.rows.abs_diff(truth) * 1000 <= truth, "{table}: {} counted, {truth} stand", tally.rows);
        }
        assert!(all.abs_diff(header.records) * 10 <= header.records, "{table}: {all} of {}", header.records);
    }
}

/// What a wrong block is taken for, out of so many.
#[derive(Default, Debug)]
struct Rates {
    tried: u32,
    possible: u32,
    fits: u32,
    ten_bits: u32,
}

impl Rates {
    fn add(&mut self, verdict: Verdict) {
        self.tried += 1;
        self.possible += u32::from(verdict == Verdict::POSSIBLE);
        self.fits += u32::from(verdict.bits() > 0);
        self.ten_bits += u32::from(verdict.bits() >= 10);
    }

    fn percent(&self, n: u32) -> f64 {
        100.0 * f64::from(n) / f64::from(self.tried)
    }
}

impl std::fmt::Display for Rates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let share = |n| self.percent(n);
        write!(f, "{:.2} + {:.2}% ({} of {} with 10 bits)", share(self.possible), share(self.fits), self.ten_bits, self.tried)
    }
}

#[test]
fn rates_of_wrong_blocks() {
    for (table, other) in [
        ("mail", "names"),
        ("churn", "names"),
        ("names", "mail"),
        ("tiny", "mail"),
        ("fix", "mail"),
        ("pmail", "mail"),
        ("pnames", "mail"),
        ("inno", "mail"),
    ] {
        let innodb = table == "inno";
        let data = read(&if innodb { "inno.ibd".to_string() } else { format!("{table}.MYD") });
        let others = read(&format!("{other}.MYD"));
        let index = (!innodb).then(|| header(table));
        let kind = index.as_ref().map_or(Kind::Innodb, |header| Kind::of_rows(header.format));
        let facts = Facts { head: &data[..BLOCK], index: index.as_ref() };
        let mut order = order(kind, facts).unwrap();
        let blocks: Vec<&[u8]> = data.chunks(BLOCK).collect();
        let (mut right, mut same, mut foreign, mut noise) = (Rates::default(), Rates::default(), Rates::default(), Rates::default());
        let mut random = Random(42);
        let mut bits = 0;
        for (at, block) in blocks.iter().enumerate() {
            if at > 0 {
                // The margin behind a compressed table's rows is no row.
                let block = if at + 1 == blocks.len() && kind == Kind::MyisamPacked { &block[..block.len() - 7] } else { block };
                let verdict = order.fits(block);
                assert_ne!(verdict, Verdict::Contradicted, "{table}: block {at}");
                right.add(verdict);
                bits += verdict.bits();
                for _ in 0..40 {
                    let wrong = random.below(blocks.len() - 1);
                    if wrong != at {
                        same.add(order.fits(blocks[wrong]));
                    }
                }
                for _ in 0..10 {
                    foreign.add(order.fits(&others[random.below(others.len() / BLOCK) * BLOCK..][..BLOCK]));
                    noise.add(order.fits(&random.block()));
                }
            }
            order.feed(block);
        }
        let mean = f64::from(bits) / f64::from(right.tried);
        println!(
            "{table}: nothing known + fits: right {right}, {mean:.1} bits; wrong: same file {same}; {other} {foreign}; random {noise}"
        );
        assert!(same.percent(same.ten_bits) < 1.0, "{table}: {same}");
        assert!(foreign.percent(foreign.ten_bits) < 1.0 && noise.percent(noise.ten_bits) < 1.0, "{table}: {foreign}; {noise}");
    }
}

#[test]
fn walkers_take_up_rows_anywhere() {
    let (mut right, mut none) = (0, 0);
    for table in ["mail", "churn", "names", "tiny"] {
        let data = read(&format!("{table}.MYD"));
        let mut walker = Walker::new(RowBlocks::ANY, 0, 0);
        for block in data.chunks(BLOCK) {
            walker.feed(block, |_, _| ()).unwrap();
            match Walker::resume(RowBlocks::ANY, 0, block) {
                Some(taken_up) => {
                    assert_eq!(taken_up.boundary(), walker.boundary(), "{table} before {}", walker.position());
                    right += 1;
                }
                None => none += 1,
            }
        }
    }
    println!("taken up in {right} blocks, rightly in all; not in {none}, which hold fewer than 4 rows");
    assert!(right > 0);
    let mut random = Random(3);
    assert_eq!((0..2000).filter(|_| Walker::resume(RowBlocks::ANY, 0, &random.block()).is_some()).count(), 0);
    for other in ["fix.MYD", "pmail.MYD", "inno.ibd", "mail.MYI"] {
        assert_eq!(
            read(other).chunks_exact(BLOCK).filter(|block| Walker::resume(RowBlocks::ANY, 0, block).is_some()).count(),
            0,
            "{other}"
        );
    }
}

#[test]
fn keys_name_the_rows() {
    for table in ["mail", "churn", "names", "fix", "pmail", "pnames", "pfix"] {
        let (data, index, header) = (read(&format!("{table}.MYD")), read(&format!("{table}.MYI")), header(table));
        let keys = index::keys(&index[..BLOCK], packed::Header::parse(&data).map(|packed| packed.row_pointer));
        let key = keys.first().unwrap_or_else(|| panic!("{table} has a primary key"));
        // As if nothing were known of the pages but where they can begin.
        let places = (header.key_start as usize..index.len()).step_by(index::PAGE_ALIGN);
        let mut rows: Vec<u64> = places.filter_map(|at| key.entries(&index[at..])).flatten().map(|entry| entry.row).collect();
        rows.sort_unstable();
        assert_eq!(rows.len() as u64, header.records, "{table}: each row once");
        rows.dedup();
        assert_eq!(rows.len() as u64, header.records, "{table}: each row once");
        assert_eq!(data.chunks(1024).filter(|page| key.entries(page).is_some()).count(), 0, "{table}: its data is no key pages");
        if header.format != RowFormat::Dynamic {
            continue;
        }
        let blocks: Vec<&[u8]> = data.chunks_exact(BLOCK).collect();
        let mut random = Random(5);
        let (mut right, mut wrong) = (Rates::default(), Rates::default());
        for (at, block) in blocks.iter().enumerate() {
            let (from, to) = ((at * BLOCK) as u64, ((at + 1) * BLOCK) as u64);
            let here = &rows[rows.partition_point(|row| *row < from)..rows.partition_point(|row| *row < to)];
            let starts: Vec<usize> = here.iter().map(|row| (row - from) as usize).collect();
            let verdict = index::starts_fit(block, &starts);
            assert_ne!(verdict, Verdict::Contradicted, "{table}: block {at}");
            right.add(verdict);
            for other in (0..20).map(|_| random.below(blocks.len())).filter(|other| *other != at && !starts.is_empty()) {
                wrong.add(index::starts_fit(blocks[other], &starts));
            }
        }
        println!("{table}: rows where the keys name them: right {right}; wrong {wrong}");
        assert!(wrong.percent(wrong.ten_bits) < 0.1, "{table}: {wrong}");
    }
}

#[test]
fn innodb_pages_prove_their_place() {
    let data = read("inno.ibd");
    let space = innodb::Space::parse(&data).unwrap();
    let facts = Facts { head: &data[..BLOCK], index: None };
    let (mut placed, mut empty) = (0, 0);
    for (number, page) in data.chunks_exact(space.page_size as usize).enumerate() {
        let offset = number as u64 * u64::from(space.page_size);
        match absolute(Kind::Innodb, facts, page) {
            Some(placement) => {
                assert_eq!((placement.offset, placement.verdict.bits()), (offset, 32), "page {number}");
                assert_eq!(absolute(Kind::Innodb, facts, &page[..BLOCK]).map(|p| (p.offset, p.verdict.bits())), Some((offset, 16)));
                assert_eq!(check(Kind::Innodb, facts, offset + u64::from(space.page_size), page), Verdict::Contradicted);
                placed += 1;
            }
            None => {
                assert!(page.iter().all(|&byte| byte == 0), "page {number} is neither sealed nor empty");
                empty += 1;
            }
        }
        assert_ne!(check(Kind::Innodb, facts, offset, page), Verdict::Contradicted, "page {number}");
    }
    println!("{placed} pages placed, {empty} empty");
    assert!(placed > 200);
}

#[test]
fn files_of_this_machine_are_no_tables() {
    let mut wrong = vec![];
    let mut seen = 0;
    for folder in ["/usr/bin", "/usr/lib/x86_64-linux-gnu", "/usr/share/zoneinfo", "/usr/share/doc/bash", "/etc"] {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(head) = std::fs::File::open(entry.path()).and_then(|file| {
                use std::io::Read;
                let mut head = vec![];
                file.take(BLOCK as u64).read_to_end(&mut head).map(|_| head)
            }) else {
                continue;
            };
            seen += 1;
            if let Some(kind) = identify(&head).filter(|kind| !matches!(kind, Kind::Common { .. })) {
                wrong.push((entry.path(), kind));
            }
        }
    }
    println!("{seen} files looked at");
    assert!(wrong.is_empty(), "{wrong:?}");
}
