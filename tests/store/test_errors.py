"""What is wrong with a database file is said clearly, and nothing that was stored is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from explanations import RUN, explanation, not_explained

from lm_eval_attrib.errors import Locked, NotADatabase, NotWritable, StoreError, WrongSchema
from lm_eval_attrib.store.database import VERSION, Store

SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "runs.duckdb"
    with Store.create(path) as store:
        store.begin(RUN)
        store.add(explanation(1))
    return path


def python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script that may import this folder's modules, in a process of its own."""
    text = f"import sys; sys.path.insert(0, {str(SUPPORT)!r})\n{script}"
    return subprocess.run([sys.executable, "-c", text, *arguments], capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("enter", [Store.create, Store.open])
@pytest.mark.parametrize("content", [b"hello", b"{}\n" * 5000, b"PK\x03\x04" + bytes(9000)])
def test_a_file_that_is_no_database(tmp_path: Path, enter: type[Store], content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(NotADatabase, match=r"notes\.txt exists and is not a DuckDB database; choose another path"):
        enter(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("enter", [Store.create, Store.open])
def test_somebody_elses_database(tmp_path: Path, enter: type[Store]) -> None:
    path = tmp_path / "sales.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE sales AS SELECT 1 AS amount")
    with pytest.raises(NotADatabase, match="a DuckDB database, but not of lm-eval-attrib"):
        enter(path)
    with duckdb.connect(str(path)) as connection:
        assert connection.execute("SHOW ALL TABLES").fetchall()[0][2] == "sales"


@pytest.mark.parametrize("enter", [Store.create, Store.open])
def test_another_schema_version(database: Path, enter: type[Store]) -> None:
    with duckdb.connect(str(database)) as connection:
        connection.execute("UPDATE base.schema_version SET version = 7")
    with pytest.raises(
        WrongSchema, match=rf"has schema 7, this release reads {VERSION}; write to a new file, or use the release"
    ):
        enter(database)


def test_a_file_of_a_newer_duckdb(database: Path) -> None:
    content = bytearray(database.read_bytes())
    assert content[8:12] == b"DUCK"
    content[12:20] = (999).to_bytes(8, "little")  # the storage version; the header's checksum is then wrong or unread
    database.write_bytes(content)
    with pytest.raises(StoreError, match=r"runs\.duckdb"):
        Store.open(database)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(NotADatabase, match=r"there is no file .*none\.duckdb; a run with attrib_db=none\.duckdb writes one"):
        Store.open(tmp_path / "none.duckdb")
    assert not (tmp_path / "none.duckdb").exists()


def test_paths_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotWritable, match=r"cannot be written: .*/file is a file, not a folder"):
        Store.create(tmp_path / "file" / "runs.duckdb")
    with pytest.raises(NotWritable, match=r"is a folder; name a file in it"):
        Store.create(tmp_path)
    with pytest.raises(NotWritable, match=r"cannot be written"):
        Store.create("/proc/nowhere/runs.duckdb")


def test_an_empty_file_and_an_empty_database_are_filled(tmp_path: Path) -> None:
    (tmp_path / "mktemp.duckdb").write_bytes(b"")
    duckdb.connect(str(tmp_path / "fresh.duckdb")).close()
    for name in ("mktemp.duckdb", "fresh.duckdb"):
        with Store.create(tmp_path / name) as store:
            store.add(explanation(1))
        with Store.open(tmp_path / name) as store:
            assert store.failures().num_rows == 1


@pytest.mark.parametrize("mode", ["create", "open"])
def test_a_file_that_another_process_writes(database: Path, mode: str) -> None:
    script = f"from lm_eval_attrib.store.database import Store; Store.{mode}(sys.argv[1])"
    with Store.create(database) as store:
        store.add(explanation(2))
        other = python(script, str(database))
        assert "lm_eval_attrib.errors.Locked: " in other.stderr
        assert "is open in another process" in other.stderr
        assert f"(PID {os.getpid()})" in other.stderr
    assert python(script, str(database)).stderr == ""
    with Store.open(database) as store:
        assert sorted(store.known("run-a")) == ["f0001", "f0002"]


def test_a_file_that_this_process_has_open_otherwise(database: Path) -> None:
    with Store.create(database), pytest.raises(Locked, match="already open in this process"):
        Store.open(database)
    with Store.open(database), Store.open(database), pytest.raises(Locked, match="already open in this process"):
        Store.create(database)


FULL_DISK = """
import resource
from explanations import RUN, explanation
from lm_eval_attrib.errors import NotWritable
from lm_eval_attrib.store.writer import Limits
{imports}
store = {make}
store.begin(RUN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
for number in range(40):
    try:
        store.add(explanation(number, tokens=4000))
    except NotWritable as error:
        print(number + 1, store.stored, str(error))
        break
try:
    store.flush()
    print("written")
except NotWritable:
    print("still full")
print(len(store.known("run-a")))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.finish("run-a", "complete")
store.close()
print(store.stored)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no file size limits")
@pytest.mark.parametrize(
    ("imports", "make", "limit"),
    [
        ("from lm_eval_attrib.store.database import Store", "Store.create(sys.argv[1], Limits(failures=3))", 900_000),
        (
            "from lm_eval_attrib.store.shards.writer import ShardWriter",
            "ShardWriter(sys.argv[1], 0, Limits(failures=3))",
            60_000,
        ),
    ],
    ids=["database", "shards"],
)
def test_a_full_disk_loses_nothing(tmp_path: Path, imports: str, make: str, limit: int) -> None:
    path = tmp_path / "runs.duckdb"
    done = python(FULL_DISK.format(imports=imports, make=make, limit=limit), str(path))
    assert done.stderr == ""
    told, again, known, stored = done.stdout.splitlines()
    added, before, message = told.split(" ", 2)
    assert f"Stored so far: {before} failures of this session. Not stored: the last {int(added) - int(before)}" in message
    assert "File too large" in message
    assert again == "still full"
    assert known == stored == added
    if path.is_file():
        with Store.open(path) as store:
            assert len(store.known("run-a")) == int(added)
            sums = store.sql("SELECT count(*) AS n, count(DISTINCT failure_id) AS f FROM tokens").to_pylist()
            assert sums == [{"n": 4000 * int(added), "f": int(added)}]
            assert store.runs().to_pydict()["status"] == ["complete"]


def test_reading_is_sealed(database: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    forbidden = [
        f"SELECT * FROM read_csv('{secret}')",
        f"SELECT * FROM '{secret}'",
        f"COPY (SELECT 1) TO '{tmp_path / 'out.csv'}'",
        f"ATTACH '{tmp_path / 'other.duckdb'}'",
        f"SELECT * FROM glob('{tmp_path}/*')",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "INSTALL httpfs",
        "SELECT * FROM python_table",
        "DELETE FROM base.failures",
        "INSERT INTO base.shards VALUES ('x', now())",
        "CREATE TABLE mine (a INTEGER)",
        "DROP VIEW failures",
        "SELECT nothing FROM failures",
        "SELEC",
        "SELECT $missing",
    ]
    python_table = Store.open(database).sql("SELECT 1 AS a")
    assert python_table.num_rows == 1
    with Store.open(database) as store:
        for text in forbidden:
            with pytest.raises(StoreError):
                store.sql(text)
        with pytest.raises(StoreError, match="opened for reading only"):
            store.begin(RUN)
        with pytest.raises(StoreError, match="opened for reading only"):
            store.add(not_explained(9, "error"))
        assert store.sql("SELECT count(*) AS n FROM failures WHERE task = $task", {"task": "gsm8k"}).to_pylist() == [{"n": 1}]
        assert store.sql("SELECT count(*) AS n FROM failures WHERE task = ?", ["gsm8k"]).to_pylist() == [{"n": 1}]
        assert "failures" in store.sql("SHOW TABLES").to_pydict()["name"]
    assert sorted(child.name for child in tmp_path.iterdir()) == ["runs.duckdb", "secret.csv"]


def test_a_path_is_always_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB takes "md:x" for a service; ":memory:" would be lost."""
    monkeypatch.chdir(tmp_path)
    for name in ("md:runs", ":memory:"):
        with Store.create(name) as store:
            store.add(explanation(1))
        assert (tmp_path / name).is_file()


def filled(folder: Path) -> Path:
    """A database of several blocks."""
    path = folder / "runs.duckdb"
    with Store.create(path) as store:
        store.begin(RUN)
        for number in range(40):
            store.add(explanation(number, tokens=200))
    return path


def test_a_copy_that_did_not_end_is_found_before_an_evaluation(tmp_path: Path) -> None:
    path = filled(tmp_path)
    whole = path.read_bytes()
    half = tmp_path / "half.duckdb"
    half.write_bytes(whole[: len(whole) - 262_144])
    with (
        Store.create(half) as store,
        pytest.raises(NotADatabase, match=r"half\.duckdb is not whole \(it has [\d,]+ of"),
    ):
        store.require_whole()
    with Store.open(half) as store, pytest.raises(NotADatabase, match="Copy it again"):
        store.sql("FROM tokens")
    half.write_bytes(whole)
    with Store.create(half) as store:
        store.require_whole()
        assert store.sql("SELECT count(*) AS n FROM failures").to_pylist() == [{"n": 40}]


def test_a_file_that_gave_room_back_is_whole(tmp_path: Path) -> None:
    path = filled(tmp_path)
    with duckdb.connect(str(path)) as connection:
        connection.execute("DELETE FROM base.tokens")
        connection.execute("CHECKPOINT")
    with Store.create(path) as store:
        store.require_whole()
        store.add(explanation(41, tokens=5))
    with Store.open(path) as store:
        store.require_whole()
        assert store.sql("SELECT count(*) AS n FROM failures").to_pylist() == [{"n": 41}]
