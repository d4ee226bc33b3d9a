"""The record: one JSON and one Parquet file a run, whole or not at all. docs/format.md has the columns."""

import contextlib
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
from .locks import Claim, hold

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
    """The folder of outputs."""

    def __init__(self, outputs: str | Path) -> None:
        self.root = Path(outputs)
        self.rows, self.runs = self.root / "rows", self.root / "runs"
        self.claims: dict[str, Claim] = {}  # the leases that are held through this object

    def prepare(self) -> None:
        """Makes the folders and tries to write, before anything long begins. Raises UserError."""
        try:
            self.rows.mkdir(parents=True, exist_ok=True)
            self.runs.mkdir(parents=True, exist_ok=True)
            probe = part_path(self.rows / "probe")
            probe.write_bytes(b"x")
            probe.unlink()
        except OSError as error:
            raise UserError(f"paths.outputs={self.root}: cannot be written ({error.strerror}): name another folder") from error

    def json_path(self, run_id: str) -> Path:
        return self.rows / f"{run_id}.json"

    def parquet_path(self, run_id: str) -> Path:
        return self.rows / f"{run_id}.parquet"

    def run_folder(self, run_id: str) -> Path:
        return self.runs / run_id

    def exists(self, run_id: str) -> bool:
        """The JSON's presence alone means complete."""
        return self.json_path(run_id).is_file()

    def ids(self) -> set[str]:
        """Every finished run."""
        return {path.stem for path in self.rows.glob("*.json")}

    def row(self, run_id: str) -> dict[str, Any]:
        """One row. Raises UserError where it is damaged or of a newer format."""
        path = self.json_path(run_id)
        try:
            row = json.loads(path.read_text(encoding="utf-8"))
            if row["format"] > FORMAT:
                raise UserError(f"{path}: format {row['format']} is newer than this program's {FORMAT}: update it")
            if row["id"] != run_id:
                raise UserError(f"{path}: holds the row of {row['id']}: restore the file")
        except FileNotFoundError as error:
            raise UserError(f"{path}: no such row") from error
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: damaged ({error}): delete it and run again, or restore it") from error
        return row

    def check_format(self, run_id: str) -> None:
        """Raises UserError where a row is of a newer format: from its first bytes, since a sweep may have thousands."""
        with self.json_path(run_id).open("rb") as file:
            found = re.match(rb'\s*\{\s*"format":\s*(\d+),', file.read(64))
        if found is None or int(found[1]) > FORMAT:
            self.row(run_id)  # says what is the matter

    def parquet(self, run_id: str) -> Path:
        """The row's Parquet file, checked against the hash that its JSON holds. Raises UserError."""
        path = self.parquet_path(run_id)
        if not path.is_file() or file_sha256(path) != self.row(run_id)["parquet_sha256"]:
            raise UserError(f"{path}: absent or not what its row says: restore it, or delete {run_id}.json and run again")
        return path

    def table(self, run_id: str) -> pa.Table:
        """What the row's Parquet file holds."""
        return pq.read_table(self.parquet(run_id))

    def place(self, row: dict[str, Any], table: pa.Table | Iterable[pa.Table]) -> bool:
        """Writes a row: the Parquet first, the JSON last by a hard link, which fails where a row is already.

        table: its lines, whole or in parts, of which a row group and a part are held, no more.

        Returns:
            False where another process had placed the row meanwhile; theirs stands.

        Raises:
            LockLostError: another process took the run over while this one was asleep.
        """
        run_id = row["id"]
        if self.exists(run_id):
            return False
        parquet = part_path(self.parquet_path(run_id))
        text = part_path(self.json_path(run_id))
        try:
            with pq.ParquetWriter(parquet, SCHEMA, compression="zstd") as writer:
                for group in grouped([table] if isinstance(table, pa.Table) else table):
                    writer.write_table(group)
            row = {**row, "parquet_sha256": file_sha256(parquet)}
            text.write_text(json.dumps(row, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
            sync_to_disk(parquet)
            sync_to_disk(text)
            self.guard(run_id)
            os.replace(parquet, self.parquet_path(run_id))
            try:
                os.link(text, self.json_path(run_id))
            except FileExistsError:  # two at one run (one was asleep): the JSON must be of the Parquet that stands
                if file_sha256(self.parquet_path(run_id)) == row["parquet_sha256"]:
                    os.replace(text, self.json_path(run_id))
                return False
            return True
        finally:
            parquet.unlink(missing_ok=True)
            text.unlink(missing_ok=True)

    def fail(self, run_id: str, error: BaseException, where: str) -> None:
        """Records a failure beside the run; the row stays absent."""
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
        (self.run_folder(run_id) / "failed.json").unlink(missing_ok=True)

    def failure(self, run_id: str) -> dict[str, Any] | None:
        """What is recorded of a run's last failure, or None."""
        path = self.run_folder(run_id) / "failed.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            return {"id": run_id, "exception": f"its record is damaged ({error})", "traceback": "", "when": "", "where": ""}

    @contextlib.contextmanager
    def lease(self, run_id: str, wait: bool = True) -> Iterator[None]:
        """One process a run: a second one waits, or gets RunLockedError. A dead process's lease is free."""
        folder = self.run_folder(run_id)
        with hold(folder, wait) as claim:
            for left in [*folder.rglob(".*.part"), *self.rows.glob(f".{run_id}.*.part")]:  # by one that was killed
                rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
            self.claims[run_id] = claim
            try:
                yield
            finally:
                del self.claims[run_id]

    def guard(self, run_id: str) -> None:
        """Raises LockLostError where another process took over a run that was leased here."""
        if run_id in self.claims:
            self.claims[run_id].check()

    def note(self, run_id: str, text: str) -> None:
        """What others may read about a run that is held here, such as "epoch 2/5"."""
        if run_id in self.claims:
            self.claims[run_id].note(text)


def grouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same lines in tables of `GROUP`, the last one of what is left."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        while sum(part.num_rows for part in held) >= GROUP:
            whole = pa.concat_tables(held)
            yield whole.slice(0, GROUP)
            held = [whole.slice(GROUP)]
    if any(part.num_rows for part in held):
        yield pa.concat_tables(held)


class Lines:
    """The lines of a split, one an example: what is the same at every epoch is made once, and shared by all their tables."""

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

    def at(self, epoch: int, log_probs: np.ndarray | None, weights: np.ndarray | None) -> pa.Table:
        """At one epoch. Absent log-probabilities and weights are null."""
        columns = self.fixed | {"epoch": pa.repeat(pa.scalar(epoch, pa.int32()), self.n)}
        for key in ("prediction", "log_probs", "weight"):
            columns[key] = pa.nulls(self.n, SCHEMA.field(key).type)
        if log_probs is not None:
            width = log_probs.shape[1]
            ends = pa.array(np.arange(0, self.n * width + 1, width, dtype=np.int32))
            columns["log_probs"] = pa.ListArray.from_arrays(ends, pa.array(log_probs.astype(np.float32).ravel()))
            columns["prediction"] = pa.array(self.labels, pa.string()).take(pa.array(log_probs.argmax(axis=1)))
        if weights is not None:
            columns["weight"] = pa.array(weights.astype(np.float32))
        return pa.table(columns, schema=SCHEMA)
