"""The encoder with its classification head."""

import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from torch import nn

from ..errors import UserError, first_line
from . import weights

if TYPE_CHECKING:
    from ..data.tokenization import TokenizedTexts


def build(folder: Path, labels: tuple[str, ...], tokens: "TokenizedTexts | None" = None) -> nn.Module:
    """A pretrained encoder, its own pooling for classification, and a new head of len(labels) logits (fp32).

    The head is drawn from torch's global generator: seed it first. Safetensors only; no code of the folder is
    run.

    Args:
        folder: a Hugging Face folder.
        labels: the classes, in the order of the logits.
        tokens: of any texts that the network will see; they say how batches are padded.

    Raises:
        UserError: the folder's config or weights cannot be read as a sequence classifier.
    """
    with _one_line(folder):
        network = weights.load_encoder(folder, configuration(folder, labels))
    return padded_as(network, tokens)


def load(folder: Path, labels: tuple[str, ...], tokens: "TokenizedTexts | None" = None) -> nn.Module:
    """A classifier that was trained here, with its head.

    Args:
        folder: as `save_pretrained` wrote it.
        labels: the classes, in the order of the logits.
        tokens: of any texts that the network will see; they say how batches are padded.

    Raises:
        UserError: the folder cannot be read, or its weights are not all there.
    """
    weights.parameter_shapes(folder)  # a file that cannot be read is named here
    with _one_line(folder):
        network, info = transformers.AutoModelForSequenceClassification.from_pretrained(
            folder, config=configuration(folder, labels), dtype=torch.float32, use_safetensors=True, trust_remote_code=False,
            output_loading_info=True,
        )  # fmt: skip
    if wrong := sorted([*info["missing_keys"], *info["unexpected_keys"]]):
        raise UserError(
            f"{folder}: not the model that was saved there ({wrong[0]}): delete the folder and run again"
        )
    return padded_as(network, tokens)


def divide_logits(folder: Path, labels: tuple[str, ...], t: float) -> None:
    """Divides the logits of a saved classifier by t, in the folder: the weight and bias of its last layer.

    So whatever loads the folder has the calibrated probabilities; the most likely class never changes.

    Args:
        folder: as `save_pretrained` wrote it.
        labels: the classes, in the order of the logits.
        t: a temperature.
    """
    network = load(folder, labels)
    with torch.no_grad():
        for parameter in last_layer(network, len(labels)).parameters():
            parameter.div_(t)
    network.save_pretrained(folder)  # type: ignore[operator]


def last_layer(network: nn.Module, classes: int) -> nn.Linear:
    """The linear layer whose outputs are the logits. Raises UserError where a network has none outside its encoder."""
    body: Any = network.base_model
    inside = set(body.modules())
    found = [m for m in network.modules() if isinstance(m, nn.Linear) and m not in inside]
    if not found or found[-1].out_features != classes:
        kind = network.config.model_type  # type: ignore[union-attr]
        raise UserError(f"{kind}: its classifier does not end in a linear layer: it cannot be calibrated")
    return found[-1]


def configuration(folder: Path, labels: tuple[str, ...]) -> Any:
    """The folder's config.json for so many classes, whatever it was trained for before. Raises UserError.

    Args:
        folder: of the encoder.
        labels: the classes.
    """
    try:
        raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config = transformers.AutoConfig.from_pretrained(
            folder, num_labels=len(labels), id2label=dict(enumerate(labels)), problem_type=None, trust_remote_code=False,
            label2id={label: i for i, label in enumerate(labels)},
        )  # fmt: skip
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        own = "trust_remote_code" in str(error)
        reason = (
            "it needs code of its own, which is never run" if own else first_line(error, type(error).__name__)
        )
        raise UserError(f"{folder}: its config.json cannot be read ({reason})") from error
    pad = raw.get("pad_token_id")
    if (
        pad is not None
        and raw.get("bos_token_id") is None
        and pad == getattr(type(config)(), "bos_token_id", None)
    ):
        # BERT's weights have RoBERTa's names, but RoBERTa counts positions from the padding token's id on
        kind = config.model_type
        what = f"config.json says model_type={kind}, but its pad_token_id={pad} is the first token of a {kind}'s texts"
        raise UserError(f"{folder}: {what}: which architecture has these weights?")
    return config


@contextmanager
def _one_line(folder: Path) -> Iterator[None]:
    """Within it transformers reports nothing, and what it raises becomes one line."""
    transformers.logging.set_verbosity_error()  # the new head is no news here
    transformers.logging.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError, TypeError, ImportError) as error:
        reason = first_line(error, type(error).__name__)
        raise UserError(f"{folder}: not readable as a sequence classifier ({reason})") from error


def padded_as(network: nn.Module, tokens: "TokenizedTexts | None") -> nn.Module:
    """The network, set to the padding of these tokens.

    Classifiers that read the last token look for the padding's id in their configuration. Those that count
    positions from the left end of a batch get each text's own positions where the padding is on the left.

    Args:
        network: of transformers.
        tokens: of any texts that it will see.
    """
    if tokens is None:
        return network
    if getattr(network.config, "pad_token_id", None) is None:
        network.config.pad_token_id = tokens.pad  # type: ignore[union-attr]
    body: Any = network.base_model
    if tokens.side == "left" and "position_ids" in inspect.signature(body.forward).parameters:
        body.register_forward_pre_hook(_count_positions, with_kwargs=True)
    return network


def _count_positions(
    _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Adds the positions of left-padded texts, each counted from its first token."""
    mask = kwargs.get("attention_mask")
    return args, kwargs if mask is None else kwargs | {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)}


def inputs(batch: dict[str, Any]) -> dict[str, torch.Tensor]:
    """What of a batch the encoder takes."""
    return {key: batch[key] for key in ("input_ids", "attention_mask", "token_type_ids") if key in batch}
