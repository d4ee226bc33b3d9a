"""A batch that does not fit: what is said of it."""

import gc

import numpy as np
import torch

from . import model
from .errors import UserError
from .losses.base import Learned
from .training import Training, begun


def exhausted(error: RuntimeError) -> bool:
    """Whether it is a device, or this machine, that has no memory left; or oneDNN, which seldom says so in clear words."""
    said = ("can't allocate memory", "could not create a primitive")
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in said)


def too_large(t: Training, device: torch.device, precision: str, error: str) -> UserError:
    """Names the largest of the batch size's halves that a step fits with; error: what torch said."""
    gc.collect()  # what failed hangs in a cycle with Lightning's trainer
    size = min(t.optim.batch_size, len(t.train[0]))
    asked = f"optim.batch_size={t.optim.batch_size} does not fit into the memory of this {device.type}"
    while (size := size // 2) > 0:
        if fits(t, size, device, precision):
            plain = t.strategy.candidates == 1 and not isinstance(t.strategy, Learned)
            return UserError(
                f"{asked}; optim.batch_size={size} does" + ("" if plain else f" for ce; loss={t.strategy.name} needs more")
            )
    return UserError(f"{asked}, and no smaller one does ({error}): take a smaller encoder, or lower optim.max_length")


def fits(t: Training, size: int, device: torch.device, precision: str) -> bool:
    """Whether steps do with a quarter more of the longest texts: a training holds more than its step.

    Two steps, since the optimizer's state comes with the first.
    """
    tokens, targets = t.train
    longest = np.argsort(-tokens.lengths, kind="stable")[: size + size // 4].tolist()
    try:
        with begun(t) as (network, narrow):
            network.to(device)
            adam, _ = model.optimizer(network, t.optim, 2, device)
            batch = {key: value.to(device) for key, value in narrow.train[0].batch(longest).items()}
            for _ in range(2):
                adam.zero_grad()
                with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
                    logits = network(**model.inputs(batch)).logits
                torch.nn.functional.cross_entropy(logits, torch.from_numpy(targets[longest]).to(device)).backward()
                adam.step()
    except (RuntimeError, MemoryError):  # whatever it is, this size does not do
        return False
    return True
