"""Cases in which no copy of an inode is left: only indirect blocks tell where the file was."""

import os
from array import array

from .builder import case
from .cases_blocks import grow
from .cases_files import MB
from .layout import DIRECT
from .system import fiemap

LEVELS = ["IND", "DIND", "TIND"]


def small_files(b, count=1500):
    """A folder of empty files, made early: changes of them wrap the journal later."""
    b.rec.mkdir(b"/small")
    paths = [b"/small/table%d.frm" % number for number in range(count)]
    for path in paths:
        b.rec.write(path)
    return paths


def wrap(b, small, rounds=20):
    """Fills the journal with changes of inodes only, so that nothing takes the lost blocks (a folder that grows takes indirect blocks first)."""
    b.sync()
    for number in range(rounds):
        for path in small:
            b.rec.set(path, 0o600 + number)
        b.sync()


def pointers_standing(b, life):
    """For each level (IND, DIND, TIND) of a lost file: indirect blocks whole, in part, gone; and how many pointers are zeroed in those in part."""
    per_block = b.block_size // 4
    first_of = [0, DIRECT, DIRECT + per_block, DIRECT + per_block + per_block**2]
    want = {(level, first): array("I", bytes(b.block_size)) for level, first, _ in life["indirect"]}

    def expect(level, at, block):
        """The pointer to what maps file block `at` on the level below."""
        if at >= first_of[level]:
            number, rest = divmod(at - first_of[level], per_block**level)
            want[level, first_of[level] + number * per_block**level][rest // per_block**(level - 1)] = block

    for start, physical, count in life["runs"]:
        for i in range(count):
            expect(1, start + i, physical + i)
    for level, first, block in life["indirect"]:
        if level < 3:
            expect(level + 1, first, block)
    counts = [[0, 0, 0, 0] for _ in LEVELS]
    with b.disk.image() as image:
        for level, first, block in life["indirect"]:
            have = array("I", image.volume.block(block))
            if have == want[level, first]:
                counts[level - 1][0] += 1
            elif any(have) and all(a == b or not b for a, b in zip(want[level, first], have)):
                counts[level - 1][1] += 1
                counts[level - 1][3] += sum(1 for a, b in zip(want[level, first], have) if a and not b)
            else:
                counts[level - 1][2] += 1
    return counts


def claim_chain(b, life, fragments=1):
    """That a lost file is what chains are for: nothing in the journal, every block and every indirect block on the disk."""
    name = life["path"]
    b.claim(len(life["runs"]) >= fragments, f"{name}: {life['size']} bytes in {len(life['runs'])} fragments")
    whole = [(LEVELS[level], whole, whole + part + gone) for level, (whole, part, gone, _) in enumerate(pointers_standing(b, life))]
    b.claim(all(a == n for _, a, n in whole), f"{name}: " + ", ".join(f"{a} of {n} {level}" for level, a, n in whole if n) + " stand")


def lose_one(b, mkfs, folders, sizes, fragments):
    """messages.MYD grown beside messages.MYI, which stays; deleted, then the journal wraps."""
    b.mkfs(*mkfs)
    rec = b.mount()
    for folder in folders:
        rec.mkdir(folder)
    growing = [folders[-1] + b"/messages.MYD", folders[-1] + b"/messages.MYI"]
    for path in growing:
        rec.write(path, rec.data(1000))
    small = small_files(b)
    grow(b, growing, sizes, [24 * MB, 4 * MB])
    b.sync()
    rec.unlink(growing[0])
    wrap(b, small)
    b.finish()
    claim_chain(b, rec.lost[0], fragments)
    b.claim_in_journal(rec.lost, 0, 0, "wrapped")
    b.claim_all_stand(rec.lost)


@case("big600", "one file of 600 MB in dozens of fragments, grown beside another; deleted, then the journal wraps")
def big600(b):
    lose_one(b, (1024 * MB, "-b 4096 -I 256 -J size=4"), [b"/mysql", b"/mysql/tb"], [600 * MB + 2345, 100 * MB], 24)


@case("deep", "one file of 280 MB in blocks of 1 KiB: a TIND and four DINDs; deleted, then the journal wraps")
def deep(b):
    lose_one(b, (512 * MB, "-b 1024 -I 256 -J size=4"), [b"/mysql"], [280 * MB + 2345, 60 * MB], 8)


def lose_together(b, names, sizes, pieces, every_turn=lambda: None):
    """Files grown side by side, with one between them that stays; all but that one lost in one go, then the journal wraps."""
    rec = b.rec
    rec.mkdir(b"/srv")
    paths = [b"/srv/" + name for name in names]
    for path in paths + [b"/srv/kept"]:
        rec.write(path, rec.data(1000))
    small = small_files(b)
    grow(b, paths + [b"/srv/kept"], sizes + [30 * MB], pieces + [2 * MB], every_turn)
    b.sync()
    for path in paths:
        rec.unlink(path)
    wrap(b, small)
    b.finish()
    b.claim_in_journal(rec.lost, 0, 0, "wrapped")
    b.claim_all_stand(rec.lost)


FOUR = [b"a.MYD", b"b.ibd", b"c.mbox", b"d.img"], [80 * MB + 77, 150 * MB + 4096, 210 * MB + 1111, 300 * MB + 99], [6 * MB, 9 * MB, 5 * MB, 14 * MB]


@case("four", "four files of 80 to 300 MB grown side by side and lost together, then the journal wraps")
def four(b):
    b.mkfs(960 * MB, "-b 4096 -I 256 -J size=4")
    b.mount()
    lose_together(b, *FOUR)
    for life in b.rec.lost:
        claim_chain(b, life, 8)


@case("delayed4", "the same four files mounted with -t ext4: delayed allocation, written out now and then")
def delayed4(b):
    b.mkfs(960 * MB, "-b 4096 -I 256 -J size=4")
    b.mount("data=ordered", "ext4")
    lose_together(b, *FOUR, every_turn=lambda: b.random.random() < 0.3 and b.sync())
    for life in b.rec.lost:
        claim_chain(b, life, 4)


def without_neighbour(b, cpu_of):
    """Four small files, none of which stays; each is made on the first CPU, and goes on on that which `cpu_of` says."""
    cpus = sorted(os.sched_getaffinity(0))
    b.mkfs(192 * MB, "-b 4096 -I 256 -J size=4")
    rec = b.mount()
    rec.mkdir(b"/srv")
    paths = [b"/srv/" + name for name in FOUR[0]]
    small = small_files(b)
    try:
        os.sched_setaffinity(0, cpus[:1])
        for path in paths:
            rec.write(path, rec.data(1000))
        pin = lambda number: os.sched_setaffinity(0, [cpus[cpu_of[number] % len(cpus)]])
        grow(b, paths, [12 * MB + 5, 30 * MB, 17 * MB + 1111, 22 * MB], 3 * MB, before=pin)
    finally:
        os.sched_setaffinity(0, cpus)
    b.sync()
    for path in paths:
        rec.unlink(path)
    wrap(b, small)
    b.finish()
    b.claim_in_journal(rec.lost, 0, 0, "wrapped")
    b.claim_all_stand(rec.lost)
    for life in rec.lost:
        claim_chain(b, life, 4)


@case("together", "four small files grown side by side, with no other beside them, and lost together")
def together(b):
    without_neighbour(b, [0, 0, 0, 0])


@case("cpus", "the same, written by several CPUs: each has its own room for the beginnings of files")
def cpus(b):
    without_neighbour(b, [1, 1, 0, 0])


@case("twelve", "twelve files grown side by side in pieces of different sizes and lost together; three reach no further than their IND")
def twelve(b):
    b.mkfs(640 * MB, "-b 4096 -I 256 -J size=4")
    b.mount()
    names = [b"f%02d.%s" % (number, suffix) for number, suffix in enumerate([b"MYD", b"MYI", b"ibd", b"mbox", b"log", b"avi"] * 2)]
    sizes = [b.random.randrange(20 * MB, 60 * MB) for _ in range(9)] + [MB + 500, 2 * MB + 4096, 4 * MB]
    pieces = [b.random.choice([150000, 400000, MB, 2 * MB, 4 * MB, 8 * MB]) for _ in range(12)]
    lose_together(b, names, sizes, pieces)
    for life in b.rec.lost:
        claim_chain(b, life, 2)
    levels = [max(level for level, _, _ in life["indirect"]) for life in b.rec.lost]
    b.claim(levels.count(1) == 3 and levels.count(2) == 9, "three end in their IND, nine in their DIND")


@case("emptied", "one file truncated to 0, one to its half, one rewritten with contents half as long; then the journal wraps")
def emptied(b):
    b.mkfs(512 * MB, "-b 4096 -I 256 -J size=4")
    rec = b.mount()
    rec.mkdir(b"/log")
    growing = [b"/log/emptied", b"/log/halved", b"/log/rewritten", b"/log/kept"]
    for path in growing:
        rec.write(path, rec.data(1000))
    small = small_files(b)
    grow(b, growing, [100 * MB + 500, 80 * MB, 60 * MB + 333, 20 * MB], 4 * MB)
    b.sync()
    rec.truncate(growing[0], 0)
    rec.truncate(growing[1], 42 * MB)
    rec.rewrite(growing[2], rec.data(30 * MB))
    wrap(b, small)
    b.finish()
    b.claim([life["lost_by"] for life in rec.lost] == ["truncate", "truncate", "rewrite"], "three files were cut")
    b.claim(all(any(item["inode"] == life["inode"] and item["generation"] == life["generation"] for item in b.live) for life in rec.lost),
            "their inodes live on")
    b.claim_in_journal(rec.lost, 0, 0, "wrapped")
    claim_chain(b, rec.lost[0], 4)
    for life in rec.lost[1:]:
        ind, dind, _ = pointers_standing(b, life)
        b.claim(True, f"{life['path']}: IND {ind[0]} whole, {ind[1]} in part ({ind[3]} pointers zeroed), {ind[2]} gone; "
                f"DIND {dind[0]} whole, {dind[1]} in part ({dind[3]} zeroed), {dind[2]} gone")
    b.claim_all_stand(rec.lost[:2])
    b.claim_all_stand(rec.lost[2:], 0.5, "of the rewritten file more than half")


@case("severed", "a file cut shortly before a break of the disk, behind which its next IND's blocks begin; then the journal wraps")
def severed(b):
    b.mkfs(512 * MB, "-b 4096 -I 256 -J size=4")
    rec = b.mount()
    rec.mkdir(b"/log")
    growing = [b"/log/severed", b"/log/kept", b"/log/other"]
    for path in growing:
        rec.write(path, rec.data(1000))
    small = small_files(b)
    grow(b, growing, [90 * MB + 700, 80 * MB, 70 * MB], 3 * MB)
    b.sync()
    with open(rec.disk.at(growing[0]), "rb") as file:
        runs = fiemap(file.fileno(), b.block_size)
    per = b.block_size // 4
    # Breaks with whole runs around them up to the next IND, behind which the file still goes on; backwards ones first.
    breaks = [(to[1] > before[1], to[0]) for before, to in zip(runs, runs[1:])
              if before[2] >= 100 and (end := DIRECT + -(-(to[0] - DIRECT) // per) * per) <= to[0] + to[2] and end >= to[0] + 32 and end + per < runs[-1][0]]
    b.claim(bool(breaks), "there is a break between two INDs")
    rec.truncate(growing[0], (min(breaks)[1] - 50) * b.block_size)
    wrap(b, small)
    b.finish()
    b.claim_all_stand(rec.lost)


def overwrite(b, sizes):
    """A file of 160 MB deleted on a nearly full disk, then new files of such sizes in part of its place."""
    b.mkfs(320 * MB, "-b 4096 -I 256 -N 8192 -J size=4")
    rec = b.mount()
    rec.mkdir(b"/db")
    growing = [b"/db/lost.MYD", b"/db/kept.MYD"]
    for path in growing:
        rec.write(path, rec.data(1000))
    small = small_files(b)
    grow(b, growing, [160 * MB + 1234, 110 * MB], 4 * MB)
    b.sync()
    rec.unlink(growing[0])
    b.sync()
    room, number = 55 * MB, 0
    while room > 0:
        size = b.random.choice(sizes)
        rec.write(b"/db/new%d" % number, rec.data(size))
        room -= size
        number += 1
        if number % 20 == 0:
            b.sync()
    wrap(b, small)
    b.finish()
    life = rec.lost[0]
    b.claim_in_journal([life], 0, 0, "wrapped")
    taken = life["hashes"][1] - life["stands"]
    share = 100 * taken / life["hashes"][1]
    b.claim(15 <= share <= 35, f"{taken} of {life['hashes'][1]} blocks are overwritten ({share:.0f}%)")
    # Of those that stand "in part" another file's pointers took the place, some of them the same.
    (whole, *lost, _), (_, *dind, _), _ = pointers_standing(b, life)
    b.claim(True, f"{sum(lost)} of {whole + sum(lost)} IND and {sum(dind)} of 1 DIND are overwritten")
    return sum(lost), sum(dind)


@case("overwritten", "a quarter of a lost file overwritten by small files since, some of its IND blocks among it; then the journal wraps")
def overwritten(b):
    ind, _ = overwrite(b, [40000])
    b.claim(2 <= ind <= 12, "most of its indirect blocks stand")


@case("ravaged", "the same by files large and small: more of its IND blocks and its DIND are overwritten")
def ravaged(b):
    ind, dind = overwrite(b, [5000, 40000, 300000, 5 * MB])
    b.claim(ind >= 5 and dind == 1, "its DIND is not among those that stand")


@case("million", "a sparse file of 50 GB with a TIND and a million single blocks, deleted; then the journal wraps")
def million(b):
    size = 2048
    b.mkfs(2560 * MB, f"-b {size} -I 256 -N 4096 -J size=16")
    rec = b.mount()
    rec.huge = True
    rec.write(b"/disk.img", rec.data(size))
    small = small_files(b)
    end = 50 * 1024 * MB // size
    at, data = 1, b""
    fd = os.open(b.disk.at(b"/disk.img"), os.O_WRONLY)
    # Two in three steps are long, so that neither runs nor holes are all alike.
    while (at := at + b.random.choice((2, 30, 42))) < end:
        if not data:
            data = memoryview(rec.data(4096 * size))
            # A block takes a page of memory, twice its size: it would be 4 GB.
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.pwrite(fd, data[:size], at * size)
        data = data[size:]
    os.close(fd)
    b.sync()
    rec.unlink(b"/disk.img")
    wrap(b, small, 60)
    b.finish()
    life = rec.lost[0]
    claim_chain(b, life, 1_000_000)
    b.claim(sum(level == 3 for level, _, _ in life["indirect"]) == 1, "it has a TIND")
    b.claim_in_journal([life], 0, 0, "wrapped")
    b.claim_all_stand([life])
