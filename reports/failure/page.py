"""The page of one failure."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from typing import Any

from ...store.clean_text import one_line, visible
from ...store.reader import Columns, Row
from ...terms import ADVICE, LABELS, check_order, check_term, gap_meaning, pattern_meaning
from ..charts import number_line
from ..context import Fact, Link
from ..ledger import tried_changes
from ..overview import label_of, label_style, literal
from ..read import Detail
from ..site import Site
from ..text import figure, percent, plural, pretty_json, signed, times_as_probable, token_name
from .choices import choice_table
from .context import Candidate, CheckRow, DecisionView, FailurePage, LabelView, RankedToken, Trusted
from .flow import graph_view
from .heat import heat_map, layer_strip, ranked, segment_bars, strongest
from .sentence import in_short
from .story import story_of


def failure_page(site: Site, detail: Detail, before: Row | None, after: Row | None) -> FailurePage:
    """``failures/*.html``. ``before`` and ``after``: the neighbours in the task's list."""
    row, contrast, parts = detail.failure, detail.contrast, detail.parts
    key = site.key(row)
    tokens = parts["tokens"]
    coloured = bool(tokens["token"])
    wrong, right = strongest(tokens) if coloured else ([], [])
    story = story_of(row, contrast, parts)
    charges, unproved = tried_changes(parts["tried"])
    return FailurePage(
        title=f"{visible(key.task)}, document {row['doc_id']} – why the answer was wrong",
        root="../",
        crumbs=(Link("Report", "../index.html"), Link(visible(key.task), "../" + site.task_path(key))),
        database=site.database,
        generator=site.generator,
        failure_id=row["failure_id"],
        task=visible(key.task),
        document=row["doc_id"],
        sentence=in_short(
            row,
            contrast,
            next((one for one in charges if one.charged), None),
            site.label_chances.get(key, {}).get(row["label"] or ""),
        ),
        facts=_facts(site, row),
        prediction=visible(row["prediction"] or "") or "(nothing)",
        gold=visible(row["gold"] or "") or "(the task names no single right answer)",
        choices=choice_table(parts["choices"]),
        status=row["status"],
        reason=visible(row["reason"] or ""),
        advice=ADVICE.get(row["status"], ""),
        charges=charges,
        unproved=unproved,
        prompt="" if coloured else visible(row["prompt"] or ""),
        decision=decision(contrast) if contrast else None,
        verdict=_verdict(row) if row["status"] == "attributed" else None,
        trusted=_trusted(row),
        story=story,
        heat=heat_map(tokens, story.positions if story else ()) if coloured else None,
        against=_ranked(tokens, wrong),
        supporting=_ranked(tokens, right),
        segments=segment_bars(parts["segments"]),
        strip=layer_strip(detail.layers, tokens) if coloured and detail.layers is not None else None,
        graph=_graph(parts, contrast) if coloured and contrast else None,
        checks=check_rows(parts["checks"]),
        document_json=pretty_json(row["doc"]),
        sql=_sql(row["failure_id"]),
        command=f"lm-eval-attrib show {shlex.quote(site.database)} {shlex.quote(row['failure_id'])}",
        previous=_neighbour(site, before),
        following=_neighbour(site, after),
        others=_others(site, row),
    )


def _facts(site: Site, row: Row) -> tuple[Fact, ...]:
    return (
        Fact(visible(row["metric"] or "metric"), figure(_whole(row["value"]))),
        Fact("Filter", visible(row["filter"] or "none")),
        Fact("Model", site.models.get(row["run_id"], "–")),
        Fact("Rule", site.rules.get(row["run_id"], "–")),
    )


def _whole(value: float | None) -> float | None:
    """A metric's value as a count where it is one: most are 0 or 1."""
    return int(value) if value is not None and math.isfinite(value) and value == int(value) else value


def decision(contrast: Row) -> DecisionView:
    """The explained pair in words and figures. ``contrast``: a row of the view ``contrasts``."""
    delta = contrast["delta_logit"]
    sequence = contrast["objective"] == "sequence"
    first, second = ("wrong", "right") if delta is None or delta >= 0 else ("right", "wrong")
    noun = "continuation" if sequence else "token"
    odds = "" if delta is None else f"The {first} {noun} was {times_as_probable(delta)} as the {second} one."
    return DecisionView(
        position=contrast["position"],
        wrong=_candidate(contrast, "target", True),
        right=_candidate(contrast, "contrast", False),
        delta=signed(delta),
        odds=odds,
        preferred_wrong=delta is None or delta > 0,
        sequence=sequence,
        strategy=contrast["strategy"] or "",
        objective=contrast["objective"] or "",
        clean=bool(contrast["clean"]),
        unclean=visible(contrast["unclean"] or "Δℓ is not above 1."),
        note=visible(contrast["note"] or ""),
        margin="" if contrast["margin"] is None else signed(contrast["margin"]),
        share="" if contrast["share"] is None else percent(contrast["share"]),
        gap=percent(contrast["completeness_gap"], 2),
        gap_meaning=gap_meaning(contrast["completeness_gap"]),
    )


def _candidate(contrast: Row, side: str, wrong: bool) -> Candidate:
    probability, rank = contrast[f"{side}_probability"], contrast[f"{side}_rank"]
    return Candidate(
        wrong,
        token_name(contrast[side] or ""),
        contrast[f"{side}_id"],
        f"{rank:,}" if rank else "–",
        percent(probability),
        round(100 * probability, 2) if probability is not None and math.isfinite(probability) else 0.0,
    )


def _verdict(row: Row) -> LabelView:
    label, pattern = label_of(row), row["pattern"] or ""
    return LabelView(
        label,
        LABELS.get(label, ""),
        pattern,
        pattern_meaning(pattern),
        visible(row["label_reason"] or ""),
        label_style(label),
    )


def _trusted(row: Row) -> Trusted | None:
    if row["trust"] is None:
        return None
    score = row["trust_score"]
    return Trusted(row["trust"], figure(score, 2), round(100 * (score or 0.0), 2), visible(row["trust_sentence"] or ""))


def _ranked(tokens: Columns, indices: Sequence[int]) -> tuple[RankedToken, ...]:
    return ranked(tokens, indices) if indices else ()


def _graph(parts: Any, contrast: Row) -> Any:
    units = (parts["heads"], parts["neurons"])
    return graph_view(parts["nodes"], parts["edges"], units, parts["graph_figures"], parts["tokens"], contrast["position"])


def check_rows(checks: Columns) -> tuple[CheckRow, ...]:
    """The causal checks on number lines with common ends, so that they compare."""
    count = len(checks["check"])
    values = [checks[name][i] for name in ("delta_before", "delta_after", "control") for i in range(count)]
    known = [value for value in values if value is not None and math.isfinite(value)]
    low, high = min(known, default=0.0), max(known, default=0.0)
    rows = []
    for i in sorted(range(count), key=lambda i: check_order(checks["check"][i])):
        term = check_term(checks["check"][i])
        amount, before, after, control = (checks[name][i] for name in ("amount", "delta_before", "delta_after", "control"))
        whole = amount is not None and float(amount).is_integer()
        rows.append(
            CheckRow(
                name=visible(checks["check"][i]),
                meaning=visible(term.meaning),
                amount=plural(int(amount), term.unit) if term.unit and whole else figure(int(amount) if whole else amount),
                before=signed(before),
                after=signed(after),
                control=signed(control),
                control_turned=percent(checks["control_turned"][i], 2),
                turned=bool(checks["turned"][i]),
                detail=one_line(checks["detail"][i] or "", 140),
                line=number_line(before, after, control, low, high),
            )
        )
    return tuple(rows)


def _neighbour(site: Site, row: Row | None) -> Link | None:
    if row is None:
        return None
    return Link(f"document {row['doc_id']}", "../" + site.failure_path(row["failure_id"]))


def _others(site: Site, row: Row) -> tuple[Link, ...]:
    """The same document of the same task under other runs."""
    same = site.same_document[row["task"], row["filter"] or "", row["doc_id"]]
    links = []
    for other in same:
        if other["run_id"] != row["run_id"]:
            model = site.models.get(other["run_id"], "–")
            words = f"{model}: {other['label'] or other['status']}, Δℓ {signed(other['delta_logit'])}"
            links.append(Link(words, "../" + site.failure_path(other["failure_id"])))
    return tuple(links)


def _sql(failure_id: str) -> str:
    return visible(
        "SELECT position, token, segment, relevance, relevance_norm\n"
        f"FROM tokens WHERE failure_id = {literal(failure_id)} AND NOT special\n"
        "ORDER BY abs(relevance) DESC LIMIT 20;"
    )
