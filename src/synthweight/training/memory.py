"""A batch that does not fit: what is said of it."""

import gc

import numpy as np
import torch
from torch import Tensor

from ..data.batching import evaluation_batches
from ..errors import UserError
from ..losses.base import Learned
from ..models import classifier
from ..models.packed import forward
from .job import Training, begun


def too_large(t: Training, device: torch.device, precision: str, error: str) -> UserError:
    """Names the largest of the batch size's halves that a step fits with; error: what torch said."""
    gc.collect()  # what failed hangs in a cycle with Lightning's trainer
    classifier.release_memory()
    size = min(t.optim.batch_size, len(t.train[0]))
    asked = f"optim.batch_size={t.optim.batch_size} does not fit into the memory of this {device.type}"
    while (size := size // 2) > 0:
        found = fits(t, size, device, precision)
        classifier.release_memory()
        if found:
            plain = t.strategy.candidates == 1 and not isinstance(t.strategy, Learned)
            return UserError(
                f"{asked}; optim.batch_size={size} does" + ("" if plain else f" for ce; loss={t.strategy.name} needs more")
            )
    return UserError(f"{asked}, and no smaller one does ({error}): take a smaller encoder, or lower optim.max_length")


def fits(t: Training, size: int, device: torch.device, precision: str) -> bool:
    """Whether steps do with a quarter more of the longest texts, since a training holds more than its step; and evaluation.

    Two steps: the optimizer's state comes with the first.
    """
    tokens, targets = t.train
    longest = np.argsort(-tokens.lengths, kind="stable")[: size + size // 4].tolist()
    try:
        with begun(t) as (network, narrow):
            network.to(device)

            def logits(batch: dict[str, Tensor]) -> Tensor:
                with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
                    return network(**{key: value.to(device) for key, value in classifier.inputs(batch).items()}).logits

            adam, _ = classifier.optimizer(network, t.optim, 2, device)
            batch = narrow.train[0].batch(longest)
            for _ in range(2):
                torch.nn.functional.cross_entropy(logits(batch), torch.from_numpy(targets[longest]).to(device)).backward()
                adam.step()
                adam.zero_grad()  # as a training does
            network.eval()
            most = forward.evaluation_tokens(network, precision)
            with torch.inference_mode():
                for series, _ in narrow.series.values():  # in batches of a size of their own, the longest texts first
                    logits(next(iter(evaluation_batches(series, most=most))))
    except (RuntimeError, MemoryError):  # whatever it is, this size does not do
        return False
    return True
