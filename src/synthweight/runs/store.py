"""The rows on disk: one JSON and one Parquet file per run, whole or not at all.

docs/format.md lists the columns.
"""

import contextlib
import errno
import json
import os
import re
import traceback
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..atomic_io import atomic_path, file_sha256, part_path, sync_to_disk
from ..data.examples import Examples, text_hash
from ..errors import UserError
from .locks import RunLock, acquire

FORMAT = 1
GROUP = 20_000  # lines of a Parquet file that are written at a time
SCHEMA = pa.schema(
    [
        ("split", pa.string()),
        ("id", pa.string()),
        ("text_sha256", pa.string()),
        ("label", pa.string()),
        ("kind", pa.string()),
        ("origin", pa.string()),
        ("epoch", pa.int32()),
        ("prediction", pa.string()),
        ("log_probs", pa.list_(pa.float32())),
        ("weight", pa.float32()),
    ]
)


class Store:
    """The outputs folder.

    `rows/` has the finished runs, `runs/` models, scores, logs, locks and failures.

    Args:
        outputs: the folder, as in `paths.outputs`.
    """

    def __init__(self, outputs: str | Path) -> None:
        self.root = Path(outputs)
        self.rows, self.runs = self.root / "rows", self.root / "runs"
        self.locks: dict[str, RunLock] = {}  # held through this object, by run id

    def prepare(self) -> None:
        """Creates the folders and tries to write, before anything long begins.

        Raises:
            UserError: the folder cannot be written.
        """
        probe = part_path(self.rows / "probe")
        try:
            self.rows.mkdir(parents=True, exist_ok=True)
            self.runs.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"x")
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):  # told as in the middle of a run
                raise
            raise UserError(
                f"paths.outputs={self.root}: cannot be written ({error.strerror}): name another folder"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                probe.unlink()

    def json_path(self, run_id: str) -> Path:
        """Of a row's JSON file, whether it exists or not."""
        return self.rows / f"{run_id}.json"

    def parquet_path(self, run_id: str) -> Path:
        """Of a row's Parquet file, whether it exists or not."""
        return self.rows / f"{run_id}.parquet"

    def run_folder(self, run_id: str) -> Path:
        """Of a run's model, scores, logs, lock and failure."""
        return self.runs / run_id

    def model_folder(self, run_id: str) -> Path:
        """Of a run's model, whether it exists or not."""
        return self.run_folder(run_id) / "model"

    def exists(self, run_id: str) -> bool:
        """Whether a run is finished: the presence of its JSON file alone says so."""
        return self.json_path(run_id).is_file()

    def ids(self) -> set[str]:
        """The ids of all finished runs."""
        return {path.stem for path in self.rows.glob("*.json")}

    def row(self, run_id: str) -> dict[str, Any]:
        """A row's JSON.

        Raises:
            UserError: there is none, it is damaged, or of a newer format.
        """
        path = self.json_path(run_id)
        try:
            row = json.loads(path.read_text(encoding="utf-8"))
            if row["format"] > FORMAT:
                raise UserError(
                    f"{path}: format {row['format']} is newer than this program's {FORMAT}: update it"
                )
            if row["id"] != run_id:
                raise UserError(f"{path}: holds the row of {row['id']}: restore the file")
        except FileNotFoundError as error:
            raise UserError(f"{path}: no such row") from error
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: damaged ({error}): delete it and run again, or restore it") from error
        return row

    def check_format(self, run_id: str) -> None:
        """Checks a row's format by its first bytes, since a sweep may have thousands of rows.

        Raises:
            UserError: the row is damaged or of a newer format.
        """
        with self.json_path(run_id).open("rb") as file:
            found = re.match(rb'\s*\{\s*"format":\s*(\d+),', file.read(64))
        if found is None or int(found[1]) > FORMAT:
            self.row(run_id)  # raises with the reason

    def parquet(self, run_id: str) -> Path:
        """The path of a row's Parquet file, checked against the hash in its JSON.

        Raises:
            UserError: the file is missing, or another one.
        """
        path = self.parquet_path(run_id)
        if not path.is_file() or file_sha256(path) != self.row(run_id)["parquet_sha256"]:
            raise UserError(
                f"{path}: absent or not what its row says: restore it, or delete {run_id}.json and run again"
            )
        return path

    def table(self, run_id: str) -> pa.Table:
        """The content of a row's Parquet file. Raises UserError as `parquet` does."""
        return pq.read_table(self.parquet(run_id))

    def write_row(self, row: dict[str, Any], table: pa.Table | Iterable[pa.Table]) -> bool:
        """Writes a row: the Parquet file first, the JSON last by a hard link, which fails where a row exists.

        Args:
            row: the JSON, without the Parquet file's hash.
            table: the Parquet's content, whole or in parts, of which no more than a row group and a part are
                held in memory.

        Returns:
            False where another process had written the row meanwhile, which stays.

        Raises:
            LockLostError: another process took the run over while this one was suspended.
            ValueError: a number of the row is not finite.
        """
        run_id = row["id"]
        if self.exists(run_id):
            return False
        parquet = part_path(self.parquet_path(run_id))
        text = part_path(self.json_path(run_id))
        try:
            with pq.ParquetWriter(parquet, SCHEMA, compression="zstd") as writer:
                for group in row_groups([table] if isinstance(table, pa.Table) else table):
                    writer.write_table(group)
            row = {**row, "parquet_sha256": file_sha256(parquet)}
            text.write_text(
                json.dumps(row, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
            )
            sync_to_disk(parquet)
            sync_to_disk(text)
            self.check_lock(run_id)
            os.replace(parquet, self.parquet_path(run_id))
            try:
                os.link(text, self.json_path(run_id))
            except (
                FileExistsError
            ):  # two processes at one run (one was suspended): the JSON must match the Parquet file
                if file_sha256(self.parquet_path(run_id)) == row["parquet_sha256"]:
                    os.replace(text, self.json_path(run_id))
                return False
            return True
        finally:
            parquet.unlink(missing_ok=True)
            text.unlink(missing_ok=True)

    def record_failure(self, run_id: str, error: BaseException, where: str) -> None:
        """Writes `failed.json` into the run's folder. There is no row of a failed run.

        Args:
            run_id: of the run.
            error: with its traceback.
            where: the command.
        """
        with contextlib.suppress(OSError):  # a full disk must not hide the error that filled it
            record = {
                "id": run_id,
                "exception": f"{type(error).__name__}: {error}",
                "traceback": "".join(traceback.format_exception(error)),
                "when": datetime.now(UTC).isoformat(timespec="seconds"),
                "where": where,
            }
            with atomic_path(self.run_folder(run_id) / "failed.json") as part:
                part.write_text(json.dumps(record, indent=1), encoding="utf-8")

    def clear_failure(self, run_id: str) -> None:
        """Removes a recorded failure, if there is one."""
        (self.run_folder(run_id) / "failed.json").unlink(missing_ok=True)

    def failure(self, run_id: str) -> dict[str, Any] | None:
        """The record of a run's last failure, or None."""
        path = self.run_folder(run_id) / "failed.json"
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(record, dict) or not record.keys() >= {"exception", "traceback"}:
                raise ValueError("no exception in it")
            return record
        except (FileNotFoundError, NotADirectoryError):  # the latter: what paths.outputs names is no folder
            return None
        except (OSError, ValueError) as error:
            return {
                "id": run_id,
                "exception": f"its record is damaged ({error})",
                "traceback": "",
                "when": "",
                "where": "",
            }

    @contextlib.contextmanager
    def lock(self, run_id: str, wait: bool = True) -> Iterator[None]:
        """Holds a run's lock for the block, and removes what a killed process left half written.

        Args:
            run_id: of the run.
            wait: whether to wait for a living holder.

        Raises:
            RunLockedError: another process holds it and `wait` is False.
        """
        folder = self.run_folder(run_id)
        with acquire(folder, wait) as lock:
            for part in [*folder.rglob(".*.part"), *self.rows.glob(f".{run_id}.*.part")]:
                rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)
            self.locks[run_id] = lock
            try:
                yield
            finally:
                del self.locks[run_id]

    def check_lock(self, run_id: str) -> None:
        """Raises LockLostError where another process took over a run that was locked through this object."""
        if run_id in self.locks:
            self.locks[run_id].check()

    def set_status(self, run_id: str, text: str) -> None:
        """Writes what other processes may read about a run that is locked through this object.

        Args:
            run_id: of the run.
            text: such as "epoch 2/5".
        """
        if run_id in self.locks:
            self.locks[run_id].set_status(text)


def row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same lines in tables of `GROUP` lines; the last one has the rest."""
    buffered: list[pa.Table] = []
    for table in tables:
        buffered.append(table)
        while sum(part.num_rows for part in buffered) >= GROUP:
            whole = pa.concat_tables(buffered)
            yield whole.slice(0, GROUP)
            buffered = [whole.slice(GROUP)]
    if any(part.num_rows for part in buffered):
        yield pa.concat_tables(buffered)


class PredictionTable:
    """The Parquet lines of a split, one an example. Columns that no epoch changes are built once and shared.

    Args:
        split: "train", "test" or "scored".
        examples: n of them.
        labels: the class names, sorted: the order of `log_probs`.
    """

    def __init__(self, split: str, examples: Examples, labels: tuple[str, ...]) -> None:
        self.n, self.labels = len(examples), labels
        self.fixed = {
            "split": pa.repeat(split, self.n),
            "id": pa.array((e.id for e in examples), pa.string(), size=self.n),
            "text_sha256": pa.array((text_hash(e) for e in examples), pa.string(), size=self.n),
            "label": pa.array((e.label for e in examples), pa.string(), size=self.n),
            "kind": pa.array((e.kind for e in examples), pa.string(), size=self.n),
            "origin": pa.array((e.origin for e in examples), pa.string(), size=self.n),
        }

    def at_epoch(self, epoch: int, log_probs: np.ndarray | None, weights: np.ndarray | None) -> pa.Table:
        """The table of one epoch, of `SCHEMA`.

        Args:
            epoch: counted from 1.
            log_probs: [n, classes] in nats; None makes `log_probs` and `prediction` null.
            weights: [n]; None makes `weight` null.
        """
        columns = self.fixed | {"epoch": pa.repeat(pa.scalar(epoch, pa.int32()), self.n)}
        for key in ("prediction", "log_probs", "weight"):
            columns[key] = pa.nulls(self.n, SCHEMA.field(key).type)
        if log_probs is not None:
            width = log_probs.shape[1]
            ends = pa.array(np.arange(0, self.n * width + 1, width, dtype=np.int32))
            columns["log_probs"] = pa.ListArray.from_arrays(
                ends, pa.array(log_probs.astype(np.float32).ravel())
            )
            columns["prediction"] = pa.array(self.labels, pa.string()).take(
                pa.array(log_probs.argmax(axis=1))
            )
        if weights is not None:
            columns["weight"] = pa.array(weights.astype(np.float32))
        return pa.table(columns, schema=SCHEMA)
