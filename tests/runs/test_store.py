"""A row exists whole or not at all."""

import errno
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synthweight.data.examples import Example, text_hash
from synthweight.errors import LockLostError, UserError
from synthweight.runs import store
from synthweight.runs.store import SCHEMA, Store

EXAMPLES = (Example("train:0", "a", None, "x"), Example("train:1", "b", None, "y", "swapped", "train:9"))


def table(weights=(1.0, 2.0)) -> pa.Table:
    log_probs = np.log(np.array([[0.9, 0.1], [0.8, 0.2]], dtype=np.float32))
    return store.PredictionTable("train", EXAMPLES, ("x", "y")).at_epoch(3, log_probs, np.array(weights))


def row(run_id="ab") -> dict:
    return {"format": 1, "id": run_id, "labels": ["x", "y"]}


def test_lines_are_what_the_schema_says():
    t = table()
    assert t.schema.equals(SCHEMA)
    second = t.to_pylist()[1]
    assert second.pop("log_probs") == pytest.approx(np.log([0.8, 0.2]), rel=1e-6)
    assert second == {
        "split": "train", "id": "train:1", "text_sha256": text_hash(EXAMPLES[1]), "label": "y", "kind": "swapped",
        "origin": "train:9", "epoch": 3, "prediction": "x", "weight": 2.0,
    }  # fmt: skip
    bare = store.PredictionTable("test", EXAMPLES, ("x", "y")).at_epoch(1, None, None).to_pylist()[0]
    assert (bare["prediction"], bare["log_probs"], bare["weight"]) == (None, None, None)


def test_a_written_row_reads_back(tmp_path):
    s = Store(tmp_path)
    s.prepare()
    assert s.write_row(row(), table())
    assert s.exists("ab")
    assert s.ids() == {"ab"}
    assert s.row("ab")["labels"] == ["x", "y"]
    assert s.table("ab").equals(table())
    assert pq.ParquetFile(s.parquet_path("ab")).metadata.row_group(0).column(0).compression == "ZSTD"
    assert sorted(os.listdir(s.rows)) == ["ab.json", "ab.parquet"]


def test_a_second_row_of_the_same_id_is_not_written(tmp_path):
    s = Store(tmp_path)
    s.prepare()
    s.write_row(row(), table())
    before = s.json_path("ab").read_bytes(), s.parquet_path("ab").read_bytes()
    assert not s.write_row(row(), table(weights=(5.0, 6.0)))
    assert before == (s.json_path("ab").read_bytes(), s.parquet_path("ab").read_bytes())


@pytest.mark.parametrize("moment", ["fsync", "replace", "link"])
def test_killed_while_writing_there_is_no_row(tmp_path, moment):
    """A real process dies at each step of the writing; afterwards the row is absent, and can be written."""
    script = f"""
        import os, sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from test_store import Store, row, table
        s = Store({str(tmp_path)!r})
        s.prepare()
        setattr(os, {moment!r}, lambda *a, **k: os._exit(9))
        s.write_row(row(), table())
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert done.returncode == 9, done.stderr
    s = Store(tmp_path)
    assert not s.exists("ab")
    assert s.ids() == set()
    assert s.write_row(row(), table())
    assert s.table("ab").equals(table())


def test_damaged_rows_are_named(tmp_path):
    s = Store(tmp_path)
    s.prepare()
    s.write_row(row(), table())
    s.parquet_path("ab").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"ab\.parquet: absent or not what its row says"):
        s.table("ab")
    s.json_path("ab").write_text('{"format": 1')
    with pytest.raises(UserError, match=r"ab\.json: damaged"):
        s.row("ab")
    s.json_path("ab").write_text(json.dumps(row() | {"format": 99}))
    with pytest.raises(UserError, match="newer"):
        s.row("ab")
    s.json_path("ab").write_text(json.dumps(row("cd")))
    with pytest.raises(UserError, match="holds the row of cd"):
        s.row("ab")
    with pytest.raises(UserError, match="no such row"):
        s.row("zz")


def test_a_number_that_is_not_finite_is_refused_before_anything_is_written(tmp_path):
    s = Store(tmp_path)
    s.prepare()
    with pytest.raises(ValueError, match="JSON"):
        s.write_row(row() | {"loss": float("nan")}, table())
    assert os.listdir(s.rows) == []


def test_an_outputs_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"paths\.outputs=.*cannot be written"):
        Store(tmp_path / "file").prepare()


def test_failures_are_recorded_and_cleared(tmp_path):
    s = Store(tmp_path)
    try:
        raise ValueError("boom")
    except ValueError as error:
        s.record_failure("ab", error, "train")
    record = json.loads((s.run_folder("ab") / "failed.json").read_text())
    assert record["exception"] == "ValueError: boom"
    assert "test_failures_are_recorded" in record["traceback"]
    assert set(record) == {"id", "exception", "traceback", "when", "where"}
    s.clear_failure("ab")
    assert not (s.run_folder("ab") / "failed.json").exists()


def test_a_row_of_a_newer_format_is_seen_by_its_first_bytes(tmp_path):
    s = Store(tmp_path)
    s.prepare()
    s.write_row(row(), table())
    s.check_format("ab")
    s.json_path("ab").write_text(json.dumps({**row(), "format": 99}))
    with pytest.raises(UserError, match=r"ab\.json: format 99 is newer than this program's 1: update it"):
        s.check_format("ab")
    s.json_path("ab").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        s.check_format("ab")


def test_half_written_files_of_a_killed_process_go_with_the_next_lock(tmp_path):
    s = Store(tmp_path)
    s.prepare()
    part = s.rows / ".ab.parquet.elsewhere-1.part"
    part.write_bytes(b"PAR1")
    model = s.run_folder("ab") / ".model.elsewhere-1.part"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    scores = s.run_folder("ab") / "scores" / ".0a.parquet.elsewhere-1.part"
    scores.parent.mkdir()
    scores.write_bytes(b"PAR1")
    other = s.rows / ".cd.parquet.elsewhere-1.part"
    other.write_bytes(b"PAR1")
    with s.lock("ab"):
        assert not part.exists()
        assert not model.exists()
        assert not scores.exists()
    assert other.exists()


def test_concurrent_writers_leave_matching_json_and_parquet(tmp_path, monkeypatch):
    """Two that both believe to hold the lock (one was suspended), in the worst order: Parquet, Parquet, JSON,
    JSON.
    """
    s = Store(tmp_path)
    s.prepare()
    link = os.link

    def other_first(source, target):
        s.json_path("ab").write_text(
            json.dumps({**row(), "parquet_sha256": "of the other's, which ours has replaced"})
        )
        link(source, target)

    monkeypatch.setattr(os, "link", other_first)
    assert not s.write_row(row(), table())
    assert s.table("ab").equals(table())


def test_a_process_that_lost_its_lock_writes_nothing(tmp_path):
    s = Store(tmp_path)
    s.prepare()
    with s.lock("ab"):
        (s.run_folder("ab") / "lease").unlink()
        with (
            Store(tmp_path).lock("ab"),
            pytest.raises(LockLostError, match="ab: this process gave no sign of life"),
        ):
            s.write_row(row(), table())
    assert s.ids() == set()
    assert os.listdir(s.rows) == []


def test_a_damaged_record_of_a_failure_is_a_failure_and_outputs_that_are_a_file_have_none(tmp_path):
    s = Store(tmp_path / "outputs")
    for content in ("{", "[]", "{}", '"x"'):
        (s.run_folder("ab")).mkdir(parents=True, exist_ok=True)
        (s.run_folder("ab") / "failed.json").write_text(content)
        assert s.failure("ab")["exception"].startswith("its record is damaged (")
    (tmp_path / "file").touch()
    assert Store(tmp_path / "file").failure("ab") is None


def test_of_a_full_disk_no_probe_is_left(tmp_path, monkeypatch):
    def full(self, data):
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    s = Store(tmp_path / "outputs")
    with pytest.raises(OSError, match="No space left"):  # `main` says what to do, as within a run
        s.prepare()
    assert not list(s.rows.iterdir())
