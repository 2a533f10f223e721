"""Mixers that are linear in what they mix, once what steers them is constant (method.md, 2, token mixers).

With queries, keys, decays, gates and step sizes held fixed a mixer is ``o = M·v``, M lower-triangular. Its gradient in the
values is the rule, under AttnLRP and CP-LRP alike (for state-space models MambaLRP's choice, arXiv 2406.07592). The rule
belongs to the mixing function as one operation: chunked, recurrent and kernel forms of one mixer have the same M.

A mechanism says, in a module of its own, which functions of transformers it is: :class:`MixingFunction`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from ..rules.mode import RuleMode
from .mixing import PromptShare, wide

#: A steering argument at a token that nothing is to be read from: so low, as an exponent, that its weight is exactly 0.
NEVER = -1e4

#: Runs a mixer: its output [values' layout] for its arguments by name, the values among them.
Run = Callable[[Mapping[str, Any]], Tensor]
#: What checks make of one call: its output, from how it is run and its arguments.
Change = Callable[[Run, Mapping[str, Any]], Tensor]

#: Numbers in the values, and in what comes of them, of the sources that are run at once.
SOURCE_ELEMENTS = 1 << 24


@dataclass(frozen=True)
class MixingFunction:
    """A function by which transformers mixes tokens.

    Attributes:
        name: What it is called in the modules that hold its models; ``Class.method`` for a method.
        values: The argument that is mixed.
        steering: The arguments that steer it and have a batch.
        layout: Letters of the values' dimensions: b(atch), n (tokens), h(eads), d (width of a head, or channels).
        shared: Whether a head mixes all of its channels alike, so that M is one matrix a head; else it is one a channel.
        instead: The function of the same file that is run in its place: one that is torch alone, whatever kernels there are.
        around: For a mixer that is no function of its values alone: gives, from the function, this and the rule mode, what is
            called in its place.
        hidden: What steers the step of a token that is hidden, by argument: such that the step leaves the state as it was.
        exponent: The argument whose exponential weighs what a token writes, where the mixer divides by the sum of weights.
        changed: As ``around``, for checks: gives, from the function and a change of its calls, what is called in its place.
    """

    name: str
    values: str
    steering: tuple[str, ...]
    layout: str
    shared: bool
    instead: str = ""
    around: Callable[[Callable[..., Any], MixingFunction, RuleMode], Callable[..., Any]] | None = None
    hidden: Mapping[str, float] = field(default_factory=dict)
    exponent: str = ""
    changed: Callable[[Callable[..., Any], Change], Callable[..., Any]] | None = None

    @property
    def tokens(self) -> int:
        """Dimension of the tokens, in the values and in what steers them."""
        return self.layout.index("n")

    def by_head(self, x: Tensor) -> Tensor:
        """x of the values' layout as [batch, heads, n, width]; a channel that is mixed by itself is a head of width 1."""
        x = x if "h" in self.layout else x.unsqueeze(-1)
        letters = self.layout if "h" in self.layout else self.layout.replace("d", "h") + "d"
        return x.permute(*(letters.index(letter) for letter in "bhnd"))

    def from_heads(self, x: Tensor) -> Tensor:
        """The inverse of :meth:`by_head`."""
        letters = self.layout if "h" in self.layout else self.layout.replace("d", "h") + "d"
        x = x.permute(*("bhnd".index(letter) for letter in letters))
        return x if "h" in self.layout else x.squeeze(-1)


@dataclass
class LinearMixing:
    """One call of a mixing function: see :class:`~.mixing.Mixing`.

    ``arguments`` are all but the values, without history; ``function`` is what the model called.
    """

    kind: MixingFunction
    function: Callable[..., Any]
    arguments: dict[str, Any]
    values: Tensor
    output: Tensor

    @property
    def sources(self) -> list[Tensor | GradientEdge]:
        """The output."""
        return [self.output]

    @property
    def entering(self) -> list[Tensor]:
        """The values."""
        return [self.values]

    def by_head(self, x: Tensor) -> Tensor:
        """See :class:`~.mixing.Mixing`."""
        return self.kind.by_head(x)

    def _by_token(self, name: str) -> bool:
        """Whether an argument steers each token by itself."""
        return name in self.kind.steering and isinstance(self.arguments[name], Tensor)

    def of_prompt(self, share: PromptShare) -> LinearEdges | None:
        """See :class:`~.mixing.Mixing`; the rule is the same for both methods."""
        upstream = share.upstream
        if not upstream:
            return None
        given = [share.own(part[0]) for part in share.parts] or [share.own(self.by_head(self.values))]
        kind, prompt = self.kind, share.prompt
        arguments = {
            name: _widened(value[prompt : prompt + 1].narrow(kind.tokens, 0, share.n) if self._by_token(name) else value)
            for name, value in self.arguments.items()
        }
        return LinearEdges(kind, self.function, arguments, [wide(u) for u in upstream], [wide(v) for v in given])


def _widened(value: Any) -> Any:
    return wide(value) if isinstance(value, Tensor) and value.is_floating_point() else value


@dataclass
class LinearEdges:
    """Edges of one call for one prompt, in closed form (method.md, 4, edges of other mixers).

    ``upstream[s]`` and ``given[t]`` [heads, n, width], by shift. Everything the heads give lies on the value path.
    """

    kind: MixingFunction
    function: Callable[..., Any]
    arguments: dict[str, Any]
    upstream: list[Tensor]
    given: list[Tensor]
    _channels: Tensor | None = None

    @property
    def heads(self) -> int:
        """Number of heads, or of channels that are mixed each by itself."""
        return int(self.given[0].shape[0])

    def rows(self, rows: Tensor, columns: int, *, summed: bool) -> tuple[Tensor, Tensor]:
        """See :class:`~.mixing.EdgeSource`."""
        if not self.kind.shared:
            if not summed:
                raise ValueError(f"{self.kind.name} mixes every channel by itself: edges by head would be edges by channel.")
            found = self._by_channel()[rows, :columns]
            return found, torch.zeros_like(found)
        found = self.given[0].new_zeros((self.heads, len(rows), columns))
        for s, upstream in enumerate(self.upstream):
            asked = rows - s
            inside = asked >= 0
            mixed = self._matrix(asked.clamp(min=0), columns)
            at = upstream[:, asked.clamp(min=0)] * inside[:, None].to(upstream.dtype)
            for t, given in enumerate(self.given):
                edges = mixed * (at @ given[:, :columns].mT)
                found[..., : columns - t] += edges[..., t:]
        return (found.sum(0) if summed else found), torch.zeros_like(found[0] if summed else found)

    def _run(self, values: Tensor, arguments: dict[str, Any]) -> Tensor:
        """What the mixer makes of values [batch, heads, n, width], by head again."""
        output = self.function(**arguments, **{self.kind.values: self.kind.from_heads(values)})
        return self.kind.by_head(output[0] if isinstance(output, tuple) else output)

    def _matrix(self, rows: Tensor, columns: int) -> Tensor:
        """[heads, r, columns] rows of M: the mixer run on ``columns`` tokens and pulled back from one-hot outputs."""
        arguments = {
            name: value.narrow(self.kind.tokens, 0, columns)
            if name in self.kind.steering and isinstance(value, Tensor)
            else value
            for name, value in self.arguments.items()
        }
        like = self.given[0]
        values = like.new_zeros((1, self.heads, columns, len(rows))).requires_grad_()
        with torch.enable_grad():
            output = self._run(values, arguments)
            wanted = torch.zeros_like(output)
            place = torch.arange(len(rows), device=rows.device)
            wanted[0, :, rows, place] = 1
            (mixed,) = torch.autograd.grad(output, values, wanted)
        return mixed[0].mT

    def _by_channel(self) -> Tensor:
        """[n, n] edges of channels with a matrix each, summed: every source run as a batch row of its own."""
        if self._channels is None:
            heads, n, width = self.given[0].shape
            tile = max(1, SOURCE_ELEMENTS // (heads * n * width))
            self._channels = self.given[0].new_zeros((n, n))
            for t, given in enumerate(self.given):
                for start in range(0, n, tile):
                    self._add_sources(given, t, torch.arange(start, min(start + tile, n), device=given.device))
        return self._channels

    def _add_sources(self, given: Tensor, t: int, sources: Tensor) -> None:
        assert self._channels is not None
        values = given.new_zeros((len(sources), *given.shape))
        place = torch.arange(len(sources), device=sources.device)
        values[place, :, sources] = given[:, sources].movedim(1, 0)
        arguments = {
            name: value.expand(len(sources), *value.shape[1:])
            if name in self.kind.steering and isinstance(value, Tensor)
            else value
            for name, value in self.arguments.items()
        }
        with torch.no_grad():
            output = self._run(values, arguments)
        inside = sources >= t  # tokens before the first gave nothing
        for s, upstream in enumerate(self.upstream):
            n = output.shape[2]
            edges = torch.einsum("bhmw,hmw->bm", output[:, :, : n - s], upstream[:, : n - s])
            self._channels[s:, (sources - t)[inside]] += edges[inside].mT
