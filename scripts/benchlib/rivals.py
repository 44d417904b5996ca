"""The whole search for what is lost, against programs that do the same: how long, and how much of it comes out right."""

import os
import random
import shutil

from makeimage.disk import Disk
from makeimage.system import Failure
from .content import Pool
from .machine import GIB, MB, need_room, say
from .results import Row, median, second
from .watch import run

BLOCK = 4096
PIECE = 4 * MB
UNDELFS, JOURNAL = "undelfs copy", "undelfs copy --scan no"
EXT4MAGIC, EXTUNDELETE, PHOTOREC = "ext4magic -M", "extundelete --restore-all", "photorec"


class Two:
    """Two lost files of different luck: a table whose inode the journal has forgotten since, and a database that it still knows.

    A table file has no header; a database of SQLite begins with one that says how long it is, by which carvers know it. Both are small
    enough for extundelete, which gives back nothing that is larger than an eighth of the filesystem.
    """

    def __init__(self, path, size, sizes):
        self.path, self.size = path, size
        self.sizes = dict(zip(("table", "database"), sizes))
        self.truth = {name: [] for name in self.sizes}
        say(f"making an image of {size / GIB:.1f} GiB with two lost files")
        need_room(os.path.dirname(path), 4 * sum(sizes) + GIB, "two lost files and what becomes of them")
        pool, choose = Pool(4), random.Random(4)
        disk = Disk(path)
        try:
            disk.mkfs(size, f"-b {BLOCK} -I 256 -J size=4")
            disk.mount()
            os.mkdir(disk.at(b"/srv"))
            paths = {"table": disk.at(b"/srv/messages.MYD"), "database": disk.at(b"/srv/messages.sqlite"), "kept": disk.at(b"/srv/kept")}
            small = [disk.at(b"/srv/small%d" % number) for number in range(1500)]
            for name in small:
                open(name, "wb").close()
            left = self.sizes | {"kept": sizes[-1]}
            written = dict.fromkeys(left, 0)
            while any(left.values()):
                for name in left:
                    # Whole blocks, so that each can be told for itself.
                    count = min(choose.randrange(PIECE // BLOCK // 4, PIECE // BLOCK) * BLOCK, left[name])
                    data = pool.stamped(count, written[name], list(left).index(name))
                    if name == "database" and written[name] == 0:
                        data[:32] = b"SQLite format 3\0" + bytes([16, 0, 1, 1, 0, 64, 32, 32, 0, 0, 0, 1]) + (left[name] // BLOCK).to_bytes(4)
                    with open(paths[name], "ab") as file:
                        file.write(data)
                    if name in self.truth:
                        self.truth[name] += [hash(bytes(data[at:at + BLOCK]).ljust(BLOCK, b"\0")) for at in range(0, count, BLOCK)]
                    left[name] -= count
                    written[name] += count
            disk.sync()
            os.unlink(paths["table"])
            # The journal has room for 4 MB of changes; this is more.
            for number in range(20):
                for name in small:
                    os.chmod(name, 0o600 + number)
                disk.sync()
            os.unlink(paths["database"])
            disk.sync()
        finally:
            disk.close()

    def right(self, folder):
        """For each file how many of its blocks stand in their place in one of the files under `folder`."""
        best = dict.fromkeys(self.truth, 0)
        for root, _, names in os.walk(folder):
            for path in (os.path.join(root, name) for name in names):
                if os.path.islink(path) or not os.path.isfile(path):
                    continue
                found = dict.fromkeys(self.truth, 0)
                with open(path, "rb") as file:
                    at = 0
                    while block := file.read(BLOCK):
                        known = hash(block.ljust(BLOCK, b"\0"))
                        for name, blocks in self.truth.items():
                            found[name] += at < len(blocks) and blocks[at] == known
                        at += 1
                best = {name: max(best[name], found[name]) for name in best}
        return best

    def words(self, right):
        return ", ".join(f"{name} {count:,} of {len(self.truth[name]):,}" for name, count in right.items())


def is_short(took):
    """Whether something that took so many seconds, or was ended, is worth repeating."""
    return took is not None and took < 15


def rivals(bench):
    """Each gets the same image, and no more than a while for it; those that are done soon take turns."""
    two = Two(os.path.join(bench.memory, "two.img"), *((GIB, (60 * MB, 40 * MB)) if bench.quick else (20 * GIB, (1200 * MB, 800 * MB))))
    most = 20 if bench.quick else 90
    times, right = {}, {}
    out = os.path.join(bench.memory, "out")
    jobs = {
        UNDELFS: [bench.undelfs, "-q", "copy", "--no-catalog", two.path, "by-inode", "orphans", out],
        JOURNAL: [bench.undelfs, "-q", "copy", "--no-catalog", "--scan", "no", two.path, "by-inode", out],
        EXT4MAGIC: ["ext4magic", two.path, "-M", "-d", out],
        EXTUNDELETE: ["extundelete", "--restore-all", two.path],
        PHOTOREC: ["photorec", "/d", os.path.join(out, "recup"), "/cmd", two.path,
                     "partition_none,options,mode_ext2,fileopt,everything,enable,freespace,search"],
    }
    try:
        for number in range(bench.rounds(3, 1) + 1):
            for name, command in jobs.items():
                if number > 0 and not is_short(times[name][0]):
                    continue
                os.mkdir(out)
                # Tools end with 1 where something was not as it should be, and the files are what counts.
                times.setdefault(name, []).append(run(*command, cwd=out, ok=range(256), most=most)[0])
                if number == 0:
                    right[name] = two.right(out)
                shutil.rmtree(out)
    finally:
        shutil.rmtree(out, ignore_errors=True)
        os.unlink(two.path)
    seconds = {name: median(took[1:]) if len(took) > 1 else took[0] for name, took in times.items()}
    if None in (seconds[UNDELFS], seconds[JOURNAL]):
        raise Failure(f"undelfs was not done after {most} s")
    # ext4magic and extundelete look at what journal and inodes know, and not at free space: without its scan, undelfs does the same.
    for ours, others in ((UNDELFS, (EXT4MAGIC, EXTUNDELETE, PHOTOREC)), (JOURNAL, (EXT4MAGIC, EXTUNDELETE))):
        for name in others:
            bench.results.rows.append(row(two, ours, name, seconds, right, most))
    blocks = {f"{file}, blocks right": {name: right[name][file] for name in jobs} for file in two.truth}
    results = bench.results
    results.bars("rivals-blocks", "All that is lost: blocks that come out right", "", blocks)
    results.bars("rivals-seconds", f"All that is lost: seconds (at most {most})", "s", {"": {name: took or most for name, took in seconds.items()}})
    results.raw["rivals"] = {"seconds": times, "right": right, "total": {name: len(blocks) for name, blocks in two.truth.items()}}


def row(two, ours, name, seconds, right, most):
    """The line of one program beside undelfs."""
    work = f"all that is lost from {two.size / GIB:.0f} GiB: `{ours}`"
    figure = f"{second(seconds[ours])}: {two.words(right[ours])} blocks"
    took = seconds[name]
    theirs = f"{second(took) if took else f'not done after {most} s'}: {two.words(right[name])} blocks"
    if sum(right[name].values()) * 100 < sum(map(len, two.truth.values())):
        # How fast next to nothing is found says nothing.
        return Row(work, figure, f"`{name}`", theirs)
    # Who finds more has more to write.
    speed = {program: sum(right[program].values()) / (seconds[program] or most) for program in (ours, name)}
    ratio = speed[ours] / speed[name]
    finds = all(right[ours][file] >= count for file, count in right[name].items())
    return Row(work, figure, f"`{name}`", theirs, ratio, "≥ 1 by right blocks a second, and finds no less", ratio >= 1 and finds, ratio)
