//! The catalog's file: SQLite, laid out as `schema.sql` says.

use super::identity::Identity;
use crate::fs::Filesystem;
use crate::scan::page::{Page, Source};
use crate::scan::sweep::Part;
use crate::units::Block;
use roaring::RoaringTreemap;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, Transaction, TransactionBehavior, params};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const SCHEMA: &str = include_str!("schema.sql");

/// Marks an SQLite file as a catalog (`PRAGMA application_id`): "undl".
const APPLICATION: u32 = 0x756e_646c;

/// What begins every SQLite file, and where its application id stands (<https://www.sqlite.org/fileformat.html>, big-endian).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const APPLICATION_AT: usize = 68;

/// What a kill loses at most, while a scan goes on.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// How long another undelfs may hold the file. Each of its transactions takes less.
const PATIENCE: Duration = Duration::from_secs(5);

/// The groups that are done.
#[derive(Default)]
pub struct Known {
    /// Which.
    pub groups: RoaringTreemap,
    /// What they hold, but for those of which every free block is blank.
    pub parts: BTreeMap<u64, Part>,
    /// Free blocks in those.
    pub blank: u64,
}

/// Why a file is not used as a catalog.
pub enum Obstacle {
    /// It is something else. It stays as it is.
    Foreign,
    /// It cannot be read or written.
    Broken(String),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::Foreign => f.write_str("is not a catalog of undelfs"),
            Obstacle::Broken(why) => f.write_str(why),
        }
    }
}

impl From<rusqlite::Error> for Obstacle {
    fn from(error: rusqlite::Error) -> Self {
        Obstacle::Broken(error.to_string())
    }
}

impl From<io::Error> for Obstacle {
    fn from(error: io::Error) -> Self {
        Obstacle::Broken(error.to_string())
    }
}

/// An open catalog, and what is still to be written into it.
pub struct Store {
    path: PathBuf,
    connection: Connection,
    identity: Identity,
    pending: Vec<(u64, Part)>,
    /// When it was written to last. The first group is written at once, so that what stands against that is known early.
    flushed: Option<Instant>,
}

impl Store {
    /// Opens a catalog or makes a new one. One that was made from something else than `identity` is emptied.
    pub fn open(path: &Path, identity: Identity) -> Result<Store, Obstacle> {
        recognise(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(PATIENCE)?;
        let store = Store { path: path.to_owned(), connection, identity, pending: vec![], flushed: None };
        match store.made_from() {
            Ok(found) if found == store.identity => return Ok(store),
            Ok(found) if !found.is_empty() => {
                let differs = |name: &&String| found.get(*name) != store.identity.get(*name);
                let differs: Vec<&str> = store.identity.keys().filter(differs).map(String::as_str).collect();
                log::info!("catalog {}: stale, made anew ({} differs)", path.display(), differs.join(", "));
            }
            Err(error) if !is_damage(&error) => return Err(error.into()),
            _ => log::debug!("catalog {}: made anew", path.display()),
        }
        store.reset()?;
        Ok(store)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn made_from(&self) -> rusqlite::Result<Identity> {
        let mut statement = self.connection.prepare("SELECT property, value FROM image")?;
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    }

    /// Empties it, whatever is in it, even if it is damaged (<https://www.sqlite.org/c3ref/c_dbconfig_defensive.html>, `RESET_DATABASE`).
    fn reset(&self) -> rusqlite::Result<()> {
        self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_RESET_DATABASE, true)?;
        let emptied = self.connection.execute_batch("VACUUM");
        self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_RESET_DATABASE, false)?;
        emptied?;
        let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.execute_batch(SCHEMA)?;
        for (property, value) in &self.identity {
            transaction.execute("INSERT INTO image VALUES (?, ?)", params![property, value])?;
        }
        transaction.commit()
    }

    /// The groups that are done, with what they hold. Where the file is damaged, it is emptied.
    ///
    /// # Errors
    /// Where it cannot be read, or neither be emptied.
    pub fn load(&self, fs: &Filesystem) -> Result<Known, Obstacle> {
        match self.read(fs) {
            Ok(parts) => Ok(parts),
            Err(error) if is_damage(&error) => {
                log::info!("catalog {}: damaged ({error}), made anew", self.path.display());
                self.reset()?;
                Ok(Known::default())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn read(&self, fs: &Filesystem) -> rusqlite::Result<Known> {
        let Known { mut groups, mut parts, mut blank } = Known::default();
        // Else a group could be done between one statement and the next.
        let _snapshot = self.connection.unchecked_transaction()?;
        let mut statement =
            self.connection.prepare("SELECT number, bitmap, free, unreadable, written, rows FROM groups ORDER BY number")?;
        let mut rows = statement.query([])?;
        // A device does not say when it was changed last.
        let is_vouched_for = fs.image().changed().is_some();
        while let Some(row) = rows.next()? {
            let number: u64 = row.get(0)?;
            let bitmap: Option<u32> = row.get(1)?;
            let (free, unreadable): (u64, u64) = (row.get(2)?, row.get(3)?);
            let (written, rows_of) = (bitmap_of(row, 4)?, bitmap_of(row, 5)?);
            let blocks = blocks_of(fs, number);
            let inside = |at: Option<u64>| at.is_none_or(|at| blocks.contains(&at));
            let all_inside = |bitmap: &RoaringTreemap| inside(bitmap.min()) && inside(bitmap.max());
            if number >= fs.geometry().superblock.groups() || !all_inside(&written) || !all_inside(&rows_of) {
                return Err(damaged());
            }
            if !is_vouched_for && bitmap != checksum(fs, number) {
                continue;
            }
            groups.insert(number);
            // Most groups of a large disk, and what is to be done for each.
            match written.is_empty() && unreadable == 0 {
                true => blank += free,
                false => _ = parts.insert(number, Part { written, rows: rows_of, free, unreadable, ..Part::default() }),
            }
        }
        let mut statement = self.connection.prepare("SELECT * FROM pages ORDER BY block")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let page = page(row, fs)?;
            if let Some(part) = parts.get_mut(&fs.geometry().superblock.group_of(page.block)) {
                part.pages.push(page);
            }
        }
        let mut statement = self.connection.prepare("SELECT block, first FROM integers ORDER BY block")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let block = block(row.get(0)?, fs)?;
            if let Some(part) = parts.get_mut(&fs.geometry().superblock.group_of(block)) {
                part.integers.push((block, row.get(1)?));
            }
        }
        Ok(Known { groups, parts, blank })
    }

    /// The same as [`Store::tables`], of a catalog that is left as it is; `None` also where it was made from something else than `identity`.
    pub fn tables_of(path: &Path, identity: &Identity, fs: &Filesystem) -> Option<RoaringTreemap> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).ok()?;
        let store = Store { path: path.to_owned(), connection, identity: identity.clone(), pending: vec![], flushed: None };
        let _snapshot = store.connection.unchecked_transaction().ok()?;
        store.made_from().is_ok_and(|found| found == *identity).then(|| store.tables(fs))?
    }

    /// Which blocks of the inode tables hold anything; `None` where that is not known, or cannot be read.
    pub fn tables(&self, fs: &Filesystem) -> Option<RoaringTreemap> {
        let bytes: Vec<u8> = self.connection.query_row("SELECT written FROM inode_tables", [], |row| row.get(0)).ok()?;
        let written = RoaringTreemap::deserialize_from(&bytes[..]).ok()?;
        written.max().is_none_or(|last| last < fs.geometry().superblock.blocks).then_some(written)
    }

    /// Keeps which blocks of the inode tables hold anything, if that is known now and was not.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn keep_tables(&self, fs: &Filesystem) -> Result<(), Obstacle> {
        let Some(written) = fs.written_tables().get().filter(|_| self.tables(fs).is_none()) else { return Ok(()) };
        let mut bytes = vec![];
        written.serialize_into(&mut bytes)?;
        let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
        if self.made_from()? == self.identity {
            transaction.execute("DELETE FROM inode_tables", [])?;
            transaction.execute("INSERT INTO inode_tables VALUES (?)", [bytes])?;
        }
        Ok(transaction.commit()?)
    }

    /// Keeps what a group holds, in the file within the next second or so if more follow.
    ///
    /// # Errors
    /// Where it cannot be written, or the file is another's by now.
    pub fn keep(&mut self, fs: &Filesystem, group: u64, part: Part) -> Result<(), Obstacle> {
        self.pending.push((group, part));
        if self.flushed.is_some_and(|at| at.elapsed() < FLUSH_EVERY) { Ok(()) } else { self.flush(fs) }
    }

    /// Writes what is not yet in the file.
    ///
    /// # Errors
    /// As [`Store::keep`].
    pub fn flush(&mut self, fs: &Filesystem) -> Result<(), Obstacle> {
        let pending = std::mem::take(&mut self.pending);
        if !pending.is_empty() {
            let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
            // Another undelfs may have found the image changed.
            if self.made_from()? != self.identity {
                return Err(Obstacle::Broken("another undelfs made it anew, since the image has changed".into()));
            }
            for (group, part) in pending {
                write(&transaction, fs, group, part)?;
            }
            transaction.commit()?;
        }
        self.flushed = Some(Instant::now());
        Ok(())
    }
}

/// Whether a file is a catalog, or can become one because there is nothing in it. Nothing is written.
fn recognise(path: &Path) -> Result<(), Obstacle> {
    let kind = match std::fs::metadata(path) {
        Ok(metadata) => metadata.file_type(),
        // A link that leads nowhere might lead onto the filesystem to be recovered.
        Err(_) if path.is_symlink() => return Err(Obstacle::Foreign),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if !kind.is_file() {
        return Err(Obstacle::Foreign);
    }
    let head = head(path)?;
    if is_ours(&head) || head.is_empty() { Ok(()) } else { Err(Obstacle::Foreign) }
}

/// Whether a file is a catalog.
pub fn is_catalog(path: &Path) -> bool {
    head(path).is_ok_and(|head| is_ours(&head))
}

fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = vec![];
    File::open(path)?.take(APPLICATION_AT as u64 + 4).read_to_end(&mut head)?;
    Ok(head)
}

fn is_ours(head: &[u8]) -> bool {
    head.starts_with(MAGIC) && head.get(APPLICATION_AT..).is_some_and(|id| id == APPLICATION.to_be_bytes())
}

fn write(transaction: &Transaction<'_>, fs: &Filesystem, group: u64, mut part: Part) -> rusqlite::Result<()> {
    let blocks = blocks_of(fs, group);
    for table in ["pages", "integers", "heads"] {
        let mut statement = transaction.prepare_cached(&format!("DELETE FROM {table} WHERE block >= ? AND block < ?"))?;
        statement.execute([blocks.start, blocks.end])?;
    }
    let (written, rows) = (blob_of(&mut part.written)?, blob_of(&mut part.rows)?);
    let row = params![group, checksum(fs, group), part.free, part.unreadable, part.written.len(), written, rows];
    transaction.prepare_cached("INSERT OR REPLACE INTO groups VALUES (?, ?, ?, ?, ?, ?, ?)")?.execute(row)?;
    let mut statement = transaction.prepare_cached("INSERT INTO heads VALUES (?, ?, ?)")?;
    for (block, kind) in &part.heads {
        statement.execute(params![block.get(), kind.ext(), kind.folder()])?;
    }
    let mut statement = transaction.prepare_cached("INSERT INTO pages VALUES (?, ?, ?, ?, ?, ?, ?, ?)")?;
    for page in &part.pages {
        let [block, first, last] = [page.block, page.first, page.last].map(Block::get);
        statement.execute(params![block, first, last, page.count, page.begin, page.end, page.breaks, page.scattered])?;
    }
    let mut statement = transaction.prepare_cached("INSERT INTO integers VALUES (?, ?)")?;
    for (block, first) in &part.integers {
        statement.execute(params![block.get(), first])?;
    }
    Ok(())
}

/// A bitmap as it is kept; nothing for an empty one.
fn blob_of(bitmap: &mut RoaringTreemap) -> rusqlite::Result<Option<Vec<u8>>> {
    if bitmap.is_empty() {
        return Ok(None);
    }
    bitmap.optimize();
    let mut bytes = vec![];
    bitmap.serialize_into(&mut bytes).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    Ok(Some(bytes))
}

/// A bitmap that was kept in this column.
fn bitmap_of(row: &Row<'_>, column: usize) -> rusqlite::Result<RoaringTreemap> {
    match row.get_ref(column)?.as_blob_or_null().map_err(rusqlite::Error::from)? {
        Some(bytes) => RoaringTreemap::deserialize_from(bytes).map_err(|_| damaged()),
        None => Ok(RoaringTreemap::new()),
    }
}

/// The blocks of a group.
fn blocks_of(fs: &Filesystem, group: u64) -> Range<u64> {
    let sb = &fs.geometry().superblock;
    let start = sb.group_start(group);
    start..start.saturating_add(sb.blocks_per_group).min(sb.blocks)
}

/// CRC-32C of the bitmap that says which blocks of a group are free.
fn checksum(fs: &Filesystem, group: u64) -> Option<u32> {
    Some(crc32c::crc32c(&fs.block_bitmap(group)?))
}

fn block(number: u64, fs: &Filesystem) -> rusqlite::Result<Block> {
    Block::new(number).filter(|block| fs.geometry().superblock.contains(*block)).ok_or_else(damaged)
}

/// A page, if it can be one.
fn page(row: &Row<'_>, fs: &Filesystem) -> rusqlite::Result<Page> {
    let page = Page {
        block: block(row.get(0)?, fs)?,
        sources: vec![Source::Home],
        first: block(row.get(1)?, fs)?,
        last: block(row.get(2)?, fs)?,
        count: row.get(3)?,
        begin: row.get(4)?,
        end: row.get(5)?,
        breaks: row.get(6)?,
        scattered: row.get(7)?,
    };
    let fits = u64::from(page.end) <= fs.pointers_per_block() && page.count > 0 && page.breaks < page.count;
    let fits = fits && page.begin.checked_add(page.count).is_some_and(|end| end <= page.end);
    if fits { Ok(page) } else { Err(damaged()) }
}

/// What SQLite would say of a page that makes no sense.
fn damaged() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), None)
}

/// Whether an error says that the file's content is not what it should be, as opposed to one that may pass.
fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        // No such table.
        rusqlite::Error::SqliteFailure(error, _) => {
            matches!(error.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown)
        }
        rusqlite::Error::SqlInputError { .. }
        | rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::InvalidColumnIndex(..) => true,
        _ => false,
    }
}
