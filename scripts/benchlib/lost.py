"""A file that is lost: an image before and after, what the file held, and where it stands."""

import bisect
import contextlib
import hashlib
import os
import random
import shutil

from makeimage import system
from makeimage.disk import Disk
from makeimage.system import Failure
from .content import Pool
from .machine import GIB, MB, need_room, say

BLOCK = 4096
PATH = "mysql/tb/messages.MYD"


class Lost:
    """One file that grew beside two others, deleted since; the copy `before` still has it."""

    def __init__(self, folder, image_size, file_size, others, seed=1):
        total = file_size + sum(others)
        need_room(os.path.dirname(folder), 2 * total + GIB, "an image before and after a loss")
        os.mkdir(folder)
        self.folder, self.image_size, self.size = folder, image_size, file_size
        self.before, self.after = (os.path.join(folder, name) for name in ("before.img", "after.img"))
        say(f"making an image of {image_size / GIB:.0f} GiB with a file of {file_size // MB} MB")
        disk = Disk(self.after)
        try:
            disk.mkfs(image_size, f"-b {BLOCK} -I 256")
            disk.mount()
            self._grow(disk, [file_size, *others], random.Random(seed))
            disk.sync()
            path = disk.at(b"/" + PATH.encode())
            self.inode = os.stat(path).st_ino
            with open(path, "rb") as file:
                self.runs = system.fiemap(file.fileno(), BLOCK)
            # In one mount, so that every tool finds the file's history in the journal; the copy is one of a disk in use, until fsck.
            system.copy_sparse(self.after, self.before)
            os.unlink(path)
        finally:
            disk.close()
        system.run("e2fsck", "-fp", self.before, ok=(0, 1))
        if len(self.runs) < file_size // (4 * MB):
            raise Failure(f"not as claimed: the file has {len(self.runs)} fragments")
        say(f"  inode {self.inode}: {len(self.runs)} fragments")

    def _grow(self, disk, left, choose):
        """Files of these sizes that grow in turns, so that they interleave; the first is the one to be lost."""
        pool, made = Pool(choose.random()), hashlib.sha256()
        os.makedirs(os.path.dirname(disk.at(b"/" + PATH.encode())))
        paths = [disk.at(path) for path in (b"/" + PATH.encode(), b"/mysql/tb/messages.MYI", b"/mysql/tb/log.MYD")]
        written = [0] * len(left)
        while any(left):
            for number, path in enumerate(paths[:len(left)]):
                size = min(choose.randrange(100000, 5 * MB), left[number])
                data = pool.stamped(size, written[number])
                # Opened each time: closing gives up what was reserved for it, and the next one takes that.
                with open(path, "ab") as file:
                    file.write(data)
                left[number] -= size
                written[number] += size
                if number == 0:
                    made.update(data)
        self.sha256 = made.hexdigest()

    def place(self, offset):
        """Byte of the image at which a byte of the file stands, and how many follow it there."""
        block, physical, count = self.runs[bisect.bisect(self.runs, [offset // BLOCK, float("inf")]) - 1]
        skip = offset - block * BLOCK
        if not 0 <= skip < count * BLOCK:
            raise Failure(f"byte {offset} of the file is in no fragment")
        return physical * BLOCK + skip, count * BLOCK - skip

    def drop_before(self):
        """Gives back the room of the copy."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.before)

    def copied(self, folder):
        """The same on another disk."""
        need_room(os.path.dirname(folder), os.stat(self.after).st_blocks * 1024 + GIB, "a copy of the images on a disk")
        os.mkdir(folder)
        other = object.__new__(Lost)
        other.__dict__ |= self.__dict__
        other.folder = folder
        other.before, other.after = (os.path.join(folder, name) for name in ("before.img", "after.img"))
        system.copy_sparse(self.before, other.before)
        system.copy_sparse(self.after, other.after)
        os.sync()
        return other

    def close(self):
        shutil.rmtree(self.folder)
