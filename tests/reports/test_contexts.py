"""Templates see documented, frozen dataclasses and nothing else."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass

import jinja2
import pytest
from jinja2 import meta
from lm_eval_attrib.reports import charts, context
from lm_eval_attrib.reports.failure import context as failure_context
from lm_eval_attrib.reports.html import TEMPLATES, environment


@pytest.mark.parametrize("page", TEMPLATES, ids=lambda page: page.__name__)
def test_a_template_uses_exactly_the_documented_fields(page: type[context.Page]) -> None:
    templates = environment()
    wanted: set[str] = set()
    waiting = [TEMPLATES[page]]
    while waiting:
        assert templates.loader is not None
        tree = templates.parse(templates.loader.get_source(templates, waiting.pop())[0])
        wanted |= meta.find_undeclared_variables(tree)
        referenced = [name for name in meta.find_referenced_templates(tree) if name is not None]
        waiting += [name for name in referenced if name != "charts.html"]
    names = {field.name for field in fields(page)}
    assert wanted - {"charts"} == names
    documented = set(re.findall(r"^        (\w+): ", f"{context.Page.__doc__}\n{page.__doc__}", flags=re.MULTILINE))
    assert documented == names


def test_every_part_of_a_context_is_documented_and_frozen() -> None:
    held = [part for module in (context, failure_context, charts) for part in vars(module).values()]
    parts = [part for part in held if isinstance(part, type) and is_dataclass(part)]
    assert len(parts) > 20
    for part in parts:
        assert part.__dataclass_params__.frozen, part  # type: ignore[attr-defined]
        assert part.__doc__, part
        assert not part.__doc__.startswith(f"{part.__name__}("), f"{part.__name__} has no docstring of its own"


def test_a_name_that_no_context_has_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError):
        environment().from_string("{{ nothing }}").render({})
    assert environment().from_string("{{ text }}").render(text="<b>") == "&lt;b&gt;"
