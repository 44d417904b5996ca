"""A random history of a disk: all that programs do to files, with remounts and crashes between, and the truth of every loss."""

import os

from .builder import case, raw
from .cases_files import MB, MODES, ODD_NAMES, OWNERS, fair, some_content, some_size
from .recorder import encode

DEFAULT_OPS = 1500
# Few names, so that paths come back with other files, kinds and sizes.
NAMES = [b"%s%d%s" % (stem, number, suffix) for stem, suffix in ((b"mail", b""), (b"IMG_", b".jpg"), (b"table", b".MYD"), (b"note ", b".txt"), (b"core", b"@1"))
         for number in range(9)] + [name for name in ODD_NAMES if len(name) < 40]


class History:
    def __init__(self, b):
        self.b, self.random = b, b.random
        self.log = []
        self.folders = {b""}
        self.files = set()
        self.links = set()  # symbolic ones
        self.fresh = set()  # written once and never touched since
        self.dirty = set()  # written since the last sync
        self._make_disk()
        self.rec = b.rec

    def _make_disk(self):
        choose = self.random.choice
        block_size, size = choose([(1024, 64), (1024, 160), (2048, 128), (4096, 128), (4096, 256), (4096, 400)])
        journal = choose([size // 64, 4, 8, 16]) if block_size < 4096 else choose([4, 4, 8, 16])
        # Not ^filetype: ext4_getblk doesn't clear a folder's new block whose buffer is still cached from an earlier use, and
        # without that feature nothing sets the type byte of '.' and '..', so that e2fsck finds the earlier bytes there.
        features = choose(["", "", "", "^dir_index", "^resize_inode", "^dir_index", "^sparse_super,^resize_inode"])
        args = f"-b {block_size} -I {choose([128, 256])} -N {size * 64} -J size={journal}" + (f" -O {features}" if features else "")
        self.mode = choose(["ordered"] * 4 + ["writeback", "journal"])
        kind = choose(["ext3"] * 3 + ["ext4"])
        self.largest = size * MB // choose([12, 30, 80])
        self.b.mkfs(size * MB, args, "ext3")
        self.b.mount(f"data={self.mode}", kind)
        self.note(f"mke2fs {args} ({size} MiB); mount -t {kind} -o data={self.mode}")

    def note(self, text):
        self.log.append(f"{len(self.log)}\t{text}")

    # Choices

    def pick(self, paths):
        return self.random.choice(sorted(paths))

    def new_path(self):
        """A path that is free."""
        while True:
            path = self.pick(self.folders) + b"/" + self.random.choice(NAMES)
            if path not in self.files and path not in self.links and path not in self.folders:
                return path
            path += b"~%d" % self.random.randrange(10**6)
            if path not in self.files and path not in self.links and path not in self.folders:
                return path

    def size(self, path):
        return os.lstat(self.b.disk.at(path)).st_size

    def have_room(self, size):
        """Makes room as people do: by removing the largest."""
        while self.files:
            state = os.statvfs(self.b.disk.mounted.root)
            if state.f_bavail * state.f_bsize > size * 1.02 + 0.06 * state.f_blocks * state.f_bsize:
                return
            self.remove(max(sorted(self.files), key=self.size))

    def touched(self, path):
        self.fresh.discard(path)
        self.dirty.add(path)

    def loses(self, path):
        """Before a loss. Only of a file written once may the record leave the data unwritten.

        Data that was written twice can be dropped while an older state of the same block stands on the disk under a
        pointer that is committed: then nothing on the disk could tell that it is not the file's last content.
        """
        once = path in self.fresh and self.mode != "writeback"
        self.rec.sync_runs = not (once and self.random.random() < 0.5)

    # What programs do

    def create(self):
        size = some_size(self.random, self.largest)
        self.have_room(size)
        path = self.new_path()
        self.note(f"create {encode(path)} {size}")
        self.rec.write(path, some_content(self.rec, self.random, size), self.random.choice(MODES), self.random.choice(OWNERS))
        self.files.add(path)
        self.fresh.add(path)
        self.dirty.add(path)

    def append(self):
        path = self.pick(self.files)
        old = self.size(path)
        more = fair(old + some_size(self.random, self.largest // 2) + 16) - old
        self.have_room(more)
        if path in self.files:
            self.note(f"append {encode(path)} {old} + {more}")
            self.rec.append(path, self.rec.data(more), fsync=self.random.random() < 0.2)
            self.touched(path)

    def overwrite(self):
        path = self.pick(self.files)
        size = self.size(path)
        if size > 64:
            at = self.random.randrange(size - 32)
            length = min(size - at, self.random.choice([32, 4096, 50000]))
            self.note(f"overwrite {encode(path)} at {at}, {length}")
            self.rec.overwrite(path, at, self.rec.data(length))
            self.touched(path)

    def write_far(self):
        """Leaves a hole."""
        path = self.pick(self.files)
        size = self.size(path)
        at = size + self.random.choice([9000, 70000, 3 * MB, 40 * MB])
        length = fair(at + 20000) - at
        self.have_room(2 * MB)
        if at < 300 * MB and path in self.files:
            self.note(f"write past the end of {encode(path)} at {at}, {length}")
            self.rec.overwrite(path, at, self.rec.data(length))
            self.touched(path)

    def truncate(self):
        path = self.pick(self.files)
        size = self.size(path)
        new = self.random.choice([0, 0, size // 2, size // 3, size - size % 4096, size * 3 // 4, size + 100000])
        new = fair(new)
        self.note(f"truncate {encode(path)} {size} -> {new}")
        self.loses(path)
        self.rec.truncate(path, new)
        self.touched(path)

    def rewrite(self):
        size = some_size(self.random, self.largest)
        self.have_room(size)
        if self.files:
            path = self.pick(self.files)
            self.note(f"rewrite {encode(path)} {self.size(path)} -> {size}")
            self.loses(path)
            self.rec.rewrite(path, self.rec.data(size))
            self.touched(path)

    def remove(self, path=None):
        path = path or self.pick(self.files | self.links)
        self.note(f"unlink {encode(path)}")
        self.loses(path)
        self.rec.unlink(path)
        self._gone(path)

    def _gone(self, path):
        for paths in (self.files, self.links, self.fresh, self.dirty, self.folders):
            paths.discard(path)

    def rename(self):
        old = self.pick(self.files | self.links)
        new = self.new_path() if self.random.random() < 0.6 else self.pick(self.files | self.links)
        if old == new:
            return
        self.note(f"rename {encode(old)} -> {encode(new)}")
        at = self.b.disk.at
        same = os.path.lexists(at(new)) and os.lstat(at(old)).st_ino == os.lstat(at(new)).st_ino
        self.loses(new)
        self.rec.rename(old, new)
        if not same:
            kinds = [paths for paths in (self.files, self.links, self.fresh, self.dirty) if old in paths]
            self._gone(new)
            self._gone(old)
            for paths in kinds:
                paths.add(new)

    def rename_folder(self):
        folders = self.folders - {b""}
        if folders:
            old = self.pick(folders)
            new = self.new_path()
            if new.startswith(old + b"/") or new.count(b"/") > 12:
                return
            self.note(f"rename folder {encode(old)} -> {encode(new)}")
            self.rec.rename(old, new)
            moved = lambda path: new + path[len(old):] if path == old or path.startswith(old + b"/") else path
            self.folders, self.files, self.links, self.fresh, self.dirty = (
                {moved(path) for path in paths} for paths in (self.folders, self.files, self.links, self.fresh, self.dirty))

    def link(self):
        old, new = self.pick(self.files), self.new_path()
        self.note(f"link {encode(old)} {encode(new)}")
        self.rec.link(old, new)
        self.files.add(new)
        # Two names of one file: it isn't worth following which of them is touched.
        self.fresh.discard(old)
        self.dirty.update((old, new))

    def symlink(self):
        path = self.new_path()
        target = self.random.choice([b"x", b"../a/b", b"t" * 59, b"u" * 60, b"long/" * self.random.randrange(20, 180)])
        self.note(f"symlink {encode(path)} ({len(target)} bytes)")
        self.rec.symlink(path, target, self.random.choice(OWNERS))
        self.links.add(path)

    def mkdir(self):
        path = self.new_path()
        if path.count(b"/") <= 8 and len(self.folders) < 60:
            self.note(f"mkdir {encode(path)}")
            self.rec.mkdir(path, self.random.choice([0o755, 0o700, 0o2775]), self.random.choice(OWNERS))
            self.folders.add(path)

    def rmdir(self):
        empty = [path for path in self.folders - {b""} if not os.listdir(self.b.disk.at(path))]
        if empty:
            path = self.pick(empty)
            self.note(f"rmdir {encode(path)}")
            self.rec.rmdir(path)
            self._gone(path)

    def remove_tree(self):
        folders = self.folders - {b""}
        if folders:
            path = self.pick(folders)
            inside = {other for paths in (self.folders, self.files, self.links) for other in paths if other.startswith(path + b"/")}
            if len(inside) > 0.3 * len(self.files):
                return
            self.note(f"rm -r {encode(path)} ({len(inside)} inside)")
            self.rec.sync_runs = True
            self.rec.remove_tree(path)
            for other in inside | {path}:
                self._gone(other)

    def change_mode(self):
        path = self.pick(self.files)
        self.note(f"chmod {encode(path)}")
        self.rec.set(path, self.random.choice(MODES), mtime=self.random.randrange(10**9, 2 * 10**9))

    def sync(self):
        self.note("sync")
        self.b.sync()
        self.dirty.clear()

    def commit(self):
        self.note("commit")
        self.b.disk.commit()

    def remount(self):
        restart = self.random.random() < 0.5
        self.note("remount" + (", the log from its first block" if restart else ""))
        self.b.disk.remount(restart_log=restart)
        self.dirty.clear()

    def settle(self):
        """Before a crash: makes all that was done so far certain, in one of two ways."""
        if self.mode == "writeback" or self.random.random() < 0.5:
            self.sync()
        else:
            # The journal commits, and the inode tables and folders at home stay old. What was written in place has no
            # place in an ordered commit, so it is written by itself.
            self.note("fsync")
            for path in sorted(self.dirty):
                fd = os.open(self.b.disk.at(path), os.O_RDONLY)
                os.fsync(fd)
                os.close(fd)
            self.commit()
            self.dirty.clear()

    def crash(self):
        self.settle()
        self.note("crash")
        self.b.disk.crash()
        self.b.mount()

    def step(self):
        acts = [(self.create, 30), (self.append, 16), (self.overwrite, 6), (self.write_far, 2), (self.truncate, 6), (self.rewrite, 4), (self.remove, 18),
                (self.rename, 7), (self.rename_folder, 1), (self.link, 3), (self.symlink, 3), (self.mkdir, 5), (self.rmdir, 2), (self.remove_tree, 1.2),
                (self.change_mode, 3), (self.sync, 4), (self.commit, 4), (self.remount, 0.7), (self.crash, 0.5)]
        act = self.random.choices([act for act, _ in acts], [weight for _, weight in acts])[0]
        if len(self.files) < 12:
            act = self.create
        act()


@case("history", "a random history: creates, appends, truncates, renames, links, deletes, remounts and crashes; the disk's form is random too")
def history(b):
    story = History(b)
    for _ in range(b.ops or DEFAULT_OPS):
        story.step()
    crash = b.random.random() < 0.25
    if crash:
        story.settle()
    story.note("the end" + (", by a crash" if crash else ""))
    b.beside.append(".ops.txt")
    with open(b.path[:-len(".img")] + ".ops.txt", "w") as out:
        out.write("\n".join(story.log) + "\n")
    b.finish(crash=crash)
    expected = story.files | story.links | story.folders - {b""} | {b"/lost+found"}
    b.claim({raw(item["path"]) for item in b.live} == expected, f"{len(expected)} paths live, as they should")
    mapped = sum(life["hashes"][1] for life in b.rec.lost)
    stands = sum(life["stands"] for life in b.rec.lost)
    b.claim(len(b.rec.lost) > len(story.log) // 10, f"{len(b.rec.lost)} lives are lost; {stands} of their {mapped} blocks stand")
