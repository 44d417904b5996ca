"""The scan against reading the image, cold and warm; and how its cost grows with the image."""

import contextlib
import os

from .filled import Filled
from .machine import GIB, MIB, drop_caches, memory
from .results import mebi, median, rate, second
from .watch import run, timed

# What the page cache has to leave to everything else.
RESERVE = 5 * GIB
COLD, WARM = "cold on disk", "warm in the page cache"


class Scans:
    """Scans of one image, and `cat` of it."""

    def __init__(self, bench, filled):
        self.bench, self.filled, self.most = bench, filled, 0
        self.catalog = os.path.join(bench.memory, "catalog")

    def cat(self):
        """Bytes a second."""
        return self.filled.size / timed("sh", "-c", 'exec cat "$0" >/dev/null', self.filled.path)

    def scan(self):
        """Bytes of the image a second; it looks only at what is free, which is nearly all."""
        try:
            took, anonymous = run(self.bench.undelfs, "-q", "scan", "--catalog", self.catalog, self.filled.path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.catalog)
        self.most = max(self.most, anonymous)
        return self.filled.size / took

    def rounds(self, count, works, prepare=lambda: None):
        """So many rates of each work, taken in turns, after one that is not counted."""
        rates = {work: [] for work in works}
        order = list(works)
        for number in range(count + 1):
            for work in order:
                prepare()
                figure = work()
                if number > 0:
                    rates[work].append(figure)
            order.append(order.pop(0))
        return [rates[work] for work in works]


def scan(bench):
    """A large image cold, a smaller one warm, and a series of sizes."""
    results, quick = bench.results, bench.quick
    size = 2 * GIB if quick else 20 * GIB
    series = [1, 0.5, 0.25] if quick else [16, 8, 4, 2, 1]
    raw = {"cold": {}, "warm": {}}
    filled = Filled(os.path.join(bench.disk, "filled.img"), size)
    try:
        scans = Scans(bench, filled)
        ours, theirs = scans.rounds(bench.rounds(2, 1), [scans.scan, scans.cat], drop_caches)
        work = f"scan of {size / GIB:.0f} GiB, {COLD}"
        results.compare(work, "`cat image >/dev/null`", ours, theirs, rate, 0.9)
        bars = {COLD: {"undelfs scan": median(ours) / 1e6, "cat": median(theirs) / 1e6}}
        raw["cold"][size] = ours
        for gib in series:
            filled.shrink(int(gib * GIB))
            raw["cold"][filled.size], = scans.rounds(bench.rounds(4, 1), [scans.scan], drop_caches)
            if memory("MemAvailable") - filled.size < RESERVE:
                continue
            is_first = not raw["warm"]
            works = [scans.scan, scans.cat] if is_first else [scans.scan]
            scans.cat()
            ours, *theirs = scans.rounds(bench.rounds(4, 1), works)
            raw["warm"][filled.size] = ours
            if is_first:
                work = f"scan of {filled.size / GIB:g} GiB (of what fits in memory the most), {WARM}"
                results.above(work, rate, median(ours), 2e9)
                results.compare(work, "`cat image >/dev/null`", ours, theirs[0], rate)
                bars[WARM] = {"undelfs scan": median(ours) / 1e6, "cat": median(theirs[0]) / 1e6}
        results.below(f"memory of `undelfs scan`, images of {series[-1]} to {size / GIB:.0f} GiB (RssAnon)", mebi, scans.most, 64 * MIB)
    finally:
        filled.close()
    results.bars("scan", "Scan against cat", "MB/s", bars)
    for state, words in (("cold", COLD), ("warm", WARM)):
        points = sorted((size / 1e9, size / median(rates)) for size, rates in raw[state].items())
        if len(points) > 2:
            xs, ys = zip(*points)
            title = f"scan, images of {xs[0]:.2g} to {xs[-1]:.2g} GB, {words}"
            slope = lambda slope: f"{slope:.3f} s for each GB"
            results.line(title, xs, ys, slope, f"scan-growth-{state}", title, ("GB of image", "seconds"))
    results.raw["scan"] = {state: {str(size): rates for size, rates in of.items()} for state, of in raw.items()} | {"memory": scans.most}
