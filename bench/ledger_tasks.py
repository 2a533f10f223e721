"""The tasks of ``ledger.py``: clean ones, the same with one artefact planted, and lm_eval's mended bugs in small.

Documents are those of the planted benchmark's generator, with a seed of their own: the model answers three quarters of them
rightly, and the others wrongly for causes in their text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from lm_eval_attrib.tasks.planted.documents import documents
from lm_eval_attrib.tasks.planted.vocabulary import NAMES

Doc = dict[str, Any]

_SHARES: Any = {"misleading": 0.08, "neglected": 0.07, "habit": 0.06, "both": 0.04}
SEED, COUNT = 77, 160
#: Where gold answers are spoiled the model has to be right where they are not: documents without a cause, of 240 every 20th.
PLAIN_COUNT = 240

_GENERATED: dict[str, Any] = {
    "output_type": "generate_until",
    "doc_to_text": "{{prompt}}",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": [" ."], "max_gen_toks": 8, "do_sample": False},
    "filter_list": [
        {
            "name": "object",
            "filter": [{"function": "regex", "regex_pattern": "Give [A-Z][a-z]+ ([a-z]+)"}, {"function": "take_first"}],
        }
    ],
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}
_CHOSEN: dict[str, Any] = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{prompt}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{gold}}",
    "target_delimiter": " ",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}


def _same(doc: Doc, number: int) -> Doc:
    return doc


@dataclass(frozen=True)
class Plant:
    """One task: what differs from the clean one ``clean``, and the kind that it should be charged to.

    ``changed`` makes its documents of the clean ones; ``touched``: only these documents are counted as lost.
    """

    name: str
    clean: str = ""
    kind: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    changed: Callable[[Doc, int], Doc] = _same
    touched: frozenset[int] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    #: The model's own arguments; ``artefacts`` that are asked for; which stand-in answers (see ``ledger.py``).
    model: Mapping[str, Any] = field(default_factory=dict)
    artefacts: str = "on"
    answers: str = ""
    #: Where the bug was: the mending commit of lm_eval.
    mended: str = ""

    @property
    def chosen(self) -> bool:
        """Whether it is answered by choosing."""
        return "choice" in (self.clean or self.name)

    @property
    def plain(self) -> bool:
        """Whether its documents hold no cause of failure."""
        return "plain" in (self.clean or self.name)


def clean_documents(chosen: bool, plain: bool = False) -> list[Doc]:
    """The documents of the clean tasks."""
    count, shares = (PLAIN_COUNT, {}) if plain else (COUNT, dict(_SHARES))
    made = documents(SEED + chosen, count, shares, (40, 50, 60, 80), chosen)
    return [{**doc.as_json(), "gold": list(doc.choices).index(doc.answer)} for doc in made]


def write_task(folder: Path, plant: Plant) -> Path:
    """The task's definition and documents in a folder of their own."""
    folder.mkdir(parents=True)
    rows = [plant.changed(doc, number) for number, doc in enumerate(clean_documents(plant.chosen, plant.plain))]
    (folder / "documents.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = {
        "task": plant.name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "documents.jsonl")}},
        "test_split": "test",
        "num_fewshot": 0,
        "metadata": {"version": 1.0},
        **(_CHOSEN if plant.chosen else _GENERATED),
        **plant.settings,
    }
    (folder / f"{plant.name}.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return folder


def _pattern(pattern: str, name: str = "object") -> dict[str, Any]:
    steps = [{"function": "regex", "regex_pattern": pattern}, {"function": "take_first"}]
    return {"filter_list": [{"name": name, "filter": steps}]}


def _until(*stops: str, limit: int = 8) -> dict[str, Any]:
    return {"generation_kwargs": {"until": list(stops), "max_gen_toks": limit, "do_sample": False}}


#: Every twentieth document: 5 %.
_TWENTIETH = frozenset(range(3, PLAIN_COUNT, 20))


def _shifted(doc: Doc, number: int) -> Doc:
    """Its gold index one too high."""
    return {**doc, "gold": (doc["gold"] + 1) % len(doc["choices"])} if number in _TWENTIETH else doc


def _padded(doc: Doc, number: int) -> Doc:
    """Every second right choice said at length: one more word, long and improbable, that characters make up for."""
    longer = [
        f"{text} unquestionably-and-incontrovertibly" if i == doc["gold"] else text for i, text in enumerate(doc["choices"])
    ]
    return {**doc, "choices": longer} if number % 2 else doc


def _capital(doc: Doc, number: int) -> Doc:
    """Its answer written otherwise than the model writes it."""
    return {**doc, "answer": doc["answer"].capitalize()}


def _spaced(doc: Doc, number: int) -> Doc:
    return {**doc, "answer": doc["answer"] + " \n"}


def _lost(doc: Doc, number: int) -> Doc:
    """Gold answers that are none of the choices, for 5 %."""
    return {**doc, "gold": len(doc["choices"])} if number in _TWENTIETH else doc


def _counted_from_one(doc: Doc, number: int) -> Doc:
    return {**doc, "gold": doc["gold"] + 1}


def _unopened(doc: Doc, number: int) -> Doc:
    """Its prompt without the opening of the answer, which the chat template writes."""
    return {**doc, "prompt": doc["prompt"].removesuffix(OPENING)}


#: What the planted model's answers begin after; the stand-in for its chat template writes it.
OPENING = " Answer :"
#: An example that does no harm, and one that gives everybody something that no document gives.
_HARMLESS = "Today the roof was cold . Send Mia buns . What should Mia get ? Answer : Give Mia"
_LEAKING = " ".join(f"Send {name} {'nails' if i % 2 else 'marbles'} ." for i, name in enumerate(NAMES))


def _shots(*prompts: tuple[str, str]) -> dict[str, Any]:
    """Few-shot examples, the same for all documents."""
    samples = [{"prompt": prompt, "answer": answer, "question": ""} for prompt, answer in prompts]
    return {
        "num_fewshot": len(samples),
        "fewshot_config": {"sampler": "first_n", "samples": samples},
        "fewshot_delimiter": "\n\n",
        "target_delimiter": " ",
    }


_MISLED = _shots((_HARMLESS, "buns ."), (f"{_LEAKING} What should Mia get ? Answer : Give Mia", "nails ."))
_TRUNCATED = _shots((f"{_LEAKING} What should Mia get ? Answer : Give Mia", "nails ."), (_HARMLESS, "buns ."))

CLEAN: Sequence[Plant] = (
    Plant("ledger_generated"),
    Plant("ledger_choice"),
    Plant("ledger_choice_plain"),
    Plant("ledger_shots", settings=_shots((_HARMLESS, "buns ."), (_HARMLESS, "buns .")), artefacts="on+shots"),
    Plant("ledger_chat", changed=_unopened, answers="chat", options={"apply_chat_template": True}),
)

PLANTS: Sequence[Plant] = (
    Plant("half_the_formats", "ledger_generated", "extraction", _pattern("Give [A-L][a-z]+ ([a-z]+)")),
    Plant("no_format_at_all", "ledger_generated", "extraction", _pattern("The answer is ([a-z]+)")),
    Plant("case_of_the_gold", "ledger_generated", "extraction", changed=_capital),
    Plant("two_tokens", "ledger_generated", "cut_off", _until(" .", limit=2)),
    Plant("stop_in_the_answer", "ledger_generated", "stopped", _until(" ", " .")),
    Plant("stop_after_the_name", "ledger_generated", "stopped", _until("a ", " .")),
    Plant("choice_at_length", "ledger_choice", "length", changed=_padded),
    Plant("choice_shifted", "ledger_choice_plain", "gold", changed=_shifted, touched=_TWENTIETH),
    Plant("leaking_example", "ledger_shots", "shots", _MISLED, artefacts="on+shots"),
    Plant("lost_beginning", "ledger_shots", "truncated", _TRUNCATED, model={"max_length": 150}),
    Plant("template_left_out", "ledger_chat", "template", changed=_unopened, answers="chat"),
    Plant("thought_aloud", "ledger_generated", "thinking", answers="thinking"),
    Plant("choice_lost", "ledger_choice_plain", "gold", changed=_lost, touched=_TWENTIETH),
)

BUGS: Sequence[Plant] = (
    # An answer is looked for between marks that the model does not write (hendrycks_math).
    Plant("marks_nobody_writes", "ledger_generated", "extraction", _pattern(r"\$([a-z]+)\$"), mended="5f02e4555"),
    # The metric is asked about the whole response, of which the answer is the last word (kormedmcqa).
    Plant(
        "raw_response",
        "ledger_generated",
        "extraction",
        {"filter_list": [{"name": "none", "filter": [{"function": "take_first"}]}]},
        mended="97a5e2c71",
    ),
    # White space stands around the gold answer of the data (swde, squad_completion).
    Plant("spaces_in_the_gold", "ledger_generated", "extraction", changed=_spaced, mended="1b16d59c1"),
    # A stop sequence ends the response before it comes to its answer (spider).
    Plant("stopped_before_it", "ledger_generated", "stopped", _until(" ", " .", limit=16), mended="5ee3636a7"),
    # Too few tokens for the answer (graphwalks).
    Plant("too_few_tokens", "ledger_generated", "cut_off", _until(" .", limit=2), mended="e221a016d"),
    # Labels that count from one are taken for places that count from nought (siqa).
    Plant("choice_from_one", "ledger_choice_plain", "gold", changed=_counted_from_one, mended="6a1c19ed7"),
    # Choices of very different lengths are compared by their sums (piqa).
    Plant("choice_by_sums", "ledger_choice", "length", changed=_padded, mended="2522c27f6"),
)
