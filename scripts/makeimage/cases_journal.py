"""Cases about what the journal holds, and in which form."""

import hashlib
import os
import re
import struct

from .builder import case, raw
from .cases_files import MB, MODES, OWNERS, some_content, some_size
from .layout import JBD2_FEATURE_INCOMPAT_64BIT, S_FEATURE_INCOMPAT, described
from .system import run


def population(b, folder, count, largest=MB):
    """Some files in a folder; their paths."""
    paths = []
    for number in range(count):
        path = folder + b"/%03d.dat" % number
        b.rec.write(path, some_content(b.rec, b.random, some_size(b.random, largest) or 5000), b.random.choice(MODES), b.random.choice(OWNERS))
        paths.append(path)
    return paths


def journal_features(b):
    return re.search(r"Journal features:(.*)", run("dumpe2fs", "-h", b.path))[1].split()


@case("recovery", "copied without unmounting: deletes that only the journal knows, one that isn't committed, a file deleted while open")
def recovery(b):
    b.mkfs(256 * MB, "-b 4096 -I 256 -J size=16")
    rec = b.mount()
    rec.mkdir(b"/d")
    rec.mkdir(b"/tree")
    files = population(b, b"/d", 60)
    population(b, b"/tree", 10)
    rec.write(b"/big", rec.data(20 * MB))
    rec.write(b"/rewritten", rec.text(3 * MB))
    rec.write(b"/open", rec.data(5 * MB + 100))
    rec.write(b"/append", rec.data(10000))
    b.sync()
    for path in files[:15]:
        rec.unlink(path)
    b.sync()
    home = len(rec.lost)
    for path in files[15:30]:
        rec.unlink(path)
    rec.unlink(b"/big")
    rec.rewrite(b"/rewritten", rec.text(100000))
    rec.remove_tree(b"/tree")
    fd = os.open(b.disk.at(b"/open"), os.O_RDONLY)
    rec.unlink(b"/open")
    b.disk.commit()
    # What the power cut undoes: it never happened, so it is not recorded.
    os.unlink(b.disk.at(files[40]))
    rec.append(b"/append", rec.data(50000))
    b.finish(crash=True, held=[fd])

    with b.disk.image() as image:
        at_home = lambda life: image.volume.inode(life["inode"])
        b.claim(image.volume.journal_start() != 0, "the log has a tail to recover from")
        pending = [life for life in rec.lost[home:] if life["type"] == "file"]
        b.claim(all(not any(at_home(life).i_block) for life in rec.lost[:home]), f"{home} deletes have reached the inode table")
        still = [life["path"] for life in pending if at_home(life).i_block.hex() == life["i_block"]]
        b.claim(len(still) == len(pending), f"{len(still)} losses stand in the journal only")
    dead = {struct.unpack_from("<I", inode, 100)[0] for inode in b.inodes_in_journal() if any(inode[20:24])}
    gone = [life["generation"] for life in pending if life["lost_by"] == "unlink" and life["path"] != "/open"]
    b.claim(dead.issuperset(gone), "the journal holds their inodes with a dtime")
    replay = b._on_copy(lambda copy: run("e2fsck", "-fp", copy, ok=(0, 1)))
    orphan = b.lost(path="/open")[0]["inode"]
    b.claim(f"orphaned inode {orphan}" in replay, "the file deleted while open is on the orphan list")
    live = {item["path"]: item for item in b.live}
    b.claim(files[40].decode() in live and live["/append"]["size"] == 10000, "what had not been committed did not happen")
    b.claim_all_stand(rec.lost, 0.95, "nearly every block of the lost files still stands")


@case("datajournal", "data=journal: file contents stand in the journal too, escaped ones among them; losses before and after they were written home")
def datajournal(b):
    b.mkfs(256 * MB, "-b 4096 -I 256 -J size=64")
    rec = b.mount("data=journal")
    rec.mkdir(b"/d")
    growing = [b"/d/grow%d" % number for number in range(8)]
    for path in growing:
        rec.write(path, rec.data(3000))
    escaped = b"".join(b"\xc0\x3b\x39\x98" + rec.data(4092) for _ in range(40))
    rec.write(b"/d/magic", escaped)
    for _ in range(5):
        for path in growing:
            rec.append(path, rec.data(b.random.randrange(100, 300000)))
        b.disk.commit()
    # Soon: committed, not yet written home. No sync for the record either, which would write them.
    rec.sync_runs = False
    for path in growing[:3]:
        rec.unlink(path)
    rec.truncate(growing[3], 5000)
    rec.unlink(b"/d/magic")
    b.disk.commit()
    soon = len(rec.lost)
    rec.write(b"/d/never", rec.data(300000))
    rec.unlink(b"/d/never")
    # Later: all is home.
    rec.sync_runs = True
    b.sync()
    for path in growing[4:7]:
        rec.unlink(path)
    b.sync()
    b.finish()

    journal, size = b.journal(), b.block_size
    in_journal = {hashlib.sha256(journal[at:at + size]).digest()[:8] for at in range(0, len(journal), size)}
    # An escaped block stands in the log with its first four bytes zeroed.
    in_journal |= {hashlib.sha256(b"\xc0\x3b\x39\x98" + journal[at + 4:at + size]).digest()[:8]
                   for at in range(0, len(journal), size) if journal[at:at + 4] == bytes(4)}
    blocks = lambda lives: [bytes(rec.hashes[8 * i:8 * i + 8]) for life in lives for i in range(life["hashes"][0], sum(life["hashes"]))]
    early, late = rec.lost[:soon], rec.lost[soon + 1:]
    found = sum(block in in_journal for block in blocks(early))
    b.claim(found >= 0.9 * len(blocks(early)), f"of {len(blocks(early))} blocks lost soon, {found} have a copy in the journal, "
            f"{sum(life['stands'] for life in early)} stand in their place")
    magic = blocks(b.lost(path="/d/magic"))
    b.claim(sum(block in in_journal for block in magic) == 40, "the journal has the 40 escaped blocks")
    b.claim_all_stand(late)


def plain_losses(b, kind=None, options=""):
    """What the cases about journal formats do: files and a tree, some committed one by one, then their loss."""
    rec = b.mount(options, kind)
    rec.mkdir(b"/d")
    rec.mkdir(b"/tree")
    files = population(b, b"/d", 80)
    population(b, b"/tree", 30)
    rec.write(b"/d/big", rec.data(30 * MB))
    rec.symlink(b"/tree/slow", b"../" * 100)
    b.sync()
    for number, path in enumerate(files[:40]):
        rec.unlink(path)
        if number % 8 == 7:
            b.disk.commit()
    rec.unlink(b"/d/big")
    b.disk.commit()
    rec.remove_tree(b"/tree")
    b.finish()
    files = [life for life in b.lost(type="file") if life["i_block"]]
    b.claim_all_stand(files)
    b.claim_names_in_journal(rec.lost)
    b.claim_in_journal(files, len(files), len(files), "not wrapped")


@case("journal64", "64-bit tags with checksums (csum v3) in the journal, checksums in all metadata, flex_bg; block maps, not extents")
def journal64(b):
    b.mkfs(256 * MB, "-b 4096 -I 256 -J size=16 -O ^extents,^64bit,metadata_csum", "ext4")
    # mke2fs makes no 64-bit filesystem without extents. The journal's own flag is enough for the kernel to write 64-bit tags.
    b.disk.set_journal_field(S_FEATURE_INCOMPAT, JBD2_FEATURE_INCOMPAT_64BIT)
    plain_losses(b, "ext4", "nodelalloc")
    features = journal_features(b)
    b.claim({"journal_64bit", "journal_checksum_v3"} <= set(features), f"the journal has {', '.join(features)}")


@case("journalcsum", "plain ext3, mounted by the ext4 driver with journal_checksum: the older checksums in commit blocks")
def journalcsum(b):
    b.mkfs(256 * MB, "-b 4096 -I 256 -J size=16")
    plain_losses(b, "ext4", "journal_checksum,nodelalloc")
    features = journal_features(b)
    b.claim("journal_checksum" in features, f"the journal has {', '.join(features)}")


@case("extjournal", "the journal stands on a device of its own (NAME.journal.img)")
def extjournal(b):
    path = b.path[:-len(".img")] + ".journal.img"
    b.disk.add_journal(path, 32 * MB, 4096)
    b.beside.append(".journal.img")
    b.mkfs(256 * MB, f"-b 4096 -I 256 -J device={b.disk.journal.name}")
    plain_losses(b)
    with b.disk.image() as image:
        b.claim(image.volume.journal_inode == 0, "there is no journal inside")


@case("remount", "mounted anew as older kernels do before the loss: the log's head is overwritten, its tail holds blocks that no descriptor names any more")
def remount(b):
    b.mkfs(256 * MB, "-b 4096 -I 256 -J size=8")
    rec = b.mount()
    for number in range(6):
        rec.mkdir(b"/d%d" % number)
    paths = [population(b, b"/d%d" % number, 500, 8000) for number in range(6)]
    rec.write(b"/d3/big", rec.data(25 * MB))
    b.disk.remount(restart_log=True)
    # All is written; a sync for each record would only fill the log.
    rec.sync_runs = False
    for path in b.random.sample(paths[2] + paths[3], 60) + [b"/d3/big"]:
        rec.unlink(path)
    b.disk.remount(restart_log=True)
    for number in range(30):
        rec.write(b"/d5/later %d" % number, rec.text(3000))
    b.finish()

    with b.disk.image() as image:
        journal, inode_size, size = image.volume.journal(), image.volume.inode_size, image.volume.block_size
    named = described(journal, size)
    unnamed = {journal[at + 40:at + 100] for at in range(0, len(journal), inode_size) if at // size not in named}
    only = {journal[at + 40:at + 100] for at in range(0, len(journal), inode_size) if at // size in named}
    tail = sum(bytes.fromhex(life["i_block"]) in unnamed - only for life in rec.lost)
    b.claim(tail >= 10, f"{tail} of {len(rec.lost)} lost files have their pointers only in blocks of the tail that no descriptor names")
    b.claim_in_journal(rec.lost, 0, len(rec.lost), "named or not")
    b.claim_all_stand(rec.lost, 0.9)
