"""Texts as vectors: the mean token states of a pretrained encoder, and distances between them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..data.examples import Example
from ..data.tokenization import encode_examples, load_tokenizer

if TYPE_CHECKING:
    import torch

BLOCK = 2_000  # rows of a product that are computed at once
BATCH = 64  # texts of one forward pass


def embed(
    folder: Path, sets: Sequence[Sequence[Example]], max_length: int, place: "torch.device"
) -> list[Float[ndarray, "n d"]]:
    """The mean token states of each example's text or pair, rows of length 1: one matrix per set.

    Args:
        folder: Of the encoder.
        sets: The sets of examples.
        max_length: Tokens from which a text is cut.
        place: The device to compute on.
    """
    import torch

    from . import classifier

    network: Any = classifier.build(folder, ("0", "1"))
    tokenizer, encoder = load_tokenizer(folder), network.base_model.to(place).eval()
    if encoder.config.is_encoder_decoder:  # the decoder's states are of the text to come
        encoder = encoder.get_encoder()
    out = []
    for examples in sets:
        order = sorted(range(len(examples)), key=lambda i: len(examples[i].text))
        states = np.zeros((len(examples), encoder.config.hidden_size), dtype=np.float32)
        for start in range(0, len(order), BATCH):
            index = order[start : start + BATCH]
            tokens = encode_examples(tokenizer, [examples[i] for i in index], max_length)
            whole = tokens.batch(list(range(len(index))))
            batch = {key: value.to(place) for key, value in classifier.inputs(whole).items()}
            with torch.inference_mode():
                hidden = encoder(**batch).last_hidden_state.float()
            mask = batch["attention_mask"][..., None]
            mean = (hidden * mask).sum(1) / mask.sum(1)
            states[index] = torch.nn.functional.normalize(mean, dim=1).cpu().numpy()
        out.append(states)
    return out


def largest_cosine(one: Float[ndarray, "n d"], other: Float[ndarray, "m d"], others: bool = False) -> ndarray:
    """The largest cosine of each row with the rows of another matrix, [n]; rows have length 1.

    Args:
        one: The rows.
        other: The others.
        others: `other` is `one`, and a row does not count as its own neighbour.
    """
    out = np.empty(len(one))
    for start in range(0, len(one), BLOCK):
        cosine = one[start : start + BLOCK] @ other.T
        if others:
            np.fill_diagonal(cosine[:, start:], -1)
        out[start : start + BLOCK] = cosine.max(axis=1)
    return out
