"""Cases in which nothing tells any more whose the lost blocks were."""

import os

from .builder import case
from .cases_blocks import grow
from .cases_chains import claim_chain, small_files, wrap
from .cases_files import MB


@case("nameless", "two files deleted, their inodes taken by new ones, then the journal wraps: only indirect blocks tell of them")
def nameless(b):
    b.mkfs(128 * MB, "-b 4096 -I 256 -J size=4")
    rec = b.mount()
    rec.mkdir(b"/docs")
    growing = [b"/docs/book.pdf", b"/docs/noise", b"/docs/kept"]
    for path in growing:
        rec.write(path, (b"%PDF-1.7\n" if path.endswith(b"pdf") else b"") + rec.data(100_000))
    small = small_files(b, 800)
    grow(b, growing, [20 * MB + 333, 12 * MB, 10 * MB], 2 * MB)
    b.sync()
    for path in growing[:2]:
        rec.unlink(path)
    b.sync()
    new = [b"/docs/new%d" % number for number in range(2)]
    for path in new:
        rec.write(path)
    taken = {os.stat(b.disk.at(path)).st_ino for path in new}
    wrap(b, small, 30)
    b.finish()
    for life in rec.lost:
        claim_chain(b, life, 5)
    b.claim(taken == {life["inode"] for life in rec.lost}, f"their inodes are taken: {sorted(taken)}")
    b.claim_in_journal(rec.lost, 0, 0, "wrapped")
    b.claim_all_stand(rec.lost)


@case("idle", "a file deleted long after it was last written, in a folder whose inodes were used again: the journal has its end, and no pointer of it")
def idle(b):
    b.mkfs(256 * MB, "-b 4096 -I 256 -J size=4")
    rec = b.mount()
    small = small_files(b, 800)
    # A folder at the top gets a block group of its own, so that nothing else is written where its files' inodes stand.
    rec.mkdir(b"/docs")
    notes = [b"/docs/note%d" % number for number in range(40)]
    for path in notes[:20] + [b"/docs/book", b"/docs/kept"] + notes[20:]:
        rec.write(path, rec.text(700))
    grow(b, [b"/docs/book", b"/docs/kept"], [20 * MB + 333, 15 * MB], 2 * MB)
    b.sync()
    lost = b.random.sample(notes[:20], 6)
    for path in lost:
        rec.unlink(path)
    b.sync()
    for number in range(5):
        rec.write(b"/docs/new%d" % number, rec.text(900))
    wrap(b, small, 30)
    rec.unlink(b"/docs/book")
    b.finish()
    book = b.lost(path="/docs/book")[0]
    claim_chain(b, book, 5)
    b.claim(book["stands"] == book["hashes"][1], "all of the file stands")
    b.claim_in_journal([book], 0, 0, "wrapped")
