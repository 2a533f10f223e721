"""The import arrows of the house: who may know whom. Read from the source, so that lazy imports count too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "lm_eval_attrib"
#: Import name of each source folder: setuptools' package-dir.
FOLDERS = {PACKAGE: PACKAGE, "lrp": f"{PACKAGE}.lrp", "reports": f"{PACKAGE}.reports", "tasks": f"{PACKAGE}.tasks"}

#: Third-party libraries that only some parts may import.
HEAVY = {"torch", "transformers", "accelerate", "lm_eval", "duckdb", "pyarrow"}

#: part → what of the package, and which of HEAVY, it may import. A part is a module or a package directly below
#: lm_eval_attrib; parts that are not named may import anything but lm_eval, duckdb, pyarrow and cli.
ARROWS: dict[str, tuple[set[str], set[str]]] = {
    "records": (set(), set()),
    "errors": (set(), set()),
    "lrp": ({"errors"}, {"torch", "transformers", "accelerate"}),
    # The database: store.py and what it is made of.
    "store": ({"records", "errors", "sink", "tables", "jsontext", "readers", "signals"}, {"duckdb", "pyarrow"}),
    "shards": ({"records", "errors", "sink", "tables", "jsontext", "readers", "store"}, {"pyarrow"}),
    "sink": ({"records", "errors", "tables"}, set()),
    "tables": ({"records", "errors", "jsontext"}, {"pyarrow"}),
    "readers": ({"errors"}, {"pyarrow"}),
    "jsontext": (set(), set()),
    "signals": (set(), set()),
    "reports": ({"records", "errors", "store"}, {"pyarrow"}),
    "rows": (set(), set()),
    "show": ({"errors", "store"}, set()),
    "settings": ({"errors"}, set()),
    "tokens": (set(), set()),
    "profiles": ({"records", "errors", "tasks"}, set()),
    "segments": ({"records", "errors", "profiles", "tokens"}, set()),
    "contrast": ({"records", "errors", "profiles", "segments", "tokens", "lrp"}, {"torch", "transformers"}),
    # The checks: verify.py and what it is made of.
    "verify": ({"records", "errors", "lrp", "labels", "trust", "subject", "experiments"}, {"torch"}),
    "labels": ({"records", "errors"}, set()),
    "trust": ({"records", "errors", "lrp", "labels"}, {"torch"}),
    "subject": ({"records", "lrp"}, {"torch"}),
    "experiments": ({"records", "lrp", "labels", "subject"}, set()),
    "plan": ({"records", "errors"}, set()),
    "recording": ({"records", "lrp"}, {"torch"}),
}
ONLY_THESE_IMPORT = {
    "lm_eval": {"plugin", "model", "harness", "tasks"},
    "duckdb": {"store"},
    "pyarrow": {"store", "shards", "tables", "readers", "reports"},
}


def modules() -> Iterator[tuple[str, Path]]:
    for folder, name in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            relative = path.relative_to(ROOT / folder).with_suffix("")
            parts = [part for part in relative.parts if part != "__init__"]
            yield ".".join([name, *parts]), path


def imports(name: str, path: Path) -> Iterator[str]:
    """Absolute names of everything that a module imports, wherever in the module the import stands."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def part(name: str) -> str:
    """``lm_eval_attrib.reports.html`` → ``reports``; the package itself is the empty part."""
    return name.split(".")[1] if "." in name else ""


MODULES = list(modules())
IDS = [name for name, _ in MODULES]


def test_reads_the_whole_house() -> None:
    assert {part(name) for name in IDS} >= {"records", "errors", "lrp", "reports", "tasks", "contrast", "settings"}
    assert set(imports(f"{PACKAGE}.lrp.attribution", ROOT / "lrp" / "attribution.py")) >= {
        "torch",
        f"{PACKAGE}.lrp.graph.AttributionGraph",
    }


@pytest.mark.parametrize(("name", "path"), MODULES, ids=IDS)
def test_arrows(name: str, path: Path) -> None:
    mine = part(name)
    known, heavy = ARROWS.get(mine, (None, HEAVY))
    for imported in imports(name, path):
        top = imported.split(".")[0]
        if top in HEAVY:
            assert top in heavy, f"{name} imports {imported}"
            assert mine in ONLY_THESE_IMPORT.get(top, {mine}), f"{name} imports {imported}"
        elif top == PACKAGE:
            other = part(imported)
            assert other != "cli" or mine in ("cli", "__main__"), f"{name} imports the command line"
            if known is not None and other not in ("", mine):
                assert other in known, f"{name} imports {imported}: the arrow {mine} → {other} is not in the design"


def test_every_part_with_arrows_is_checked() -> None:
    """A part that was renamed would silently drop out of the table."""
    missing = set(ARROWS) - {part(name) for name in IDS}
    assert not missing, f"the table names parts that do not exist: {missing}"
