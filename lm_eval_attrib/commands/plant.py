"""Failures with a known cause, for any model and task: documents changed until they fail, and changed back (method.md, 7)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ..errors import ArgumentError
from ..plants.cases import PlantedCase, write_cases
from ..plants.kinds import KINDS
from ..plants.planting import Planter
from ..plants.scoring import scores_of_options
from ..prompt.profiles import load_profiles


@dataclass(frozen=True)
class Planting:
    """What came of planting: cases written, and (task, kind, outcome) → how often."""

    cases: int
    outcomes: Counter[tuple[str, str, str]]


def plant(
    model_args: str,
    tasks: Sequence[str],
    out: Path,
    *,
    limit: int | None = None,
    kinds: Sequence[str] = (),
    tokens: int = 300,
    most: int | None = None,
    include_path: str | None = None,
    device: str | None = None,
    seed: int = 0,
) -> Planting:
    """Write planted cases of ``tasks`` under a model to ``out``, a line of JSON each (:class:`~.cases.PlantedCase`).

    Args:
        model_args: as for lm_eval; ``attrib_*`` arguments but ``attrib_profiles`` play no part.
        tasks: names that lm_eval knows.
        limit: documents a task that are tried, a seeded sample.
        kinds: of :data:`~.kinds.KINDS`; empty for all.
        tokens: examples are put before each question until a prompt has at least as many.
        most: cases a task at most.
        include_path: a folder of further tasks.
        seed: chance of all that is drawn.

    Raises:
        ArgumentError: an unknown kind or task, a model argument that does not hold, or a task whose answers are no options.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise ArgumentError(f"Unknown kinds of plants {', '.join(unknown)}; known are {', '.join(KINDS)}.")
    from ..harness.documents import prompted_documents
    from ..harness.model import load_model

    lm = load_model(_without_explaining(model_args), device=device)
    documents = prompted_documents(
        tasks, load_profiles(lm.settings.profiles), include_path=include_path, limit=limit, seed=seed
    )
    outcomes: Counter[tuple[str, str, str]] = Counter()

    def found() -> Iterator[PlantedCase]:
        for task, own in documents.items():
            planter = Planter(
                model=str(lm.arguments["pretrained"]),
                score=lambda prompt, options: scores_of_options(lm.model, lm.encoded, prompt, options),
                count=lambda text: len(lm.tokenizer.encode(text, add_special_tokens=False)),
                tokens=tokens,
                kinds=tuple(kinds) or tuple(KINDS),
                seed=seed,
            )
            yield from islice(planter.plant(own), most)
            outcomes.update({(task, *what): count for what, count in planter.outcomes.items()})

    return Planting(write_cases(found(), out), outcomes)


def _without_explaining(model_args: str) -> str:
    """No database is opened for a model that explains nothing."""
    return model_args if "attrib_limit=" in model_args else f"{model_args},attrib_limit=0"
