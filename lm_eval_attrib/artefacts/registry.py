"""Every kind of artefact by its name, in the order in which they are tried: what costs nothing first."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ArgumentError
from .kind import Kind
from .kinds.cut_off import CutOff
from .kinds.extraction import Extraction
from .kinds.gold import Gold
from .kinds.length import Length
from .kinds.shots import Shots
from .kinds.stopped import Stopped
from .kinds.template import Template
from .kinds.thinking import ThinkingPart
from .kinds.truncated import Truncated

KINDS: dict[str, Kind] = {
    one.name: one
    for one in (Extraction(), Length(), Gold(), ThinkingPart(), CutOff(), Stopped(), Truncated(), Template(), Shots())
}
#: Tried only when named: they answer documents again without a sign that something is wrong.
NAMED_ONLY = ("shots",)


def chosen_kinds(names: Sequence[str]) -> list[Kind]:
    """The kinds that ``attrib_artefacts`` names, in the order of :data:`KINDS`: ``on`` for those without a name's need.

    Raises:
        ArgumentError: an unknown kind; the message lists those there are.
    """
    wanted = set(names)
    unknown = wanted - set(KINDS) - {"on", "off"}
    if unknown:
        raise ArgumentError(f"attrib_artefacts names {', '.join(sorted(unknown))}; kinds are {', '.join(KINDS)}, on and off.")
    if "off" in wanted:
        return []
    if "on" in wanted:
        wanted |= set(KINDS) - set(NAMED_ONLY)
    return [kind for name, kind in KINDS.items() if name in wanted]
