"""The files beside an image: the truth as JSON (one line a life), and the hashes of the lost blocks."""

import hashlib
import json
import os
import re


def sources(case):
    """Identifies the scripts that make a case's image: when they change, it is made anew.

    Of the cases' own files only the case's and what it imports, so that a new case leaves all images as they are.
    """
    here = os.path.dirname(os.path.abspath(__file__))
    contents, waiting = {}, ["../make-image", "truth", case.__module__.rsplit(".", 1)[1]]
    while waiting:
        name = waiting.pop()
        if name not in contents:
            path = os.path.join(here, name if name.startswith("..") else name + ".py")
            with open(path, "rb") as source:
                contents[name] = source.read()
            waiting += re.findall(r"^from \.(\w+) import", contents[name].decode(), re.M)
    digest = hashlib.sha256()
    for name, content in sorted(contents.items()):
        digest.update(name.encode() + b"\0" + content + b"\0")
    return digest.hexdigest()


def compact(value):
    return json.dumps(value, separators=(",", ":"))


def write(path, header, lost, live):
    with open(path, "w", encoding="ascii") as out:
        out.write("{\n")
        for key, value in header.items():
            out.write(f"{compact(key)}:{compact(value)},\n")
        for key, items, end in (("lost", lost, ","), ("live", live, "")):
            out.write(f"{compact(key)}:[\n" + ",\n".join(map(compact, items)) + f"\n]{end}\n")
        out.write("}\n")


def read_header(path):
    """What stands before the lives; {} when there is no truth."""
    header = {}
    try:
        with open(path, encoding="ascii") as lines:
            next(lines)
            for line in lines:
                if line.startswith('"lost":'):
                    break
                header.update(json.loads("{" + line.rstrip(",\n") + "}"))
    except (OSError, StopIteration, ValueError):
        return {}
    return header
