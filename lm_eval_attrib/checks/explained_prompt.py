"""What is checked: one explained failure, as the engine and the segmenter left it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from ..lrp.intervention.faithfulness import ranking, word_relevance
from ..lrp.pair import Pair
from ..records import NodeTable, UnitTable


@dataclass(frozen=True)
class Subject:
    """One explained failure. Positions are indices into ``pair.input_ids`` (n of them).

    Attributes:
        pair: the explained pair, unpadded.
        relevance: [n] relevance of the tokens.
        words: the words of the input as positions of their tokens; sinks belong to none.
        special: [n] sinks (special tokens, role words, the first position …); empty: none.
        segments: [n] segment of each token; empty: unknown.
        relevant: segments that hold the evidence; empty: unknown, so that no pattern can be told.
        texts: [n] text of each token, for a reader; empty: unknown.
        layers: [L + 1, n] relevance of hidden states (row 0 the embeddings): what is ablated when there is no graph.
        nodes: hidden states of the pruned graph.
        heads: heads of the pruned graph, or all.
        rival: [n] relevance of the tokens under the other rule (CP-LRP), for the agreement of the two.
        completeness_gap: the attribution's own.
        delta: Δℓ of the pair as the attribution found it (nats); None: a plain run will tell.
        own: the segment of what the model wrote itself, which is neither relevant nor irrelevant; empty: none.
        asked: segments of question and evidence, which a prior answer does without; empty: unknown.
    """

    pair: Pair
    relevance: Sequence[float] | Tensor
    words: Sequence[Sequence[int]]
    special: Sequence[bool] = ()
    segments: Sequence[str] = ()
    relevant: frozenset[str] = frozenset()
    texts: Sequence[str] = ()
    layers: Tensor | None = None
    nodes: NodeTable | None = None
    heads: UnitTable | None = None
    rival: Sequence[float] | Tensor | None = None
    completeness_gap: float | None = None
    delta: float | None = None
    own: str = ""
    asked: frozenset[str] = frozenset()

    @property
    def length(self) -> int:
        """Number of tokens, n; the last is the explained position."""
        return len(self.pair.input_ids)

    @cached_property
    def specials(self) -> frozenset[int]:
        """Positions of sinks."""
        return frozenset(i for i, special in enumerate(self.special) if special)

    @cached_property
    def relevant_positions(self) -> frozenset[int]:
        """Positions of the tokens in relevant segments."""
        return frozenset(i for i, name in enumerate(self.segments) if name in self.relevant) - self.specials

    @cached_property
    def maskable(self) -> list[tuple[int, ...]]:
        """The words that are ranked and masked: all but the one at the explained position.

        The answer is read there; no later token attends to it, and replacing it would ask another question.
        """
        return [tuple(word) for word in self.words if word and self.length - 1 not in word]

    @cached_property
    def ranked(self) -> list[int]:
        """Indices into ``maskable`` of the words with positive relevance, most relevant first."""
        relevance = word_relevance(self.relevance, self.maskable)
        return [word for word in ranking(relevance) if relevance[word] > 0]

    def outside(self, word: int) -> bool:
        """Whether no token of a maskable word is in a relevant segment, or of the model's own answer."""
        return self.relevant_positions.isdisjoint(self.maskable[word]) and not self.wrote(word)

    def wrote(self, word: int) -> bool:
        """Whether a maskable word is of the model's own answer so far."""
        return bool(self.own) and any(self.segments[i] == self.own for i in self.maskable[word])

    def within(self, segments: frozenset[str]) -> list[int]:
        """The maskable words with a token in one of ``segments``; none where segments are not known."""
        if not self.segments:
            return []
        return [k for k, word in enumerate(self.maskable) if any(self.segments[i] in segments for i in word)]

    def place(self, position: int) -> str:
        """A position as a reader is told of it: its token's text, or its number."""
        text = self.texts[position].strip() if self.texts else ""
        return f"“{text}”" if text else f"position {position}"

    def told(self, words: Sequence[int]) -> str:
        """The texts of maskable words."""
        if not self.texts:
            return ""
        return ", ".join("".join(self.texts[i] for i in self.maskable[word]).strip() for word in words)

    @cached_property
    def free(self) -> list[int]:
        """Positions between input and prediction: neither special nor the explained one, through which everything passes."""
        return [i for i in range(self.length - 1) if i not in self.specials]

    def hidden_states(self) -> list[tuple[int, int, float]]:
        """(layer, position, relevance) of the graph's nodes, or of all hidden states where no graph was computed."""
        if self.nodes is not None:
            return list(zip(self.nodes.layer, self.nodes.position, self.nodes.relevance, strict=True))
        if self.layers is None:
            return []
        rows = self.layers.tolist()
        return [(row - 1, i, relevance) for row, values in enumerate(rows) for i, relevance in enumerate(values)]
