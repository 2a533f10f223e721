"""Text and numbers as a page shows them: nothing invisible, nothing ambiguous.

Escaping is the template's work (autoescape). What is made visible here is what HTML escaping leaves alone: control
characters, marks that turn the writing direction, spaces of no width.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

_CONTROLS = {code: chr(0x2400 + code) for code in range(0x20) if code not in (0x09, 0x0A)} | {0x7F: "␡"}
#: Characters that no reader can see, or that reorder what stands around them ("Trojan source").
_HIDDEN = (
    *range(0x80, 0xA0),
    *(0xAD, 0x61C, 0x200B, 0x200E, 0x200F, 0x2060, 0xFEFF),
    *range(0x2028, 0x202F),
    *range(0x2066, 0x206A),
)
_VISIBLE = _CONTROLS | {code: f"⟨U+{code:04X}⟩" for code in _HIDDEN}
_SURROGATES = re.compile("[\ud800-\udfff]")
_MINUS = "−"


def visible(text: str) -> str:
    """``text`` with control characters, direction marks and zero-width spaces drawn as signs; line breaks stay."""
    return _SURROGATES.sub("\ufffd", text.replace("\r\n", "\n").translate(_VISIBLE))


def token_text(text: str) -> str:
    """A token inside running text: a line break is shown as ↵ and kept; an empty piece is shown as ∅."""
    if text == "":
        return "∅"
    return _SURROGATES.sub("\ufffd", text.translate(_VISIBLE)).replace("\n", "↵\n").replace("\t", "⇥\t")


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


def shorten(text: str, length: int = 120) -> str:
    """``text`` on one line of at most ``length`` characters, for a table's cell."""
    line = visible(text[: 4 * length]).replace("\n", "↵")
    return line if len(line) <= length and len(text) <= 4 * length else line[: length - 1].rstrip() + "…"


def number(value: float | None, digits: int = 3) -> str:
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
    """:func:`number` with a plus sign before positive values."""
    shown = number(value, digits)
    return f"+{shown}" if value is not None and math.isfinite(value) and value > 0 else shown


def percent(share: float | None, digits: int = 3) -> str:
    """A share in [0, 1] as per cent with ``digits`` significant digits; small ones keep their order of magnitude."""
    if share is None or not math.isfinite(share):
        return "–"
    if share in (0, 1):
        return f"{share * 100:.0f} %"
    return f"{number(share * 100, digits)} %"


def share_of(part: int, whole: int) -> str:
    """``part`` of ``whole`` as whole per cent; ``–`` when there is no whole."""
    return f"{100 * part / whole:.0f} %" if whole else "–"


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """``1 token``, ``12,000 tokens``."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def times_as_probable(delta_logit: float) -> str:
    """What a logit difference means: how many times as probable the model found the first token as the second."""
    ratio = math.exp(min(abs(delta_logit), 700.0))
    shown = number(ratio, 2 if ratio < 100 else 3) if ratio < 1e6 else f"{ratio:.1e}"
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


def model_name(model: str) -> str:
    """A model as titles show it: a hub name as it is, a folder by its last two parts."""
    parts = [part for part in re.split(r"[/\\]", model) if part]
    local = model.startswith((".", "/", "~", "\\")) or re.match(r"[A-Za-z]:\\", model)
    return visible("/".join(parts[-2:]) if local and parts else model)


def slug(text: str, length: int = 60) -> str:
    """``text`` as part of a file name: letters, digits, ``-`` and ``_`` only; never empty, never hidden."""
    kept = re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-")[:length].strip("-")
    return kept or "unnamed"
