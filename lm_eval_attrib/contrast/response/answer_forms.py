"""Answers as values: numbers written in several ways, and the ways in which a gold answer may be written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from ...prompt.spans import shared_length

_FRACTION = re.compile(r"(-?)\s*\\[dt]?frac\s*(?:\{\s*(-?\d+)\s*\}|(\d))\s*(?:\{\s*(-?\d+)\s*\}|(\d))")
_RATIO = re.compile(r"(-?\d+)\s*/\s*(\d+)")
_DECIMAL = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d*)?")
#: What surrounds a number without changing its value. A percent sign is a unit, as the harness's own metrics have it.
_DRESS = re.compile(r"\\[!,;$% ]|\\(?:left|right|text|mathrm)\b|[$£€%\s{}]")


def as_amount(text: str) -> Fraction | None:
    """The value of a number however it is written: ``1,000``, ``$1000.00``, ``0.5``, ``1/2``, ``\\frac{1}{2}``."""
    bare = text.strip().rstrip(".").replace("\u2212", "-")
    match = _FRACTION.fullmatch(bare.strip("$ "))
    if match:
        sign, numerator, numerator_digit, denominator, denominator_digit = match.groups()
        below = int(denominator or denominator_digit)
        value = Fraction(int(numerator or numerator_digit), below) if below else None
        return -value if value is not None and sign else value
    bare = _DRESS.sub("", bare)
    ratio = _RATIO.fullmatch(bare)
    if ratio:
        return Fraction(int(ratio[1]), int(ratio[2])) if int(ratio[2]) else None
    if not re.search(r"\d", bare) or not _DECIMAL.fullmatch(bare):
        return None
    return Fraction(bare.replace(",", "").rstrip(".").replace("+", ""))


def same_value(first: str, second: str) -> bool:
    """Whether two texts are the same number, or the same words but for casing and white space."""
    one, other = as_amount(first), as_amount(second)
    if one is not None and other is not None:
        return one == other
    return " ".join(first.lower().split()) == " ".join(second.lower().split())


def forms(gold: str, like: str) -> list[str]:
    """The ways to write ``gold``, as it stands first; numbers, brackets and casing also in the manner of ``like``."""
    gold = gold.strip()
    begun = [gold[:1].upper() + gold[1:], gold[:1].lower() + gold[1:]]
    shouted = sum(map(str.isalpha, like)) > 1 and like.isupper()
    found = [gold, gold.lower(), *([gold.upper(), *begun] if shouted else [*begun, gold.upper()])]
    if re.fullmatch(r"\(\w\)", gold):
        found += [gold[1:-1], gold[1:-1].lower()]
    elif re.fullmatch(r"\w", gold):
        found += [f"({gold})", f"({gold.upper()})"]
    value = as_amount(gold)
    if value is not None and value.denominator == 1:
        plain, grouped = str(value.numerator), f"{value.numerator:,}"
        decimals = re.search(r"\.(\d+)$", like.strip())
        tail = "." + "0" * len(decimals[1]) if decimals else ""
        found += [dress + digits + end for digits in (plain, grouped) for dress in ("", "$") for end in ("", tail)]
        found += [f"-${digits.lstrip('-')}" for digits in (plain, grouped) if digits.startswith("-")]
    elif value is not None and re.search(r"\d\.\d", like):
        decimal = f"{float(value):.10g}"
        found += [decimal] if Fraction(decimal) == value else []
    return list(dict.fromkeys(form for form in found if form))


def nearest_form(golds: Sequence[str], like: str) -> str:
    """Of all ways to write any of ``golds``, the one that shares most of its beginning with ``like``.

    Of equals the one that begins with the same kind of character, then the earliest.
    """
    ways = [form for gold in golds for form in forms(gold, like)]
    return max(ways, key=lambda form: (shared_length(form, like), _kind(form[:1]) == _kind(like[:1])))


def _kind(character: str) -> str:
    for kind, test in (("digit", str.isdigit), ("upper", str.isupper), ("lower", str.isalpha)):
        if test(character):
            return kind
    return character
