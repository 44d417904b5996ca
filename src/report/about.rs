//! The text of `ABOUT.txt`.

use super::Totals;
use crate::run::Evidence;
use crate::scan::extent::Looked;
use crate::tree::Tree;

/// How `ABOUT.txt` begins while the scan goes on.
pub fn about_scan(looked: &Looked) -> String {
    if !looked.goes_on() {
        return String::new();
    }
    format!(
        "Scan of free space: {looked}. Until it is complete, only those lost files are here that the journal remembers;\n\
         of the others, orphans/unfinished/ has what was found so far, none of it complete. How far it is:\n\
         \n  getfattr -n user.undelfs.scan THIS_FOLDER\n\n"
    )
}

/// The content of `ABOUT.txt`, behind [`about_scan`].
pub fn about(tree: &Tree) -> String {
    let recovery = tree.recovery();
    let info = recovery.info();
    let totals = Totals::of(recovery);
    let image = recovery.image().path().display();
    let name = if info.label.is_empty() { String::new() } else { format!(" \"{}\"", info.label.escape_debug()) };
    let mut text = format!(
        "These are the files that were lost from the {kind} filesystem{name} (UUID {uuid})\n\
         on {image}, deleted or truncated, as undelfs {version} found them.\n\
         \n\
         Lost files found: {files}, {size} bytes.\n\
         {complete} are complete, {partial} in part, of {empty} nothing is left but the name or the inode.\n\
         Of {orphans} the inode is gone; they were put together from their indirect blocks.\n\
         Free space that none of them explains: {unclaimed} bytes.\n\
         {scan}",
        kind = info.kind,
        uuid = info.uuid,
        version = env!("CARGO_PKG_VERSION"),
        files = totals.files,
        size = totals.size,
        complete = totals.complete,
        partial = totals.partial,
        empty = totals.empty,
        orphans = totals.orphans,
        unclaimed = tree.unclaimed_bytes(),
        scan = match recovery.looked() {
            Looked::No => "Free space was not looked through for files whose inode is gone (--scan=no).\n",
            Looked::Partly(_) | Looked::Whole => "",
        },
    );
    text.push_str(ABOUT);
    for evidence in Evidence::ALL {
        text.push_str(&format!("  {:<12} {}\n", evidence.word(), evidence.meaning()));
    }
    if !info.damage.is_empty() {
        text.push_str("\nDamage found on the way\n-----------------------\n");
        for damage in &info.damage {
            text.push_str(&format!("  {}\n", damage.escape_debug()));
        }
    }
    text
}

/// What `ABOUT.txt` says of every image.
const ABOUT: &str = "
Where they are
--------------
  by-path/       under the path they had; NAME@1 is the file that had this path before NAME, NAME@2 the one before that
  by-inode/      each under its inode number; N@1 is an earlier file of the same inode
  orphans/       files whose inode is gone, and with it name, owner, mode and times. Each is called by the block number of
                 the topmost of the indirect blocks that it was put together from, with an extension if its content begins
                 like a known format; by-kind/ has the same files (hard links) by what they seem to be
  unclaimed.img  the filesystem's free space, less all that the files above explain, each block at its own place and holes
                 everywhere else: for programs that look for files by their content, such as photorec
  report.json    the list, with what is known of each file

How to copy them
----------------
Copy to another disk: the filesystem that they were lost from must not be written to.

  cp -a --sparse=always by-path/some/folder /another/disk/

or, without this mount and faster:

  undelfs copy IMAGE /some/folder /another/disk/

Nothing is written here or to the image; every program can read these files in place.

What is missing, and how to tell
--------------------------------
Every byte is either the file's own, or a zero in a range that is listed as missing. Each file says of itself:

  getfattr -d -m user.undelfs FILE      state (complete, partial, empty), recovered (0.9312 = 93.12% is there),
                                        evidence (bytes by the words below), missing (ranges), and more
  undelfs show IMAGE /path/of/FILE      the same, with every range
  getfattr -n user.undelfs.scan .       of this folder: what of free space was looked through for files whose inode is gone:
                                        complete, running 0.4213 (42.13% so far; report.json says it too), or no

How it is known what stands in a range:
";
