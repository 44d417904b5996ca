//! The image: a file or device with one ext filesystem in it, opened for reading and never written to.
//!
//! Two ways lead to its bytes. [`Image::read_exact_at`] reads them into memory with `pread`, and an image that shrinks or a bad
//! sector is an error. [`Image::slice`] lends them from a memory map, only for handing them to the kernel.

pub mod mapfile;
pub mod mountinfo;

mod foreign;
mod mounted;
mod partition;

use crate::error::{Error, Result};
use crate::sys::Map;
use mapfile::Mapfile;
use rustix::fs::{Advice, SeekFrom};
use rustix::io::ReadWriteFlags;
use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, IoSliceMut, Seek};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How file contents get from the image to the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Io {
    /// Straight from a memory map: fastest.
    #[default]
    Map,
    /// By `pread`: for failing media, where each error should be seen and logged.
    Pread,
}

/// What to open, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImageOptions {
    /// The image file or device.
    pub path: PathBuf,
    /// First byte of the filesystem; found in the partition table if need be when absent.
    pub offset: Option<u64>,
    /// Partition of a whole-disk image, counted from 1, logical ones from 5.
    pub partition: Option<u32>,
    /// ddrescue mapfile: what it does not call rescued cannot be read.
    pub mapfile: Option<PathBuf>,
    /// Device or file with the external journal.
    pub journal: Option<PathBuf>,
    /// Open it even if it is mounted read-write.
    pub force: bool,
    /// How contents are handed on.
    pub io: Io,
}

impl ImageOptions {
    /// The image at `path` with everything else as it is when nothing is asked for.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), offset: None, partition: None, mapfile: None, journal: None, force: false, io: Io::default() }
    }
}

/// An open image. Offsets count from the filesystem's first byte.
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
    file: File,
    base: u64,
    len: u64,
    changed: Option<(i64, i64)>,
    map: Option<Map>,
    mapfile: Option<Mapfile>,
    devices: Vec<mounted::Device>,
}

impl Image {
    /// Opens the image and finds the filesystem's area in it. That there really is a filesystem is not checked.
    ///
    /// # Errors
    /// [`Error::Image`] with one clear line where it cannot be opened or is something else; [`Error::Usage`] where the options do
    /// not fit it, more than one partition may be meant, or it is mounted read-write and `force` is not set.
    pub fn open(options: &ImageOptions) -> Result<Self> {
        let path = &options.path;
        let (mut file, kind) = open_file(path)?;
        let len = file.seek(io::SeekFrom::End(0)).map_err(|error| unreadable(path, &error))?;
        if len == 0 {
            return Err(Error::Image(format!("{} is empty (0 bytes)", path.display())));
        }
        let (base, len) = match options.offset {
            Some(_) if options.partition.is_some() => {
                return Err(Error::Usage("--offset and --partition exclude each other".into()));
            }
            Some(offset) if offset >= len => {
                return Err(Error::Usage(format!("--offset {offset} is beyond the end of {}, which has {len} bytes", path.display())));
            }
            Some(offset) => (offset, len - offset),
            None => {
                if !partition::has_superblock(&file, 0) {
                    refuse_foreign(path, &file)?;
                }
                partition::locate(path, &file, len, options.partition)?
            }
        };
        let changed = file.metadata().ok().filter(Metadata::is_file).map(|metadata| (metadata.ctime(), metadata.ctime_nsec()));
        let devices = mounted::devices(&file, base);
        if !options.force
            && let Some(mount) = mounted::writable_mount(&devices)
        {
            let point = mount.point.display();
            return Err(Error::Usage(format!(
                "{} is mounted read-write on {point}, so what is read would change underneath: umount {point}, or mount -o remount,ro \
                 {point}, or insist with --force",
                path.display()
            )));
        }
        let mapfile = options.mapfile.as_deref().map(read_mapfile).transpose()?;
        let map = match options.io {
            Io::Map => map(path, &file, base, len),
            Io::Pread => None,
        };
        log::debug!("{}: {kind}, filesystem from byte {base}, {len} bytes, on devices {devices:?}", path.display());
        Ok(Self { path: path.clone(), file, base, len, changed, map, mapfile, devices })
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Byte of the file or device at which the filesystem begins.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Bytes from the filesystem's first to the end of its partition or of the image, as they were when it was opened.
    #[allow(clippy::len_without_is_empty, reason = "an image is never empty: opening one fails")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Reads these bytes into memory.
    ///
    /// # Errors
    /// `UnexpectedEof` beyond the image's end (also when it has shrunk), [`io::ErrorKind::Other`] for what the mapfile does not call
    /// rescued, else what the medium says.
    pub fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let at = self.absolute(offset, buf.len() as u64).ok_or(io::ErrorKind::UnexpectedEof)?;
        if self.is_unread(offset, buf.len() as u64) {
            return Err(io::Error::other("never read from the medium, says the mapfile"));
        }
        self.file.read_exact_at(buf, at)
    }

    /// Lends these bytes for handing them to the kernel by `write` or `writev`, and for nothing else: where the image has shrunk or
    /// the medium fails, the kernel answers `EFAULT`, but a touch in user space would be a SIGBUS. `None` where they must be read:
    /// without a map ([`Io::Pread`]), beyond the end, and where [`Image::is_unread`].
    pub fn slice(&self, offset: u64, len: u64) -> Option<&[u8]> {
        let at = self.absolute(offset, len)?;
        if self.is_unread(offset, len) {
            return None;
        }
        self.map.as_ref()?.slice(usize::try_from(at).ok()?, usize::try_from(len).ok()?)
    }

    /// Starts reading these bytes in, for a [`Image::slice`] that is about to be handed on. Only worth its system call for long ones:
    /// below two pages a page fault costs as much.
    pub fn will_need(&self, offset: u64, len: u64) {
        /// Measured on a cold disk: from two pages on, announced runs come faster than by faults.
        const WORTHWHILE: u64 = 8 << 10;
        if let (true, Some(map), Some(at)) = (len >= WORTHWHILE, &self.map, self.absolute(offset, len))
            && let (Ok(at), Ok(len)) = (usize::try_from(at), usize::try_from(len))
        {
            map.will_need(at, len);
        }
    }

    /// The first byte at or after `offset` that is not in a hole of a sparse image file; `offset` itself where the system cannot say;
    /// `None` where nothing but a hole follows.
    pub fn next_data(&self, offset: u64) -> Option<u64> {
        let at = self.absolute(offset, 1)?;
        match rustix::fs::seek(&self.file, SeekFrom::Data(at)) {
            Ok(data) => Some(data.max(at) - self.base).filter(|&data| data < self.len),
            Err(rustix::io::Errno::NXIO) => None,
            Err(_) => Some(offset),
        }
    }

    /// The first byte at or after `offset` that is in a hole of a sparse image file; the image's end where there is none, and where the
    /// system cannot say.
    pub fn next_hole(&self, offset: u64) -> u64 {
        let hole = self.absolute(offset, 1).and_then(|at| Some(rustix::fs::seek(&self.file, SeekFrom::Hole(at)).ok()?.max(at) - self.base));
        hole.unwrap_or(self.len).min(self.len)
    }

    /// Whether the byte at `offset` is in the page cache; also `true` where the system cannot say.
    pub fn is_cached(&self, offset: u64) -> bool {
        let Some(at) = self.absolute(offset, 1) else { return true };
        let mut byte = [0];
        let got = rustix::io::preadv2(&self.file, &mut [IoSliceMut::new(&mut byte)], at, ReadWriteFlags::NOWAIT);
        got != Err(rustix::io::Errno::AGAIN)
    }

    /// Takes these bytes out of the page cache, so that reading much once does not drive out what others need again.
    pub fn forget(&self, offset: u64, len: u64) {
        if let (Some(at), Some(len)) = (self.absolute(offset, len), NonZeroU64::new(len)) {
            // It is only advice: where it is not taken, nothing is lost but room.
            let _ = rustix::fs::fadvise(&self.file, at, Some(len), Advice::DontNeed);
        }
    }

    /// When the image file had been changed last as it was opened, by its inode's `st_ctime`, which unlike `st_mtime` cannot be set back:
    /// seconds and nanoseconds. `None` for a device, whose node does not know.
    pub fn changed(&self) -> Option<(i64, i64)> {
        self.changed
    }

    /// Whether the mapfile says that some of these bytes were never read from the medium.
    pub fn is_unread(&self, offset: u64, len: u64) -> bool {
        self.mapfile.as_ref().is_some_and(|mapfile| !mapfile.is_rescued(self.base.saturating_add(offset), len))
    }

    /// Whether writing to `path`, which need not exist yet, would write onto the filesystem that is being recovered.
    ///
    /// # Errors
    /// Where not even a parent of `path` can be looked at.
    pub fn holds(&self, path: &Path) -> io::Result<bool> {
        mounted::holds(&self.devices, path)
    }

    /// The place in the file of `len` bytes from `offset` on; `None` where they are not all inside the filesystem's area.
    fn absolute(&self, offset: u64, len: u64) -> Option<u64> {
        let inside = offset.checked_add(len)? <= self.len;
        inside.then_some(self.base.checked_add(offset)?)
    }
}

/// Opens a file or block device for reading; everything else is refused. Returns what it is besides.
fn open_file(path: &Path) -> Result<(File, &'static str)> {
    // Looked at before it is opened: opening a FIFO would wait for a writer.
    let kind = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?.file_type();
    let name = kind_name(kind).ok_or_else(|| {
        let what = if kind.is_dir() { "a folder" } else { "not a file or block device" };
        Error::Image(format!("{} is {what}; give the image file or the device (as lsblk lists it)", path.display()))
    })?;
    // The image's own access time stays as it is, where the system lets us (it does for the file's owner and for root).
    let open = |flags| OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = open(libc::O_NOATIME).or_else(|_| open(0)).map_err(|error| unreadable(path, &error))?;
    Ok((file, name))
}

fn kind_name(kind: FileType) -> Option<&'static str> {
    if kind.is_file() { Some("file") } else { kind.is_block_device().then_some("block device") }
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => "; try it as root, or give yourself leave to read it",
        _ => "",
    };
    Error::Image(format!("cannot open {}: {}{advice}", path.display(), reason(error)))
}

/// The system's word without `(os error N)`.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// Refuses what is recognised as something else than a raw image. Who knows better says `--offset 0`.
fn refuse_foreign(path: &Path, file: &File) -> Result<()> {
    let mut head = [0; 1024];
    let got = file.read_at(&mut head, 0).unwrap_or(0);
    match foreign::recognise(&head[..got]) {
        Some(what) => Err(Error::Image(format!("{} is {what}", path.display()))),
        None => Ok(()),
    }
}

fn read_mapfile(path: &Path) -> Result<Mapfile> {
    let text =
        std::fs::read(path).map_err(|error| Error::Usage(format!("cannot read the mapfile {}: {}", path.display(), reason(&error))))?;
    Mapfile::parse(&text).map_err(|(line, what)| Error::Usage(format!("{}: line {line} {what}", path.display())))
}

/// Maps the file up to the end of the filesystem's area. An image that cannot be mapped is read instead.
fn map(path: &Path, file: &File, base: u64, len: u64) -> Option<Map> {
    let mapped = usize::try_from(base.checked_add(len)?).map_err(io::Error::other).and_then(|end| Map::new(file, end));
    match mapped {
        Ok(map) => Some(map),
        Err(error) => {
            log::info!("{}: no memory map ({error}), reading instead", path.display());
            None
        }
    }
}

#[cfg(test)]
mod tests;
