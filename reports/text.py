"""Text and numbers as a page shows them: nothing invisible, nothing ambiguous.

Escaping is the template's work (autoescape). What HTML escaping leaves alone (control characters, marks that turn the
writing direction, spaces of no width) is made visible by :mod:`..store.clean_text`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from scipy.stats import binomtest

from ..store.clean_text import drawn, visible

_MINUS = "−"


def inline_token(text: str) -> str:
    """A token inside running text: a line break is shown as ↵ and kept; an empty piece is shown as ∅."""
    return drawn(text).replace("\n", "↵\n").replace("\t", "⇥\t") or "∅"


def token_name(text: str) -> str:
    """A token on one line, as tables show it: outer spaces as ␣, line breaks as ↵."""
    if text == "":
        return "∅"
    shown = visible(text).replace("\n", "↵").replace("\t", "⇥")
    core = shown.strip(" ")
    if not core:
        return "␣" * len(shown)
    left = len(shown) - len(shown.lstrip(" "))
    right = len(shown) - len(shown.rstrip(" "))
    return "␣" * left + core + "␣" * right


def figure(value: float | None, digits: int = 3) -> str:
    """``value`` with ``digits`` significant digits and a true minus sign; integers in full; ``–`` where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0 or isinstance(value, int):
        return f"{value:,.0f}".replace("-", _MINUS)
    magnitude = math.floor(math.log10(abs(value)))
    plain = -4 <= magnitude < 7
    shown = f"{value:,.{max(0, digits - 1 - magnitude)}f}" if plain else f"{value:.{digits - 1}e}"
    return shown.replace("-", _MINUS)


def signed(value: float | None, digits: int = 3) -> str:
    """:func:`figure` with a plus sign before positive values."""
    shown = figure(value, digits)
    return f"+{shown}" if value is not None and math.isfinite(value) and value > 0 else shown


def percent(share: float | None, digits: int = 3) -> str:
    """A share in [0, 1] as per cent with ``digits`` significant digits; small ones keep their order of magnitude."""
    if share is None or not math.isfinite(share):
        return "–"
    if share in (0, 1):
        return f"{share * 100:.0f} %"
    return f"{figure(share * 100, digits)} %"


def share_of(part: int, whole: int) -> str:
    """``part`` of ``whole`` as whole per cent; ``–`` when there is no whole."""
    return f"{100 * part / whole:.0f} %" if whole else "–"


def interval(part: int, whole: int) -> tuple[float, float]:
    """Wilson's 95 % interval of the share ``part`` / ``whole`` (``whole`` ≥ 1): what a sample says of all."""
    found = binomtest(part, whole).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def sampled_share(part: int, whole: int, *, sampled: bool) -> str:
    """:func:`share_of`, with the interval where only a sample was looked at: ``40 %, 31 to 50 %``."""
    if not whole or not sampled:
        return share_of(part, whole)
    low, high = interval(part, whole)
    return f"{share_of(part, whole)}, {100 * low:.0f} to {100 * high:.0f} %"


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """``1 token``, ``12,000 tokens``."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def times_as_probable(delta_logit: float) -> str:
    """What a logit difference means: how many times as probable the model found the first token as the second."""
    ratio = math.exp(min(abs(delta_logit), 700.0))
    shown = figure(ratio, 2 if ratio < 100 else 3) if ratio < 1e6 else f"{ratio:.1e}"
    return f"{shown} times as probable"


def pretty_json(value: Any) -> str:
    """A JSON document, indented for reading; hidden characters drawn. ``value`` may be JSON text already."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return visible(value)
    if isinstance(value, Mapping):
        value = dict(value)
    return visible(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def short_model(model: str) -> str:
    """A model as titles show it: a hub name as it is, a folder by its last two parts."""
    parts = [part for part in re.split(r"[/\\]", model) if part]
    local = model.startswith((".", "/", "~", "\\")) or re.match(r"[A-Za-z]:\\", model)
    return visible("/".join(parts[-2:]) if local and parts else model)


def slug(text: str, length: int = 60) -> str:
    """``text`` as part of a file name: letters, digits, ``-`` and ``_`` only; never empty, never hidden."""
    kept = re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-")[:length].strip("-")
    return kept or "unnamed"
