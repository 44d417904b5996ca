"""From the command to the first byte."""

import os
import subprocess
import time

from .lost import PATH
from .results import median, second
from .watch import timed


def first_byte(bench):
    """`undelfs mount` of an image without a catalog, until a byte of the lost file is read."""
    lost = bench.three
    point = os.path.join(bench.memory, "first")
    os.mkdir(point)
    seconds = []
    try:
        for number in range(bench.rounds(11, 3) + 1):
            began = time.perf_counter()
            subprocess.run([bench.undelfs, "mount", "--no-catalog", lost.after, point], stdin=subprocess.DEVNULL, check=True)
            fd = os.open(f"{point}/by-path/{PATH}", os.O_RDONLY)
            os.pread(fd, 1, 0)
            took = time.perf_counter() - began
            os.close(fd)
            timed("umount", point)
            if number > 0:
                seconds.append(took)
    finally:
        os.rmdir(point)
    work = f"`undelfs mount` to the first byte read, image of {lost.image_size >> 30} GiB"
    bench.results.below(work, second, median(seconds), 0.2)
    bench.results.raw["mount"] = seconds
