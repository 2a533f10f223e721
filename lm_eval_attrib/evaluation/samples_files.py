"""Files of ``--log_samples``: which there are, whose they are, and their samples with the place of each.

A line is a sample; releases before 0.4.3 wrote one JSON array instead.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import SamplesError

log = logging.getLogger(__name__)

NEEDED = ("doc_id", "doc", "arguments", "resps")
#: ``samples_<task>_<date>.jsonl``
FILE_NAME = re.compile(r"samples_(?P<task>.+)_\d{4}-\d{2}-\d{2}T[\d:.\-]+\.jsonl$")
#: Document numbers beyond this the database cannot hold.
_LARGEST = 2**63 - 1

Sample = Mapping[str, Any]


class PlacedSample(dict[str, Any]):
    """A sample that knows where it stands: ``file:line``."""

    place: str = ""


class LeftOut:
    """Samples that cannot be used, and why; the others are."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def add(self, error: SamplesError) -> None:
        """Leave one out."""
        self.reasons.append(str(error))

    def tell(self, kept: int) -> None:
        """Say it, with the first reason.

        Raises:
            SamplesError: nothing is left.
        """
        if not self.reasons:
            return
        if not kept:
            more = f" ({len(self.reasons) - 1} more like it)" if len(self.reasons) > 1 else ""
            raise SamplesError(f"{self.reasons[0]}{more}")
        count = f"{len(self.reasons)} samples are" if len(self.reasons) > 1 else "One sample is"
        log.warning("%s left out, the other %d are read. %s", count, kept, self.reasons[0])


def read_samples(paths: Iterable[str | Path], task: str | None = None) -> dict[str, list[PlacedSample]]:
    """Task → samples, from JSONL files or folders of them. What is no sample is left out, and said.

    Raises:
        SamplesError: a file cannot be read or is cut off, holds no sample, or a task is not known; a document is there twice.
    """
    found: dict[str, list[PlacedSample]] = {}
    seen: dict[tuple[str, Any, Any], str] = {}
    left_out = LeftOut()
    for path in samples_files(paths):
        name = task or task_of(path)
        unnamed: dict[Any, int] = {}
        for sample in _placed(path):
            try:
                check_sample(sample, sample.place)
            except SamplesError as error:
                left_out.add(error)
                continue
            filter_name = sample.get("filter")
            if filter_name is None:  # before 0.4.6 a document stands there once a filter, without its name
                filter_name = unnamed[sample["doc_id"]] = unnamed.get(sample["doc_id"], -1) + 1
            key = (name, sample["doc_id"], filter_name)
            if key in seen:
                raise SamplesError(
                    f"{sample.place}: document {key[1]} of {name} under the filter {sample.get('filter', 'none')!r} is there "
                    f"twice, first at {seen[key]}. Give the files of one evaluation."
                )
            seen[key] = sample.place
            found.setdefault(name, []).append(sample)
    left_out.tell(len(seen))
    return found


def samples_files(paths: Iterable[str | Path]) -> list[Path]:
    """The samples files among ``paths``, those in folders among them.

    Raises:
        SamplesError: there is none, or a path does not exist.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(path.rglob("samples_*.jsonl"))
            if not inside:
                raise SamplesError(f"{path} holds no samples_*.jsonl; lm_eval writes them with --log_samples --output_path.")
            files += inside
        elif path.is_file():
            files.append(path)
        else:
            raise SamplesError(f"{path} does not exist. Give samples_*.jsonl files of --log_samples, or a folder of them.")
    if not files:
        raise SamplesError("No samples file was given. lm_eval writes them with --log_samples --output_path.")
    return files


def task_of(path: Path) -> str:
    """The task that a samples file's name says.

    Raises:
        SamplesError: it says none.
    """
    match = FILE_NAME.search(path.name)
    if match is None:
        raise SamplesError(f"{path}: the name does not say the task (samples_<task>_<date>.jsonl). Say it with --task.")
    return match["task"]


def check_sample(sample: Sample, place: str) -> None:
    """Raise :class:`SamplesError` unless ``sample`` has a document, a verdict and a filter that can be told apart."""
    missing = [name for name in NEEDED if name not in sample]
    if missing:
        raise SamplesError(f"{place}: a sample of --log_samples has {', '.join(NEEDED)}; missing: {', '.join(missing)}.")
    doc_id = sample["doc_id"]
    if isinstance(doc_id, bool) or not isinstance(doc_id, int):
        raise SamplesError(f"{place}: doc_id is {doc_id!r}; a whole number is needed.")
    if abs(doc_id) > _LARGEST:
        raise SamplesError(f"{place}: doc_id is {doc_id}; the database holds numbers up to {_LARGEST}.")
    if not isinstance(sample.get("filter", ""), str):
        raise SamplesError(f"{place}: filter is a {type(sample['filter']).__name__}; a filter's name is needed.")
    named = sample.get("metrics", [])
    if not isinstance(named, (list, tuple)) or not all(isinstance(name, str) for name in named):
        raise SamplesError(f"{place}: metrics must be a list of names, and the sample holds their values.")


def _placed(path: Path) -> Iterator[PlacedSample]:
    for line, given in _lines(path):
        if not isinstance(given, dict):
            raise SamplesError(f"{path}:{line}: a {type(given).__name__} is not a sample of --log_samples.")
        sample = PlacedSample(given)
        sample.place = f"{path}:{line}"
        yield sample


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    """What each line holds; of a file that is one JSON array, its items, counted."""
    try:
        with path.open(encoding="utf-8") as file:
            if _begins_an_array(path):
                items = _parsed(file.read(), path, 1)
                if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
                    raise SamplesError(f"{path}:1: a list is not a sample of --log_samples.")
                yield from enumerate(items, 1)
                return
            for line, text in enumerate(file, 1):
                if text.strip():
                    yield line, _parsed(text, path, line)
    except (OSError, UnicodeDecodeError) as error:
        raise SamplesError(f"{path} cannot be read: {error}") from None


def _begins_an_array(path: Path) -> bool:
    with path.open(encoding="utf-8") as file:
        return next((text.lstrip()[0] for text in file if text.strip()), "") == "["


def _parsed(text: str, path: Path, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        at = line + error.lineno - 1
        raise SamplesError(f"{path}:{at}: not JSON ({error.msg}, column {error.colno}). Is the file cut off?") from None
    except (RecursionError, ValueError) as error:  # nested without end, or a number of thousands of digits
        raise SamplesError(f"{path}:{line}: not a sample of --log_samples: {error}.") from None
