"""Cases about many files, their names and their lives."""

import os
import re
import shutil

from .builder import case, raw

MB = 1 << 20
DAY = 86400
YEAR_2024 = 1704067200

OWNERS = [(0, 0), (1000, 1000), (1000, 100), (33, 33), (65534, 65534), (100000, 200000)]
MODES = [0o644, 0o600, 0o755, 0o640, 0o444, 0o4755, 0o2750, 0o1777, 0o000]


def fair(size):
    """A size that leaves no 1 to 7 bytes in the last block: too few to tell by its content whether it still stands."""
    return size + 8 if 0 < size % 1024 < 8 else size


def some_size(random, largest):
    """Sizes as on real disks: most are small."""
    return 0 if random.random() < 0.05 else fair(int(8 * (largest / 8) ** random.random()))


def some_content(rec, random, size):
    return rec.text(size) if random.random() < 0.3 else rec.data(size)


@case("files900", "900 files of all sizes, 300 of them removed one by one: the everyday loss; Linux wipes the names")
def files900(b):
    random = b.random
    b.mkfs(512 * MB, "-b 4096 -I 256")
    rec = b.mount()
    folders = [b"", b"/home", b"/home/anna", b"/home/anna/Pictures", b"/srv", b"/srv/www", b"/var", b"/var/mail", b"/var/lib", b"/var/lib/db"]
    for folder in folders[1:]:
        rec.mkdir(folder)
    files = []
    for number in range(900):
        suffix = random.choice([b".txt", b".jpg", b".html", b".MYD", b".eml", b""])
        path = random.choice(folders) + b"/file%03d" % number + suffix
        size = 0 if number % 40 == 0 else some_size(random, 3 * MB)
        rec.write(path, some_content(rec, random, size), random.choice(MODES), random.choice(OWNERS),
                  YEAR_2024 - random.randrange(20 * 365 * DAY) if number > 3 else [-DAY, 0, 2**31 - 1, 2**32][number])
        files.append(path)
        if number % 300 == 299:
            b.sync()
    doomed = files[:4] + random.sample(files[4:], 296)
    random.shuffle(doomed)
    for number, path in enumerate(doomed):
        rec.unlink(path)
        if number % 100 == 99:
            b.sync()
    b.finish()

    lost = b.lost(type="file", lost_by="unlink")
    b.claim(len(lost) == 300 and len(b.rec.lost) == 300, "300 files are lost, nothing else")
    b.claim(sum(life["size"] == 0 for life in lost) >= 7, "empty ones among them")
    b.claim(sum(item["type"] == "file" for item in b.live) == 600, "600 files live")
    b.claim_all_stand(lost)
    b.claim_names_gone(lost, at_most=30)
    b.claim_names_in_journal(lost)
    filled = [life for life in lost if life["i_block"]]
    b.claim_in_journal(filled, len(filled), len(filled), "not wrapped")


ODD_NAMES = [
    b"with space", b" leading and trailing ", b"new\nline", b"tab\tand\rreturn", b"invalid \xff\xfe utf-8", b"\xc3", b"\xe2\x82", b"\x80\x81\x82\x83",
    b"a", b"a@1", b"a@2", b"a@1@1", b"@", b"-rf", b"--", b"...", b"..b", b"~", b"*", b"?", b"[x]", b"'single'", b'"double"', b"back\\slash",
    b"$HOME", b"`id`", b"%41", b"%", b"\x1b[31mred\x1b[0m", b"\x01\x7f", b"\xd7\xa9\xd7\x9c\xd7\x95\xd7\x9d", "Übergrößenträger".encode(),
    "U\u0308 decomposed".encode(), "日本語.txt".encode(), "\u202egpj.exe".encode(), b"CON", b"x.img", b"unclaimed.img", b"by-path", b"x" * 255, b"y" * 254 + b"\xff",
]


@case("tree", "rm -r of a tree: 30 levels, any bytes in names, links, a FIFO, modes and owners; another tree lives on")
def tree(b):
    random = b.random
    b.mkfs(128 * MB, "-b 4096 -I 256 -J size=16")
    rec = b.mount()

    def grow(root):
        rec.mkdir(root, 0o750, (1000, 1000))
        odd = root + b"/odd names"
        rec.mkdir(odd)
        for number, name in enumerate(ODD_NAMES):
            rec.write(odd + b"/" + name, rec.data(100 + 37 * number), random.choice(MODES), random.choice(OWNERS), YEAR_2024 - number * DAY)
        rec.mkdir(root + b"/odd folders")
        for number, name in enumerate(ODD_NAMES[:12]):
            rec.mkdir(root + b"/odd folders/" + name, random.choice([0o755, 0o2775, 0o1777, 0o700]), random.choice(OWNERS))
            rec.write(root + b"/odd folders/" + name + b"/inside", rec.text(5000 * number))
        deep = root
        for level in range(30):
            deep += b"/level %d" % level
            rec.mkdir(deep)
            rec.write(deep + b"/at %d" % level, rec.data(1000 * (level + 1)))
        b.sync()
        more = root + b"/more"
        rec.mkdir(more)
        for number in range(150):
            folder = more + b"/%d" % (number % 12)
            if number < 12:
                rec.mkdir(folder)
            rec.write(folder + b"/document %d.txt" % number, some_content(rec, random, some_size(random, MB)), random.choice(MODES), random.choice(OWNERS))
        rec.write(more + b"/big", rec.data(9 * MB + 4321))
        rec.write(more + b"/empty")
        rec.mkdir(more + b"/empty folder", mtime=YEAR_2024)
        rec.fifo(more + b"/fifo", 0o622)
        rec.write(more + b"/one name", rec.data(30000))
        rec.link(more + b"/one name", more + b"/0/other name")
        rec.link(more + b"/one name", root + b"/third name")
        rec.symlink(more + b"/fast", b"one name")
        rec.symlink(more + b"/fast 59", b"f" * 59, (1000, 1000), YEAR_2024)
        rec.symlink(more + b"/slow 60", b"s" * 60)
        rec.symlink(more + b"/slow", b"../odd names/" + b"x" * 255 + b"/\xff\n" + b"/up" * 500, (33, 33), YEAR_2024)
        rec.symlink(root + b"/absolute", b"/etc/passwd")

    grow(b"/lost")
    b.sync()
    grow(b"/alive")
    rec.write(b"/alive/shared", rec.data(20000))
    rec.link(b"/alive/shared", b"/lost/shared with the living")
    b.sync()
    rec.remove_tree(b"/lost")
    b.finish()

    files, folders = b.lost(type="file"), b.lost(type="dir")
    b.claim(len(b.lost(type="symlink")) == 5 and len(b.lost(type="fifo")) == 1, "5 symbolic links and a FIFO are lost")
    b.claim(max(life["path"].count("/") for life in files) >= 31, "folders are 30 deep")
    b.claim([len(life["links"]) for life in files if life["links"]] == [2], "one file had three names in the tree")
    b.claim(any(item["path"] == "/alive/shared" for item in b.live) and not b.lost(path="/lost/shared with the living"),
            "a file with a name outside the tree lives on")
    b.claim_all_stand(files)
    b.claim(len({life["path"] for life in folders}) == 59, f"{len(files)} files in {len(folders)} folders are lost")
    b.claim_names_in_journal(b.rec.lost)
    filled = [life for life in files if life["i_block"]]
    b.claim_in_journal(filled, len(filled), len(filled), "not wrapped")


@case("lives", "many lives of one inode: created and deleted again and again, truncated to zero or in part, replaced by rename")
def lives(b):
    random = b.random
    b.mkfs(512 * MB, "-b 4096 -I 256 -J size=32")
    rec = b.mount()
    rec.mkdir(b"/work")
    rec.write(b"/work/bystander", rec.data(MB))

    for number in range(12):
        size = [100, 5000, 60000, 3 * MB, 0, 4096, 49152, 49153 + 8, 200000, 7 * MB + 77, 12345, 8192][number]
        rec.write(b"/work/again", rec.data(size), random.choice(MODES), random.choice(OWNERS), YEAR_2024 + number * DAY)
        b.sync()
        rec.unlink(b"/work/again")
        b.sync()

    # One life of the inode, whose contents are lost several times.
    rec.write(b"/work/log", rec.text(2 * MB))
    b.sync()
    for number in range(6):
        rec.rewrite(b"/work/log", rec.text([900000, 3 * MB, 70000, 0, 40000, 5 * MB + 99][number]))
        b.sync()
        if number == 3:
            rec.append(b"/work/log", rec.text(MB))
            b.sync()
    rec.truncate(b"/work/log", 0)
    b.sync()

    rec.write(b"/work/cut", rec.data(50 * MB))
    b.sync()
    rec.truncate(b"/work/cut", 10 * MB)
    b.sync()
    rec.write(b"/work/cut unaligned", rec.data(6 * MB + 1234))
    b.sync()
    rec.truncate(b"/work/cut unaligned", 4 * MB + 1000)
    b.sync()
    rec.append(b"/work/cut unaligned", rec.data(300000))
    b.sync()
    rec.truncate(b"/work/cut unaligned", 30001)
    b.sync()

    # As editors save: a new file takes the name of the old one.
    rec.write(b"/work/saved.odt", rec.data(150000))
    b.sync()
    for number in range(8):
        rec.write(b"/work/saved.tmp", rec.data(150000 + 20000 * number))
        b.sync()
        rec.rename(b"/work/saved.tmp", b"/work/saved.odt")
        b.sync()
    # As logrotate does.
    for number in range(3):
        rec.write(b"/work/syslog", rec.text(400000 + number))
        b.sync()
        if number:
            rec.rename(b"/work/syslog.1", b"/work/syslog.2")
        rec.rename(b"/work/syslog", b"/work/syslog.1")
        b.sync()
    # As a file and a folder may follow each other in one inode, and one name change its kind.
    for number in range(3):
        rec.mkdir(b"/work/thing")
        rec.write(b"/work/thing/inner", rec.data(20000))
        b.sync()
        rec.remove_tree(b"/work/thing")
        b.sync()
        rec.write(b"/work/thing", rec.data(20000 + number))
        b.sync()
        rec.unlink(b"/work/thing")
        rec.symlink(b"/work/thing", b"target %d" % number)
        b.sync()
        rec.unlink(b"/work/thing")
        b.sync()
    b.finish()

    again = b.lost(path="/work/again")
    by_inode = [life["inode"] for life in again]
    most = max(map(by_inode.count, by_inode))
    b.claim(most >= 10, f"one inode number had {most} lives under one path")
    b.claim(len({life["generation"] for life in again}) == len(again), "each has a generation of its own")
    b.claim(len({(life["inode"], life["generation"]) for life in b.lost(path="/work/log")}) == 1, "a rewritten file keeps its generation")
    b.claim(len(b.lost(lost_by="rename-over")) == 9, "9 files are lost by rename")
    b.claim(len(b.lost(lost_by="truncate")) == 4, "4 truncations, 3 of them in part")
    files = [life for life in b.lost(type="file") if life["i_block"]]
    b.claim_in_journal(files, len(files), len(files), "each life was committed")


@case("bigdir", "100,000 files in one hashed folder, rm -r of it; every name is in the journal")
def bigdir(b):
    count = 100_000
    b.mkfs(640 * MB, f"-b 4096 -I 128 -N {count + 20000} -J size=256")
    rec = b.mount()
    rec.mkdir(b"/maildir")
    rec.mkdir(b"/maildir/cur")
    for number in range(count):
        path = b"/maildir/cur/%08d.M%dP42.mail,S=%d" % (number, number * 7919 % 1000003, number % 97)
        rec.write(path, rec.data(64 + number % 3000) if number % 50 == 0 else b"", 0o600)
    rec.write(b"/kept", rec.data(5000))
    b.sync()
    rec.remove_tree(b"/maildir")
    b.finish()

    files = b.lost(type="file")
    b.claim(len(files) == count and len(b.lost(type="dir")) == 2, f"{count} files in one folder are lost")
    folder = b.lost(path="/maildir/cur")[0]
    b.claim(folder["size"] >= 4 * MB, f"the folder had {folder['size'] // 4096} blocks")
    names = set(re.findall(rb"\d{8}\.M\d+P42\.mail", b.journal()))
    expected = {raw(life["path"]).rsplit(b"/", 1)[1].split(b",")[0] for life in files}
    b.claim(len(expected) == count and expected <= names, f"the journal has {len(expected & names)} of {count} names")
    b.claim_all_stand(files)


@case("rootfs", "a healthy disk with some 200 MB of /usr/share, from which nothing was ever lost: nothing may be reported")
def rootfs(b):
    b.mkfs(512 * MB, "-b 4096 -I 256 -N 65536")
    rec = b.mount()
    copied = 0  # with what the last block of each wastes
    for folder, limit in (("/usr/share/man", 30), ("/usr/share/perl", 40), ("/usr/share/vim", 40), ("/usr/share/locale", 60), ("/usr/share/i18n", 30),
                          ("/usr/share/icons", 40), ("/usr/share/fonts", 40), ("/usr/share/doc", 60), ("/usr/share/mime", 20), ("/usr/share", 200)):
        for root, folders, names in os.walk(folder):
            folders.sort()
            target = b.disk.at(os.fsencode(root))
            os.makedirs(target, exist_ok=True)
            for name in sorted(names):
                source, to = os.path.join(root, name), os.path.join(target, os.fsencode(name))
                size = os.lstat(source).st_size + 4096
                if limit <= 0 or copied + size > 200 * MB or os.path.lexists(to):
                    continue
                shutil.copy2(source, to, follow_symlinks=False)
                limit -= size / MB
                copied += size
            if limit <= 0:
                break
        b.sync()
    b.finish()
    b.claim(not rec.lost, "nothing is lost")
    b.claim(copied > 100 * MB and len(b.live) > 500, f"{len(b.live)} files and folders live, {copied // MB} MB")
