"""Checks, before anything is trained, that encoder, tokenizer, texts, length and loss fit together.

It does so by passes of two examples.
"""

import dataclasses
import json
import logging
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..config import encoders
from ..config.schema import Run
from ..data import sources
from ..data.examples import Examples
from ..data.tokenization import TokenizedTexts, encode_examples, load_tokenizer
from ..errors import UserError, first_line
from ..losses.base import LearnedLoss
from ..models import classifier, pretrained
from ..training.job import TokenizedSplit, TrainingJob
from ..training.trainer import fit

logger = logging.getLogger(__name__)

SAMPLE = 1000  # examples of D_P' whose tokens are looked at
OFFSET = 2  # positions at most that an encoder of a known name keeps for padding
RELATIVE, ABSOLUTE = 1e-2, 1e-4  # by how much an example's logits may differ with its batch
# what encoders raise at inputs, or in places, that are not theirs
MISFITS = (IndexError, RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError)
passed: set[str] = set()  # what this process has checked


def require_fit(run: Run) -> None:
    """Raises UserError where a run could not be trained, saying what does not fit and what to do.

    Checked are the tokenizer's vocabulary on D_P', the encoder's weights, its positions, token ids and token
    types at `optim.max_length`, that an example's logits do not depend on its batch, and one step of a loss
    that learns its weights. A pinned encoder is known to fit up to its number of positions. Each combination
    is checked once per process.

    Args:
        run: its encoder's files are here.
    """
    small = sources.load_splits(run)["small_real"]
    encoder, folder = pretrained.fingerprint(run.model), pretrained.locate(run.model)
    learned = run.loss if isinstance(run.loss, LearnedLoss) else None
    key = repr((encoder, run.optim.max_length, small.sha256, learned))
    if key in passed:
        return
    log_own_code(folder)
    if run.model.path is not None:
        log_recipe(run.model.path, run.model.name, run.optim.name, run.optim.lr)
    sample, labels, length = small.examples[:SAMPLE], tuple(sorted(small.labels)), run.optim.max_length
    tokenizer = load_tokenizer(folder)
    require_vocabulary(folder, tokenizer, encode_examples(tokenizer, sample, length).ids)
    if not (run.model.path is None and encoder == run.model.sha256 and length + OFFSET <= positions(folder)):
        with torch.random.fork_rng(devices=[]):
            tokens = require_pass(folder, tokenizer, sample, labels, length)
            if learned is not None:
                targets = np.array([labels.index(e.label) for e in small.examples])
                require_step(
                    run,
                    folder,
                    labels,
                    tokens,
                    (encode_examples(tokenizer, small.examples, min(length, 16)), targets),
                )
    passed.add(key)


def require_vocabulary(folder: Path, tokenizer: Any, ids: np.ndarray) -> None:
    """Raises UserError where a vocabulary has none of the texts' words; logs where it lacks most of them.

    Args:
        folder: for messages.
        tokenizer: whose ids they are.
        ids: of texts, special tokens included.
    """
    if tokenizer.unk_token_id is None:
        return
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    words = ids[~np.isin(ids, list(special))]
    unknown = int((words == tokenizer.unk_token_id).sum())
    if unknown == len(words):
        raise UserError(
            f"{folder}: every token of D_P' is {tokenizer.unk_token} to it: its vocabulary is for other texts"
        )
    if unknown > len(words) / 2:
        share = 100 * unknown / len(words)
        logger.warning("%s: %.0f %% of the tokens of D_P' are %s to it", folder, share, tokenizer.unk_token)


@cache  # once per process
def log_recipe(path: str, name: str, recipe: str, lr: float) -> None:
    """Logs how an encoder from a folder is named, and by which recipe it is trained."""
    size = encoders.layers_and_width(path)
    of_size = f" ({size[0]} layers of {size[1]})" if size else ""
    logger.info(
        "model.path=%s: model %s%s with the recipe %s, lr %g; optim=NAME takes another",
        path,
        name,
        of_size,
        recipe,
        lr,
    )


def log_own_code(folder: Path) -> None:
    """Logs that a folder's modules are not run, where transformers has classes of its own for it."""
    for name in ("config.json", "tokenizer_config.json"):
        path = folder / name
        if path.is_file() and "auto_map" in json.loads(path.read_text(encoding="utf-8")):
            logger.warning("%s: its auto_map is ignored: no code of the folder is run", path)


def positions(folder: Path) -> int:
    """How many positions config.json says an encoder has; 0 where it says none."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return int(config.get("max_position_embeddings") or 0)


def require_pass(
    folder: Path, tokenizer: Any, sample: Examples, labels: tuple[str, ...], length: int
) -> TokenizedTexts:
    """One forward pass of a text of `length` tokens and a shorter one.

    On the CPU, where an index error is no crash.

    Args:
        folder: of the encoder.
        tokenizer: of the folder.
        sample: some examples.
        labels: the classes.
        length: `optim.max_length`.

    Returns:
        The two texts' tokens.

    Raises:
        UserError: what does not fit.
    """
    tokens = long_and_short(tokenizer, sample, length)
    network = classifier.build(folder, labels, tokens).eval()
    largest, rows = max(tokenizer.get_vocab().values()), len(network.get_input_embeddings().weight)  # type: ignore[operator]
    if largest >= rows:
        what = f"its tokenizer has ids up to {largest}, and its word embedding {rows} rows"
        raise UserError(f"{folder}: {what}: save it after model.resize_token_embeddings({largest + 1})")
    try:
        together, alone = logits(network, tokens, [0, 1])[1], logits(network, tokens, [1])[0]
    except MISFITS as error:
        raise UserError(misfit(folder, tokenizer, sample, network, length, error)) from error
    if not torch.isfinite(alone).all():
        raise UserError(f"{folder}: its logits are not finite: are its weights damaged?")
    if not same(together, alone):
        other = dataclasses.replace(tokens, side="right" if tokens.side == "left" else "left")
        turned = classifier.build(folder, labels, other).eval()
        if works(lambda: same(logits(turned, other, [0, 1])[1], logits(turned, other, [1])[0])):
            what = f"padded on the {tokens.side}, as its tokenizer says, a text's logits depend on its batch"
            raise UserError(f'{folder}: {what}: set "padding_side": "{other.side}" in tokenizer_config.json')
        kind = network.config.model_type  # type: ignore[union-attr]
        logger.warning(
            "%s: a text's logits depend on the padding of its batch, as %s encoders compute them",
            folder,
            kind,
        )
    return tokens


def long_and_short(tokenizer: Any, sample: Examples, length: int) -> TokenizedTexts:
    """Two texts made of the sample's: one of `length` tokens, or as near as may be, and one of few.

    Args:
        tokenizer: of the encoder.
        sample: some examples.
        length: in tokens.
    """
    short = min(sample, key=lambda e: len(e.text))
    long = dataclasses.replace(short, text=" ".join(e.text for e in sample[:32]))
    while True:
        tokens = encode_examples(tokenizer, (long, short), length)
        if tokens.lengths[0] >= length or len(long.text) > 100 * length:
            return tokens
        long = dataclasses.replace(long, text=f"{long.text} {long.text}")


@torch.inference_mode()
def logits(network: nn.Module, tokens: TokenizedTexts, index: list[int]) -> Tensor:
    """The network's logits of a batch, [n, classes].

    Args:
        network: a classifier.
        tokens: of some texts.
        index: which of them.
    """
    return network(**classifier.inputs(tokens.batch(index))).logits


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two rows of logits are equal, up to rounding in low precision.

    Args:
        one: [classes].
        other: [classes].
    """
    return torch.allclose(one, other, rtol=RELATIVE, atol=ABSOLUTE)


def works(compute: Callable[[], Any]) -> Any:
    """What a computation gives; False where it fails."""
    try:
        return compute()
    except MISFITS:
        return False


def misfit(
    folder: Path, tokenizer: Any, sample: Examples, network: nn.Module, length: int, error: Exception
) -> str:
    """Why the pass failed: too long a text, token types that the encoder has not, or what it says itself.

    Args:
        folder: of the encoder.
        tokenizer: of the folder.
        sample: some examples.
        network: that failed.
        length: `optim.max_length`.
        error: that it raised.
    """

    def fits(tokens: TokenizedTexts) -> bool:
        return works(lambda: logits(network, tokens, [0, 1])) is not False

    def fits_length(n: int) -> bool:
        return fits(long_and_short(tokenizer, sample, n))

    tokens = long_and_short(tokenizer, sample, length)
    if len(tokens.types) and fits(dataclasses.replace(tokens, types=np.zeros(0, np.uint8))):
        inputs = '"model_input_names": ["input_ids", "attention_mask"]'
        return f"{folder}: its tokenizer gives token types that its encoder has not: set {inputs} in tokenizer_config.json"
    low, high = 4, length
    if fits_length(low):
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits_length(middle) else (low, middle)
        return f"optim.max_length={length}: {folder.name} has {low} positions"
    return f"{folder}: a pass of two texts fails ({first_line(error, type(error).__name__)})"


def require_step(
    run: Run, folder: Path, labels: tuple[str, ...], tokens: TokenizedTexts, dev: TokenizedSplit
) -> None:
    """Two steps on two examples with a loss that learns its weights.

    Such losses go through the encoder in ways of their own.

    Args:
        run: whose loss it is.
        folder: of the encoder.
        labels: the classes.
        tokens: of two texts.
        dev: D_P', tokens with label positions.
    """
    shorter: dict[str, Any] = {"outer_steps": 1} if hasattr(run.loss, "outer_steps") else {}
    part = dataclasses.replace(run.trainer, devices=1, compile=False)
    targets = np.array([0, 1])
    job = dataclasses.replace(
        TrainingJob.from_run(run, folder, labels, (tokens, targets), {"test": (tokens, targets)}),
        strategy=dataclasses.replace(run.loss, **shorter), trainer=part, epochs=2, dev=dev,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of two examples there is much to warn about
        try:
            fit(job)
        except UserError:
            raise
        except Exception as error:
            reason = first_line(error, type(error).__name__)
            raise UserError(f"loss={run.loss.name}: not possible with {folder.name} ({reason})") from error
