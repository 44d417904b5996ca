//! What `undelfs show` says of a chain that was found without an inode.

use super::terminal::{self, Output};
use std::borrow::Cow;
use std::io::{self, Write};
use undelfs::recover::FileId;
use undelfs::report::CANDIDATES;
use undelfs::tree::Tree;

/// Shows where the chain begins and whose it may be; nothing for a file that was found by its inode.
pub fn show(tree: &Tree, id: FileId, output: &mut Output) -> io::Result<()> {
    let file = tree.recovery().file(id);
    let Some(orphan) = &file.orphan else { return Ok(()) };
    writeln!(output.out, "\n{}", output.heading("Put together from its indirect blocks"))?;
    writeln!(output.out, "  {:<11} in block {}", "topmost", orphan.top)?;
    if file.ino.is_some() {
        return Ok(());
    }
    writeln!(output.out, "  {:<11} unknown, as are owner and times: what stands above fills their place", "mode")?;
    if orphan.candidates.is_empty() {
        return writeln!(output.out, "  {:<11} unknown: no inode is left that fits", "whose");
    }
    writeln!(output.out, "\n{}", output.heading("It may be"))?;
    writeln!(output.out, "  {:>10}  {:<19}  PATH", "INODE", "DELETED")?;
    for candidate in orphan.candidates.iter().take(CANDIDATES) {
        let when = candidate.when.map_or_else(|| "unknown".to_owned(), terminal::local);
        let path = candidate.path.as_deref().map_or(Cow::Borrowed(&b"unknown"[..]), |path| output.name(path));
        write!(output.out, "  {:>10}  {when:<19}  ", candidate.ino)?;
        output.out.write_all(&path)?;
        output.out.write_all(b"\n")?;
    }
    if orphan.candidates.len() > CANDIDATES {
        writeln!(output.out, "  and {} more", orphan.candidates.len() - CANDIDATES)?;
    }
    Ok(())
}
