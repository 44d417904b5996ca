//! What a catalog was made from: if any of it is different now, the catalog is stale.

use crate::format::journal;
use crate::fs::Filesystem;
use crate::image::ImageOptions;
use crate::recover::info::uuid;
use std::collections::BTreeMap;

/// The code that judges blocks. If it changes, so may what it finds.
const RULES: [&str; 4] =
    [include_str!("../scan/page.rs"), include_str!("../scan/sweep.rs"), include_str!("../content/stretch.rs"), include_str!("schema.sql")];

/// Properties of an image as it was opened, by name, each as people read it.
pub type Identity = BTreeMap<String, String>;

/// Those of `fs`, opened with `options`.
pub fn identity(fs: &Filesystem, options: &ImageOptions) -> Identity {
    let (image, sb) = (fs.image(), &fs.geometry().superblock);
    let rules = RULES.iter().fold(0, |crc, text| crc32c::crc32c_append(crc, text.as_bytes()));
    let changed = image.changed().map_or("a device".into(), |(seconds, nanoseconds)| format!("{seconds}.{nanoseconds:09}"));
    // What the mapfile does not call rescued was not looked at.
    let mapfile = options.mapfile.as_ref().map(|path| std::fs::read(path).map_or(0, |text| crc32c::crc32c(&text)));
    let properties = [
        ("uuid", uuid(sb.uuid)),
        ("offset", image.base().to_string()),
        ("bytes", image.len().to_string()),
        ("block_size", sb.block_size.to_string()),
        ("blocks", sb.blocks.to_string()),
        ("groups", sb.groups().to_string()),
        ("last_mount", sb.mount_time.to_string()),
        ("last_write", sb.write_time.to_string()),
        ("superblock", format!("{:08x} in block {}", crc32c::crc32c(format!("{sb:?}").as_bytes()), fs.geometry().superblock_block)),
        ("journal", journal(fs)),
        ("changed", changed),
        ("mapfile", mapfile.map_or("none".into(), |crc| format!("{crc:08x}"))),
        ("rules", format!("{rules:08x}")),
    ];
    properties.map(|(name, value)| (name.to_owned(), value)).into()
}

/// Where the journal stands: its superblock moves with every replay, its newest transaction with every other.
fn journal(fs: &Filesystem) -> String {
    let newest = fs.journal().transactions().last().map_or("none".into(), |transaction| transaction.moment.0.to_string());
    let mut bytes = vec![0; fs.block_size() as usize];
    let superblock = fs.journal().image_offset(0).filter(|offset| fs.image().read_exact_at(&mut bytes, *offset).is_ok());
    match superblock.and_then(|_| journal::Superblock::parse(&bytes)) {
        Some(superblock) => format!("newest {newest}, sequence {}, start {}", superblock.sequence.0, superblock.start),
        None => format!("newest {newest}"),
    }
}
