"""One lost file of any number of fragments: its map is written into the image, and the kernel deletes it. Its data is a hole of the image.

Written by the kernel, a file of ten million fragments would need as many writes, and 40 GB of room. Here only the blocks that hold
pointers are written, and a few blocks of data by which it can be told whether a reader looks in the right place.
"""

import os
import random
import re
import struct
from array import array
from bisect import bisect_left
from itertools import accumulate

from .disk import Disk
from .layout import DIRECT, Volume
from .system import Failure, run

BLOCK = 4096
PER_BLOCK = BLOCK // 4
# From one fragment to the next, in blocks: never 1, and small, as where several files grow side by side.
STEPS = (2, 3, 4)
NAME = b"/messages.MYD"
# Offsets in the inode (fs/ext4/ext4.h).
I_SIZE, I_BLOCKS, I_BLOCK, I_SIZE_HIGH = 4, 28, 40, 108


class Free(Volume):
    """A filesystem's free space."""

    def runs(self):
        """The free runs [first, end), in order."""
        for group in range(self.groups):
            self.inode_table(group)
            first = self.first_data_block + group * self.blocks_per_group
            count = min(self.blocks_per_group, self.blocks - first)
            bitmap = int.from_bytes(self.block(self._bitmaps[group]), "little")
            bits = format(bitmap, "b")[::-1].ljust(count, "0")[:count]
            for free in re.finditer("0+", bits):
                yield first + free.start(), first + free.end()


class Places:
    """Where the blocks of a fragmented file are, in the order in which they are allocated: an indirect block before what it names."""

    def __init__(self, volume, choose):
        self.runs, self.choose = Free(volume.read).runs(), choose
        self.ready, self.at = [], 0

    def take(self, count):
        """The next so many, as a list."""
        taken = []
        while len(taken) < count:
            if self.at == len(self.ready):
                self._more()
            part = self.ready[self.at:self.at + count - len(taken)]
            self.at += len(part)
            taken += part
        return taken

    def _more(self):
        try:
            first, end = next(self.runs)
        except StopIteration:
            raise Failure("the filesystem is too small for so many fragments")
        places = list(accumulate(self.choose.choices(STEPS, k=(end - first) // min(STEPS)), initial=first))
        self.ready, self.at = places[:bisect_left(places, end)], 0


class FragmentedFile:
    """An image with one file of `fragments` blocks, none beside the one before; deleted by the kernel when `made` returns.

    `marks` are some of the file's blocks, each of which holds nothing but its own number (`content`); all others hold zeros.
    """

    def __init__(self, path, fragments, seed=1, marks=1000):
        self.path, self.fragments, self.size = path, fragments, fragments * BLOCK
        self.random = random.Random(seed)
        self.marks = sorted(self.random.sample(range(fragments), min(marks, fragments)))
        # Room for steps of 3 blocks on average, the indirect blocks, and what the filesystem itself takes of each group.
        room = fragments * 3 * 102 // 100 // 32500 + 2
        disk = Disk(path)
        try:
            # The journal has room for the whole deletion as one transaction, whatever the size.
            disk.mkfs(room * 32768 * BLOCK, f"-b {BLOCK} -I 256 -N {room * 16} -J size={64 if room < 100 else 400}")
            disk.mount()
            with open(disk.at(NAME), "wb") as file:
                self.inode = os.fstat(file.fileno()).st_ino
            disk.unmount()
            with disk.image() as image, open(path, "r+b", buffering=0) as out:
                self._map(image.volume, out)
            # It counts what is in use anew, and would not be content with a map that overlaps anything.
            said = run("e2fsck", "-fy", path, ok=(0, 1))
            if re.search(r"[Mm]ultiply-claimed|[Ii]llegal|[Cc]lear\?|[Tt]runcate\?", said):
                raise Failure(f"the map that was laid is not sound: {said[:500]}")
            # Nor may a commit fall into it: what is freed by then is zeroed in the indirect block above.
            disk.mount("data=ordered,commit=900")
            if os.stat(disk.at(NAME)).st_size != self.size:
                raise Failure("the kernel sees another size")
            # Without a change that the kernel makes, its journal would know of the file only that it was empty once.
            os.chmod(disk.at(NAME), 0o640)
            disk.sync()
            os.unlink(disk.at(NAME))
            disk.sync()
        finally:
            disk.close()

    @staticmethod
    def content(number):
        """What stands in block `number` of the file, where it is marked."""
        return struct.pack("<Q", number ^ 0x5DEECE66D5DEECE6) * (BLOCK // 8)

    def _map(self, volume, out):
        places = Places(volume, self.random)
        at, pointers, indirect = 0, [0] * 15, 0
        marks = iter(self.marks)
        mark = next(marks, None)

        def data(count):
            nonlocal at, mark
            taken = places.take(count)
            while mark is not None and mark < at + count:
                os.pwrite(out.fileno(), self.content(mark), taken[mark - at] * BLOCK)
                mark = next(marks, None)
            at += count
            return taken

        def branch(level):
            nonlocal indirect
            own = places.take(1)[0]
            indirect += 1
            if level == 1:
                named = data(min(PER_BLOCK, self.fragments - at))
            else:
                named = []
                while at < self.fragments and len(named) < PER_BLOCK:
                    named.append(branch(level - 1))
            os.pwrite(out.fileno(), array("I", named).tobytes().ljust(BLOCK, b"\0"), own * BLOCK)
            return own

        direct = data(min(DIRECT, self.fragments))
        pointers[:len(direct)] = direct
        for level in (1, 2, 3):
            if at < self.fragments:
                pointers[DIRECT + level - 1] = branch(level)
        inode = volume.inode_at(self.inode)
        for field, value in ((I_SIZE, self.size & 0xFFFFFFFF), (I_SIZE_HIGH, self.size >> 32),
                             (I_BLOCKS, (self.fragments + indirect) * (BLOCK // 512))):
            os.pwrite(out.fileno(), struct.pack("<I", value), inode + field)
        os.pwrite(out.fileno(), struct.pack("<15I", *pointers), inode + I_BLOCK)
