"""The files beside an image: the truth as JSON (one line a life), and the hashes of the lost blocks."""

import glob
import hashlib
import json
import os


def sources():
    """Identifies the scripts that made an image: when they change, it is made anew."""
    here = os.path.dirname(os.path.abspath(__file__))
    digest = hashlib.sha256()
    for path in [os.path.join(os.path.dirname(here), "make-image"), *sorted(glob.glob(os.path.join(here, "*.py")))]:
        with open(path, "rb") as source:
            digest.update(os.path.basename(path).encode() + b"\0" + source.read() + b"\0")
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
