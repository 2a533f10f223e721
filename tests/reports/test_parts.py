"""The plain parts of the report: texts, numbers, charts, the heat map's styles, shares and paths of the graph, words."""

from __future__ import annotations

import itertools
import json
import math
import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_eval_attrib.reports.charts import counted, diverging, number_line, stack
from lm_eval_attrib.reports.failure.flow import EDGES, graph_view, kept_shares, strongest_path
from lm_eval_attrib.reports.failure.heat import bfloat16, heat_map, layer_strip, ranked, rounded, segment_bars, strongest, style
from lm_eval_attrib.reports.overview import label_style, literal, unclean_reason
from lm_eval_attrib.reports.text import (
    figure,
    inline_token,
    percent,
    plural,
    pretty_json,
    short_model,
    signed,
    slug,
    times_as_probable,
    token_name,
)
from report_records import flow

from lm_eval_attrib.records import STATUSES
from lm_eval_attrib.store.clean_text import one_line, visible
from lm_eval_attrib.terms import (
    ADVICE,
    CHECKS,
    LABELS,
    PATTERN_PARTS,
    PATTERNS,
    UNDECIDED,
    check_term,
    gap_meaning,
    pattern_meaning,
)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.0, "0"),
        (35, "35"),
        (12_000, "12,000"),
        (-3, "−3"),
        (3.14159, "3.14"),
        (-0.001234, "−0.00123"),
        (1234.5, "1,234"),
        (0.0000123, "1.23e−05"),
        (2.5e9, "2.50e+09"),
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "–"),
    ],
)
def test_numbers(value: float | None, shown: str) -> None:
    assert figure(value) == shown


def test_numbers_with_signs_and_shares() -> None:
    assert [signed(value) for value in (0.5, -0.5, 0.0, None)] == ["+0.500", "−0.500", "0", "–"]
    assert [percent(share) for share in (0.0, 1.0, 0.6123, 3.21e-7, None)] == ["0 %", "100 %", "61.2 %", "3.21e−05 %", "–"]
    assert (plural(1, "token"), plural(12_000, "token")) == ("1 token", "12,000 tokens")
    assert times_as_probable(math.log(25)) == times_as_probable(-math.log(25)) == "25 times as probable"
    assert times_as_probable(1e6).endswith("times as probable")


@given(st.text())
def test_nothing_stays_invisible(text: str) -> None:
    for shown in (
        visible(text),
        token_name(text),
        inline_token(text),
        one_line(text, 120),
        slug(text),
        pretty_json({"text": text}),
    ):
        assert not set(shown) & {"\x00", "\x1b", "\x7f", "\x9b", "\u200b", "\u200f", "\u202e", "\u2028", "\u2066", "\ufeff"}
        shown.encode("utf-8")
    assert "\n" not in token_name(text)
    assert "\n" not in one_line(text, 120)
    assert len(one_line(text, 20)) <= 20
    assert all(letter.isascii() and (letter.isalnum() or letter in "-_") for letter in slug(text))


def test_tokens() -> None:
    assert inline_token("a\n\n") == "a↵\n↵\n"
    assert [token_name(text) for text in (" a", "  ", "", "\n", "a b ")] == ["␣a", "␣␣", "∅", "↵", "a b␣"]
    assert inline_token("\r\n") == "␍↵\n"
    assert literal("it's") == "'it''s'"
    assert json.loads(pretty_json('{"b": [1, "é"]}')) == {"b": [1, "é"]}
    assert pretty_json("no json") == "no json"


def test_models_by_name() -> None:
    assert short_model("Qwen/Qwen3-0.6B") == "Qwen/Qwen3-0.6B"
    assert short_model("/home/me/secret/models/tiny/") == "models/tiny"
    assert short_model("C:\\me\\models\\tiny") == "models/tiny"
    assert short_model("gpt2") == "gpt2"


def test_a_stack_fills_its_width() -> None:
    made = stack([("a", "A", "mia", 3), ("none", "N", "nc", 0), ("b", "B", "mag", 1)])
    assert [(part.name, part.x, part.width, part.share) for part in made.slices] == [
        ("a", 0, 75, "75 %"),
        ("b", 75, 25, "25 %"),
    ]
    assert (made.total, made.summary) == (4, "a 3, b 1")
    assert stack([]).slices == ()
    with pytest.raises(ValueError, match="negative"):
        stack([("a", "A", "mia", -1)])


def test_bars() -> None:
    assert [(bar.name, bar.width, bar.note) for bar in counted({"b": 1, "a": 1, "c": 4}, 8)] == [
        ("c", 100, "50 %"),
        ("a", 25, "12 %"),
        ("b", 25, "12 %"),
    ]
    first, second = diverging([("up", 2.0, ""), ("down", -1.0, "")])
    assert (first.x, first.width, first.style) == (50, 50, "wrong")
    assert (second.x, second.width, second.style) == (25, 25, "right")
    assert diverging([("none", 0.0, "")])[0].width == 0


@given(*(st.floats(-50, 50) for _ in range(3)))
def test_a_number_line_keeps_its_order(before: float, after: float, control: float) -> None:
    values = [before, after, control]
    line = number_line(before, after, control, min(values), max(values))
    places = {mark.style: mark.x for mark in line.marks}
    assert all(0 <= x <= 100 for x in (*places.values(), line.zero))
    assert (before < after) <= (places["before"] <= places["after"])
    assert (after < 0) <= (places["after"] <= line.zero)


@pytest.mark.parametrize(
    ("normalised", "special", "name"),
    [
        (1.0, False, "p10"),
        (-1.0, False, "n10"),
        (0.1, False, "p1"),
        (0.11, False, "p2"),
        (-0.3, False, "n3"),
        (0.01, False, ""),
        (0.0, False, ""),
        (None, False, ""),
        (math.nan, False, ""),
        (0.9, True, "sp"),
    ],
)
def test_styles_of_tokens(normalised: float | None, special: bool, name: str) -> None:
    assert style(normalised, special) == name


def tokens(*rows: tuple[str, str, bool, float | None]) -> dict[str, list[Any]]:
    largest = max((abs(row[3]) for row in rows if not row[2] and row[3] is not None), default=1.0)
    return {
        "position": list(range(len(rows))),
        "token_id": [100 + i for i in range(len(rows))],
        "token": [row[0] for row in rows],
        "segment": [row[1] or None for row in rows],
        "special": [row[2] for row in rows],
        "relevance": [row[3] for row in rows],
        "relevance_norm": [0.0 if row[2] else None if row[3] is None else row[3] / largest for row in rows],
    }


TOKENS = tokens(
    ("<s>", "", True, 9.0),
    ("Who", "query", False, 0.5),
    (" did", "query", False, -0.25),
    (" it", "", False, None),
    ("?\n", "query", False, 0.5),
)


def test_strongest_tokens_leave_special_ones_out() -> None:
    assert strongest(TOKENS) == ([1, 4], [2])
    rows = ranked(TOKENS, [1, 4])
    assert [(row.position, row.relevance, row.normalised, row.bar) for row in rows] == [
        (1, "+0.500", "+1.0", 100.0),
        (4, "+0.500", "+1.0", 100.0),
    ]


def test_heat_map_holds_every_token_once() -> None:
    made = heat_map(TOKENS)
    drawn = [token for part in made.runs for token in part.tokens]
    assert [token.text for token in drawn] == ["<s>", "Who", " did", " it", "?↵\n"]
    assert [token.style for token in drawn] == ["sp", "p10", "n5", "", "p10"]
    assert [token.anchor for token in drawn] == ["", "t1", "t2", "", "t4"]
    assert made.segments == ("query",)
    assert made.data["segment"] == [-1, 0, 0, -1, 0]
    assert made.data["relevance"] == [9.0, 0.5, -0.25, None, 0.5]


def test_segments_are_ranked_by_strength() -> None:
    sums = {"segment": ["a", "b", None], "relevance": [0.1, -2.0, 5.0], "tokens": [3, 4, 1]}
    assert [(bar.name, bar.value, bar.note) for bar in segment_bars(sums)] == [("b", "−2.00", "4"), ("a", "+0.100", "3")]


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1))
def test_bfloat16_is_the_nearest(values: list[float]) -> None:
    given_ = np.array(values, dtype=np.float32)
    back = (bfloat16(given_).astype(np.uint32) << 16).view(np.float32)
    assert np.all(np.abs(back - given_) <= np.abs(given_) * 2.0**-8 + 1e-38)
    exact = np.array([0.0, 1.0, -2.5, 0.15625], dtype=np.float32)
    assert ((bfloat16(exact).astype(np.uint32) << 16).view(np.float32) == exact).all()


def test_strip_refuses_what_does_not_fit() -> None:
    layers = np.ones((3, 5), dtype=np.float32)
    made = layer_strip(layers, TOKENS)
    assert made is not None
    assert (made.data["rows"], made.data["tokens"], made.data["largest"]) == (3, 5, 1.0)
    assert layer_strip(layers[:, :4], TOKENS) is None
    assert layer_strip(layers[:1], TOKENS) is None
    assert layer_strip(np.full((3, 5), np.nan, dtype=np.float32), TOKENS) is not None


def table(kind: Any) -> dict[str, list[Any]]:
    return {name: list(column) for name, column in vars(kind).items()}


def graph(seed: int) -> SimpleNamespace:
    nodes, edges, heads, neurons = flow(30, 2.0, seed)
    shared = SimpleNamespace(nodes=table(nodes), edges=table(edges), heads=table(heads), neurons=table(neurons))
    for kind, name in ((shared.heads, "head"), (shared.neurons, "neuron")):
        kind[name] = kind.pop("unit")
    return shared


@pytest.mark.parametrize("seed", range(4))
def test_kept_shares_are_cumulative_mass(seed: int) -> None:
    """Showing edges with a share below p keeps, in each block, the fewest largest edges that hold p, ties together."""
    edges = graph(seed).edges
    order = sorted(range(len(edges["weight"])), key=lambda i: -abs(edges["weight"][i]))
    shares = dict(zip(order, kept_shares(edges, order), strict=True))
    for block, p in itertools.product(set(edges["layer"]), (0.3, 0.55, 0.8)):
        mine = [i for i in order if edges["layer"][i] == block]
        total = sum(abs(edges["weight"][i]) for i in mine)
        kept = [i for i in mine if shares[i] < p]
        least = min(abs(edges["weight"][i]) for i in kept)
        assert sum(abs(edges["weight"][i]) for i in kept) >= (p - 1e-3) * total
        assert {i for i in mine if abs(edges["weight"][i]) >= least} == set(kept)
        stronger = sum(abs(edges["weight"][i]) for i in mine if abs(edges["weight"][i]) > least)
        assert stronger < (p + 1e-3) * total


@pytest.mark.parametrize("seed", range(4))
def test_strongest_path_follows_the_largest_edge(seed: int) -> None:
    edges = graph(seed).edges
    rows = list(zip(*(edges[name] for name in ("layer", "source", "target", "weight")), strict=True))
    position, expected = 30, [30]
    for block in range(5, -1, -1):
        _, source, _, _ = max((row for row in rows if row[0] == block and row[2] == position), key=lambda row: abs(row[3]))
        if source != position:
            expected.append(source)
        position = source
    order = sorted(range(len(rows)), key=lambda i: -abs(rows[i][3]))
    steps = strongest_path(edges, order, {i: f"w{i}" for i in range(31)}, 30)
    assert [step.token for step in steps] == [f"w{i}" for i in expected]
    assert steps[0].weight == ""
    assert steps[0].place.startswith("block 5")
    assert steps[-1].place.endswith("embeddings")


def test_a_path_goes_on_where_its_edge_begins() -> None:
    """Block 3 reads what block 1 made: the path goes from its output to the input of block 1."""
    rows = [(3, 0, 4, 9, 2.0), (3, 2, 9, 9, 0.5), (2, 1, 4, 4, 3.0), (1, 0, 4, 4, 3.0), (0, -1, 2, 4, -1.0)]
    edges = dict(zip(("layer", "source_layer", "source", "target", "weight"), map(list, zip(*rows, strict=True)), strict=True))
    steps = strongest_path(edges, range(len(rows)), {i: f"w{i}" for i in range(10)}, 9)
    assert [(step.place, step.token) for step in steps] == [("block 3", "w9"), ("block 0", "w4"), ("embeddings", "w2")]


def test_graph_view_keeps_columns_aligned() -> None:
    made = graph(1)
    found = tokens(*((f" w{i}", "query", False, 0.1) for i in range(31)))
    view = graph_view(made.nodes, made.edges, (made.heads, made.neurons), {}, found, 30)
    assert view is not None
    data = view.data
    edges = data["edges"]
    assert len({len(column) for column in edges.values()}) == 1
    assert [abs(weight) for weight in edges["weight"]] == sorted(map(abs, edges["weight"]), reverse=True)
    position = data["columns"].__getitem__
    pairs = set(zip(edges["layer"], map(position, edges["source"]), map(position, edges["target"]), strict=True))
    assert pairs == set(zip(made.edges["layer"], made.edges["source"], made.edges["target"], strict=True))
    assert data["columns"][data["sink"]] == 30
    assert data["texts"][data["sink"]] == "␣w30"
    assert view.shown == ""
    assert graph_view(made.nodes, {name: [] for name in made.edges}, (made.heads, made.neurons), {}, found, 30) is None


def test_too_many_edges_are_cut_and_the_page_says_so() -> None:
    random_ = random.Random(0)
    count = EDGES + 500
    edges = {
        "layer": [0] * count,
        "source_layer": [-1] * count,
        "source": list(range(count)),
        "target": [count] * count,
        **{name: [random_.random() for _ in range(count)] for name in ("weight", "ov", "qk")},
    }
    none: dict[str, list[Any]] = {name: [] for name in ("layer", "position", "relevance", "head", "neuron")}
    found = tokens(*((" w", "query", False, 0.1) for _ in range(count + 1)))
    view = graph_view(none, edges, (none, none), {}, found, count)
    assert view is not None
    assert len(view.data["edges"]["weight"]) == EDGES
    assert min(view.data["edges"]["weight"]) >= sorted(edges["weight"])[499] - 1e-3
    assert "8,000 strongest" in view.shown


def test_json_never_holds_what_json_has_not() -> None:
    assert rounded([1.23456789, None, math.nan, -math.inf, 0.0]) == [1.235, None, None, None, 0.0]


def test_reasons_are_counted_without_their_figures() -> None:
    def row(**values: Any) -> dict[str, Any]:
        return {"delta_logit": None, "reason": None, "unclean": None, "status": "no pair", **values}

    assert unclean_reason(row(delta_logit=-0.3)) == "the model preferred the right token there (Δℓ ≤ 0)"
    assert unclean_reason(row(delta_logit=0.3)) == "the two tokens were close (0 < Δℓ ≤ 1)"
    one, other = row(reason="gold '12' is not in 40 tokens"), row(reason="gold 'x' is not in 7 tokens")
    assert unclean_reason(one) == unclean_reason(other) == "gold … is not in … tokens"
    assert unclean_reason(row()) == "no pair"


def test_words_cover_what_the_package_writes() -> None:
    assert len({label_style(label) for label in LABELS}) == len(LABELS)
    assert label_style(UNDECIDED) == label_style("new") == "undecided"
    assert {"attributed", *ADVICE} == set(STATUSES)
    assert all(term.meaning and term.clause for term in CHECKS.values())
    assert set(PATTERNS) == {*PATTERN_PARTS, "OIT+URT"}
    assert pattern_meaning("OIT+URT") == PATTERNS["OIT+URT"]
    assert pattern_meaning("URT+OWN") == f"{PATTERNS['URT']} {PATTERNS['OWN']}"
    assert (check_term("new_check").meaning, check_term("new_check").unit) == ("new check", "")
    assert [gap_meaning(gap)[:3] for gap in (None, 0.05, 0.2, 0.9)] == ["not", "the", "the", "muc"]
