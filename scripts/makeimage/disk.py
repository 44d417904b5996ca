"""One ext3 image while it is being made: mkfs, mount, unmount, crash."""

import os
import struct

from .layout import S_HEAD, Volume
from .system import Failure, Loop, Mount, copy_sparse, run

# A fixed identity, so that two runs with one seed differ in no more than the kernel's random generations and the times.
UUID = "3c0ffee0-0000-4000-8000-%012x"


class Disk:
    """An image file, its loop device and its mount; everything is let go of by `close`."""

    def __init__(self, path):
        self.path = path
        self.loop = self.mounted = self.volume = self.journal = None
        self.mkfs_args = self.options = ""
        self.kind = "ext3"

    def mkfs(self, size, args, kind="ext3", seed=0, earlier=None):
        """Makes the filesystem. `args` are those of mke2fs that matter; identity and quiet are added.

        `earlier` yields what stood on the device before, in pieces from its start on; mke2fs leaves it in the free space.
        """
        if os.path.exists(self.path):
            os.unlink(self.path)
        with open(self.path, "wb") as image:
            image.truncate(size)
            for piece in earlier or ():
                image.write(piece[:size - image.tell()])
        uuid = UUID % seed
        self.mkfs_args = f"-t {kind} {args}".strip()
        extended = f"hash_seed={uuid},root_owner=0:0" + (",nodiscard,lazy_itable_init=0" if earlier else "")
        run("mke2fs", "-q", "-F", "-t", kind, "-U", uuid, "-E", extended, *args.split(), self.path)

    def add_journal(self, path, size, block_size):
        """Makes an external journal; the filesystem has to be made after it, with -J device=."""
        with open(path, "wb") as image:
            image.truncate(size)
        run("mke2fs", "-q", "-F", "-b", str(block_size), "-O", "journal_dev", path)
        self.journal = Loop(path)

    def mount(self, options="", kind=None):
        """Mounts; without arguments as the last time."""
        self.kind = kind or self.kind
        self.options = options or self.options or "data=ordered"
        self.loop = Loop(self.path)
        extra = f",journal_path={self.journal.name}" if self.journal else ""
        self.mounted = Mount(self.loop.name, self.kind, self.options + extra)
        self.volume = Volume(self.loop.read)

    def unmount(self):
        mounted, self.mounted = self.mounted, None
        loop, self.loop = self.loop, None
        self.volume = None
        try:
            if mounted:
                mounted.close()
        finally:
            if loop:
                loop.close()

    def remount(self, options="", kind=None, restart_log=False):
        """Unmounts and mounts anew.

        Newer kernels go on in the log where they ended (JBD2_CYCLE_RECORD keeps s_head). With `restart_log` it begins at
        its first block again, as with all kernels before that and with fs/ext3.
        """
        self.unmount()
        if restart_log:
            self.set_journal_field(S_HEAD, 0)
        self.mount(options, kind)

    def set_journal_field(self, field, value):
        """Sets 32 bits of the internal journal's superblock, while unmounted; for a journal without checksums."""
        with self.image() as image:
            at = image.volume.journal_superblock() + field
        with open(self.path, "r+b") as image:
            image.seek(at)
            image.write(struct.pack(">I", value))

    def sync(self):
        self.mounted.sync()

    def commit(self):
        """Commits the running transaction, and no more: data and log are written, the metadata's home is not."""
        # fsync waits for the last transaction that changed the inode; setting its times makes that the running one.
        st = os.fstat(self.fd)
        os.utime(self.fd, ns=(st.st_atime_ns, st.st_mtime_ns))
        os.fsync(self.fd)

    def crash(self, held=()):
        """Cuts the power. The disk isn't mounted after this; what has not been committed is lost.

        `held` are descriptors that a program has open at that moment.
        """
        copy = self.path + ".crash"
        copy_sparse(self.path, copy)
        for fd in held:
            os.close(fd)
        self.unmount()
        os.rename(copy, self.path)

    def at(self, path):
        """Where a path of the image is to be found now."""
        return self.mounted.root + path

    @property
    def fd(self):
        return self.mounted.fd

    def image(self):
        """A reader of the image file, for when it is not mounted."""
        if self.mounted:
            raise Failure("the image is still mounted")
        fd = os.open(self.path, os.O_RDONLY)
        return ImageFile(fd)

    def close(self):
        try:
            self.unmount()
        finally:
            if self.journal:
                self.journal.close()
                self.journal = None


class ImageFile:
    def __init__(self, fd):
        self.fd = fd
        self.volume = Volume(self.read)

    def read(self, offset, length):
        return os.pread(self.fd, length, offset)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)
