"""Small lm-eval tasks of every output type, written to a folder with their documents."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

COLOURS = ["red", "blue", "green", "grey"]

DOCUMENTS: list[dict[str, Any]] = [
    {
        "question": f"Which colour has number {i}?",
        "choices": COLOURS if i % 3 else ["a rather long colour name", "red", "blue", "green"],
        "answer": i % 4,
        "answers": [i % 4, (i + 1) % 4],
        "word": COLOURS[i % 4],
        "options": [f"{i} is odd", f"{i} is even"],
        "right": i % 2,
        "ending": " said the child.",
        "labelled": {"choices": COLOURS, "labels": [1, 1, 0, 0]},
    }
    for i in range(10)
]

HEAD = """
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
num_fewshot: 0
metadata: {{version: 1.0}}
"""

TASKS = {
    "t_choice": """
        output_type: multiple_choice
        doc_to_text: "Q: {{question}}\\nA:"
        doc_to_choice: "{{choices}}"
        doc_to_target: answer
        metric_list:
          - {metric: acc_norm, aggregation: mean, higher_is_better: true}
          - {metric: acc, aggregation: mean, higher_is_better: true}
    """,
    "t_norm": """
        output_type: multiple_choice
        doc_to_text: "Q: {{question}}\\nA:"
        doc_to_choice: "{{choices}}"
        doc_to_target: answer
        metric_list: [{metric: acc_norm, aggregation: mean, higher_is_better: true}]
    """,
    "t_targets": """
        output_type: multiple_choice
        doc_to_text: "Q: {{question}}\\nA:"
        doc_to_choice: "{{choices}}"
        doc_to_target: answers
        metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
    """,
    "t_inputs": """
        output_type: multiple_choice
        doc_to_text: right
        doc_to_choice: "{{options}}"
        doc_to_target: "{{ending}}"
        target_delimiter: ""
        metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
    """,
    "t_mutual": """
        output_type: multiple_choice
        doc_to_text: "Q: {{question}}\\nA:"
        doc_to_choice: [red, blue, green, grey]
        doc_to_target: answer
        metric_list: [{metric: acc_mutual_info, aggregation: mean, higher_is_better: true}]
    """,
    "t_mass": """
        output_type: multiple_choice
        doc_to_text: "Q: {{question}}\\nA:"
        doc_to_choice: "{{labelled.choices}}"
        doc_to_target: 0
        process_results: !function scoring.mass
        metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
    """,
    "t_likelihood": """
        output_type: loglikelihood
        doc_to_text: "Q: {{question}}\\nA:"
        doc_to_target: " {{word}}"
        metric_list:
          - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
          - {metric: acc, aggregation: mean, higher_is_better: true}
    """,
    "t_rolling": """
        output_type: loglikelihood_rolling
        doc_to_text: ""
        doc_to_target: question
        metric_list:
          - {metric: word_perplexity, aggregation: weighted_perplexity, higher_is_better: false}
    """,
    "t_generate": """
        output_type: generate_until
        doc_to_text: "Q: {{question}}\\nA:"
        doc_to_target: word
        generation_kwargs: {until: ["\\n"], max_gen_toks: 24, do_sample: false}
        filter_list:
          - {name: strict, filter: [{function: regex, regex_pattern: "(red|blue)"}, {function: take_first}]}
          - {name: loose, filter: [{function: regex, regex_pattern: "([a-z]+)"}, {function: take_first}]}
        metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
    """,
    "t_integer": """
        output_type: generate_until
        doc_to_text: "Q: {{question}}\\nA:"
        doc_to_target: answer
        generation_kwargs: {until: ["\\n"], max_gen_toks: 4, do_sample: false}
        metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
    """,
    "t_listed": """
        output_type: generate_until
        doc_to_text: "Q: {{question}}\\nA:"
        doc_to_target: "[{{answer}},3]"
        generation_kwargs: {until: ["\\n"], max_gen_toks: 4, do_sample: false}
        metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
    """,
    "t_own": """
        output_type: generate_until
        doc_to_text: "Q: {{question}}\\nA:"
        doc_to_target: 0
        generation_kwargs: {until: [], max_gen_toks: 12, do_sample: false}
        process_results: !function scoring.instructions
        metric_list:
          - {metric: inst_acc, aggregation: !function scoring.first, higher_is_better: true}
          - {metric: pair, aggregation: !function scoring.first, higher_is_better: true}
          - {metric: prompt_acc, aggregation: mean, higher_is_better: true}
    """,
    "t_unsafe": """
        output_type: generate_until
        unsafe_code: true
        doc_to_text: "Q: {{question}}\\nA:"
        doc_to_target: word
        generation_kwargs: {until: ["\\n"], max_gen_toks: 8, do_sample: false}
        metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
    """,
    "t_shots": """
        output_type: generate_until
        doc_to_text: "Q: {{question}}\\nA:"
        doc_to_target: word
        fewshot_split: test
        fewshot_config: {sampler: first_n}
        description: "Answer with a colour.\\n\\n"
        generation_kwargs: {until: ["\\n"], max_gen_toks: 8, do_sample: false}
        metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
    """,
}

SCORING = """
import numpy as np

CALLS = []


def instructions(doc, results):
    CALLS.append(results[0])
    return {"inst_acc": [True, False], "pair": (1, 2), "prompt_acc": bool("e" in results[0] and len(results[0]) > 99)}


def mass(doc, results):
    scores = np.exp([score for score, _ in results])
    labels = np.array(doc["labelled"]["labels"])
    return {"acc": scores[labels == 1].sum() / scores.sum()}


def first(items):
    return float(len(items))
"""


#: What lm-eval 0.5 has to be told, and 0.4 sees by itself and does not know as settings.
FOR_05 = {
    "t_targets": "multiple_targets: true",
    "t_inputs": "multiple_inputs: true\ndoc_to_text: options\ndoc_to_choice: ['{{ending}}']\ndoc_to_target: right",
}


def is_05() -> bool:
    """Whether the installed lm_eval is 0.5 or its development."""
    from lm_eval.api.task import Task

    return hasattr(Task, "process_instances")


#: For tests of what only lm-eval 0.4 does so: it calls ``process_results``, its tasks have no qualified names.
only_04 = pytest.mark.skipif(is_05(), reason="lm-eval 0.5 does this in another way")


def write(folder: Path) -> Path:
    """Write every task, a group of two, and their documents."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "documents.json"
    data.write_text("\n".join(map(json.dumps, DOCUMENTS)))
    (folder / "scoring.py").write_text(SCORING)
    for name, body in TASKS.items():
        head = HEAD.format(data=data).strip()
        if name == "t_shots":
            head = head.replace("num_fewshot: 0", "num_fewshot: 2")
        body = dedent(body).strip()
        if name in FOR_05 and is_05():
            told = [line.split(":")[0] for line in FOR_05[name].splitlines()]
            kept = [line for line in body.splitlines() if line.split(":")[0] not in told]
            body = "\n".join([*kept, FOR_05[name]])
        (folder / f"{name}.yaml").write_text(f"task: {name}\n{head}\n{body}\n")
    (folder / "t_group.yaml").write_text(
        "group: t_group\ntask: [t_choice, t_likelihood]\n"
        "aggregate_metric_list: [{metric: acc, aggregation: mean, weight_by_size: true}]\n"
    )
    return folder
