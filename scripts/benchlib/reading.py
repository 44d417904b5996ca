"""Reading a lost file through the mount, beside what else can read it."""

import contextlib
import os
import random

from makeimage import system
from makeimage.system import Failure
from .lost import PATH
from .machine import MIB, drop_caches
from .results import mebi, median, micro, rate
from .sources import READ_AHEAD, File, RawImage, Server
from .watch import digest, watching

# Reads at random places, by how many are on their way at once.
RANDOM = {1: 1000, 16: 4000}
SEQUENTIAL = "sequential"
AT_ONCE = {1: "one at a time", 16: "16 at a time"}
TARGETS = {(SEQUENTIAL, "bare server"): 0.95, (SEQUENTIAL, "fuse2fs"): 2.5, (1, "kernel loop mount"): 1.0, (16, "kernel loop mount"): 1.0}


class Readers:
    """All that the lost file is read from, by name; each is opened where it is used."""

    def __init__(self, bench, lost, in_memory):
        self.bench, self.lost, self.in_memory = bench, lost, in_memory
        self.catalog = os.path.join(bench.memory, "catalog")
        self.open = {
            "undelfs": self._undelfs, "bare server": self._bare, "kernel loop mount": self._kernel, "fuse2fs": self._fuse2fs,
            "raw image": self._raw,
        }
        self.pids = {}

    @contextlib.contextmanager
    def _server(self, name, file, *command, read_ahead=None):
        server = Server(self.bench.memory, name, file, *command, read_ahead=read_ahead)
        try:
            self.pids[name] = server.pid
            with self._file(server.path) as opened:
                yield opened
        finally:
            server.close()

    @contextlib.contextmanager
    def _file(self, path):
        file = File(path, self.lost.size, self.bench.reader)
        try:
            yield file
        finally:
            file.close()

    def _undelfs(self):
        command = [self.bench.undelfs, "mount", "-f", "--catalog", self.catalog, self.lost.after, None]
        return self._server("undelfs", "by-path/" + PATH, *command)

    def _bare(self):
        # As many bytes, in one piece, from the image's start: finding them costs nothing.
        announce = [] if self.in_memory else ["announce"]
        return self._server("bare server", "file", self.bench.bare, self.lost.after, None, *announce, read_ahead=READ_AHEAD)

    def _fuse2fs(self):
        return self._server("fuse2fs", PATH, "fuse2fs", self.lost.before, None, "-f", "-o", "ro")

    @contextlib.contextmanager
    def _kernel(self):
        loop = system.Loop(self.lost.before, writable=False)
        try:
            mount = system.Mount(loop.name, "ext3", "ro")
            try:
                with self._file(os.path.join(os.fsdecode(mount.root), PATH)) as file:
                    yield file
            finally:
                mount.close()
        finally:
            loop.close()

    @contextlib.contextmanager
    def _raw(self):
        file = RawImage(self.lost, self.bench.reader, self.in_memory)
        try:
            yield file
        finally:
            file.close()

    def check(self):
        """That they all give the same bytes, but for those that give others by design."""
        for name in ("undelfs", "kernel loop mount", "fuse2fs"):
            with self.open[name]() as file:
                if digest(file.path) != self.lost.sha256:
                    raise Failure(f"{name}: other bytes than were written")

    def measure(self, rounds, counts):
        """A figure a round of each source for each work, and the memory of undelfs during each work."""
        figures = {work: {name: [] for name in self.open} for work in (SEQUENTIAL, *counts)}
        memory, choose, order = {}, random.Random(2), list(self.open)
        with contextlib.ExitStack() as stack:
            # What a server has mapped stays in memory until it ends, so for cold reads each gets its server anew.
            opened = {name: stack.enter_context(self.open[name]()) for name in self.open} if self.in_memory else {}
            for number in range(rounds + 1):
                seed = choose.getrandbits(32)
                for name in order:
                    for work in figures:
                        with contextlib.nullcontext(opened[name]) if self.in_memory else self.open[name]() as file:
                            if not self.in_memory:
                                drop_caches()
                            watch = watching(self.pids["undelfs"], memory, work) if name == "undelfs" else contextlib.nullcontext()
                            with watch:
                                figure = file.sequential() if work == SEQUENTIAL else file.random(counts[work], work, seed)
                        if number > 0:
                            figures[work][name].append(figure)
                order.append(order.pop(0))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.catalog)
        return figures, memory


def _report(bench, figures, memory, where, cold):
    results = bench.results
    for work in figures:
        title = f"sequential 1 MiB reads, {where}" if work == SEQUENTIAL else f"random 4 KiB reads, {AT_ONCE[work]}, {where}"
        show = rate if work == SEQUENTIAL else micro
        for other in figures[work]:
            if other != "undelfs":
                # Where the disk is what bounds all of them, none can be 2.5 times as fast as another.
                target = None if cold and other == "fuse2fs" else TARGETS.get((work, other))
                results.compare(title, other, figures[work]["undelfs"], figures[work][other], show, target)
        unit, scale = ("MB/s", 1e-6) if work == SEQUENTIAL else ("µs, less is better", 1e6)
        name = f"read-{'cold' if cold else 'memory'}-{work}"
        results.bars(name, title, unit, {"": {source: median(each) * scale for source, each in figures[work].items()}})
    words = {SEQUENTIAL: "sequentially", 1: "at random", 16: "at random, 16 at a time"}
    for work, most in memory.items():
        results.below(f"memory of the mount, read {words[work]}, {where} (RssAnon)", mebi, most, 64 * MIB)


def memory(bench):
    """From an image in memory."""
    lost = bench.lost
    readers = Readers(bench, lost, True)
    readers.check()
    figures, most = readers.measure(bench.rounds(7, 2), RANDOM)
    _report(bench, figures, most, "image in memory", False)
    bench.results.raw["read"] = {"bytes": lost.size, "fragments": len(lost.runs), "figures": figures, "memory": most}
    bench.results.notes.append(f"The file that is read has {lost.size / 1e6:,.0f} MB in {len(lost.runs):,} fragments.")


def cold(bench):
    """From an image on a disk, of which nothing is in memory."""
    lost = bench.lost.copied(os.path.join(bench.disk, "cold"))
    try:
        counts = {at_once: count // 4 for at_once, count in RANDOM.items()}
        figures, most = Readers(bench, lost, False).measure(bench.rounds(3, 1), counts)
    finally:
        lost.close()
    _report(bench, figures, most, "image cold on disk", True)
    bench.results.raw["cold"] = {"bytes": lost.size, "fragments": len(lost.runs), "figures": figures, "memory": most}
