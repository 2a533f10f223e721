"""What a data set may put into a document becomes strict JSON; Ctrl-C waits for a write."""

from __future__ import annotations

import datetime
import decimal
import json
import signal
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_eval_attrib.store.clean_text import unicode_text
from lm_eval_attrib.store.json_text import MAX_DEPTH, MAX_ITEMS, as_json
from lm_eval_attrib.store.signals import interrupts_put_off


class Picture:
    """Its text holds its address, as that of PIL's images does."""


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": [1, 2.5, None, True, "x"]}, {"a": [1, 2.5, None, True, "x"]}),
        ([float("nan"), float("inf"), -float("inf")], ["NaN", "Infinity", "-Infinity"]),
        ((np.float32(0.5), np.int64(3), np.bool_(True), np.str_("s"), np.float64("nan")), [0.5, 3, True, "s", "NaN"]),
        (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
        (np.zeros(MAX_ITEMS + 1), f"<ndarray of float64, shape [{MAX_ITEMS + 1}]>"),
        (datetime.datetime(2026, 1, 2, 3, 4), "2026-01-02T03:04:00"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (np.datetime64("2026-01-02"), "2026-01-02"),
        (decimal.Decimal("1.50"), "1.50"),
        (b"text", "text"),
        (b"\xff\xfe", "<2 bytes>"),
        (b"x" * (MAX_ITEMS + 1), f"<{MAX_ITEMS + 1} bytes>"),
        ({3, 1, 2}, [1, 2, 3]),
        ({1: "a", None: "b", (1, 2): "c", False: "d"}, {"1": "a", "null": "b", "<tuple>": "c", "false": "d"}),
        ("\ud83d\ude00 \ud800", "😀 \ufffd"),
        (2**80, 2**80),
        (Broken(), "<Broken: its text cannot be made: RuntimeError>"),
    ],
    ids=range(17),
)
def test_values_as_json(value: Any, expected: Any) -> None:
    assert json.loads(as_json(value)) == expected


def test_an_address_does_not_make_the_text_another() -> None:
    assert as_json({"image": Picture()}) == as_json({"image": Picture()})
    assert "0x" not in as_json(Picture())


def test_a_value_that_holds_itself_ends() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert as_json(endless) == "[" * MAX_DEPTH + '"<list>"' + "]" * MAX_DEPTH


@settings(derandomize=True, max_examples=60)
@given(st.text(st.characters(), max_size=20))
def test_text_is_made_utf_8_and_left_alone_if_it_is(text: str) -> None:
    made = unicode_text(text)
    made.encode("utf-8")
    if not any("\ud800" <= char <= "\udfff" for char in text):
        assert made == text
    assert json.loads(as_json(text)) == made


@pytest.fixture
def heeded() -> Iterator[None]:
    """Ctrl-C as Python handles it: a shell's background job starts with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeded")
def test_ctrl_c_waits_for_the_block() -> None:
    done: list[str] = []

    def interrupted() -> None:
        with interrupts_put_off():
            signal.raise_signal(signal.SIGINT)
            done.append("whole")
        done.append("never")

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done == ["whole"]
    assert signal.getsignal(signal.SIGINT) is before

    def fails() -> None:
        with interrupts_put_off():
            raise ValueError("itself")

    with pytest.raises(ValueError, match="itself"):
        fails()
    assert signal.getsignal(signal.SIGINT) is before
    other = threading.Thread(target=lambda: interrupts_put_off().__enter__())
    other.start()
    other.join()
    assert signal.getsignal(signal.SIGINT) is before
