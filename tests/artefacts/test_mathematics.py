"""Equality as mathematics: what is the same answer, what is not, and that nothing a model wrote is run."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_eval_attrib.artefacts.mathematics import equal_as_mathematics, exact_value

SAME = [
    ("0.5", r"\frac{1}{2}"),
    (r"\frac34", "0.75"),
    ("1,000", "1000"),
    ("$18.00", "18"),
    (r"-\$5", "-5"),
    ("12 cm", "12"),
    ("18 dollars per day", "18"),
    (r"10\%", "10"),
    (r"90^\circ", "90"),
    ("seven", "7"),
    ("x = 5", "5"),
    ("2(x+1)", "2x+2"),
    ("x^2 - 1", "(x-1)(x+1)"),
    (r"\sqrt{8}", r"2\sqrt{2}"),
    (r"11\sqrt2", r"11\sqrt{2}"),
    (r"3\frac{1}{2}", "3.5"),
    (r"\left( 3, \frac{\pi}{2} \right)", r"(3, \frac{\pi}{2})"),
    ("{1, 2}", "{2, 1}"),
    (r"\text{Evelyn}", "Evelyn"),
    ("6 - 5i", "6-5i"),
]
OTHER = [
    ("50", "0.5"),
    ("-2", "2"),
    ("(1,2)", "(2,1)"),
    ("(1,2]", "(1,2)"),
    ("1,2", "12"),
    ("2 1", "21"),
    ("abc", "acb"),
    ("", ""),
    ("x", "y"),
    ("x", "X"),
    ("1e400", "2e400"),
]


@pytest.mark.parametrize(("first", "second"), SAME)
def test_is_the_same(first: str, second: str) -> None:
    assert equal_as_mathematics(first, second)
    assert equal_as_mathematics(second, first)


@pytest.mark.parametrize(("first", "second"), OTHER)
def test_is_another(first: str, second: str) -> None:
    assert not equal_as_mathematics(first, second)
    assert not equal_as_mathematics(second, first)


@pytest.mark.parametrize(
    "text", ["9**9**9", "__import__('os').getcwd()", "(lambda: 1)()", "[1][0]", "sqrt.__class__", "(" * 150]
)
def test_nothing_is_run(text: str) -> None:
    assert not equal_as_mathematics(text, "1")


@given(st.fractions(max_denominator=999), st.sampled_from(["{}", "${}$", r"\({}\)", " {} ", "**{}**"]))
def test_a_number_is_read_however_it_is_dressed(value: Fraction, dress: str) -> None:
    written = f"{value.numerator}/{value.denominator}" if value.denominator > 1 else str(value.numerator)
    assert exact_value(dress.format(written)) == value


@given(st.integers(-(10**9), 10**9))
def test_thousands_commas_change_nothing(value: int) -> None:
    assert exact_value(f"{value:,}") == value == exact_value(f"${value:,}.00".replace("$-", "-$"))


@given(st.text(max_size=60), st.text(max_size=60))
def test_whatever_is_written_there_is_an_answer(first: str, second: str) -> None:
    assert equal_as_mathematics(first, second) == equal_as_mathematics(second, first)
