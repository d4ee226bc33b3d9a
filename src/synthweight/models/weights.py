"""An encoder's weights, from safetensors files into a network whose every parameter is accounted for.

`from_pretrained` draws at random what it does not find and drops what it does not know: an encoder whose
names carry another prefix, or whose layers are missing, would be trained from random weights. Here each
parameter of the body is either in the file or the folder is refused, and what remains unused is named.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..errors import UserError, first_line

logger = logging.getLogger(__name__)

FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
LFS = b"version https://git-lfs"
POOLER = "pooler"  # many encoders are published without one: it belongs to what is fine-tuned
# computed; older files have them
BUFFERS = frozenset({"position_ids", "token_type_ids", "inv_freq", "masked_bias"})
PRETRAINING = frozenset({  # heads of language models, whose names transformers gives; no classifier uses them
    "cls", "lm_head", "lm_loss", "predictions", "sop_classifier", "discriminator_predictions", "generator_predictions",
    "generator_lm_head", "vocab_transform", "vocab_layer_norm", "vocab_projector", "mlm", "final_logits_bias", "qa_outputs",
    "lm_predictions", "mask_predictions",
})  # fmt: skip


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that hold an encoder's weights.

    Raises:
        UserError: there are none (pickled weights are never read), or the index names one that is not in the
            folder.
    """
    if (folder / FILE).is_file():
        return [folder / FILE]
    if (folder / INDEX).is_file():
        try:
            names = sorted(
                set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values())
            )
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise UserError(
                f"{folder / INDEX}: not readable as an index of weights ({first_line(error)})"
            ) from error
        for name in names:
            if Path(name).name != name or not (folder / name).is_file():
                raise UserError(f"{folder / INDEX} names {name}, which is not in the folder")
        return [folder / name for name in names]
    if pickled := sorted(path.name for pattern in PICKLED for path in folder.glob(pattern)):
        raise UserError(
            f"{folder}: only pickled weights ({pickled[0]}), which are never read: save them as {FILE} first"
        )
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    raise UserError(f"{folder}: no weights: {FILE} is expected{f', found {others[0]}' if others else ''}")


def parameter_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter in an encoder's files, by name. Reads their headers alone.

    Raises:
        UserError: there are no weights, or a file is damaged.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="numpy") as file:
                shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            with path.open("rb") as stream:
                pointer = stream.read(len(LFS)) == LFS
            reason = (
                "a Git LFS pointer: git lfs pull" if pointer else f"damaged or cut short: {first_line(error)}"
            )
            raise UserError(f"{path}: not readable as safetensors ({reason})") from error
    return shapes


def load_encoder(folder: Path, config: Any) -> Any:
    """A sequence classifier with the folder's encoder and a new head, drawn from torch's global generator.

    An old classification head is not used, whatever its labels. Names under a prefix of a wrapper
    (`module.bert.`, `0.auto_model.`) are found by their ends.

    Args:
        folder: has the weights.
        config: of transformers, with the number of labels.

    Raises:
        UserError: a parameter of the body is not in the file, has another shape, or is in the file and not in
            the body; the weights are of another architecture than config.json says.
    """
    import torch
    import transformers
    from safetensors.torch import load_file

    with torch.device("meta"):  # names and shapes alone: nothing is drawn or allocated
        skeleton: Any = transformers.AutoModelForSequenceClassification.from_config(
            config, trust_remote_code=False
        )
    shapes = parameter_shapes(folder)
    base = f"{skeleton.base_model_prefix}."
    expected = {name for name, _ in skeleton.named_parameters()}
    body = {name.removeprefix(base) for name in expected if name.startswith(base)}
    prefix = prefix_of(shapes, body, base, folder, config.model_type)
    head = {name for name in expected if not name.startswith(base)}
    # parts of a language model's head are kept, as transformers does
    dropped = head if head <= shapes.keys() else set()
    if dropped:
        log_old_head(folder)
    state: dict[str, torch.Tensor] = {}
    for path in weight_files(folder):
        state |= {name: tensor for name, tensor in load_file(path).items() if name not in dropped}
    if prefix not in ("", base):
        log_prefix(folder, prefix)
        state = {
            f"{base}{name[len(prefix) :]}" if name.startswith(prefix) else name: t
            for name, t in state.items()
        }
    network, info = type(skeleton).from_pretrained(
        None,
        config=config,
        state_dict=state,
        dtype=torch.float32,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )
    require_whole(folder, network, info, base, len(body))
    return network


def prefix_of(names: Iterable[str], body: set[str], base: str, folder: Path, model_type: str) -> str:
    """The prefix of the body's names in a file: the one under which most are found, "" for none.

    Raises:
        UserError: two encoders are in the file, or one of another architecture.
    """
    votes: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")
        for i in range(len(parts)):
            if ".".join(parts[i:]) in body:
                votes[".".join([*parts[:i], ""]) if i else ""] += 1
    if not votes:
        return base
    most = max(votes.values())
    best = [prefix for prefix, count in votes.items() if count == most]
    for usual in (base, ""):
        if usual in best:
            return usual
    if len(best) > 1:
        raise UserError(
            f"{folder}: its file holds {len(best)} encoders, under {' and '.join(map(repr, sorted(best)))}: keep one"
        )
    other = best[0].split(".")[-2]
    if f"{other}." != base and other in _model_types():
        raise UserError(
            f"{folder}: config.json says model_type={model_type}, but the weights are those of {other}"
        )
    return best[0]


@cache
def _model_types() -> frozenset[str]:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return frozenset(name.replace("-", "_") for name in CONFIG_MAPPING_NAMES)


def require_whole(folder: Path, network: Any, info: dict[str, Any], base: str, total: int) -> None:
    """Raises UserError unless the body's parameters and those of the file are the same.

    A missing pooler is drawn, and logged; heads of language models are left out; what else no part of the
    network uses is logged, or refused where it lies within the body.

    Args:
        folder: for messages.
        network: loaded.
        info: what `from_pretrained` reports with `output_loading_info`.
        base: the prefix of the body's names in the network.
        total: number of the body's parameters.
    """
    for name, found, wanted in sorted(info["mismatched_keys"]):
        raise UserError(f"{folder}: {name} is {list(found)} in the file, and {list(wanted)} by config.json")
    missing = sorted(name for name in info["missing_keys"] if name.startswith(base))
    if drawn := [name for name in missing if POOLER in name.split(".")]:
        log_pooler(folder, len(drawn))
    absent = [name for name in missing if name not in drawn]
    buffers = {name for name, _ in network.named_buffers()}
    inside = {name for name, _ in network.base_model.named_children()}
    unused = []
    for name in sorted(info["unexpected_keys"]):
        parts = name.removeprefix(base).split(".")
        if (
            name in buffers
            or f"{base}{name}" in buffers
            or parts[-1] in BUFFERS
            or POOLER in parts
            or parts[0] in PRETRAINING
        ):
            continue
        unused.append(name)
    within = [name for name in unused if name.startswith(base) or name.split(".")[0] in inside]
    kind = network.config.model_type
    if absent:
        instead = f"; the file has {unused[0]}" if unused else ""
        what = f"{len(absent)} of the {total} parameters of its {kind} body are not in the file, first {absent[0]}{instead}"
        raise UserError(f"{folder}: {what}: are these the weights that config.json describes?")
    if within:
        what = f"{len(within)} parameters of the file have no place in the {kind} body of config.json, first {within[0]}"
        raise UserError(f"{folder}: {what}: are these the weights that config.json describes?")
    if unused:
        log_unused(folder, len(unused), unused[0], kind)


@cache  # once per process, however many runs load it
def log_old_head(folder: Path) -> None:
    logger.info("%s: its old classification head is not used: a new one is drawn from the seed", folder)


@cache
def log_prefix(folder: Path, prefix: str) -> None:
    logger.info("%s: the encoder's weights are those under %r", folder, prefix)


@cache
def log_pooler(folder: Path, n: int) -> None:
    logger.info("%s: it has no pooler: %d parameters are drawn from the seed", folder, n)


@cache
def log_unused(folder: Path, n: int, first: str, kind: str) -> None:
    logger.warning(
        "%s: %d parameters of the file are not used, no %s has them, first %s", folder, n, kind, first
    )
