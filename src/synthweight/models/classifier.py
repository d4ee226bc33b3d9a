"""The encoder with its classification head."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from torch import nn

from ..errors import UserError, first_line

if TYPE_CHECKING:
    from ..config.schema import Optim


def build(folder: Path, labels: tuple[str, ...]) -> nn.Module:
    """A pretrained encoder, its own pooling for classification, and a new head of len(labels) logits (fp32).

    The head is drawn from torch's global generator: seed it first. Safetensors only; no code of the folder is run.

    Raises:
        UserError: the folder's config or weights cannot be read as a sequence classifier.
    """
    transformers.logging.set_verbosity_error()  # the new head is no news here
    transformers.logging.disable_progress_bar()
    try:
        return transformers.AutoModelForSequenceClassification.from_pretrained(
            folder,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={label: i for i, label in enumerate(labels)},
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = first_line(error, type(error).__name__)
        raise UserError(f"{folder}: not readable as a sequence classifier ({reason})") from error


def optimizer(
    network: nn.Module, optim: "Optim", steps: int, device: torch.device, stacked: bool = False
) -> tuple[torch.optim.AdamW, Any]:
    """AdamW with the recipe's schedule over so many steps; no decay on biases and LayerNorms (all vectors).

    stacked: every parameter has an axis more, of networks.
    """
    vector = 2 if stacked else 1
    decayed = [p for p in network.parameters() if p.ndim > vector]
    plain = [p for p in network.parameters() if p.ndim <= vector]
    groups = [{"params": decayed, "weight_decay": optim.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, lr=optim.lr, fused=device.type in ("cpu", "cuda"))
    kind = "constant_with_warmup" if optim.schedule == "constant" else optim.schedule
    warmup = round(optim.warmup * steps)
    return adam, transformers.get_scheduler(kind, adam, num_warmup_steps=warmup, num_training_steps=steps)


def clip(network: nn.Module, adam: torch.optim.Optimizer, max_norm: float) -> None:
    """Before a step: scales the gradients so that the norm of all of them is at most `max_norm`.

    g ← g · min(1, max_norm / (‖g‖ + 1e-6)), as `torch.nn.utils.clip_grad_norm_` has it. On a CPU that sums a tensor's squares
    on one core and passes once more over all gradients. In fp32 the sums are made by rows here, which cores share, and the
    scaling is left to the fused step's own pass, which divides by `grad_scale`, as it does for torch's GradScaler.
    """
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    if any(g.device.type != "cpu" or g.dtype != torch.float32 for g in gradients):
        torch.nn.utils.clip_grad_norm_(network.parameters(), max_norm)
        return
    rows = [torch.linalg.vector_norm(g.flatten(1), dim=1) if g.ndim > 1 else g.flatten() for g in gradients]
    norm = torch.linalg.vector_norm(torch.cat(rows))
    adam.grad_scale = ((norm + 1e-6) / max_norm).clamp_(min=1.0)  # type: ignore[attr-defined]


def inputs(batch: dict[str, Any]) -> dict[str, torch.Tensor]:
    """What of a batch the encoder takes."""
    return {key: batch[key] for key in ("input_ids", "attention_mask", "token_type_ids") if key in batch}


@torch.inference_mode()
def log_probs(model: nn.Module, batches: Iterable[dict[str, torch.Tensor]], n: int, classes: int) -> np.ndarray:
    """log p(y|x) of all classes for n texts: eval mode, fp32, [n, classes] in the texts' own order."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    out = np.full((n, classes), np.nan, dtype=np.float32)
    for batch in batches:
        on_device = {key: value.to(device) for key, value in inputs(batch).items()}
        logits = model(**on_device).logits.float()
        out[batch["index"].numpy()] = logits.log_softmax(dim=-1).cpu().numpy()
    model.train(was_training)
    return out
