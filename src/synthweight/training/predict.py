"""log p(y|x) of every class by a trained network."""

import contextlib
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from ..data.batching import evaluation_batches
from ..data.tokenization import TokenizedTexts
from ..models import classifier
from ..models.packed import forward
from .devices import device, precision
from .memory import release_memory

if TYPE_CHECKING:
    from ..config.schema import Trainer


def evaluation_tokens(precision: str, device: torch.device) -> int:
    """The most tokens of a batch of evaluation: half as many in fp32 as in bf16, more on a GPU.

    Args:
        precision: Lightning's name of it.
        device: that computes.
    """
    tokens = 4096 if precision == "bf16-mixed" else 2048
    return 8 * tokens if device.type == "cuda" else tokens


def predict(network: nn.Module, tokens: TokenizedTexts, classes: int, trainer: "Trainer") -> np.ndarray:
    """`log_probs` on the device, in the precision and with the padding of a run's settings.

    Args:
        network: moved to the device.
        tokens: n texts.
        classes: the number of logits.
        trainer: the run's settings.
    """
    network.to(device(trainer.accelerator))
    return log_probs(network, tokens, classes, precision(trainer), trainer.padding)


@torch.inference_mode()
def log_probs(
    network: nn.Module, tokens: TokenizedTexts, classes: int, precision: str = "32", padding: bool = False
) -> np.ndarray:
    """log p(y|x) in eval mode, fp32, [n, classes], in the order of the texts.

    Args:
        network: on its device.
        tokens: n texts.
        classes: the number of logits.
        precision: "bf16-mixed" computes products in bf16, anything else in the network's own dtype.
        padding: pads batches even where the encoder's family can be packed.
    """
    place = next(network.parameters()).device
    was_training = network.training
    network.eval()
    out = np.full((len(tokens), classes), np.nan, dtype=np.float32)
    with (
        contextlib.nullcontext() if padding else forward.packed_forward(network),
        torch.autocast(place.type, torch.bfloat16, enabled=precision == "bf16-mixed"),
    ):
        for batch in evaluation_batches(tokens, evaluation_tokens(precision, place)):
            inputs = classifier.inputs(batch)
            # a packed pass moves a batch itself, once its tokens are counted
            if not forward.is_packed(network):
                inputs = {key: value.to(place) for key, value in inputs.items()}
            logits = network(**inputs).logits.float()
            out[batch["index"].numpy()] = logits.log_softmax(dim=-1).cpu().numpy()
    network.train(was_training)
    release_memory()
    return out
