"""The README's section of figures."""

import os
import re

from makeimage.system import Failure
from .machine import ROOT

INTRODUCTION = """\
`scripts/bench` measures undelfs beside what else can do the same work, in one run on one machine, and writes this table, the same as JSON
and plots into `target/bench`. "ok" and "miss" say whether a figure reaches its target.
"""


def update(results):
    """Puts the table into the README, in place of the one before."""
    path = os.path.join(ROOT, "README.md")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    section = f"## Measured\n\n{INTRODUCTION}\n{results.markdown()}\n"
    changed, count = re.subn(r"^## Measured\n.*?(?=^## )", lambda _: section, text, flags=re.S | re.M)
    if count != 1:
        raise Failure("the README has no section 'Measured' with another after it")
    with open(path, "w", encoding="utf-8") as file:
        file.write(changed)
