"""The house: who may know whom, and what a folder may hold. Read from the source, so that lazy imports count too."""

from __future__ import annotations

import ast
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "lm_eval_attrib"
#: Import name of each source folder: setuptools' package-dir.
FOLDERS = {PACKAGE: PACKAGE, "lrp": f"{PACKAGE}.lrp", "reports": f"{PACKAGE}.reports", "tasks": f"{PACKAGE}.tasks"}

#: The storeys, the highest first: a part may import parts of lower storeys, none of its own or a higher one.
STOREYS = [
    {"", "__main__"},
    {"cli"},
    {"commands"},
    {"harness"},
    {"explain"},
    {"contrast", "artefacts"},
    {"checks", "evaluation", "plants", "reports"},
    {"store", "lrp", "prompt"},
    {"settings"},
    {"terms", "plugin", "tasks"},
    {"records"},
    {"columns", "runs", "steps"},
    {"errors", "charges"},
]
#: Parts that know less than their storey allows.
ONLY = {
    "reports": {"store", "terms", "charges", "records", "columns", "steps", "errors"},
    "lrp": {"errors", "columns"},
    "plugin": set(),
    "tasks": set(),
    "records": {"columns", "charges", "runs", "steps"},
    "columns": set(),
    "runs": set(),
    "steps": set(),
    "charges": set(),
}
#: Heavy libraries → the parts that may import them.
LIBRARIES = {
    "lm_eval": {"harness", "plugin", "tasks"},
    "duckdb": {"store"},
    "pyarrow": {"store", "reports"},
    "torch": {"lrp", "contrast", "artefacts", "checks", "plants", "explain", "harness", "commands", "tasks"},
    "transformers": {"lrp", "contrast", "plants", "commands", "tasks"},
    "accelerate": {"lrp"},
}
#: Parts of lrp, likewise.
ENGINE = [
    {""},
    {"engine"},
    {"audit", "attribution"},
    {"graph", "memory", "intervention"},
    {"sweep"},
    {"mixers", "decoder"},
    {"rules"},
    {"pair"},
]
MOST_MODULES, MOST_LINES = 14, 350


def modules() -> Iterator[tuple[str, Path]]:
    for folder, name in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            relative = path.relative_to(ROOT / folder).with_suffix("")
            parts = [part for part in relative.parts if part != "__init__"]
            yield ".".join([name, *parts]), path


MODULES = dict(modules())
IDS = list(MODULES)


def imports(name: str) -> Iterator[str]:
    """Absolute names of everything that a module imports, wherever in the module the import stands."""
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def own_imports(name: str) -> set[str]:
    """The modules of the house that a module imports."""
    found = set()
    for imported in imports(name):
        while imported not in MODULES and "." in imported:
            imported = imported.rpartition(".")[0]
        if imported in MODULES and imported != name:
            found.add(imported)
    return found


def part(name: str, below: str = PACKAGE) -> str:
    """``lm_eval_attrib.reports.html`` → ``reports``; the package itself is the empty part."""
    return name.removeprefix(below).lstrip(".").split(".")[0]


def storey(of: str, house: list[set[str]]) -> int:
    found = [place for place, parts in enumerate(house) if of in parts]
    assert found, f"the part {of!r} has no storey: say in this test who may know it"
    return found[0]


def test_reads_the_whole_house() -> None:
    assert {part(name) for name in IDS} >= {"records", "errors", "lrp", "reports", "tasks", "contrast", "settings"}
    assert f"{PACKAGE}.lrp.pair" in own_imports(f"{PACKAGE}.lrp.engine")
    assert {"torch", "torch.Tensor"} <= set(imports(f"{PACKAGE}.lrp.engine"))


@pytest.mark.parametrize("name", IDS)
def test_arrows_go_down(name: str) -> None:
    mine = part(name)
    for imported in own_imports(name):
        other = part(imported)
        if other in (mine, ""):
            continue
        assert storey(mine, STOREYS) < storey(other, STOREYS), (
            f"{name} imports {imported}: {mine} → {other} goes up or sideways"
        )
        assert mine not in ONLY or other in ONLY[mine], f"{name} imports {imported}: {mine} may know {ONLY[mine]}"
    for imported in imports(name):
        library = imported.split(".")[0]
        if library in LIBRARIES:
            assert mine in LIBRARIES[library], f"{name} imports {imported}"


@pytest.mark.parametrize("name", [name for name in IDS if part(name) == "lrp"])
def test_arrows_in_the_engine_go_down(name: str) -> None:
    mine = part(name, f"{PACKAGE}.lrp")
    for imported in own_imports(name):
        if part(imported) == "lrp" and (other := part(imported, f"{PACKAGE}.lrp")) != mine:
            assert storey(mine, ENGINE) < storey(other, ENGINE), (
                f"{name} imports {imported}: {mine} → {other} goes up or sideways"
            )


def test_there_is_no_circle() -> None:
    try:
        TopologicalSorter({name: own_imports(name) for name in IDS}).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' → '.join(error.args[1])}")


def test_a_file_is_one_noun() -> None:
    paths = [*MODULES.values(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "bench").rglob("*.py")]
    lines = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    long = {path: count for path, count in lines.items() if count > MOST_LINES}
    assert not long, f"more than {MOST_LINES} lines; look for the second noun in {long}"


def test_a_folder_can_be_seen_at_once() -> None:
    folders = defaultdict(list)
    for path in MODULES.values():
        if path.name != "__init__.py":
            folders[path.parent].append(path.name)
    full = {str(folder.relative_to(ROOT)): len(held) for folder, held in folders.items() if len(held) > MOST_MODULES}
    assert not full, f"folders of more than {MOST_MODULES} modules: {full}"


def test_no_name_is_defined_twice() -> None:
    """A reader who meets a class or function knows where it lives. Commands share their names with what they call."""
    places = defaultdict(list)
    for name, path in MODULES.items():
        if part(name) in ("cli", "tasks"):
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_"):
                places[node.name].append(name)
    twice = {name: found for name, found in places.items() if len(found) > 1}
    assert not twice


def test_every_folder_is_packed() -> None:
    packed = set(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"])
    assert packed == {name for name, path in MODULES.items() if path.name == "__init__.py"}
