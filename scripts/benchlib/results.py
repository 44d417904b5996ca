"""The table: what was measured, against what, and whether the target is reached."""

import json
import os
import statistics
from dataclasses import asdict, dataclass

from .machine import GIB, MIB

median = statistics.median


def rate(figure):
    return f"{figure / 1e6:,.0f} MB/s"


def micro(figure):
    return f"{figure * 1e6:,.1f} µs"


def milli(figure):
    return f"{figure * 1e3:,.2f} ms"


def second(figure):
    return f"{figure:.2f} s" if figure < 100 else f"{figure:.0f} s"


def mebi(figure):
    return f"{figure / MIB:.1f} MiB"


@dataclass
class Row:
    """One line. `ratio` says how many times as fast as what stands beside it undelfs is, from the rounds' own ratios."""

    work: str
    undelfs: str
    against: str = ""
    figure: str = ""
    ratio: float | None = None
    target: str = ""
    reached: bool | None = None
    # Figure and target as numbers that can be divided: how far past the target, 1 being just there.
    margin: float | None = None


def fit(xs, ys):
    """Slope and R² of the straight line through points, by least squares."""
    mean_x, mean_y = statistics.mean(xs), statistics.mean(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys)) / spread
    total = sum((y - mean_y) ** 2 for y in ys)
    rest = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in zip(xs, ys))
    return slope, mean_y - slope * mean_x, 1 - rest / total if total else 1.0


class Results:
    """Rows, in the order in which they came, with what they were made from, and what is to be drawn."""

    def __init__(self, about):
        self.about, self.rows, self.raw, self.plots, self.notes = about, [], {}, [], []

    def compare(self, work, against, ours, theirs, show, target=None, note=""):
        """A row of figures a round, of both: rates grow with speed, all others are times."""
        pairs = [(a, b) if show is rate else (b, a) for a, b in zip(ours, theirs)]
        ratio = median([a / b for a, b in pairs])
        self.rows.append(Row(
            work, show(median(ours)), against, show(median(theirs)) + note, ratio, f"≥ {target:g}" if target else "",
            ratio >= target if target else None, ratio / target if target else None))

    def below(self, work, show, figure, limit):
        """A row of a figure that has to stay below a limit."""
        self.rows.append(Row(work, show(figure), target=f"< {show(limit)}", reached=figure < limit, margin=limit / max(figure, 1e-9)))

    def above(self, work, show, figure, limit):
        """A row of a figure that has to reach a limit."""
        self.rows.append(Row(work, show(figure), target=f"≥ {show(limit)}", reached=figure >= limit, margin=figure / limit))

    def line(self, work, xs, ys, slope_words, name, title, axes, logarithmic=False, least=0.98):
        """A row that says how straight the line from work to cost is, and its plot."""
        slope, start, straight = fit(xs, ys)
        self.rows.append(Row(work, slope_words(slope), "straight line", f"R² = {straight:.4f}", target=f"R² ≥ {least}",
                             reached=straight >= least, margin=straight / least))
        self.plots.append(("line", name, title, axes, xs, ys, (slope, start), logarithmic))
        return slope, straight

    def bars(self, name, title, unit, groups):
        """A plot of figures beside each other: {group: {name: figure}}."""
        self.plots.append(("bars", name, title, unit, groups))

    def failed(self, work, error):
        self.rows.append(Row(work, f"failed: {error}", reached=False))

    def markdown(self):
        head = ["work", "undelfs", "beside it", "its figure", "speed, undelfs : it", "target", ""]
        cells = [head]
        for row in self.rows:
            ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
            cells.append([row.work, row.undelfs, row.against, row.figure, ratio, row.target, {None: "", True: "ok", False: "miss"}[row.reached]])
        widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
        lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in cells]
        lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        return "\n".join(lines) + "\n\n" + self.caption() + "\n"

    def caption(self):
        about = self.about
        return " ".join([
            f"{about['cpu']}, {about['cores']} cores, {about['memory'] / GIB:.0f} GiB, Linux {about['kernel']}; {about['time'][:10]}, "
            f"commit {about['commit']}; load {about['load_before']:.1f} before, {about.get('load_after', 0):.1f} after, "
            f"{about.get('minutes', 0):.0f} minutes.",
            "Medians of rounds that take turns, the first of them not counted, and of the rounds' ratios.", *self.notes,
            "; ".join(about["versions"]) + ".",
        ])

    def write(self, folder):
        """Writes results.json and results.md."""
        os.makedirs(folder, exist_ok=True)
        raw = {"machine": self.about, "rows": [asdict(row) for row in self.rows], "notes": self.notes, "raw": self.raw}
        for name, text in (("results.json", json.dumps(raw, indent=1) + "\n"), ("results.md", self.markdown())):
            with open(os.path.join(folder, name), "w") as out:
                out.write(text)
