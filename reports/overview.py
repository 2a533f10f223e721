"""The index and the pages of tasks: counts and figures over many failures."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..store.clean_text import one_line, visible
from ..store.reader import Row
from ..terms import LABELS, TRUST_LEVELS, UNDECIDED
from .charts import Stack, counted, diverging, stack
from .context import Fact, FailureRow, IndexPage, Link, RunSection, TaskPage, TaskRow, UnattributedRow
from .ledger import charge_rows, ledger_card, ledger_of, ledger_sentence, uncharged
from .queries import named_queries
from .site import Site, TaskKey
from .text import figure, percent, plural, sampled_share, signed, token_name

#: Kinds of runs that are evaluations, of this model or of one that answered elsewhere.
EVALUATIONS = ("evaluation", "samples", "conversations")
#: Statuses of failures that were tried: what a share of clean pairs is a share of.
_TRIED = ("attributed", "no pair", "no answer", "error")
_FIRST_QUERY = """SELECT task, label, pattern, count(*) AS failures
FROM failures WHERE status = 'attributed'
GROUP BY ALL ORDER BY ALL;"""
#: Characters of a text in a table's cell.
CELL = 120
#: Reasons listed on a task page; what is left over is summed up.
_REASONS = 8


def label_style(label: str) -> str:
    """The style sheet's name for a label's colour; one that this release does not know looks undecided."""
    return {"M-IA": "mia", "M-AG": "mag", "NC": "nc"}.get(label, UNDECIDED)


def label_of(row: Row) -> str:
    """A failure's label, or ``undecided``."""
    return row["label"] or UNDECIDED


def labels_of(rows: Sequence[Row]) -> Stack:
    """How the labels of attributed failures are distributed; labels that this release does not know come last."""
    counts = Counter(label_of(row) for row in rows if row["status"] == "attributed")
    known = [*LABELS, *sorted(set(counts) - set(LABELS))]
    return stack([(name, LABELS.get(name, name), label_style(name), counts[name]) for name in known])


def index_page(site: Site) -> IndexPage:
    """``index.html``."""
    # Runs that `compare` and `replay` make explain pairs of an evaluation again: they are shown, and in no total.
    evaluations = {run["run_id"] for run in site.runs if run["kind"] in EVALUATIONS}
    failures = [row for row in site.failures if row["run_id"] in evaluations]
    explained = [row for row in failures if row["status"] == "attributed"]
    # Of several filters of a task one decides: a document counts once.
    tasks = [task for task in site.tasks if task["run_id"] in evaluations and task["decides"] is not False]
    totals = (
        Fact("Evaluations", figure(len(evaluations))),
        Fact("Tasks", figure(len(tasks))),
        Fact("Documents", f"{sum(task['documents'] or 0 for task in tasks):,}"),
        Fact("Failures", f"{sum(task['failures'] or 0 for task in tasks):,}"),
        *_not_the_models(tasks),
        Fact("Explained", f"{len(explained):,}"),
        Fact("Clean pairs", _clean(failures)),
    )
    return IndexPage(
        title=f"Why were these answers wrong? {site.database}",
        root="",
        crumbs=(),
        database=site.database,
        generator=site.generator,
        totals=totals,
        ledger=ledger_card(site, tasks),
        labels=labels_of(failures),
        runs=tuple(_run_section(site, run) for run in site.runs),
        example=_example(site, explained),
        sql=_FIRST_QUERY,
        queries=tuple(Fact(query.name, query.summary) for query in named_queries() if not query.name.startswith("report_")),
        command=f"lm-eval-attrib query {shlex.quote(site.database)} labels",
    )


def _not_the_models(tasks: Sequence[Row]) -> tuple[Fact, ...]:
    """How many failures are charged as artefacts, where any is."""
    charged = sum(task.get("artefacts") or 0 for task in tasks)
    return (Fact("Not the model’s", f"{charged:,}"),) if charged else ()


def _clean(failures: Sequence[Row]) -> str:
    tried = [row for row in failures if row["status"] in _TRIED]
    clean = sum(1 for row in tried if row["clean"])
    sampled = any(row["status"] == "not sampled" for row in failures)
    return f"{clean:,} ({sampled_share(clean, len(tried), sampled=sampled)})" if tried else "–"


def _example(site: Site, explained: Sequence[Row]) -> Link | None:
    """The failure that is easiest to read: manifest in the input before others, then the most trusted, then the largest Δℓ."""
    if not explained:
        return None

    def ease(row: Row) -> tuple[bool, bool, float, float, str]:
        manifest = row["label"] == "M-IA"
        return (bool(row["clean"]), manifest, row["trust_score"] or 0.0, row["delta_logit"] or 0.0, row["failure_id"])

    best = max(explained, key=ease)
    return Link(visible(f"{best['task']}, document {best['doc_id']}"), site.failure_path(best["failure_id"]))


def _run_section(site: Site, run: Row) -> RunSection:
    arguments = _mapping(run["model_args"])
    facts = [
        Fact("Rule", str(run["rule"])),
        Fact("Objective", str(run["objective"])),
        Fact("Parameters", figure(run["parameters"]) if run["parameters"] else "–"),
        Fact("Numbers", str(run["dtype"] or "–")),
        Fact("Started", str(run["started_at"] or "–")),
        Fact("Finished", str(run["finished_at"] or "–")),
    ]
    details = [Fact("model", visible(str(run["model"])))]
    details += [Fact(visible(str(name)), visible(str(value))) for name, value in sorted(_mapping(run["versions"]).items())]
    details += [Fact(visible(str(name)), visible(str(value))) for name, value in sorted(arguments.items())]
    details.append(Fact("run_id", run["run_id"]))
    return RunSection(
        site.run_anchor(run["run_id"]),
        site.models[run["run_id"]],
        site.differences.get(run["run_id"], ""),
        tuple(facts),
        tuple(details),
        str(run["status"] or "unknown"),
        tuple(_task_row(site, task) for task in site.tasks if task["run_id"] == run["run_id"]),
    )


def _mapping(value: Any) -> dict[str, Any]:
    """A JSON object of the database, which arrives as text."""
    if isinstance(value, str):
        value = json.loads(value)
    return dict(value) if value else {}


def _task_row(site: Site, task: Row) -> TaskRow:
    key = site.key(task)
    rows = site.by_task.get(key, [])
    patterns = Counter(row["pattern"] for row in rows if row["pattern"] and row["status"] != "right since")
    return TaskRow(
        Link(visible(key.task), site.task_path(key)),
        visible(key.filter),
        visible(task["metric"] or ""),
        percent(task["score"]) if task["score"] is not None and 0 <= task["score"] <= 1 else figure(task["score"]),
        f"{task['documents'] or 0:,}",
        f"{task['failures'] or 0:,}",
        f"{sum(row['status'] == 'attributed' for row in rows):,}",
        _clean(rows),
        labels_of(rows),
        ", ".join(f"{name} {count}" for name, count in sorted(patterns.items(), key=lambda item: (-item[1], item[0]))) or "–",
        visible(task["not_attributable"] or ""),
    )


def task_page(site: Site, key: TaskKey, task: Row) -> TaskPage:
    """``tasks/*.html``."""
    rows = site.by_task.get(key, [])
    explained = [row for row in rows if row["status"] == "attributed"]
    rest = [row for row in rows if row["status"] != "attributed"]
    tried = [row for row in rows if row["status"] in _TRIED]
    summary = _task_row(site, task)
    run = next(run for run in site.runs if run["run_id"] == key.run_id)
    trust = Counter(row["trust"] or "unknown" for row in explained)
    means = [row for row in site.segment_means if site.key(row) == key and row["segment"]]
    facts = [
        Fact("Score", summary.score),
        Fact("Documents", summary.documents),
        Fact("Failures", summary.failures),
        *_not_the_models([task]),
        Fact("Explained", summary.attributed),
        Fact("Clean pairs", summary.clean),
        Fact("Metric", summary.metric),
        Fact("Filter", summary.filter or "none"),
        Fact("Model", site.models[run["run_id"]]),
        Fact("Rule", str(run["rule"])),
        *([Fact("This run", site.differences[key.run_id])] if key.run_id in site.differences else []),
    ]
    unclean = Counter(unclean_reason(row) for row in tried if not row["clean"])
    ledger = ledger_of(site, task)
    return TaskPage(
        title=f"{visible(key.task)} – why its answers were wrong",
        root="../",
        crumbs=(
            Link("Report", "../index.html"),
            Link(site.models[run["run_id"]], f"../index.html#{site.run_anchor(key.run_id)}"),
        ),
        database=site.database,
        generator=site.generator,
        task=visible(key.task),
        facts=tuple(facts),
        note=summary.note,
        ledger=ledger_sentence(ledger),
        charges=charge_rows(ledger),
        uncharged=uncharged(ledger),
        labels=summary.labels,
        by_chance=_by_chance(site.label_chances.get(key, {})),
        patterns=counted(Counter(row["pattern"] for row in explained if row["pattern"]), len(explained)),
        segments=diverging([(visible(row["segment"]), row["mean"], plural(row["failures"], "failure")) for row in means]),
        strategies=counted(Counter(visible(row["strategy"] or "unknown") for row in explained), len(explained)),
        unclean=counted(_most_common(unclean), len(tried)),
        trust=stack([(level, f"trust: {level}", level, trust[level]) for level in TRUST_LEVELS]) if explained else stack([]),
        failures=tuple(_failure_row(site, row) for row in explained),
        unattributed=tuple(_unattributed_row(site, row) for row in rest),
        sql=_task_sql(key),
    )


def _by_chance(shares: Mapping[str, float]) -> str:
    """What random places do to the failures of each label."""
    if not shares:
        return ""
    told = " and ".join(
        f"{percent(share, 2)} of those labelled {label}" for label, share in sorted(shares.items(), reverse=True)
    )
    return f"By chance: random places, as they were tried here, turn {told}."


def unclean_reason(row: Row) -> str:
    """Why a failure has no clean pair, without the figures of the single case, so that reasons can be counted."""
    if row["delta_logit"] is not None:
        if row["delta_logit"] <= 0:
            return "the model preferred the right token there (Δℓ ≤ 0)"
        if row["delta_logit"] <= 1:
            return "the two tokens were close (0 < Δℓ ≤ 1)"
    text = row["reason"] or row["unclean"] or row["status"]
    return re.sub(r"(['\"“‘`«]).*?(['\"”’`»])|\d+(\.\d+)?", "…", one_line(text, 160))


def _most_common(counts: Counter[str]) -> dict[str, int]:
    kept = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_REASONS])
    left = sum(counts.values()) - sum(kept.values())
    return kept | ({"other reasons": left} if left else {})


def _failure_row(site: Site, row: Row) -> FailureRow:
    label = label_of(row)
    return FailureRow(
        Link(str(row["doc_id"]), "../" + site.failure_path(row["failure_id"])),
        row["doc_id"],
        one_line(row["prediction"] or "", CELL),
        one_line(row["gold"] or "", CELL),
        token_name(row["target"] or ""),
        token_name(row["contrast"] or ""),
        round(row["delta_logit"], 4) if row["delta_logit"] is not None else 0.0,
        signed(row["delta_logit"]),
        bool(row["clean"]),
        label,
        label_style(label),
        row["pattern"] or "",
        row["trust"] or "unknown",
        round(row["trust_score"], 4) if row["trust_score"] is not None else -1.0,
    )


def _unattributed_row(site: Site, row: Row) -> UnattributedRow:
    return UnattributedRow(
        Link(str(row["doc_id"]), "../" + site.failure_path(row["failure_id"])),
        row["doc_id"],
        one_line(row["prediction"] or "", CELL),
        one_line(row["gold"] or "", CELL),
        (row["label"] or row["status"]).replace(":", ": ").replace("_", " ") if row["status"] == "artefact" else row["status"],
        one_line(row["reason"] or "", 300),
    )


def literal(text: str) -> str:
    """``text`` as a string of SQL."""
    return "'" + text.replace("'", "''") + "'"


def _task_sql(key: TaskKey) -> str:
    return visible(
        "SELECT doc_id, prediction, gold, target, contrast, delta_logit, label, pattern, failure_id\n"
        "FROM failures JOIN contrasts USING (failure_id)\n"
        f"WHERE run_id = {literal(key.run_id)} AND task = {literal(key.task)} AND filter = {literal(key.filter)}\n"
        "ORDER BY delta_logit DESC;"
    )
