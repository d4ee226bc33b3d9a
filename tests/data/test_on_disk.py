"""Many examples in a file: the same examples, and the same runs."""

import gc
import tempfile
import tracemalloc

import pytest

from synthweight.data import benchmarks, on_disk, sources
from synthweight.data.examples import Example
from synthweight.data.on_disk import OnDiskExamples, select, spill_to_disk
from synthweight.errors import UserError
from synthweight.runs import run, store
from synthweight.runs.store import Store

SOME = (
    Example("a", 'é\u2028b\x85\n"c"', None, "x"),
    Example("train:1", "two", "of \r them", "y", "duplicated", "a"),
    Example("7", "\U0001f600", None, "x"),
    Example("8", "last", None, "z"),
)


@pytest.fixture
def few(monkeypatch):
    """Three examples are many."""
    monkeypatch.setattr(on_disk, "IN_MEMORY", 3)
    monkeypatch.setattr(on_disk, "READ_AHEAD", 2)
    benchmarks._read_split.cache_clear()
    yield
    benchmarks._read_split.cache_clear()


def test_a_shelf_is_its_examples(few):
    held = spill_to_disk(iter(SOME))
    assert isinstance(held, OnDiskExamples)
    assert len(held) == 4
    assert tuple(held) == SOME
    assert [held[i] for i in (0, 1, 3, -1, -4)] == [SOME[i] for i in (0, 1, 3, -1, -4)]
    for part in (slice(1, 3), slice(None), slice(2, 99), slice(3, 1), slice(None, None, -1), slice(0, 4, 2)):
        assert held[part] == SOME[part]
    assert tuple(reversed(held)) == SOME[::-1]
    for beyond in (4, -5):
        with pytest.raises(IndexError):
            held[beyond]
    assert spill_to_disk(held) is held


def test_few_are_a_tuple(few):
    assert spill_to_disk(iter(SOME[:2])) == SOME[:2]
    assert spill_to_disk(iter(())) == ()
    assert spill_to_disk(SOME) is SOME


def test_a_shelf_holds_where_they_begin_alone(monkeypatch):
    monkeypatch.setattr(on_disk, "IN_MEMORY", 100)
    tracemalloc.start()
    try:
        held = spill_to_disk(Example(str(i), "some words " * 20, None, "x") for i in range(20_000))
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(held, OnDiskExamples)
    assert grown < 20_000 * 16  # a tuple of them takes more than 400 bytes each


def test_no_room_for_a_shelf_is_said(few, monkeypatch):
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: open("/dev/full", "wb"))  # noqa: SIM115
    with pytest.raises(
        UserError, match=r"No space left on device: point TMPDIR to a folder with room for the texts"
    ):
        spill_to_disk(iter(SOME))


def test_what_cannot_be_read_is_not_blamed_on_the_shelf(few):
    def failing():
        yield from SOME
        raise OSError(5, "Input/output error", "texts.jsonl")

    with pytest.raises(OSError, match=r"Input/output error: 'texts\.jsonl'"):
        spill_to_disk(failing())


def test_no_folder_for_a_shelf_is_said(few, monkeypatch):
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nowhere"])
    with pytest.raises(
        UserError, match=r"^No usable temporary directory found in \['/nowhere'\]: point TMPDIR to a folder"
    ):
        spill_to_disk(iter(SOME))


def test_a_part_of_a_shelf_is_in_the_same_file(few):
    whole = spill_to_disk(iter(SOME * 2))
    part = select(whole, [0, 1, 2, 4, 7, 5])
    assert isinstance(part, OnDiskExamples)
    assert part.file is whole.file
    again = select(part, [5, 1, 2, 3])
    del whole, part  # the file stays for as long as one of them does
    gc.collect()
    assert tuple(again) == tuple(again[i] for i in range(4)) == (SOME[1], SOME[1], SOME[2], SOME[0])
    assert again[1:3] == SOME[1:3]
    file = again.file
    del again
    gc.collect()
    assert file.closed
    assert select(SOME, [3, 0]) == (SOME[3], SOME[0])


@pytest.mark.parametrize(
    "settings",
    [
        ["source=synthetic"], ["source=mixed", "selection=holdout"], ["source=noisy"], ["source=large_real", "source.n=7"],
        ["source=synthetic", "corruption.swapped=0.3", "corruption.duplicated=0.2", "corruption.unrelated=0.2"],
        ["source=synthetic", "source.folds=3", "source.fold=1"], ["source=small_real", "selection=holdout"],
    ],
)  # fmt: skip
def test_the_material_is_the_same_from_a_shelf(bound, settings, few, monkeypatch):
    job = bound("loss=ce", *settings)
    from_shelves = sources.build_run_data(job)
    monkeypatch.undo()
    benchmarks._read_split.cache_clear()
    from_tuples = sources.build_run_data(job)
    assert isinstance(from_shelves.test, OnDiskExamples)
    assert isinstance(from_tuples.test, tuple)
    for part in ("train", "selection", "test", "held_out_fold", "dev"):
        assert tuple(getattr(from_shelves, part)) == getattr(from_tuples, part)
    assert from_shelves.record == from_tuples.record


def test_a_run_over_shelves_leaves_the_same_row(bound, tmp_path, few, monkeypatch):
    """With its checkers, and its lines written in parts."""
    job = [
        bound("loss=dimp", "optim.epochs=2", f"paths.outputs={tmp_path / name}")
        for name in ("shelves", "tuples")
    ]
    monkeypatch.setattr(store, "GROUP", 7)
    monkeypatch.setattr("synthweight.runs.record.GROUP", 7)
    first = run.train(job[0])
    monkeypatch.undo()
    benchmarks._read_split.cache_clear()
    second = run.train(job[1])
    assert first.id == second.id
    stores = [Store(tmp_path / name) for name in ("shelves", "tuples")]
    assert stores[0].table(first.id).equals(stores[1].table(first.id))
    keys = ("epochs", "data", "selected_epoch")
    assert [stores[0].row(first.id)[key] for key in keys] == [stores[1].row(first.id)[key] for key in keys]


def test_lines_are_grouped_whatever_the_parts(monkeypatch):
    import pyarrow as pa

    monkeypatch.setattr(store, "GROUP", 5)
    for lengths in ([3], [5], [2, 4, 9, 1], [12], [0, 5, 0], []):
        values = iter(range(99))
        parts = [pa.table({"n": pa.array([next(values) for _ in range(k)], pa.int64())}) for k in lengths]
        out = list(store.row_groups(parts))
        assert [row["n"] for table in out for row in table.to_pylist()] == list(range(sum(lengths)))
        assert all(table.num_rows == 5 for table in out[:-1])
