"""Plots as SVG, written by hand: bars beside each other, points with their line, and how far each target is passed."""

import math
import os
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT, TOP = 760, 230, 110, 52
INK, GREY, OURS, OTHER, MISS = "#222222", "#999999", "#2b6cb0", "#b8c4d0", "#c0392b"


class Drawing:
    """Shapes, and the file that they go into."""

    def __init__(self, title, height):
        self.height, self.shapes = height, []
        self.text(WIDTH / 2, 26, title.replace("`", ""), "middle", 15)

    def text(self, x, y, text, anchor="start", size=12, colour=INK):
        self.shapes.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{escape(text)}</text>')

    def rect(self, x, y, width, height, colour):
        self.shapes.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height:.1f}" fill="{colour}"/>')

    def line(self, x1, y1, x2, y2, colour=GREY, dashes=""):
        dashes = f' stroke-dasharray="{dashes}"' if dashes else ""
        self.shapes.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{dashes}/>')

    def dot(self, x, y, colour=OURS):
        self.shapes.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')

    def write(self, path):
        head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{self.height}" font-family="sans-serif">'
        with open(path, "w", encoding="utf-8") as out:
            out.write("\n".join([head, f'<rect width="{WIDTH}" height="{self.height}" fill="white"/>', *self.shapes, "</svg>", ""]))


def number(value):
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def bars(title, unit, groups):
    """Horizontal bars of {group: {name: figure}}."""
    lines = sum(len(each) + 1 for each in groups.values())
    drawing = Drawing(title + (f" ({unit})" if unit else ""), TOP + lines * 24 + 12)
    largest = max((figure for each in groups.values() for figure in each.values()), default=0) or 1
    y = TOP
    for group, each in groups.items():
        drawing.text(LEFT - 8, y + 8, group, "end", 12, GREY)
        y += 18
        for name, figure in each.items():
            drawing.text(LEFT - 8, y + 13, name, "end")
            length = figure / largest * (WIDTH - LEFT - RIGHT)
            drawing.rect(LEFT, y, length, 18, OURS if name.startswith("undelfs") else OTHER)
            drawing.text(LEFT + max(length, 0.5) + 6, y + 13, number(figure))
            y += 24
        y += 6
    return drawing


def line(title, axes, xs, ys, fitted, logarithmic):
    """Points, and the straight line that fits them best."""
    height, left, bottom = 440, 80, 380
    drawing = Drawing(title, height)
    scale = (lambda value: math.log10(max(value, 1e-9))) if logarithmic else float
    low = [scale(min(values)) if logarithmic else 0 for values in (xs, ys)]
    span = [(scale(max(values)) - start) * 1.05 or 1 for values, start in zip((xs, ys), low)]
    x_at = lambda x: left + (scale(x) - low[0]) / span[0] * (WIDTH - left - 40)
    y_at = lambda y: bottom - (scale(y) - low[1]) / span[1] * (bottom - TOP)
    drawing.line(left, bottom, WIDTH - 40, bottom)
    drawing.line(left, bottom, left, TOP)
    drawing.text((left + WIDTH - 40) / 2, height - 14, axes[0], "middle")
    drawing.text(12, TOP - 10, axes[1])
    slope, start = fitted
    steps = [xs[0] * (xs[-1] / xs[0]) ** (i / 60) for i in range(61)] if logarithmic else [0, xs[-1]]
    fit = [(x, start + slope * x) for x in steps if not logarithmic or start + slope * x >= min(ys) / 2]
    for (x1, y1), (x2, y2) in zip(fit, fit[1:]):
        drawing.line(x_at(x1), min(y_at(y1), bottom), x_at(x2), min(y_at(y2), bottom), OURS, "5 4")
    for x, y in zip(xs, ys):
        drawing.dot(x_at(x), y_at(y))
        drawing.text(x_at(x), bottom + 18, number(x), "middle", 11, GREY)
        drawing.text(x_at(x) - 8, y_at(y) - 8, number(y), "end", 11)
    return drawing


def targets(rows):
    """How many times better than its target each row is; left of the line is a miss. One step of the scale is a factor of ten."""
    rows = [row for row in rows if row.margin]
    left = 470
    drawing = Drawing("How far past its target each figure is (1: just reached)", TOP + 22 * len(rows) + 20)
    one, step = left + 40, (WIDTH - left - 120) / 3
    for at, row in enumerate(rows):
        y = TOP + at * 22
        words = f"{row.work.replace('`', '')}{' : ' + row.against.replace('`', '') if row.ratio else ''}"
        drawing.text(left - 8, y + 12, words if len(words) <= 82 else words[:80] + "…", "end", 10)
        length = max(-40, min(math.log10(row.margin), 3) * step)
        drawing.rect(min(one, one + length), y, abs(length), 15, OURS if row.reached else MISS)
        drawing.text(one + max(length, 0) + 5, y + 12, number(row.margin), size=11)
    drawing.line(one, TOP - 6, one, drawing.height - 14, INK)
    return drawing


def draw(results, folder):
    """Writes all plots of the results into a folder."""
    for kind, name, *what in results.plots:
        (bars if kind == "bars" else line)(*what).write(os.path.join(folder, f"{name}.svg"))
    if any(row.margin for row in results.rows):
        targets(results.rows).write(os.path.join(folder, "targets.svg"))
