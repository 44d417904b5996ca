"""A disk full of files that are gone: what a scan has to read."""

import os

from makeimage import system
from makeimage.disk import Disk
from .content import Pool
from .machine import GIB, MIB, need_room, say

# Of two files that grow beside each other, and what they grow by.
FILE, PIECE = 256 * MIB, 8 * MIB


class Filled:
    """An image of which nearly all was written by the kernel and deleted since."""

    def __init__(self, path, size):
        need_room(os.path.dirname(path), size + 2 * GIB, f"an image of {size / GIB:.0f} GiB")
        self.path, self.size = path, size
        say(f"making an image of {size / GIB:.0f} GiB, filled with what is deleted then")
        pool, left = Pool(3), size * 95 // 100
        disk = Disk(path)
        try:
            disk.mkfs(size, "-b 4096 -I 256 -N 65536")
            disk.mount()
            names = []
            for number in range(left // FILE):
                # Two at a time, so that files have fragments.
                names.append([disk.at(b"/%s%d" % (name, number)) for name in (b"one", b"two")])
                for _ in range(FILE // PIECE // 2):
                    for name in names[-1]:
                        with open(name, "ab") as file:
                            file.write(pool.take(PIECE))
            disk.sync()
            for pair in names:
                for name in pair:
                    os.unlink(name)
            disk.sync()
        except BaseException:
            disk.close()
            self.close()
            raise
        disk.close()

    def shrink(self, size):
        """A smaller filesystem, made anew over the beginning: all that stood there is in its free space now."""
        os.truncate(self.path, size)
        system.run("mke2fs", "-q", "-F", "-t", "ext3", "-b", "4096", "-I", "256", "-N", "65536", "-E", "nodiscard,lazy_itable_init=0", self.path)
        os.sync()
        self.size = size

    def close(self):
        os.unlink(self.path)
