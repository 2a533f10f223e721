"""docs/families.md's table: ``python tests/support/family_table.py`` goes through every decoder class and writes it.

``--part 0/2 --json FILE`` looks at every second class and keeps what it found, ``--only NAME …`` at those classes;
``--from FILE …`` writes the table of them, of a class that was looked at twice what was found last.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import transformers
from survey import Finding, Kind, examine
from tiny_decoders import model_types

PAGE = Path(__file__).resolve().parents[2] / "docs" / "families.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
SAYS: dict[Kind, str] = {
    "right": "explained",
    "refused": "refused",
    "wrong": "WRONG",
    "crashes": "CRASHES",
    "unbuilt": "not tried",
}


def _reason(found: Finding) -> str:
    if found.kind == "right":
        notes = [f"mixers: {', '.join(f'`{name}`' for name in found.mixers)}"] if found.mixers else []
        return "; ".join([*notes, *(["graph by single rows in some blocks"] if found.packed else [])])
    words = re.sub(r"[|<>\n]", " ", found.words)
    return f"{words[:117]}…" if len(words) > 118 else words


def table(findings: Iterable[Finding]) -> str:
    """The lines between the page's marks."""
    found = sorted(findings, key=lambda one: (one.model_type, one.name))
    counts = Counter(one.kind for one in found)
    total = ", ".join(f"{counts[kind]} {says}" for kind, says in SAYS.items() if counts[kind])
    rows = [f"| {one.model_type} | {one.name} | {SAYS[one.kind]} | {_reason(one)} |" for one in found]
    head = ["| model type | class | | |", "| --- | --- | --- | --- |"]
    first = f"transformers {transformers.__version__}: {len(found)} of {len(model_types())} classes gone through, {total}."
    return "\n".join([first, "", *head, *rows])


def listed() -> dict[str, str]:
    """Class → what the page says of it."""
    text = PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    return dict(re.findall(r"^\| \S+ \| (\w+) \| ([\w ]+) \|", text, re.M))


def write(findings: Iterable[Finding]) -> None:
    """Put the table into the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{table(findings)}\n{END}{after}", encoding="utf-8")


def _read(paths: Sequence[Path]) -> list[Finding]:
    lines = [line for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    found = [Finding(**{**json.loads(line), **_tuples(json.loads(line))}) for line in lines]
    return list({one.name: one for one in found}.values())


def _tuples(read: dict[str, list[str]]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(read[name]) for name in ("packed", "mixers")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", default="0/1")
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--from", dest="read", type=Path, nargs="+")
    options = parser.parse_args()
    if options.read:
        write(_read(options.read))
        return
    part, parts = map(int, options.part.split("/"))
    found = []
    classes = [one for one in model_types() if not options.only or one[1] in options.only]
    for model_type, name in classes[part::parts]:
        found.append(examine(model_type, name))
        print(found[-1].kind, model_type, name, found[-1].words[:200], flush=True)
        if options.json:
            with options.json.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(found[-1])) + "\n")
    if parts == 1 and not options.only:
        write(found)


if __name__ == "__main__":
    main()
