"""Draws docs/house.svg, the picture of docs/architecture.md, from the imports.

``python tests/house/draw.py`` writes it; with ``-`` it is printed.

A box is a part with its modules; boxes of one storey stand side by side. Of the arrows those are drawn that do not follow
from others: cli → commands → store says that cli may know store too.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from html import escape
from itertools import chain
from typing import NamedTuple

from test_arrows import MODULES, PACKAGE, ROOT, STOREYS, own_imports, part, storey

PICTURE = ROOT / "docs" / "house.svg"
#: Pixels: the picture's width, a box's margin, the space between storeys; a title and a line in a box.
WIDTH, PADDING, GAP = 1040, 10, 40
TITLE, LINE = 15, 15
_LETTER = 6.2
_MOST_IN_LINE = 46

STYLE = """
  text { font-family: system-ui, sans-serif; fill: #1f2328; } .names { font-size: 11px; fill: #57606a; }
  .title { font-size: 15px; font-weight: 600; } .box { fill: #f6f8fa; stroke: #8c959f; } .arrow { fill: none; stroke: #57606a; }
  @media (prefers-color-scheme: dark) { text, .names { fill: #e6edf3; } .box { fill: #21262d; } .arrow { stroke: #8c959f; } }
"""


class Box(NamedTuple):
    """A part and its place; ``lines``: its modules."""

    name: str
    lines: list[str]
    x: float
    y: float
    width: float
    height: float


def arrows() -> dict[str, set[str]]:
    """Part → the parts that it imports, without those that follow from others. That all go down is test_arrows' to hold."""
    known: dict[str, set[str]] = defaultdict(set)
    for name in MODULES:
        mine = part(name)
        known[mine] |= {other for other in map(part, own_imports(name)) if storey(mine, STOREYS) < storey(other, STOREYS)}
    known.pop("")

    def below(name: str) -> set[str]:
        return set().union(*({other} | below(other) for other in known.get(name, ())))

    return {name: found - set().union(*map(below, found)) for name, found in known.items()}


def contents(name: str) -> list[str]:
    """The modules and folders of a part, as lines."""
    above = f"{PACKAGE}.{name}."
    inside = sorted({module.removeprefix(above).split(".")[0] for module in MODULES if module.startswith(above)})
    lines = [""]
    for one in inside:
        if len(lines[-1]) + len(one) > _MOST_IN_LINE:
            lines.append("")
        lines[-1] += f"  {one}" if lines[-1] else one
    return lines if inside else []


def boxes(parts: Iterable[str]) -> dict[str, Box]:
    """Every part in its place; storeys from the top down, each spread over the width."""
    present, placed, y = set(parts), {}, 20.0
    for names in STOREYS:
        row = [(name, contents(name)) for name in sorted(names & present)]
        sizes = [2 * PADDING + max(_LETTER * max(map(len, lines), default=0), 9.0 * len(name)) for name, lines in row]
        heights = [2 * PADDING + TITLE + LINE * len(lines) for _, lines in row]
        space = (WIDTH - sum(sizes)) / (len(row) + 1)
        x = space
        for (name, lines), width, height in zip(row, sizes, heights, strict=True):
            placed[name] = Box(name, lines, x, y, width, height)
            x += width + space
        y += max(heights, default=-GAP) + GAP
    return placed


def picture(drawn: Mapping[str, set[str]]) -> str:
    """The picture as SVG."""
    places = boxes(set(drawn) | set(chain.from_iterable(drawn.values())))
    height = max(box.y + box.height for box in places.values()) + 20
    curves = [_arrow(places[name], places[other]) for name, found in sorted(drawn.items()) for other in sorted(found)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img">',
            f"<title>The parts of {PACKAGE} and who imports whom</title>",
            f"<style>{STYLE}</style>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path d="M0 0 8 4 0 8z" fill="#57606a"/></marker></defs>',
            *curves,
            *(_box(box) for box in places.values()),
            "</svg>\n",
        ]
    )


def _arrow(upper: Box, lower: Box) -> str:
    """From the upper box's foot to the lower one's head, at the places where they are nearest."""
    lean = (lower.x + lower.width / 2 - upper.x - upper.width / 2) / WIDTH
    x0, y0 = upper.x + upper.width * (0.5 + 0.35 * lean), upper.y + upper.height
    x1, y1 = lower.x + lower.width * (0.5 - 0.35 * lean), lower.y - 2
    bend = (y1 - y0) / 2
    path = f"M{x0:.0f} {y0:.0f}C{x0:.0f} {y0 + bend:.0f} {x1:.0f} {y1 - bend:.0f} {x1:.0f} {y1:.0f}"
    return f'<path class="arrow" d="{path}" marker-end="url(#tip)"><title>{upper.name} → {lower.name}</title></path>'


def _box(box: Box) -> str:
    middle = box.x + box.width / 2
    texts = [f'<text class="title" x="{middle:.0f}" y="{box.y + PADDING + TITLE - 3:.0f}">{escape(box.name)}</text>']
    for number, line in enumerate(box.lines, start=1):
        foot = box.y + PADDING + TITLE + LINE * number - 3
        texts.append(f'<text class="names" x="{middle:.0f}" y="{foot:.0f}">{escape(line)}</text>')
    place = f'x="{box.x:.0f}" y="{box.y:.0f}" width="{box.width:.0f}" height="{box.height:.0f}"'
    return f'<g text-anchor="middle"><rect class="box" rx="6" {place}/>{"".join(texts)}</g>'


if __name__ == "__main__":
    if sys.argv[1:] == ["-"]:
        sys.stdout.write(picture(arrows()))
    else:
        PICTURE.write_text(picture(arrows()), encoding="utf-8")
