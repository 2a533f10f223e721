"""The attrib_* arguments: what is taken, from where, and what is said about what does not hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from lm_eval_attrib.errors import ArgumentError
from lm_eval_attrib.settings import ARGUMENTS, Settings


def test_defaults() -> None:
    settings = Settings.from_arguments({})
    assert settings == Settings()
    assert (settings.db, settings.rule, settings.objective) == (Path("attributions.duckdb"), "attnlrp", "logit_diff")
    assert settings.graph
    assert settings.checks == "on"
    assert (settings.limit, settings.memory, settings.batch_size) == (100, "auto", None)


@pytest.mark.parametrize(
    ("argument", "value", "field", "expected"),
    [
        ("attrib_db", "runs.duckdb", "db", Path("runs.duckdb")),
        ("attrib_rule", "cplrp", "rule", "cplrp"),
        ("attrib_graph", "off", "graph", False),
        ("attrib_graph", "on", "graph", True),
        ("attrib_graph", False, "graph", False),
        ("attrib_checks", "False", "checks", "off"),
        ("attrib_checks", 1, "checks", "on"),
        ("attrib_checks", True, "checks", "on"),
        ("attrib_checks", "cheap", "checks", "cheap"),
        ("attrib_artefacts", "false", "artefacts", ("off",)),
        ("attrib_limit", "all", "limit", None),
        ("attrib_limit", "7", "limit", 7),
        ("attrib_limit", 0, "limit", 0),
        ("attrib_batch_size", "auto", "batch_size", None),
        ("attrib_batch_size", 8, "batch_size", 8),
        ("attrib_contrast", "answer+reference", "contrast", ("answer", "reference")),
        ("attrib_contrast", ["answer", "rollout"], "contrast", ("answer", "rollout")),
        ("attrib_judge_model", "org/a:4b+b", "judge_model", ("org/a:4b", "b")),
        ("attrib_reference", 12345, "reference", "12345"),
        ("attrib_report", None, "report", None),
        ("attrib_db", None, "db", Path("attributions.duckdb")),
    ],
)
def test_takes_what_lm_eval_parsed(argument: str, value: object, field: str, expected: object) -> None:
    assert getattr(Settings.from_arguments({argument: value}), field) == expected


def test_an_unknown_name_lists_the_known_and_the_nearest() -> None:
    with pytest.raises(ArgumentError) as caught:
        Settings.from_arguments({"attrib_ruel": "cplrp"})
    message = str(caught.value)
    assert "'attrib_ruel'" in message
    assert "Did you mean attrib_rule?" in message
    assert all(name in message for name in ARGUMENTS)


@pytest.mark.parametrize(
    ("argument", "value", "said"),
    [
        ("attrib_rule", "lrp", "'attnlrp', 'cplrp'"),
        ("attrib_objective", "logits", "'sequence'"),
        ("attrib_memory", "huge", "'blockwise'"),
        ("attrib_limit", -1, "greater than or equal to 0"),
        ("attrib_limit", True, "a number is needed"),
        ("attrib_limit", 0.5, "integer"),
        ("attrib_limit", "some", "integer"),
        ("attrib_limit", None, "say all for every failure, 0 for none"),
        ("attrib_batch_size", 0, "greater than or equal to 1"),
        ("attrib_graph", "maybe", "boolean"),
    ],
)
def test_a_value_that_does_not_hold_is_named(argument: str, value: object, said: str) -> None:
    with pytest.raises(ArgumentError, match=argument) as caught:
        Settings.from_arguments({argument: value})
    assert said in str(caught.value)


def test_the_file_lies_beneath_the_arguments(tmp_path: Path) -> None:
    config = tmp_path / "attrib.yaml"
    config.write_text("attrib_rule: cplrp\nattrib_limit: all\ngraph: off\ncontrast: [answer, rollout]\n", encoding="utf-8")
    settings = Settings.from_arguments({"attrib_config": str(config), "attrib_limit": 3})
    assert (settings.rule, settings.limit, settings.graph, settings.contrast) == ("cplrp", 3, False, ("answer", "rollout"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("attrib_rul: cplrp", "Did you mean attrib_rule?"),
        ("- attrib_rule", "a mapping of arguments is needed"),
        ("attrib_rule: [", "cannot be read"),
        ("attrib_config: other.yaml", "one file holds all"),
        ("attrib_rule: lrp", "'attnlrp'"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    config = tmp_path / "attrib.yaml"
    config.write_text(text, encoding="utf-8")
    with pytest.raises(ArgumentError) as caught:
        Settings.from_arguments({"attrib_config": config})
    assert said in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"missing\.yaml.*cannot be read"):
        Settings.from_arguments({"attrib_config": tmp_path / "missing.yaml"})


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("")
    assert Settings.from_arguments({"attrib_config": tmp_path / "empty.yaml"}) == Settings()


def test_identity_holds_what_makes_another_run_and_nothing_else() -> None:
    same = Settings(db=Path("other.duckdb"), limit=None, memory="offload", batch_size=3, report=Path("out"), rollouts=7)
    assert same.identity() == Settings().identity() == {}
    assert Settings(graph=False, contrast=("rollout",)).identity() == {"graph": False, "contrast": ["rollout"]}
    assert Settings(seed=7, metric="f1", filter="strict").identity() == {"seed": 7, "metric": "f1", "filter": "strict"}


def test_judges_are_budget_until_they_are_asked_before_others() -> None:
    judged = Settings(judge_url="http://here", judge_model=("a",))
    assert judged.identity() == {}
    assert judged.content(("answer", "rollout")) == Settings().content(("answer", "rollout"))
    assert judged.content(("judge", "answer")) != Settings().content(("judge", "answer"))
    first = judged.model_copy(update={"contrast": ("judge",)})
    assert first.identity() == {"contrast": ["judge"], "judge_url": "http://here", "judge_model": ["a"]}
    assert judged.budget()["judge_model"] == ["a"]
    assert Settings(rollouts=7).content(()) == Settings().content(())
    assert Settings(rollouts=7).budget() != Settings().budget()


def test_settings_are_immutable() -> None:
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.limit = 3  # type: ignore[misc]
