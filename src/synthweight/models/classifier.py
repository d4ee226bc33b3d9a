"""The encoder with its classification head."""

import ctypes
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

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


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


def clip(network: nn.Module, adam: torch.optim.Optimizer, most: float, within: bool = False) -> None:
    """Before a step: gradients scaled so that the norm of all of them is at most `most`.

    g ← g · min(1, most / (‖g‖ + 1e-6)), as `torch.nn.utils.clip_grad_norm_` has it. That sums a tensor's squares on one core of
    a CPU and passes once more over all gradients. within: sums by rows, which cores share, and leaves the scaling to the step's
    own pass, which divides where this multiplies: the last digits differ. For fp32 alone, and elsewhere not so.
    """
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    if not within or any(g.device.type != "cpu" or g.dtype != torch.float32 for g in gradients):
        torch.nn.utils.clip_grad_norm_(network.parameters(), most)
        return
    rows = [torch.linalg.vector_norm(g.flatten(1), dim=1) if g.ndim > 1 else g.flatten() for g in gradients]
    norm = torch.linalg.vector_norm(torch.cat(rows))
    adam.grad_scale = ((norm + 1e-6) / most).clamp_(min=1.0)  # type: ignore[attr-defined]  # as torch's GradScaler gives it


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


def hold_memory() -> None:
    """For the rest of the process: what is freed stays with it, until the next `release_memory` empties the heap.

    glibc hands large blocks back as they are freed, and each page costs a microsecond when it is asked for again: a million
    pages and more in three epochs of MiniLM, half of them in evaluation. Blocks of 32 MiB and more are handed back still.
    """
    libc = glibc()
    if libc is not None:
        libc.mallopt(M_MMAP_THRESHOLD, 32 * 2**20)  # the most that it takes
        libc.mallopt(M_TRIM_THRESHOLD, 512 * 2**20)


def release_memory() -> None:
    """Gives freed memory back to the system.

    Batches of changing shapes leave holes that glibc keeps. With MiniLM a process holds 1.3–1.4 GB between the runs of a
    sweep instead of 1.7–2.2; the peak within a run hardly changes (2.4 instead of 2.5).
    """
    libc = glibc()
    if libc is not None:
        libc.malloc_trim(0)


def glibc() -> Any:
    """The C library, where it is glibc."""
    try:
        libc = ctypes.CDLL(None)
        return libc if hasattr(libc, "malloc_trim") else None
    except (OSError, TypeError):
        return None
