"""The largest filesystem there is, nearly all of it a hole."""

import contextlib
import os
import subprocess
import time

from makeimage.disk import Disk
from .content import Pool
from .machine import GIB, MIB, need_room, say
from .results import mebi, median, second
from .sources import Server
from .watch import run, timed, watching

# 2^32 - 1 blocks of 4 KiB, which is also the largest file of ext4.
SIZE = (16 << 40) - 4096
FILES = 50


def make(path):
    """A filesystem of 16 TiB with 1 GB of files, four in five of them deleted since."""
    say("making an image of 16 TiB")
    need_room(os.path.dirname(path), 4 * GIB, "an image of 16 TiB with its bitmaps and 1 GB of data")
    pool, disk = Pool(5), Disk(path)
    try:
        # Few inodes: their tables would take as much room again.
        disk.mkfs(SIZE, "-b 4096 -I 256 -N 1048576")
        disk.mount()
        os.mkdir(disk.at(b"/srv"))
        names = [disk.at(b"/srv/file%d" % number) for number in range(FILES)]
        for name in names:
            with open(name, "wb") as file:
                file.write(pool.take(20 * MIB))
        disk.sync()
        for name in names[:FILES * 4 // 5]:
            os.unlink(name)
        disk.sync()
    finally:
        disk.close()


def tera(bench):
    """The scan, and mounting with what it kept."""
    image, catalog, point = (os.path.join(bench.memory, name) for name in ("tera.img", "catalog", "tera"))
    file = "by-path/srv/file7"
    memory, mounted, first = {}, [], []
    try:
        make(image)
        scanned, memory["scan"] = run(bench.undelfs, "-q", "scan", "--catalog", catalog, image, most=300)
        if scanned is None:
            bench.results.failed("scan of 16 TiB", "not done after 300 s")
            return
        os.mkdir(point)
        for number in range(bench.rounds(3, 1) + 1):
            began = time.perf_counter()
            subprocess.run([bench.undelfs, "mount", "--catalog", catalog, image, point], stdin=subprocess.DEVNULL, check=True)
            ready = time.perf_counter() - began
            with open(os.path.join(point, file), "rb") as data:
                data.read(1)
            took = time.perf_counter() - began
            timed("umount", point)
            if number > 0:
                mounted.append(ready)
                first.append(took)
        server = Server(bench.memory, "tera-memory", file, bench.undelfs, "mount", "-f", "--catalog", catalog, image, None)
        try:
            with watching(server.pid, memory, "mount"):
                timed("cp", server.path, os.path.join(bench.memory, "copied"))
        finally:
            server.close()
        listed, memory["list"] = run(bench.undelfs, "-q", "list", "--catalog", catalog, image)
    finally:
        for path in (image, catalog, os.path.join(bench.memory, "copied")):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(point)
    results, words = bench.results, "sparse image of 16 TiB with 1 GB of data"
    results.below(f"{words}: scan", second, scanned, 60)
    results.below(f"{words}: `undelfs mount` with catalog, until it returns", second, median(mounted), 0.2)
    results.below(f"{words}: to the first byte read", second, median(first), 0.2)
    for name, most in memory.items():
        results.below(f"{words}: memory of {name} (RssAnon)", mebi, most, 128 * MIB)
    results.raw["tera"] = {"scan": scanned, "mounted": mounted, "first": first, "list": listed, "memory": memory}
