"""Does everything that a case does to files, and records each life that is lost by it, as it was just before."""

import hashlib
import os
import stat
import time

from .system import Failure, fiemap, generation, run

PIECE = 1 << 22
ZEROS = bytes(PIECE)
EMPTY = hashlib.sha256().hexdigest()
NO_POINTERS = bytes(60)

TYPES = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo"}


def encode(name):
    """Bytes as they stand in the truth: printable ASCII as it is, all else and '%' as %XX."""
    return "".join(chr(b) if 0x20 <= b < 0x7F and b != 0x25 else f"%{b:02X}" for b in name)


def parent_of(path):
    return os.path.dirname(path) or b"/"


class Recorder:
    """Paths are bytes and begin with '/', the root of the image. Every change of names has to go through here."""

    def __init__(self, disk, seed):
        self.disk = disk
        self.seed = seed
        self.lost = []
        self.hashes = bytearray()  # 8 bytes a block
        self.sync_runs = True
        self.huge = False  # files have many GB of holes and a million runs: their blocks are read in their places, and they get no hash as a whole
        self.names = {}   # (inode, generation) of hard-linked files -> paths
        self.former = {}  # (inode, generation) -> paths that are gone, while the inode lives
        self._made = 0

    # Content

    def data(self, size):
        """The next `size` bytes of this seed: no two blocks alike."""
        self._made += 1
        return hashlib.shake_128(f"{self.seed}/{self._made}".encode()).digest(size)

    def text(self, size):
        """Lines as in a log: each says where it stands, so no two blocks are alike."""
        self._made += 1
        word = hashlib.shake_128(f"{self.seed}/{self._made}".encode()).hexdigest(80)
        line = f"{self._made:08d}.%08d INFO worker: request %s took %04d ms\n"
        count = size // len(line % (0, word, 0)) + 1
        return "".join([line % (i, word[i % 160:] + word[:i % 160], i % 9973) for i in range(count)]).encode()[:size]

    # What loses nothing

    def write(self, path, data=b"", mode=None, owner=None, mtime=None):
        """Makes a new file."""
        fd = os.open(self.disk.at(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            self._put(fd, data)
        finally:
            os.close(fd)
        self.set(path, mode, owner, mtime)

    def append(self, path, data, fsync=False):
        fd = os.open(self.disk.at(path), os.O_WRONLY | os.O_APPEND)
        try:
            self._put(fd, data)
            if fsync:
                os.fsync(fd)
        finally:
            os.close(fd)

    def overwrite(self, path, offset, data):
        """Writes into a file in place, or past its end."""
        fd = os.open(self.disk.at(path), os.O_WRONLY)
        try:
            while data:
                done = os.pwrite(fd, data, offset)
                data, offset = data[done:], offset + done
        finally:
            os.close(fd)

    @staticmethod
    def _put(fd, data):
        data = memoryview(data)
        while data:
            data = data[os.write(fd, data):]

    def set(self, path, mode=None, owner=None, mtime=None):
        at = self.disk.at(path)
        if owner is not None:
            os.chown(at, *owner, follow_symlinks=False)
        if mode is not None:
            os.chmod(at, mode)
        if mtime is not None:
            os.utime(at, (mtime, mtime), follow_symlinks=False)

    def mkdir(self, path, mode=None, owner=None, mtime=None):
        os.mkdir(self.disk.at(path))
        self.set(path, mode, owner, mtime)

    def symlink(self, path, target, owner=None, mtime=None):
        os.symlink(target, self.disk.at(path))
        self.set(path, None, owner, mtime)
        inode = self._inode(os.lstat(self.disk.at(path)).st_ino)
        if self._target(inode) != target:
            raise Failure(f"a symbolic link reads back wrong: {path}")

    def fifo(self, path, mode=None):
        os.mkfifo(self.disk.at(path))
        self.set(path, mode)

    def link(self, old, new):
        os.link(self.disk.at(old), self.disk.at(new))
        self.names.setdefault(self._identity(new), {old}).add(new)

    # What loses

    def unlink(self, path):
        st = os.lstat(self.disk.at(path))
        if st.st_nlink > 1:
            self._forget_name(path)
        else:
            self._record(path, st, "unlink")
        os.unlink(self.disk.at(path))

    def rmdir(self, path):
        self._record(path, os.lstat(self.disk.at(path)), "rmdir")
        os.rmdir(self.disk.at(path))

    def truncate(self, path, size):
        """ftruncate; a loss if it cuts something off."""
        st = os.lstat(self.disk.at(path))
        if size < st.st_size:
            self._record(path, st, "truncate")
        os.truncate(self.disk.at(path), size)

    def rewrite(self, path, data):
        """open(O_TRUNC) and write, as a shell's '>' does."""
        st = os.lstat(self.disk.at(path))
        if st.st_size:
            self._record(path, st, "rewrite")
        fd = os.open(self.disk.at(path), os.O_WRONLY | os.O_TRUNC)
        try:
            self._put(fd, data)
        finally:
            os.close(fd)

    def rename(self, old, new):
        """rename(2); what stood at `new` is lost."""
        source = os.lstat(self.disk.at(old))
        try:
            target = os.lstat(self.disk.at(new))
        except FileNotFoundError:
            target = None
        if target and target.st_ino == source.st_ino:
            return  # two names of one file: rename(2) does nothing
        if target:
            if target.st_nlink > 1 and not stat.S_ISDIR(target.st_mode):
                self._forget_name(new)
            else:
                self._record(new, target, "rename-over")
        identity = self._identity(old)
        self.former.setdefault(identity, []).append(old)
        os.rename(self.disk.at(old), self.disk.at(new))
        moved = lambda path: new + path[len(old):] if path == old or path.startswith(old + b"/") else path
        self.names = {key: {moved(path) for path in paths} for key, paths in self.names.items()}

    def remove_tree(self, path):
        """`rm -r` of a folder, by rm itself."""
        found = {}  # inode -> [stat, paths]
        order = []

        def visit(folder):
            with os.scandir(self.disk.at(folder)) as entries:
                entries = sorted((entry.name, entry) for entry in entries)
            for name, entry in entries:
                st = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(st.st_mode):
                    visit(folder + b"/" + name)
                else:
                    found.setdefault(st.st_ino, (st, []))[1].append(folder + b"/" + name)
                    order.append(st.st_ino)
            self._record(folder, os.lstat(self.disk.at(folder)), "rmdir")

        visit(path)
        for st, paths in found.values():
            if len(paths) == st.st_nlink:
                self._record(paths[0], st, "unlink", links=paths[1:])
            else:
                for name in paths:
                    self._forget_name(name)
        run("rm", "-r", "-f", "--", self.disk.at(path))

    # The record

    def _inode(self, number):
        return self.disk.volume.inode(number)

    def _identity(self, path):
        number = os.lstat(self.disk.at(path)).st_ino
        return number, self._inode(number).generation

    def _forget_name(self, path):
        identity = self._identity(path)
        self.names.get(identity, set()).discard(path)
        self.former.setdefault(identity, []).append(path)

    def _target(self, inode):
        """A symbolic link's target, without touching its atime."""
        if inode.size < len(inode.i_block) and not inode.blocks:
            return inode.i_block[:inode.size]
        block = self.disk.volume.map(inode.i_block).runs[0][1]
        return self.disk.volume.block(block)[:inode.size]

    def _record(self, path, st, lost_by, links=None):
        """Writes down the life that is about to end. `st` is its lstat."""
        kind = TYPES[stat.S_IFMT(st.st_mode)]
        sha256, runs, first = None, [], len(self.hashes) // 8
        if kind == "file":
            sha256, runs = self._content(path, st)
        # The inode is read after the content, since finding the runs may have given it its blocks.
        inode = self._inode(st.st_ino)
        parent = os.lstat(self.disk.at(parent_of(path))).st_ino
        identity = (st.st_ino, inode.generation)
        if links is None:
            links = sorted(self.names.get(identity, set()) - {path})
        ends = lost_by not in ("truncate", "rewrite")
        former = self.former.pop(identity, []) if ends else self.former.get(identity, [])
        if ends:
            self.names.pop(identity, None)
        indirect = []
        if kind in ("file", "dir") or inode.blocks:
            blocks = self.disk.volume.map(inode.i_block)
            if kind == "file" and runs is not None and blocks.runs != runs:
                raise Failure(f"{encode(path)}: the kernel's map and the one read from the disk differ")
            runs = blocks.runs if kind != "file" else runs
            indirect = blocks.indirect
        self.lost.append({
            "path": encode(path), "links": [encode(name) for name in links], "former": [encode(name) for name in former],
            "inode": st.st_ino, "generation": inode.generation,
            "parent": parent, "parent_generation": self._inode(parent).generation,
            "type": kind, "size": st.st_size, "mode": f"{stat.S_IMODE(st.st_mode):04o}", "uid": st.st_uid, "gid": st.st_gid,
            "mtime": st.st_mtime_ns // 10**9, "target": encode(self._target(inode)) if kind == "symlink" else None,
            "lost_by": lost_by, "lost_at": int(time.time()), "sha256": sha256, "runs": runs, "indirect": indirect,
            "i_block": None if inode.i_block == NO_POINTERS else inode.i_block.hex(),
            "hashes": [first, len(self.hashes) // 8 - first],
        })

    def _content(self, path, st):
        """sha256 and runs of a file; its block hashes are kept."""
        if st.st_size == 0 and st.st_blocks == 0:
            return EMPTY, []
        fd = os.open(self.disk.at(path), os.O_RDONLY | os.O_NOATIME)
        try:
            if len(self.lost) % 100 == 0 and generation(self.disk.at(path)) != self._inode(st.st_ino).generation:
                raise Failure(f"{encode(path)}: the generation read from the disk is not the kernel's")
            size, block_size = st.st_size, self.disk.volume.block_size
            # With its transaction: data written out without one would overwrite blocks that nothing on the disk ever says were used.
            if self.sync_runs:
                os.fsync(fd)
            runs = fiemap(fd, block_size, sync=False)
            whole = hashlib.sha256()
            at = 0
            for block, physical, count in runs or []:
                start, end = block * block_size, min((block + count) * block_size, size)
                self._add_zeros(whole, start - at)
                at = start
                while at < end:
                    piece = memoryview(self._read(fd, at, min(PIECE, end - at), physical * block_size + at - start))
                    whole.update(piece)
                    for i in range(0, len(piece), block_size):
                        self.hashes += hashlib.sha256(piece[i:i + block_size]).digest()[:8]
                    at += len(piece)
            if runs is None:
                while piece := os.pread(fd, PIECE, at):
                    whole.update(piece)
                    at += len(piece)
            else:
                self._add_zeros(whole, size - at)
            return None if self.huge else whole.hexdigest(), runs
        finally:
            os.close(fd)

    def _read(self, fd, at, length, place):
        """Bytes of a file at `at`, which stand in `place` on the disk."""
        if not self.huge:
            return os.pread(fd, length, at)
        # The file's own pages would take twice the memory of its blocks.
        image = os.open(self.disk.path, os.O_RDONLY)
        try:
            return os.pread(image, length, place)
        finally:
            os.close(image)

    def _add_zeros(self, whole, count):
        while not self.huge and count > 0:
            whole.update(ZEROS[:min(count, PIECE)])
            count -= PIECE
