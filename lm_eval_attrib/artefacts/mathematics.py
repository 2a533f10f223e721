"""Are two texts the same answer as mathematics? Exact for numbers, by value at drawn points for expressions.

Nothing that a model wrote is ever run: an expression is parsed, and only arithmetic, roots and a few named functions count.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath

#: Longer texts are no answers; larger powers are not worked out.
_LONGEST, _POWER = 160, 64
#: Decimal digits that two values must share.
_DIGITS = 25
#: Points at which variables are tried: a letter's value is a root of a prime, so that no identity holds there by chance.
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101)

_COUNTED = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_WORDS = {word: place for place, word in enumerate(_COUNTED)}
_FRACTION = re.compile(r"(-?)\\[dt]?frac\{?(-?\d+)\}?\{?(-?\d+)\}?")
_PLAIN = re.compile(r"([-+]?)(?:[$£€¥]|\\\$)?\s*([-+]?)(\d{1,3}(?:,\d{3})+|\d+)?(\.\d*)?")
_UNIT = re.compile(r"\s*(?:\\?%|\\?°|\\circ|percent|[A-Za-z][A-Za-z .²³/^0-9]*)?\.?")


def exact_value(text: str) -> Fraction | None:
    """The value of a plain number, with or without thousands commas, currency and a unit: ``$1,000.50``, ``3/4``, ``12 cm``.

    A percent sign is a unit, as lm_eval's own metrics have it. None where the text is not one number.
    """
    bare = text.strip().strip("*_").replace("−", "-").replace("\\!", "").replace("\\,", "")
    bare = re.sub(r"^\$(.*[^\\])\$$|^\\\((.*)\\\)$", lambda m: m[1] or m[2], bare).strip()
    if bare.casefold() in _WORDS:
        return Fraction(_WORDS[bare.casefold()])
    if fraction := _FRACTION.fullmatch(bare.replace(" ", "")):
        below = int(fraction[3])
        return Fraction(int(fraction[1] + "1") * int(fraction[2]), below) if below else None
    if ratio := re.fullmatch(r"(-?\d+)\s*/\s*(\d+)", bare):
        return Fraction(int(ratio[1]), int(ratio[2])) if int(ratio[2]) else None
    found = _PLAIN.match(bare)
    if found is None or not any(char.isdigit() for char in found[0]) or _UNIT.fullmatch(bare, found.end()) is None:
        return None
    whole, part = (found[3] or "0").replace(",", ""), (found[4] or "").rstrip(".")
    value = Fraction(whole + part)
    return -value if "-" in (found[1], found[2]) else value


def equal_as_mathematics(first: str, second: str) -> bool:
    """Whether two texts say the same number, expression, tuple or set: ``0.5`` and ``1/2``, ``2(x+1)`` and ``2x+2``."""
    one, other = exact_value(first), exact_value(second)
    if one is not None and other is not None:
        return one == other
    left, right = _plain(first), _plain(second)
    if not left or not right or left == right:
        return bool(left) and left == right
    if max(len(left), len(right)) > _LONGEST:
        return False
    return _equal(left, right)


def _equal(left: str, right: str) -> bool:
    a, b = _parts(left), _parts(right)
    if len(a) > 1 or len(b) > 1:
        same_brackets = (left[0], left[-1]) == (right[0], right[-1]) or left[0] not in "([{" or right[0] not in "([{"
        if len(a) != len(b) or not same_brackets:
            return False
        if left[0] == "{":  # a set has no order
            return all(any(_equal(x, y) for y in b) for x in a)
        return all(_equal(x, y) for x, y in zip(a, b, strict=True))
    one, other = _value(_right_side(left)), _value(_right_side(right))
    if one is None or other is None:
        return False
    return bool(abs(one - other) <= mpmath.mpf(10) ** -_DIGITS * max(1, abs(one), abs(other)))


#: LaTeX and typography → plain arithmetic, in this order: what stands for nothing first, then brackets, then operators.
_REWRITES: tuple[tuple[str, str], ...] = (
    (r"\\(?:text|mathrm|textbf|mathbf|mbox)\{([^{}]*)\}", r"\1"),
    (r"\\(?:left|right|displaystyle|quad|qquad|!|,|;|:| )|\\\$|[$°]|\^\\circ|\^\{\\circ\}|\\%|%", ""),
    (r"\\\{", "{"),
    (r"\\\}", "}"),
    (r"\\[dt]frac", r"\\frac"),
    (r"\\frac(\d)(\d)", r"((\1)/(\2))"),
    (r"\\frac(\d)\{", r"\\frac{\1}{"),
    (r"\\sqrt(\d|[a-z])", r"sqrt(\1)"),
    (r"\\cdot|\\times|×|·", "*"),
    (r"\\div|÷", "/"),
    (r"\\pi|π", "pi"),
    (r"\\infty|∞", "oo"),
    (r"−|–", "-"),
    (r"√", "sqrt"),
    (r"(\d),(?=\d{3}(?!\d))", r"\1"),
)


def _plain(text: str) -> str:
    """LaTeX as plain arithmetic, without white space, dress and a full stop."""
    bare = text.strip().strip("*_").rstrip(".").strip()
    bare = re.sub(r"^\\[(\[](.*)\\[)\]]$", r"\1", bare, flags=re.DOTALL)
    for pattern, instead in _REWRITES:
        bare = re.sub(pattern, instead, bare)
    for _ in range(4):  # fractions and roots within each other
        bare = re.sub(r"(\d)\\frac\{(\d+)\}\{(\d+)\}", r"(\1+(\2)/(\3))", bare)  # a mixed number
        bare = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1)/(\2))", bare)
        bare = re.sub(r"\\sqrt\[(\d+)\]\{([^{}]*)\}", r"((\2)**(1/(\1)))", bare)
        bare = re.sub(r"\\sqrt\{([^{}]*)\}", r"sqrt(\1)", bare)
        bare = re.sub(r"\^\{([^{}]*)\}", r"**(\1)", bare)
    bare = re.sub(r"(?<=\d)\s+(?=\d)", "¦", bare)  # two numbers side by side are not one
    return re.sub(r"\s+", "", bare.replace("^", "**").replace("\\", ""))


def _right_side(text: str) -> str:
    """``x=5`` → ``5``: an equation that names what is asked for."""
    match = re.fullmatch(r"[A-Za-z]\w?=([^=]+)", text)
    return match[1] if match else text


def _parts(text: str) -> list[str]:
    """The items of a tuple, interval or set (its brackets left off), of a bare list; else the text itself."""
    inner = text[1:-1] if len(text) > 2 and text[0] in "([{" and text[-1] in ")]}" and _closes_last(text) else text
    parts, depth, begun = [], 0, 0
    for place, char in enumerate(inner):
        depth += (char in "([{") - (char in ")]}")
        if char == "," and depth == 0:
            parts.append(inner[begun:place])
            begun = place + 1
    return [*parts, inner[begun:]] if parts else [text.strip("{}") if text[:1] == "{" else text]


def _closes_last(text: str) -> bool:
    depth = 0
    for place, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if depth == 0:
            return place == len(text) - 1
    return False


_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    name: getattr(mpmath, name) for name in ("sqrt", "sin", "cos", "tan", "log", "ln", "exp")
}


def _value(text: str) -> Any:
    """An expression's value (``mpmath``), each letter a fixed number; None where it is no arithmetic."""
    spelled = re.sub(r"(?<![A-Za-z])([a-z])(?=[a-z](?![A-Za-z]))", r"\1*", text) if not _named(text) else text
    spelled = re.sub(r"(?<=[\d)])(?=[A-Za-z(])|(?<=[a-z])(?=\d)", "*", spelled)
    spelled = re.sub(r"(?<![A-Za-z])([A-Za-z])\(", r"\1*(", spelled)
    spelled = re.sub(r"\)(?=\d)", ")*", spelled)
    spelled = re.sub(r"(?<![\w.])0+(?=\d)", "", spelled)
    try:
        with mpmath.workdps(_DIGITS + 10):
            return _evaluate(ast.parse(spelled, mode="eval").body)
    except (SyntaxError, ValueError, TypeError, KeyError, ZeroDivisionError, OverflowError, RecursionError, MemoryError):
        return None


def _named(text: str) -> bool:
    return any(name in text for name in (*_FUNCTIONS, "pi", "oo"))


def _evaluate(node: ast.expr) -> Any:
    """Raises KeyError, TypeError or ValueError for anything that is not arithmetic."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, bool) or not isinstance(node.value, (int, float)):
            raise ValueError("not a number")
        return mpmath.mpf(repr(node.value))
    if isinstance(node, ast.Name):
        return mpmath.pi + 0 if node.id == "pi" else mpmath.inf if node.id == "oo" else _letter(node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        value = _evaluate(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp):
        left, right = _evaluate(node.left), _evaluate(node.right)
        if isinstance(node.op, ast.Pow):
            if abs(right) > _POWER:
                raise ValueError("too large a power")
            return mpmath.power(left, right)
        return _BINARY[type(node.op)](left, right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 1 and not node.keywords:
        return _FUNCTIONS[node.func.id](_evaluate(node.args[0]))
    raise ValueError("not arithmetic")


def _letter(name: str) -> Any:
    if len(name) != 1 or not name.isascii():
        raise ValueError("not a variable")
    return mpmath.sqrt(_PRIMES[(ord(name.lower()) - ord("a")) % len(_PRIMES)]) + (mpmath.mpf(1) / 3 if name.isupper() else 0)
