"""Files of a thousand to ten million fragments: what opening, reading and listing cost."""

import os
import random
import time

from makeimage.synthetic import BLOCK, NAME, FragmentedFile
from makeimage.system import Failure
from .machine import GIB, MIB, need_room, say
from .results import mebi, median, micro, milli, second
from .sources import Server
from .watch import run, timed, watching

LIST, MAP = "`undelfs list`", "`undelfs show --map ddrescue`"


class Measured:
    """What one file costs."""

    def __init__(self, bench, fragments):
        image = os.path.join(bench.memory, "fragments.img")
        say(f"  {fragments:,} fragments")
        self.memory, self.seconds = {}, {}
        try:
            file = FragmentedFile(image, fragments)
            self._mounted(bench, file)
            for name, words in ((LIST, ["list"]), (MAP, ["show", "--map", "ddrescue"])):
                command = [bench.undelfs, "-q", *words, "--no-catalog", image, *([os.fsdecode(NAME)] if name == MAP else [])]
                runs = [run(*command) for _ in range(1 if fragments > 2_000_000 else 3)]
                self.seconds[name] = median([took for took, _ in runs])
                self.memory[name] = max(anonymous for _, anonymous in runs)
        finally:
            if os.path.exists(image):
                os.unlink(image)

    def _mounted(self, bench, file):
        server = Server(bench.memory, "fragments", "by-path" + os.fsdecode(NAME), bench.undelfs, "mount", "-f", "--no-catalog", file.path, None)
        try:
            if os.stat(server.path).st_size != file.size:
                raise Failure(f"a file of {file.fragments} fragments has another size")
            with watching(server.pid, self.memory, "mount"):
                began = time.perf_counter()
                fd = os.open(server.path, os.O_RDONLY)
                self.open = time.perf_counter() - began
                marks = random.Random(1).sample(file.marks, len(file.marks))
                began = time.perf_counter()
                read = [os.pread(fd, BLOCK, mark * BLOCK) for mark in marks]
                self.random = (time.perf_counter() - began) / len(marks)
                wrong = sum(data != file.content(mark) for mark, data in zip(marks, read))
                if wrong:
                    there = os.getxattr(fd, "user.undelfs.recovered").decode()
                    raise Failure(f"a file of {file.fragments} fragments: {wrong} of {len(marks)} blocks are not as written ({there} is there)")
                os.close(fd)
                self.entries = timed("ls", "-lR", os.path.dirname(server.path))
        finally:
            server.close()


def fragments(bench):
    """Each size in turn."""
    counts = [1000, 10_000, 100_000] if bench.quick else [1000, 10_000, 100_000, 1_000_000, 10_000_000]
    need_room(bench.memory, GIB, "sparse images")
    measured = {count: Measured(bench, count) for count in counts}
    results, most = bench.results, measured[counts[-1]]
    words = f"file of {counts[-1]:,} fragments"
    results.below(f"{words}: open", milli, most.open, 0.01)
    results.compare(f"{words}: random 4 KiB reads, each checked", f"the same of {counts[-2]:,} fragments", [most.random],
                    [measured[counts[-2]].random], micro)
    results.below(f"{words}: `ls -lR` in the mount", milli, most.entries, 0.1)
    for name in (LIST, MAP):
        results.below(f"{words}: memory of {name} (RssAnon)", mebi, most.memory[name], 64 * MIB)
    results.below(f"{words}: memory of the mount (RssAnon)", mebi, most.memory["mount"], 64 * MIB)
    for name, file in ((LIST, "fragments-list"), (MAP, "fragments-map")):
        title = f"{name}, files of {counts[0]:,} to {counts[-1]:,} fragments ({second(most.seconds[name])} for the last)"
        slope = lambda slope: f"{slope * 1e6:.2f} s for each million"
        results.line(title, counts, [measured[count].seconds[name] for count in counts], slope, file, title.replace("`", ""),
                     ("fragments", "seconds"), logarithmic=True)
    results.raw["fragments"] = {str(count): {key: value for key, value in vars(each).items()} for count, each in measured.items()}
