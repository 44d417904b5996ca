"""Getting a lost file out: `undelfs copy`, `cp` from the mount, and what other programs have for it."""

import contextlib
import glob
import os
import shutil

from makeimage.system import Failure
from .lost import PATH
from .machine import MIB, need_room
from .results import Row, mebi, median, second
from .sources import Server
from .watch import digest, run, timed, watching

COPY, CP, EXTUNDELETE, DEBUGFS = "undelfs copy", "cp from the mount", "extundelete --restore-inode", "debugfs dump"


class Out:
    """A folder for one copy at a time."""

    def __init__(self, bench):
        self.folder = os.path.join(bench.memory, "out")

    def __enter__(self):
        os.mkdir(self.folder)
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder)

    def path(self):
        return os.path.join(self.folder, "copied")

    def digests(self):
        return [digest(path) for path in glob.glob(self.folder + "/**", recursive=True) if os.path.isfile(path)]


def large(bench):
    """`undelfs copy` against `cp` from a mount that stands already; both with a catalog."""
    lost, results = bench.lost, bench.results
    lost.drop_before()
    need_room(bench.memory, lost.size + lost.size // 2, "a copy in memory")
    catalog = os.path.join(bench.memory, "catalog")
    seconds, most = {COPY: [], CP: []}, {}
    server = Server(bench.memory, "copying", "by-path/" + PATH, bench.undelfs, "mount", "-f", "--catalog", catalog, lost.after, None)
    try:
        for number in range(bench.rounds(5, 2) + 1):
            for name in seconds:
                with Out(bench) as out:
                    if name == COPY:
                        took, anonymous = run(bench.undelfs, "-q", "copy", "--catalog", catalog, lost.after, PATH, out.path())
                        most[COPY] = max(most.get(COPY, 0), anonymous)
                    else:
                        fd = os.open(server.path, os.O_RDONLY)
                        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                        os.close(fd)
                        with watching(server.pid, most, CP):
                            took = timed("cp", server.path, out.path())
                    if number > 0:
                        seconds[name].append(took)
                    elif out.digests() != [lost.sha256]:
                        raise Failure(f"{name}: other bytes than were written")
    finally:
        server.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(catalog)
    results.compare(f"copy of {lost.size / 1e6:,.0f} MB to memory", CP, seconds[COPY], seconds[CP], second, 1.5)
    results.below("memory of `undelfs copy` (RssAnon)", mebi, most[COPY], 64 * MIB)
    results.below("memory of the mount during `cp` (RssAnon)", mebi, most[CP], 64 * MIB)
    results.raw["copy"] = {"seconds": seconds, "memory": most}


def whole(bench):
    """The whole job, from the image to the file, against programs for that."""
    lost, results = bench.whole, bench.results
    point = os.path.join(bench.memory, "job")

    def mount_and_cp(out):
        os.mkdir(point)
        try:
            return timed(bench.undelfs, "mount", "--no-catalog", lost.after, point) + timed("cp", f"{point}/by-path/{PATH}", out.path())
        finally:
            timed("umount", point)
            os.rmdir(point)

    jobs = {
        COPY: lambda out: timed(bench.undelfs, "-q", "copy", "--no-catalog", lost.after, PATH, out.path()),
        "undelfs mount + cp": mount_and_cp,
        EXTUNDELETE: lambda out: timed("extundelete", "--restore-inode", str(lost.inode), lost.after, cwd=out.folder),
        DEBUGFS: lambda out: timed("debugfs", "-R", f"dump <{lost.inode}> {out.path()}", lost.before),
    }
    seconds, right = {name: [] for name in jobs}, {}
    for number in range(bench.rounds(5, 2) + 1):
        for name, job in jobs.items():
            with Out(bench) as out:
                took = job(out)
                if number > 0:
                    seconds[name].append(took)
                else:
                    right[name] = out.digests() == [lost.sha256]
    for name in list(jobs)[:2]:
        if not right[name]:
            raise Failure(f"{name}: other bytes than were written")
        for other in (EXTUNDELETE, DEBUGFS):
            work = f"whole file of {lost.size / 1e6:,.0f} MB from {lost.image_size >> 30} GiB: `{name}`"
            note = " (of the undeleted copy)" if other == DEBUGFS else ""
            if right[other]:
                results.compare(work, f"`{other}`{note}", seconds[name], seconds[other], second)
            else:
                results.rows.append(Row(work, second(median(seconds[name])), f"`{other}`{note}", "gives nothing right back"))
    results.raw["whole"] = {"seconds": seconds, "right": right}
