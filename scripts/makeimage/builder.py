"""What a case works with: a disk, a recorder, random choices, and claims that are checked when the image is done."""

import hashlib
import os
import random
import re
import stat
import sys

from .disk import Disk
from .layout import name_stands
from .recorder import PIECE, Recorder, encode
from .system import Failure, Loop, Mount, NotAsClaimed, copy_sparse, run

CASES = {}


def case(name, story, seed=1):
    """Registers a function as a case. `story` says in one line why the case exists."""
    def register(function):
        CASES[name] = (function, story, seed)
        return function
    return register


class Builder:
    def __init__(self, path, seed, ops=None):
        self.path = path
        self.seed = seed
        self.ops = ops
        self.random = random.Random(seed)
        self.disk = Disk(path)
        self.claims = []
        self.live = []
        self.beside = []  # suffixes of further files beside the image
        self.rec = None
        self.block_size = None

    # While it is being made

    def mkfs(self, size, args, kind="ext3", earlier=None):
        self.disk.mkfs(size, args, kind, self.seed, earlier)

    def mount(self, options="", kind=None):
        self.disk.mount(options, kind)
        self.block_size = self.disk.volume.block_size
        self.rec = self.rec or Recorder(self.disk, self.seed)
        return self.rec

    def sync(self):
        self.disk.sync()

    def finish(self, crash=False, held=()):
        """Ends the story: unmounts (or cuts the power), then looks at what is there."""
        if crash:
            self.disk.crash(held)
        else:
            self.disk.unmount()
        self._check_filesystem(crash)
        self._list_live(crash)
        self._path_now()
        self._stands()

    def _check_filesystem(self, crash):
        flags = re.search(r"features:(.*)", run("dumpe2fs", "-h", self.path))[1].split()
        self.claim(("needs_recovery" in flags) == crash, f"the journal {'needs recovery' if crash else 'was closed in order'}")
        if crash:
            self._on_copy(lambda copy: run("e2fsck", "-fp", copy, ok=(0, 1)))
            self.claim(True, "e2fsck finds nothing to correct but the journal's replay")
        else:
            journal = ["-j", self.disk.journal.name] if self.disk.journal else []
            run("e2fsck", "-fn", *journal, self.path)
            self.claim(True, "e2fsck -fn is clean")

    def _on_copy(self, action):
        copy = self.path + ".copy"
        copy_sparse(self.path, copy)
        try:
            return action(copy)
        finally:
            os.unlink(copy)

    def _list_live(self, crash):
        def visit(root, folder):
            with os.scandir(root + folder) as entries:
                entries = sorted(entries, key=lambda entry: entry.name)
            for entry in entries:
                st = entry.stat(follow_symlinks=False)
                path = folder + b"/" + entry.name
                kind = {stat.S_IFDIR: "dir", stat.S_IFREG: "file", stat.S_IFLNK: "symlink"}.get(stat.S_IFMT(st.st_mode), "other")
                self.live.append({
                    "path": encode(path), "inode": st.st_ino, "generation": self.volume.inode(st.st_ino).generation, "type": kind,
                    "size": st.st_size, "sha256": digest(root + path) if kind == "file" else None,
                })
                if kind == "dir":
                    visit(root, path)

        def listing(image, options):
            loop = mounted = None
            try:
                loop = Loop(image, writable=crash)
                mounted = Mount(loop.name, self.disk.kind, options)
                visit(mounted.root, b"")
            finally:
                if mounted:
                    mounted.close()
                if loop:
                    loop.close()

        with self.disk.image() as image:
            self.volume = image.volume
            if crash:
                self._on_copy(lambda copy: self._with_volume_of(copy, lambda: listing(copy, "noatime")))
            elif self.volume.journal_inode or self.disk.journal:
                listing(self.path, "ro,noload")
            else:
                listing(self.path, "ro")
            self.volume = None

    def _with_volume_of(self, copy, action):
        """The generations of a crashed disk stand on it only after its recovery."""
        run("e2fsck", "-fp", copy, ok=(0, 1))
        other = Disk(copy)
        with other.image() as image:
            self.volume = image.volume
            action()

    def _path_now(self):
        """Where each lost life would be found today: its folder may have been renamed since."""
        at_end = {(item["inode"], item["generation"]): item["path"] for item in self.live if item["type"] == "dir"}
        lost = {(life["inode"], life["generation"]): life for life in self.rec.lost if life["type"] == "dir"}

        def now(life, depth=0):
            parent = (life["parent"], life["parent_generation"])
            name = life["path"].rsplit("/", 1)[1]
            if life["parent"] == 2:
                return "/" + name
            if parent in at_end:
                return at_end[parent] + "/" + name
            if parent in lost and depth < 1000:
                return now(lost[parent], depth + 1) + "/" + name
            raise Failure(f"{life['path']}: its folder is neither alive nor lost")

        for life in self.rec.lost:
            life["path_now"] = now(life)

    def _stands(self):
        """Counts for each life the blocks that still hold what they held."""
        hashes = self.rec.hashes
        with self.disk.image() as image:
            size = image.volume.block_size
            for life in self.rec.lost:
                at, stands = life["hashes"][0] * 8, 0
                for block, physical, count in (life["runs"] or []) if life["type"] == "file" else []:
                    for i in range(0, count, PIECE // size):
                        part = min(count - i, PIECE // size)
                        data = memoryview(image.read((physical + i) * size, part * size))
                        for k in range(part):
                            length = min(size, life["size"] - (block + i + k) * size)
                            stands += hashlib.sha256(data[k * size:k * size + length]).digest()[:8] == hashes[at:at + 8]
                            at += 8
                life["stands"] = stands

    # Claims, checked when it is finished

    def claim(self, true, text):
        """Something that the image is made to be."""
        if not true:
            raise NotAsClaimed(f"not as claimed: {text}")
        self.claims.append(text)

    def lost(self, **fields):
        """The lost lives whose fields are as given."""
        return [life for life in self.rec.lost if all(life[key] == value for key, value in fields.items())]

    def claim_all_stand(self, lives, share=1.0, text="every block of the lost files still stands"):
        mapped = sum(life["hashes"][1] for life in lives)
        stands = sum(life["stands"] for life in lives)
        self.claim(mapped and stands >= share * mapped, f"{text} ({stands} of {mapped})")

    def claim_in_journal(self, lives, at_least, at_most, what):
        """How many of the lives still have their pointers, as the inode held them at the last, in the journal."""
        copies = {inode[40:100] for inode in self.inodes_in_journal()}
        with_pointers = [life for life in lives if life["i_block"]]
        found = sum(bytes.fromhex(life["i_block"]) in copies for life in with_pointers)
        self.claim(at_least <= found <= at_most, f"{what}: the journal has the pointers of {found} of {len(with_pointers)}")

    def journal(self):
        """All bytes of the journal, internal or not."""
        if self.disk.journal:
            size = os.fstat(self.disk.journal.fd).st_size or os.lseek(self.disk.journal.fd, 0, os.SEEK_END)
            return self.disk.journal.read(0, size)
        with self.disk.image() as image:
            return image.volume.journal()

    def inodes_in_journal(self):
        """Every place of the journal where an inode would stand if its block were one of an inode table."""
        with self.disk.image() as image:
            size = image.volume.inode_size
        journal = self.journal()
        return [journal[at:at + 128] for at in range(0, len(journal), size)]

    def claim_names_gone(self, lives, at_most=0):
        """That names are wiped from the blocks of the folders they stood in, as Linux 5.13 and later do."""
        folders = {}
        standing = 0
        with self.disk.image() as image:
            for life in lives:
                if life["parent"] not in folders:
                    folders[life["parent"]] = [data for _, data in image.volume.content_blocks(life["parent"])]
                standing += name_stands(folders[life["parent"]], raw(life["path"]).rsplit(b"/", 1)[1])
        self.claim(standing <= at_most, f"{len(lives) - standing} of {len(lives)} lost names are gone from their folders' blocks")

    def claim_names_in_journal(self, lives, at_least=None):
        """That lost names stand in the journal's copies of directory blocks."""
        journal = [self.journal()]
        found = sum(name_stands(journal, raw(life["path"]).rsplit(b"/", 1)[1]) for life in lives)
        at_least = len(lives) if at_least is None else at_least
        self.claim(found >= at_least, f"the journal has {found} of {len(lives)} lost names")

    def close(self):
        self.disk.close()

    def say(self, text):
        print(f"  {text}", file=sys.stderr, flush=True)


def raw(encoded):
    """The bytes of a name in the truth."""
    return re.sub(rb"%([0-9A-F]{2})", lambda match: bytes([int(match[1], 16)]), encoded.encode("ascii"))


def digest(path):
    whole = hashlib.sha256()
    fd = os.open(path, os.O_RDONLY | os.O_NOATIME)
    try:
        while piece := os.read(fd, PIECE):
            whole.update(piece)
    finally:
        os.close(fd)
    return whole.hexdigest()
