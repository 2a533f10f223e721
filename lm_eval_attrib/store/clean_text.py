"""Text that a model or a data set wrote, made safe: for a file in UTF-8, for a page, for a line of a terminal."""

from __future__ import annotations

from collections.abc import Iterable

_CONTROLS = {code: chr(0x2400 + code) for code in range(0x20) if code not in (0x09, 0x0A)} | {0x7F: "␡"}
#: Characters that no reader can see, that move a cursor, or that reorder what stands around them ("Trojan source").
_HIDDEN = (
    *range(0x80, 0xA0),
    *(0xAD, 0x61C, 0x180E, 0x200B, 0x200E, 0x200F, 0xFEFF),
    *range(0x2028, 0x202F),
    *range(0x2060, 0x2070),
    *range(0xFFF9, 0xFFFC),
    *range(0xE0000, 0xE0080),
)
_SURROGATES = dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
_VISIBLE = _CONTROLS | {code: f"⟨U+{code:04X}⟩" for code in _HIDDEN} | _SURROGATES


def unicode_text(text: str) -> str:
    """``text`` with lone surrogates, which UTF-8 cannot hold, replaced by U+FFFD; paired ones are joined."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def unicode_texts(values: Iterable[str]) -> list[str]:
    """The texts, each as :func:`unicode_text` makes it."""
    return [unicode_text(text) for text in values]


def drawn(text: str) -> str:
    """``text`` with control characters, direction marks and characters of no width drawn as signs; tabs and breaks stay."""
    return text.translate(_VISIBLE)


def visible(text: str) -> str:
    """:func:`drawn`, with the line breaks of other systems as line feeds."""
    return drawn(text.replace("\r\n", "\n"))


def one_line(text: str, length: int) -> str:
    """``text`` on one line of at most ``length`` characters, breaks as ↵ and tabs as ⇥: for a terminal or a table's cell."""
    line = visible(text[: 4 * length]).replace("\n", "↵").replace("\t", "⇥")
    return line if len(line) <= length and len(text) <= 4 * length else line[: length - 1].rstrip() + "…"
