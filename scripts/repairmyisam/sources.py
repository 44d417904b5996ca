"""Where the files of a table are: in the mount, beside each other, or in the datadir already."""

import fnmatch
import os
import re

from .system import Refusal

# What joins the name of a table and that of its partition in the names of files.
PARTITION = "#P#"


class Part:
    """A .MYD with its .MYI: a table, or a partition of one."""

    def __init__(self, stem, myd, myi):
        self.stem = stem
        self.myd = myd
        self.myi = myi


class Table:
    """The files of a lost table."""

    def __init__(self, database, name, parts, frm, par=None, sdi=None):
        self.database = database
        self.name = name
        self.parts = parts
        self.frm = frm
        self.par = par
        # MySQL's definition since 8.0; a definition of MariaDB's comes first.
        self.sdi = None if frm else sdi

    def __str__(self):
        return f"{self.database}/{self.name}"


def folders(mount, wanted):
    """Folders of the mount in which a table called `wanted` (DATABASE/TABLE, or longer) may lie."""
    database = os.path.dirname(wanted)
    roots = [root for root in (os.path.join(mount, "by-path"), mount) if os.path.isdir(root)]
    direct = [os.path.join(root, database) for root in roots if os.path.isdir(os.path.join(root, database))]
    if direct:
        return direct[:1]
    return [folder for folder, _, _ in os.walk(roots[0]) if ("/" + folder).endswith("/" + database)]


def names_in(folder, pattern):
    """Tables in a folder that match: a partition counts for its table. Patterns without wildcards match themselves only."""
    names = set()
    for file in os.listdir(folder):
        stem, ext = os.path.splitext(file)
        if ext in (".MYD", ".MYI"):
            name = stem.split(PARTITION)[0]
            if fnmatch.fnmatchcase(name, pattern) or name == pattern:
                names.add(name)
    return names


def existing(*paths):
    """The first of these that is a file with something in it."""
    return next((path for path in paths if path and os.path.isfile(path) and os.path.getsize(path)), None)


def find(mount, wanted, datadir):
    """The tables that `wanted` names, a pattern or a single one."""
    wanted = os.path.normpath(wanted)
    if wanted.endswith((".MYD", ".MYI", ".frm")):
        wanted = wanted[:-4]
    for root in ("by-path/", "/"):
        wanted = wanted.removeprefix(root)
    database, pattern = os.path.basename(os.path.dirname(wanted)), os.path.basename(wanted)
    if not database:
        raise Refusal(f"{wanted}: give DATABASE/TABLE, as in mail/messages")
    home = os.path.join(datadir, database)
    found = [(folder, name) for folder in folders(mount, wanted) for name in sorted(names_in(folder, pattern))]
    if not found:
        raise Refusal(f"{wanted}: no .MYD or .MYI of it in {mount}; `find {mount} -name '{pattern}*'` may know another place "
                      "(or see by-inode/ and orphans/), then give --myd FILE")
    twice = [name for _, name in found if sum(other == name for _, other in found) > 1]
    if twice:
        places = ", ".join(folder for folder, name in found if name == twice[0])
        raise Refusal(f"{wanted}: lost from several folders ({places}); give the path under by-path/ of the right one")
    return [table(folder, home, database, name) for folder, name in found]


def table(folder, home, database, name):
    """A table in `folder`; what is not lost may be in `home`."""
    stems = {os.path.splitext(file)[0] for place in (folder, home) if os.path.isdir(place) for file in os.listdir(place)
             if file.endswith((".MYD", ".MYI"))}
    stems = sorted(stem for stem in stems if stem == name or stem.startswith(name + PARTITION))
    if len(stems) > 1 and name in stems:
        stems.remove(name)
    parts = []
    for stem in stems:
        myd = existing(*(os.path.join(place, stem + ".MYD") for place in (folder, home)))
        if not myd:
            raise Refusal(f"{database}/{stem}: {folder} has no rows of it, only {stem}.MYI: give --myd FILE with the .MYD, wherever it is")
        parts.append(Part(stem, myd, existing(*(os.path.join(place, stem + ".MYI") for place in (folder, home)))))
    beside = lambda ext: existing(os.path.join(folder, name + ext), os.path.join(home, name + ext))
    return Table(database, name, parts, beside(".frm"), beside(".par"), definition(name, folder, home))


def definition(name, *places):
    """A table's file of MySQL's dictionary: NAME_NUMBER.sdi."""
    found = (os.path.join(place, file) for place in places if os.path.isdir(place) for file in sorted(os.listdir(place))
             if re.fullmatch(re.escape(name) + r"_[0-9]+\.sdi", file))
    return existing(*found)
