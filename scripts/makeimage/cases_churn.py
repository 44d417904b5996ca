"""Cases in which blocks are used again and again."""

import os

from .builder import case
from .cases_files import MB, MODES, OWNERS, fair, some_content, some_size


class Crowd:
    """A population of files that is born, grows and dies, on a disk that is kept nearly full."""

    def __init__(self, b, folders, budget, largest):
        self.b, self.rec, self.random = b, b.rec, b.random
        self.folders, self.budget, self.largest = folders, budget, largest
        self.sizes = {}
        self.number = 0

    def used(self):
        return sum(self.sizes.values())

    def born(self):
        size = some_size(self.random, self.largest)
        path = self.random.choice(self.folders) + b"/%s%d" % (self.random.choice([b"mail", b"img", b"doc", b"tmp"]), self.number)
        self.number += 1
        self.rec.write(path, some_content(self.rec, self.random, size), self.random.choice(MODES), self.random.choice(OWNERS))
        self.sizes[path] = size

    def grow(self):
        path = self.pick()
        more = fair(self.sizes[path] + some_size(self.random, self.largest) + 64) - self.sizes[path]
        self.rec.append(path, self.rec.data(more))
        self.sizes[path] += more

    def change(self):
        """Overwrites in place."""
        path = self.pick()
        if self.sizes[path] > 100:
            at = self.random.randrange(self.sizes[path] - 50)
            self.rec.overwrite(path, at, self.rec.data(min(self.sizes[path] - at, 70000)))

    def die(self, path=None):
        path = path or self.pick()
        self.rec.unlink(path)
        del self.sizes[path]

    def cut(self):
        path = self.pick()
        size = min(self.sizes[path], fair(self.random.choice([0, self.sizes[path] // 2, self.sizes[path] // 3])))
        self.rec.truncate(path, size)
        self.sizes[path] = size

    def rewrite(self):
        path = self.pick()
        self.sizes[path] = some_size(self.random, self.largest)
        self.rec.rewrite(path, self.rec.data(self.sizes[path]))

    def move(self):
        path = self.pick()
        new = self.random.choice(self.folders) + b"/moved%d" % self.number
        self.number += 1
        if self.random.random() < 0.3:
            new = self.pick()
        if new != path:
            self.rec.rename(path, new)
            self.sizes[new] = self.sizes.pop(path)

    def pick(self):
        return self.random.choice(sorted(self.sizes))

    def step(self):
        while self.used() > self.budget:
            self.die()
        if len(self.sizes) < 20:
            return self.born()
        acts = [(self.born, 40), (self.grow, 20), (self.die, 18), (self.change, 6), (self.cut, 5), (self.rewrite, 5), (self.move, 6)]
        self.random.choices([act for act, _ in acts], [weight for _, weight in acts])[0]()


@case("churn", "months on a small, nearly full disk: blocks of lost files used by living and later lost ones; the journal wraps; then a last loss")
def churn(b):
    b.mkfs(256 * MB, "-b 4096 -I 256 -J size=4")
    rec = b.mount()
    folders = [b"/a", b"/b", b"/b/c", b"/d", b"/d/e", b"/d/e/f"]
    for folder in folders:
        rec.mkdir(folder)
    crowd = Crowd(b, folders, 205 * MB, 8 * MB)
    for session in range(8):
        for number in range(500):
            crowd.step()
            if number % 25 == 24:
                b.sync()
        b.disk.remount(restart_log=session % 2 == 0)
    before = len(rec.lost)
    doomed = b.random.sample(sorted(crowd.sizes), 60)
    for number, path in enumerate(doomed):
        crowd.die(path)
        if number % 10 == 9:
            b.sync()
    used = os.statvfs(b.disk.mounted.root)
    b.finish()

    early, last = rec.lost[:before], rec.lost[before:]
    b.claim(len(last) == 60 and before > 1000, f"{before} lives were lost over eight sessions, 60 files in the last")
    full = 100 - 100 * used.f_bfree // used.f_blocks
    b.claim(full > 50, f"the disk is {full}% full after it")
    b.claim_all_stand(last)
    with_blocks = [life for life in early if life["hashes"][1]]
    whole = sum(life["stands"] == life["hashes"][1] for life in with_blocks)
    none = sum(life["stands"] == 0 for life in with_blocks)
    part = len(with_blocks) - whole - none
    b.claim(min(whole, none, part) > 50, f"of {len(with_blocks)} early lives with content {whole} stand whole, {part} in part, {none} not at all")
    b.claim_in_journal(early, 0, len(with_blocks) // 2, "wrapped, of the early lives")
    b.claim_in_journal(last, 0, len(last), "of the last lives")
