"""What was flushed stays, whatever ends the session: an exception, Ctrl-C at any moment, a killed process."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from explanations import RUN, explanation

from lm_eval_attrib.store.database import Store


def test_what_was_explained_is_stored_when_an_exception_ends_the_session(tmp_path: Path) -> None:
    path = tmp_path / "runs.duckdb"

    def interrupted() -> None:
        with Store.create(path) as store:
            store.begin(RUN)
            store.add(explanation(1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with Store.open(path) as store:
        assert store.known("run-a") == {"f0001": "attributed"}


def test_a_killed_process_keeps_what_it_flushed(tmp_path: Path) -> None:
    path = tmp_path / "runs.duckdb"
    script = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[1] / "support")!r})
from explanations import RUN, explanation
from lm_eval_attrib.store.database import Store
store = Store.create({str(path)!r})
store.begin(RUN)
store.add(explanation(1)); store.flush()
store.add(explanation(2))
print("ready", flush=True)
import time; time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGKILL)
    with Store.open(path) as store:
        assert store.known("run-a") == {"f0001": "attributed"}
        assert store.runs().to_pydict()["status"] == ["running"]
        assert store.rows("tokens", "f0001").num_rows == 5


INTERRUPTED = """
import signal, threading, _thread, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with Ctrl-C ignored
from explanations import RUN, explanation
from lm_eval_attrib.store.writer import Limits
from lm_eval_attrib.store.database import Store
ready = [explanation(number, tokens=2000) for number in range(300)]
done = 0
with Store.create(sys.argv[1], Limits(failures=4)) as store:
    store.begin(RUN)
    threading.Timer(float(sys.argv[2]), _thread.interrupt_main).start()
    try:
        for one in ready:
            store.add(one)
            done += 1
        time.sleep(30)
    except KeyboardInterrupt:
        print("interrupted after", done)
    store.finish("run-a", "interrupted")
"""


@pytest.mark.parametrize("after", [0.05, 0.13, 0.31])
def test_ctrl_c_at_any_moment_leaves_whole_explanations(tmp_path: Path, after: float) -> None:
    script = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1] / 'support')!r})\n{INTERRUPTED}"
    path = tmp_path / "runs.duckdb"
    run = subprocess.run([sys.executable, "-c", script, str(path), str(after)], capture_output=True, text=True, check=False)
    assert run.stderr == ""
    done = int(run.stdout.removeprefix("interrupted after "))
    with Store.open(path) as store:
        assert len(store.known("run-a")) in (done, done + 1)  # the one that was being added may be in
        parts = ("tokens", 2000), ("layers", 6000), ("nodes", 3), ("contrasts", 1), ("checks", 2)
        for view, rows in parts:
            counts = f"SELECT failure_id, count(*) AS n FROM {view} GROUP BY ALL"
            found = store.sql(
                f"SELECT count(*) AS failures FROM failures LEFT JOIN ({counts}) USING (failure_id) WHERE n = {rows}"
            )
            assert found.to_pylist() == [{"failures": len(store.known("run-a"))}]
        assert store.runs().to_pydict()["status"] == ["interrupted"]
