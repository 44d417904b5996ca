"""What Linux offers to a maker of images: tools, loop devices, mounts, ioctls. Nothing here knows ext3."""

import ctypes
import fcntl
import os
import shutil
import struct
import subprocess
import tempfile

TOOLS = ["mke2fs", "e2fsck", "dumpe2fs", "debugfs", "mount", "umount"]

# <linux/loop.h>
LOOP_CTL_GET_FREE = 0x4C82
LOOP_CONFIGURE = 0x4C0A
LO_FLAGS_AUTOCLEAR = 4

# <linux/fs.h>, <linux/fiemap.h>
FS_IOC_GETVERSION = 0x80087601
FS_IOC_FIEMAP = 0xC020660B
FIEMAP_FLAG_SYNC = 1
FIEMAP_EXTENT_LAST = 1
FIEMAP_EXTENT_UNKNOWN_OR_DELALLOC = 2 | 4

MNT_DETACH = 2
CLONE_NEWNS = 0x00020000

libc = ctypes.CDLL(None, use_errno=True)


class Refusal(Exception):
    """The machine can't do it (a tool, a right or a device is missing): one line, exit status 2."""


class Failure(Exception):
    """The image could not be made, or isn't what its case claims: exit status 1."""


class NotAsClaimed(Failure):
    """An image was made, but is not what its case says: it may be the next time, since much hangs on when the kernel does what."""


def run(*args, ok=(0,), **kwargs):
    """Runs a tool without output of its own, and returns what it printed."""
    words = [os.fsdecode(a) for a in args]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          errors="replace", env={**os.environ, "LC_ALL": "C"}, **kwargs)
    if done.returncode not in ok:
        raise Failure(f"{' '.join(words)} ended with {done.returncode}: {done.stdout.strip()}")
    return done.stdout


def prepare():
    """Checks what is needed and goes into a mount namespace of its own.

    With the namespace and loop devices that clear themselves, nothing stays mounted or attached however this process
    ends, SIGKILL included.
    """
    os.environ["PATH"] = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        raise Refusal(f"missing: {', '.join(missing)} (Debian: apt-get install e2fsprogs mount)")
    if os.geteuid() != 0:
        raise Refusal("needs root, to mount the images it makes")
    if not os.path.exists("/dev/loop-control"):
        raise Refusal("there are no loop devices here (/dev/loop-control is missing)")
    if libc.unshare(CLONE_NEWNS) != 0:
        raise Refusal(f"may not mount here: {os.strerror(ctypes.get_errno())}")
    run("mount", "--make-rprivate", "/")
    # What others have mounted from loop devices must not stay mounted because this process holds it.
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as mounts:
        others = [line.split()[1] for line in mounts if line.startswith("/dev/loop")]
    for point in others:
        libc.umount2(point.encode("utf-8", "surrogateescape").decode("unicode_escape").encode("latin-1"), MNT_DETACH)


def syncfs(fd):
    """Writes one filesystem out: data, a journal commit, and the metadata to its home."""
    if libc.syncfs(fd) != 0:
        raise OSError(ctypes.get_errno(), "syncfs")


class Loop:
    """A loop device on a file. The kernel lets go of it with its last user."""

    def __init__(self, path, writable=True):
        self.fd = None
        backing = os.open(path, os.O_RDWR if writable else os.O_RDONLY)
        try:
            for attempt in range(64):
                self.name, self.fd = self._configure(backing)
                if self.fd is not None:
                    break
            else:
                raise Refusal("no free loop device")
        finally:
            os.close(backing)
        # Readahead would fill the device's cache with blocks that files own.
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_RANDOM)

    @staticmethod
    def _configure(backing):
        """One attempt: another process may take the free device first."""
        control = os.open("/dev/loop-control", os.O_RDWR)
        try:
            name = f"/dev/loop{fcntl.ioctl(control, LOOP_CTL_GET_FREE)}"
        finally:
            os.close(control)
        try:
            fd = os.open(name, os.O_RDWR)
        except OSError as error:
            raise Refusal(f"{name}: {error.strerror}")
        # struct loop_config: fd, block_size, struct loop_info64 (lo_flags at byte 52 of it), reserved.
        config = bytearray(8 + 232 + 64)
        struct.pack_into("<I", config, 0, backing)
        struct.pack_into("<I", config, 8 + 52, LO_FLAGS_AUTOCLEAR)
        try:
            fcntl.ioctl(fd, LOOP_CONFIGURE, config)
        except OSError as error:
            os.close(fd)
            if error.errno == 16:  # EBUSY
                return name, None
            raise Refusal(f"{name}: {error.strerror}")
        # A writable descriptor is not needed any more, and would stand in the way of BLK_DEV_WRITE_MOUNTED=n.
        readable = os.open(name, os.O_RDONLY)
        os.close(fd)
        return name, readable

    def read(self, offset, length):
        """Reads through the device's cache, which is where ext4 keeps its metadata: current without any sync."""
        return os.pread(self.fd, length, offset)

    def close(self):
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


class Mount:
    """A filesystem mounted on a folder of its own."""

    def __init__(self, device, kind, options):
        self.root = None
        folder = tempfile.mkdtemp(prefix="make-image-")
        try:
            run("mount", "-t", kind, "-o", options, device, folder)
        except BaseException:
            os.rmdir(folder)
            raise
        self.root = os.fsencode(folder)
        self.fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)

    def options(self):
        with open("/proc/self/mounts", "rb") as mounts:
            for line in mounts:
                words = line.split()
                if words[1] == self.root:
                    return words[3].decode()
        raise Failure("the mount is gone")

    def sync(self):
        syncfs(self.fd)

    def close(self):
        if self.root is None:
            return
        root, self.root = self.root, None
        os.close(self.fd)
        try:
            run("umount", root)
        except BaseException:
            run("umount", "-l", root, ok=range(256))
            raise
        finally:
            os.rmdir(root)


def generation(path):
    """i_generation of a file or folder, as the kernel says it."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        answer = bytearray(8)
        fcntl.ioctl(fd, FS_IOC_GETVERSION, answer)
        return struct.unpack_from("<I", answer)[0]
    finally:
        os.close(fd)


def fiemap(fd, block_size, sync=True):
    """Runs [[file block, physical block, count]…] of an open file, coalesced; None if some of it has no place yet."""
    runs, start, room = [], 0, 512
    while True:
        request = bytearray(32 + 56 * room)
        struct.pack_into("<QQIIII", request, 0, start, 2**64 - 1 - start, FIEMAP_FLAG_SYNC if sync else 0, 0, room, 0)
        fcntl.ioctl(fd, FS_IOC_FIEMAP, request)
        count = struct.unpack_from("<I", request, 20)[0]
        flags = FIEMAP_EXTENT_LAST
        for i in range(count):
            logical, physical, length, _, _, flags = struct.unpack_from("<QQQQQI", request, 32 + 56 * i)
            if flags & FIEMAP_EXTENT_UNKNOWN_OR_DELALLOC:
                return None
            add_run(runs, logical // block_size, physical // block_size, -(-length // block_size))
            start = logical + length
        if flags & FIEMAP_EXTENT_LAST:
            return runs


def add_run(runs, block, physical, count):
    """Appends a run, or lengthens the last one where it goes on."""
    if runs and runs[-1][0] + runs[-1][2] == block and runs[-1][1] + runs[-1][2] == physical:
        runs[-1][2] += count
    else:
        runs.append([block, physical, count])


def copy_sparse(source, target):
    """Copies a file, holes as holes."""
    size = os.path.getsize(source)
    with open(source, "rb") as a, open(target, "wb") as b:
        b.truncate(size)
        at = 0
        while at < size:
            try:
                at = os.lseek(a.fileno(), at, os.SEEK_DATA)
            except OSError:
                return
            end = os.lseek(a.fileno(), at, os.SEEK_HOLE)
            while at < end:
                piece = os.pread(a.fileno(), min(end - at, 1 << 22), at)
                os.pwrite(b.fileno(), piece, at)
                at += len(piece)
