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
