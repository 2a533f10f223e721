"""Pairs that a person wrote: out to CSV, in again, every wrong row told by its line."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path

import pytest
from contrasts import byte_level, chosen, generated

from lm_eval_attrib.contrast import Annotation, Workbench, export_annotations, find_pair, read_annotations
from lm_eval_attrib.errors import ArgumentError
from lm_eval_attrib.prompt.spans import decode
from lm_eval_attrib.records import Continuation, Contrast, NoPair

RESPONSE = ' She said "12, apples"\n日本 😀'
FAILURE = generated(RESPONSE, "180", "12")
COUNT = len(FAILURE.continuations[0].ids)


def bench(**written: Annotation) -> Workbench:
    return Workbench(byte_level(), annotations=written)


def filled(tmp_path: Path, token: str, contrast: str, text: str = "") -> Path:
    """The exported file, with the first row filled in."""
    rows = list(csv.DictReader(io.StringIO(text or export_annotations([FAILURE], bench()))))
    rows[0] |= {"token": token, "contrast": contrast, "comment": "mine"}
    path = tmp_path / "pairs.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_out_and_in_again_is_the_pair(tmp_path: Path) -> None:
    index = next(i for i, token in enumerate(FAILURE.continuations[0].ids) if decode(byte_level(), [token])[0] == "1")
    read = read_annotations(filled(tmp_path, str(index), "8"), {"f1": COUNT})
    assert read == {"f1": Annotation(index, "8", "mine")}
    found = find_pair(FAILURE, bench(**read))
    assert isinstance(found, Contrast)
    assert (found.strategy, found.note) == ("annotations", "mine")
    assert found.input_ids[found.prompt_tokens :] == FAILURE.continuations[0].ids[:index]
    assert decode(byte_level(), [found.target_id])[0] == "1"
    assert decode(byte_level(), [found.contrast_id]) == "8"
    again = read_annotations(filled(tmp_path, str(index), "8", export_annotations([FAILURE], bench(**read))), {"f1": COUNT})
    assert again == read


def test_the_export_numbers_every_token_of_generated_failures_only() -> None:
    choice = Continuation(" x", (1, 2), (3,))
    text = export_annotations([FAILURE, chosen([choice, choice], 0, (1,)), FAILURE], bench())
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 2
    assert rows[0]["tokens"].startswith("0«")
    assert f"{COUNT - 1}«" in rows[0]["tokens"]
    assert "😀" in rows[0]["tokens"]


def test_rows_that_were_not_filled_in_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(export_annotations([FAILURE], bench()), encoding="utf-8")
    assert read_annotations(path) == {}


def test_a_response_longer_than_a_csv_field_may_be(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    limit = csv.field_size_limit()
    path.write_text(f'failure_id,tokens,token,contrast\nf1,"{"x" * (limit + 5)}",0,yes\n', encoding="utf-8")
    assert read_annotations(path) == {"f1": Annotation(0, "yes")}
    assert csv.field_size_limit() == limit


def test_every_wrong_row_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    rows = [
        "failure_id,token,contrast",
        "f1,1,yes",
        "f1,2,no",
        "f9,1,yes",
        ",1,yes",
        "f2,one,yes",
        "f3,99,yes",
        "f4,1,",
        "f5,-1,x",
    ]
    path.write_text("\n".join(rows), encoding="utf-8")
    with pytest.raises(ArgumentError) as caught:
        read_annotations(path, dict.fromkeys(("f1", "f2", "f3", "f4", "f5"), 5))
    lines = str(caught.value).splitlines()[1:]
    wanted = ["before", "not known", "no failure_id", "'one'", "5 tokens", "no contrast", "'-1'"]
    assert [line.split(":")[0].strip() for line in lines] == [f"line {number}" for number in range(3, 10)]
    assert all(word in line for word, line in zip(wanted, lines, strict=True))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"failure_id,token\nf1,1\n", "lack the columns contrast"),
        (b"", "lack the columns"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b'failure_id,token,contrast\nf1,"1,yes\n', "line"),
    ],
)
def test_files_that_are_no_annotations(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "pairs.csv"
    path.write_bytes(content)
    with pytest.raises(ArgumentError, match=words):
        read_annotations(path)
    with pytest.raises(ArgumentError, match="Couldn't read"):
        read_annotations(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (Annotation(COUNT, "x"), "has"),
        (Annotation(1, decode(byte_level(), [FAILURE.continuations[0].ids[1]])), "the very token"),
    ],
)
def test_annotations_that_name_no_pair(annotation: Annotation, words: str) -> None:
    found = find_pair(FAILURE, dataclasses.replace(bench(f1=annotation), strategies=("annotations",)))
    assert isinstance(found, NoPair)
    assert words in found.reason
