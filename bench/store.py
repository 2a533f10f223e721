"""How fast token rows are stored: the real path, from an Explanation to a closed file, against row-by-row inserts.

    python bench/store.py --json store.json

One run writes ``--failures`` explanations of ``--tokens`` tokens each, with everything that belongs to one (pair, layers,
checks …), and then the token rows of a few of them by ``executemany``, the naive way. Both include closing the file.
Explanations are made before the clock starts: making them is the engine's time. Processor time is printed beside the clock's,
for a machine that others use.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np

from lm_eval_attrib.records import Check, Continuation, Contrast, Explanation, Failure, PairFigures, Run, SegmentSum, TokenTable
from lm_eval_attrib.store.database import Store
from lm_eval_attrib.store.shards.merge import merge_shards
from lm_eval_attrib.store.shards.writer import ShardWriter

RUN = Run("bench", "model", {}, "float32", 1, "attnlrp", "logit_diff", {})


def explanation(number: int, tokens: int, depth: int, rng: np.random.Generator) -> Explanation:
    """One failure with all that a run without graphs stores."""
    ids = rng.integers(0, 150_000, tokens, dtype=np.int64)
    relevance = rng.normal(size=tokens).astype(np.float32)
    response = Continuation("The answer is 7.", (), (1, 2, 3, 4))
    return Explanation(
        Failure(
            f"{number:032x}", "bench", "gsm8k", number, {"question": "Q" * 300}, "generate_until", "Q" * 2000, "7", "8",
            "exact_match", "strict-match", 0.0, (response,), golds=("8",),
        ),
        "attributed",
        contrast=Contrast("answer", tuple(ids.tolist()), 1, 2),
        figures=PairFigures("7", "8", 2.0, 1, 2, 0.5, 0.2, 0.1, clean=True),
        tokens=TokenTable(ids, [f"tok{i}" for i in ids], ["query"] * tokens, [False] * tokens, relevance, relevance),
        layers=rng.normal(size=(depth + 1, tokens)).astype(np.float32) if depth else (),
        checks=tuple(Check("mask words", amount, 2.0, -1.0, True, 1.5, 0.1, "a, b") for amount in range(1, 6)),
        segments=(SegmentSum("query", tokens, 1.0, 0.5),),
    )  # fmt: skip


def timed(work: Callable[[], None]) -> dict[str, float]:
    """Seconds on the clock and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return {"seconds": time.perf_counter() - clock, "processor_seconds": time.process_time() - processor}


def write_store(path: Path, explanations: list[Explanation]) -> None:
    with Store.create(path) as store:
        store.begin(RUN)
        for one in explanations:
            store.add(one)
        store.finish("bench", "complete")


def write_shards(folder: Path, path: Path, explanations: list[Explanation]) -> None:
    with ShardWriter(folder, 0) as writer:
        for one in explanations:
            writer.add(one)
    with Store.create(path) as store:
        merge_shards(folder, store)


def write_naively(path: Path, explanations: list[Explanation]) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "CREATE TABLE tokens (failure_id VARCHAR, position INTEGER, token_id INTEGER, token VARCHAR, segment VARCHAR, "
            "special BOOLEAN, relevance FLOAT, relevance_norm FLOAT)"
        )
        for one in explanations:
            table = one.tokens
            assert table is not None
            columns = (table.ids, table.texts, table.segments, table.special, table.relevance, table.relevance_norm)
            values = [column.tolist() if isinstance(column, np.ndarray) else column for column in columns]
            rows = [(one.failure.failure_id, place, *row) for place, row in enumerate(zip(*values, strict=True))]
            connection.executemany("INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)


def measure(failures: int, tokens: int, depth: int, naive: int) -> dict[str, float]:
    """The figures of one run; rates are token rows a second."""
    rng = np.random.default_rng(0)
    explanations = [explanation(number, tokens, depth, rng) for number in range(failures)]
    short = [explanation(0, naive, 0, rng)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_store(folder / "warm.duckdb", explanations[:8])  # libraries load
        stored = timed(lambda: write_store(folder / "store.duckdb", explanations))
        sharded = timed(lambda: write_shards(folder / "shards", folder / "merged.duckdb", explanations))
        naively = timed(lambda: write_naively(folder / "naive.duckdb", short))
        size = (folder / "store.duckdb").stat().st_size
        with Store.open(folder / "store.duckdb") as store:
            [counted] = store.sql("SELECT (SELECT count(*) FROM tokens) + (SELECT count(*) FROM layers) AS n").to_pylist()
    rows = failures * tokens
    assert counted["n"] == rows * (1 + (depth + 1 if depth else 0)), "rows are missing"
    return {
        "token_rows": rows,
        "all_rows": counted["n"],
        "token_rows_per_second": rows / stored["seconds"],
        "all_rows_per_second": counted["n"] / stored["seconds"],
        "token_rows_per_processor_second": rows / stored["processor_seconds"],
        "shards_and_merge_token_rows_per_second": rows / sharded["seconds"],
        "naive_rows": naive,
        "naive_token_rows_per_second": naive / naively["seconds"],
        "times_faster_than_naive": (rows / stored["seconds"]) / (naive / naively["seconds"]),
        "bytes_per_row": size / counted["n"],
    }


def main() -> None:
    """Print the figures; ``--json`` also writes them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--failures", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--depth", type=int, default=0, help="decoder blocks; their hidden states are stored too")
    parser.add_argument("--naive", type=int, default=5000, help="rows written by executemany")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    figures = measure(given.failures, given.tokens, given.depth, given.naive)
    for name, value in figures.items():
        print(f"{name:<42}{value:>16,.1f}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
