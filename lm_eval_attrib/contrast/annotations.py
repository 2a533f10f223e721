"""Strategy ``annotations``: pairs that a person wrote into a CSV of responses with numbered tokens (method.md, 5.6)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..errors import ArgumentError
from ..records import Contrast, Failure, NoPair
from .response.read import read_response
from .response.retokenise import continue_with
from .workbench import Annotation, Workbench

#: Columns of the file. A person fills in the last three.
COLUMNS = ("failure_id", "task", "doc_id", "prompt", "gold", "tokens", "token", "contrast", "comment")
_NEEDED = ("failure_id", "token", "contrast")
#: Characters of the prompt's end that are shown.
_SHOWN = 2000


class Annotations:
    """Pairs that were written by hand."""

    name = "annotations"

    def find(self, failure: Failure, bench: Workbench) -> Contrast | NoPair:
        """The annotated token against the first token of what should have stood there."""
        written = bench.annotations.get(failure.failure_id)
        if written is None:
            return NoPair(self.name, "nobody annotated this failure")
        if failure.output_type != "generate_until" or not failure.continuations:
            return NoPair(self.name, "there is no generated response to annotate")
        response = read_response(failure.continuations[0], bench)
        count = len(response.source.ids)
        if not 0 <= written.token < count:
            return NoPair(self.name, f"token {written.token} was annotated, but the response has {count} tokens, from 0 on")
        before, piece = response.before(written.token), response.tokens.piece(written.token)
        wanted = written.contrast
        if piece[:1].isspace() and not wanted[:1].isspace():
            wanted = piece[: len(piece) - len(piece.lstrip())] + wanted
        ids = continue_with(before, wanted, bench.tokenizer)
        if not ids:
            return NoPair(self.name, f"{written.contrast!r} cannot be written in the model's tokens there")
        if ids[0] == response.source.ids[written.token]:
            return NoPair(self.name, f"{written.contrast!r} begins with the very token {written.token} that it should replace")
        return response.pair(self.name, written.token, ids[0], note=written.comment)


def numbered(pieces: Iterable[str]) -> str:
    """Token texts with their numbers, as a person reads them: ``0«She» 1« has»``."""
    return " ".join(f"{index}«{piece}»" for index, piece in enumerate(pieces))


def export_annotations(failures: Iterable[Failure], bench: Workbench) -> str:
    """CSV text with one row for each generated failure, to be filled in; those already in ``bench.annotations`` are."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for failure in failures:
        if failure.output_type != "generate_until" or not failure.continuations:
            continue
        tokens = read_response(failure.continuations[0], bench).tokens
        known = bench.annotations.get(failure.failure_id)
        writer.writerow(
            {
                "failure_id": failure.failure_id,
                "task": failure.task,
                "doc_id": failure.doc_id,
                "prompt": failure.prompt[-_SHOWN:],
                "gold": failure.gold,
                "tokens": numbered(tokens.piece(index) for index in range(len(tokens.spans))),
                "token": "" if known is None else known.token,
                "contrast": "" if known is None else known.contrast,
                "comment": "" if known is None else known.comment,
            }
        )
    return out.getvalue()


def read_annotations(path: Path, lengths: Mapping[str, int] | None = None) -> dict[str, Annotation]:
    """The annotations in a CSV file, by failure_id. Rows without token and contrast were not annotated.

    Args:
        path: A file as :func:`export_annotations` writes it; only ``failure_id``, ``token`` and ``contrast`` are needed.
        lengths: Number of response tokens by failure_id, where known: other failures and numbers are errors.

    Raises:
        ArgumentError: The file cannot be read, or rows do not hold; the message lists every one by line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"Couldn't read the annotations '{path}': {error}. A CSV file in UTF-8 is needed.") from error
    found: dict[str, Annotation] = {}
    problems: list[str] = []
    limit = csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # the tokens of a long response are one field
    try:
        _read_rows(path, csv.DictReader(io.StringIO(text, newline=""), strict=True), found, problems, lengths)
    finally:
        csv.field_size_limit(limit)
    if problems:
        raise ArgumentError(f"The annotations '{path}' do not hold:\n" + "\n".join(problems))
    return found


def _read_rows(
    path: Path,
    reader: csv.DictReader[str],
    found: dict[str, Annotation],
    problems: list[str],
    lengths: Mapping[str, int] | None,
) -> None:
    try:
        missing = [name for name in _NEEDED if name not in (reader.fieldnames or ())]
        if missing:
            known = ", ".join(COLUMNS)
            raise ArgumentError(f"The annotations '{path}' lack the columns {', '.join(missing)}; known are {known}.")
        for row in reader:
            if not (row["token"] or "").strip() and not (row["contrast"] or "").strip():
                continue
            problem = _problem(row, found, lengths)
            if problem:
                problems.append(f"  line {reader.line_num}: {problem}")
            else:
                found[row["failure_id"].strip()] = Annotation(int(row["token"]), row["contrast"], row.get("comment") or "")
    except csv.Error as error:
        problems.append(f"  line {reader.line_num}: {error}")


def _problem(row: Mapping[str, str | None], found: Mapping[str, Annotation], lengths: Mapping[str, int] | None) -> str:
    """What is wrong with a row; empty if nothing is."""
    name, token, contrast = ((row[key] or "").strip() for key in _NEEDED)
    if not name:
        return "no failure_id"
    if name in found:
        return f"failure {name} was annotated before"
    if lengths is not None and name not in lengths:
        return f"failure {name} is not known"
    if not token.isascii() or not token.isdigit():
        return f"token is {token!r}; the number of a token is needed, as the column tokens shows it"
    if lengths is not None and int(token) >= lengths[name]:
        return f"token {token} is past the response's {lengths[name]} tokens, which are numbered from 0"
    return "" if contrast else "no contrast: write what should have stood there"
