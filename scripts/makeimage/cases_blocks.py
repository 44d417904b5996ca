"""Cases about large files and where their blocks are."""

import os

from .builder import case
from .cases_files import MB
from .cases_journal import population
from .system import fiemap


def grow(b, paths, sizes, largest_piece, every_turn=lambda: None, before=lambda number: None):
    """Appends to files in turns until each has its size: so they interleave. `largest_piece` is one for all, or one for each;
    `before` is told whose turn comes."""
    have = [0] * len(paths)
    largest = largest_piece if isinstance(largest_piece, list) else [largest_piece] * len(paths)
    while any(now < size for now, size in zip(have, sizes)):
        for number, path in enumerate(paths):
            piece = min(b.random.randrange(100000, largest[number]), sizes[number] - have[number])
            if piece > 0:
                before(number)
                b.rec.append(path, b.rec.data(piece))
                have[number] += piece
        every_turn()


@case("frag700", "one file of 700 MB in hundreds of fragments, grown side by side with others; its history is all in the journal")
def frag700(b):
    b.mkfs(3072 * MB, "-b 4096 -I 256")
    rec = b.mount()
    rec.mkdir(b"/mysql")
    rec.mkdir(b"/mysql/tb")
    growing = [b"/mysql/tb/messages.MYD", b"/mysql/tb/messages.MYI", b"/mysql/tb/log.MYD"]
    for path in growing:
        rec.write(path, rec.data(1000))
    grow(b, growing, [700 * MB, 200 * MB, 300 * MB], 5 * MB)
    b.sync()
    rec.unlink(growing[0])
    b.finish()
    life = rec.lost[0]
    b.claim(len(life["runs"]) >= 200, f"{life['size']} bytes in {len(life['runs'])} fragments")
    b.claim_all_stand([life])
    b.claim_in_journal([life], 1, 1, "not wrapped")


@case("wrapped", "a fragmented file deleted, then the journal wraps: no copy of its pointers is left, but every indirect block")
def wrapped(b):
    b.mkfs(512 * MB, "-b 4096 -I 256 -J size=4")
    rec = b.mount()
    rec.mkdir(b"/mysql")
    growing = [b"/mysql/lost.MYD", b"/mysql/kept.MYD"]
    for path in growing:
        rec.write(path, rec.data(1000))
    small = [b"/mysql/table%d.frm" % number for number in range(1500)]
    for path in small:
        rec.write(path)
    grow(b, growing, [150 * MB, 100 * MB], 4 * MB)
    b.sync()
    rec.unlink(growing[0])
    b.sync()
    # Changes of inodes only, so that nothing takes the lost blocks (a folder that grows takes indirect blocks first).
    for number in range(20):
        for path in small:
            rec.set(path, 0o600 + number)
        b.sync()
    b.finish()
    life = rec.lost[0]
    b.claim(len(life["runs"]) >= 20, f"{life['size']} bytes in {len(life['runs'])} fragments")
    b.claim_in_journal([life], 0, 0, "wrapped")
    b.claim_all_stand([life])
    with b.disk.image() as image:
        expected = {}
        per_block = image.volume.block_size // 4
        for start, physical, count in life["runs"]:
            for i in range(count):
                expected[start + i] = physical + i
        intact = sum(image.volume.block(block) == b"".join(expected.get(first + i, 0).to_bytes(4, "little") for i in range(per_block))
                     for level, first, block in life["indirect"] if level == 1)
        total = sum(level == 1 for level, _, _ in life["indirect"])
    b.claim(intact == total, f"{intact} of its {total} IND blocks stand")


@case("blk1k", "1 KiB blocks and 128-byte inodes; files that reach through DIND and TIND")
def blk1k(b):
    b.mkfs(384 * MB, "-b 1024 -I 128 -J size=16")
    rec = b.mount()
    rec.mkdir(b"/d")
    rec.write(b"/d/ind", rec.data(200000))
    growing = [b"/d/dind", b"/d/tind", b"/d/kept"]
    for path in growing:
        rec.write(path, rec.data(1500))
    grow(b, growing, [20 * MB + 11111, 90 * MB, 30 * MB], 2 * MB)
    files = population(b, b"/d", 100, 300000)
    b.sync()
    for path in [b"/d/ind", b"/d/dind", b"/d/tind", *files[::2]]:
        rec.unlink(path)
    b.finish()
    levels = lambda name: max(level for level, _, _ in b.lost(path=name)[0]["indirect"])
    b.claim([levels(name) for name in ("/d/ind", "/d/dind", "/d/tind")] == [1, 2, 3], "files that end in IND, DIND and TIND are lost")
    b.claim_all_stand(rec.lost)
    b.claim_names_gone(rec.lost, at_most=5)
    b.claim_in_journal(rec.lost, len(rec.lost), len(rec.lost), "not wrapped")


def lose_sparse(b, places):
    """A file of 2 GB that has data only at `places` (file blocks), and three smaller oddities."""
    rec, size = b.rec, b.block_size
    rec.mkdir(b"/vm")
    rec.write(b"/vm/disk.img")
    for first, count in places:
        rec.overwrite(b"/vm/disk.img", first * size, rec.data(count * size))
    rec.truncate(b"/vm/disk.img", 2048 * MB)
    rec.write(b"/vm/all hole")
    rec.truncate(b"/vm/all hole", 10 * MB + 3)
    rec.write(b"/vm/hole first")
    rec.overwrite(b"/vm/hole first", 300 * size + 100, rec.data(50000))
    rec.write(b"/vm/hole last", rec.data(20 * size))
    rec.truncate(b"/vm/hole last", 5 * MB)
    rec.write(b"/vm/kept", rec.data(5 * MB))
    b.sync()
    for name in (b"disk.img", b"all hole", b"hole first", b"hole last"):
        rec.unlink(b"/vm/" + name)
    b.finish()
    life = b.lost(path="/vm/disk.img")[0]
    mapped = sum(count for _, _, count in life["runs"])
    b.claim(life["size"] == 2048 * MB and mapped == sum(count for _, count in places), f"2 GiB apparent, {mapped} blocks of data")
    b.claim(life["runs"][-1][0] + life["runs"][-1][2] < life["size"] // size, "it ends in a hole")
    b.claim_all_stand(rec.lost)
    b.claim_in_journal([life], 1, 1, "not wrapped")
    return life


@case("sparse", "a sparse file of 2 GB: data reached through direct pointers, IND and DIND, holes in place of whole INDs, a hole at the end")
def sparse(b):
    b.mkfs(128 * MB, "-b 4096 -I 256")
    b.mount()
    ind = 1024
    life = lose_sparse(b, [(0, 1), (5, 2), (500, 100), (12 + ind - 1, 2), (12 + 5 * ind + 77, 1), (12 + 6 * ind - 3, 6),
                           (12 + 40 * ind, 3 * ind), (12 + 200 * ind + 1000, 30), (12 + 480 * ind, 1)])
    b.claim(len(life["indirect"]) == 11, f"{len(life['indirect'])} indirect blocks, where a full file would have 513")


@case("sparse1k", "the same with 1 KiB blocks and through the TIND, with holes in place of whole INDs and DINDs")
def sparse1k(b):
    b.mkfs(128 * MB, "-b 1024 -I 128")
    b.mount()
    ind, dind = 256, 256 * 256
    tind = 12 + ind + dind
    life = lose_sparse(b, [(3, 4), (100, 10), (12 + ind, 1), (12 + 3 * ind + 50, 2 * ind), (tind - 1, 2), (tind + 5 * ind, 300),
                           (tind + 4 * dind + 7 * ind - 1, 2), (tind + 20 * dind, dind // 8), (tind + 30 * dind - 1, 1)])
    levels = [level for level, _, _ in life["indirect"]]
    b.claim(levels.count(3) == 1 and levels.count(2) == 5, f"a TIND with 4 DINDs of 31, {levels.count(1)} INDs in all")


@case("ext4driver", "ext3 mounted with -t ext4: delayed allocation, so few fragments; big and small files lost")
def ext4driver(b):
    b.mkfs(1024 * MB, "-b 4096 -I 256 -J size=32")
    rec = b.mount("data=ordered", "ext4")
    rec.mkdir(b"/d")
    rec.write(b"/d/first", rec.data(100000))
    fd = os.open(b.disk.at(b"/d/first"), os.O_RDONLY)
    delayed = fiemap(fd, b.block_size, sync=False) is None
    os.close(fd)
    growing = [b"/d/big", b"/d/bigger", b"/d/kept"]
    for path in growing:
        rec.write(path, rec.data(1000))
    for part in range(5):
        grow(b, growing, [16 * MB, 50 * MB, 12 * MB], 4 * MB)
        b.sync()
    files = population(b, b"/d", 200)
    b.sync()
    # One that never had a block: written and removed before it was allocated.
    rec.sync_runs = False
    rec.write(b"/d/never", rec.data(70000))
    rec.unlink(b"/d/never")
    rec.sync_runs = True
    for path in [b"/d/big", b"/d/bigger", *files[::2]]:
        rec.unlink(path)
    b.finish()
    b.claim(delayed, "blocks are allocated late")
    b.claim(b.lost(path="/d/never")[0]["runs"] is None, "one file was lost before it had blocks")
    b.claim_all_stand(rec.lost)
    rest = [life for life in rec.lost if life["i_block"]]
    b.claim_in_journal(rest, len(rest) - 3, len(rest), "not wrapped")


@case("metabg", "meta_bg: group descriptors spread over the disk; 2 KiB blocks, no resize_inode, 96 groups")
def metabg(b):
    b.mkfs(3072 * MB, "-b 2048 -I 128 -N 12288 -O meta_bg,^resize_inode -J size=8")
    rec = b.mount()
    # The kernel spreads the root's folders by a hash of their names: as many as it takes to have some far out.
    near, far = [], []
    while len(far) < 4 or len(near) < 16:
        path = b"/d%d" % (len(near) + len(far))
        rec.mkdir(path)
        group = (os.lstat(b.disk.at(path)).st_ino - 1) // b.disk.volume.inodes_per_group
        (far if group >= 64 else near).append(path)
    for path in near[:16] + far[:4]:
        population(b, path, 8, 400000)
        rec.write(path + b"/big", rec.data(2 * MB))
    b.sync()
    for path in near[:8] + far[:3]:
        for name in (b"/000.dat", b"/001.dat", b"/big"):
            rec.unlink(path + name)
    rec.remove_tree(near[8])
    rec.remove_tree(far[3])
    b.finish()
    with b.disk.image() as image:
        volume = image.volume
        groups = {(life["inode"] - 1) // volume.inodes_per_group for life in rec.lost}
        b.claim(volume.incompat & 0x10 and volume.first_meta_bg == 0, "the filesystem has meta_bg from its first group on")
    b.claim(max(groups) >= 64, f"lost inodes are in {len(groups)} groups, up to group {max(groups)} (the second descriptor block)")
    b.claim_all_stand(b.lost(type="file"))
    b.claim_names_in_journal(rec.lost)


@case("rev0", "the oldest layout (revision 0): no features, no types in directories, a superblock in every group, no journal")
def rev0(b):
    b.mkfs(64 * MB, "-r 0 -b 1024", "ext2")
    rec = b.mount("noatime", "ext2")
    rec.mkdir(b"/d")
    files = population(b, b"/d", 60, 400000)
    rec.write(b"/d/big", rec.data(8 * MB))
    rec.symlink(b"/d/slow", b"x/" * 70)
    b.sync()
    for path in [*files[::2], b"/d/big", b"/d/slow"]:
        rec.unlink(path)
    b.finish()
    with b.disk.image() as image:
        volume = image.volume
        b.claim(volume.revision == 0 and volume.journal_inode == 0, "revision 0, no journal")
        intact = zeroed = 0
        for life in rec.lost:
            for _, _, block in life["indirect"]:
                intact += any(volume.block(block))
                zeroed += not any(volume.block(block))
    b.claim(True, f"of the lost files' indirect blocks {intact} stand, {zeroed} are zeroed")
    b.claim_all_stand(rec.lost)
    b.claim_names_gone(rec.lost, at_most=5)
