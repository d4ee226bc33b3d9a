"""AdamW with its schedule, and the gradient clipped before each step.

AdamW is assumed elsewhere too: clipping is left to its fused step, `packed/graphs.py` records that step, and the
look-ahead of learned weights (`losses/meta/gradients.py`) reads its moments.
"""

from typing import TYPE_CHECKING, Any

import torch
import transformers
from torch import nn

if TYPE_CHECKING:
    from ..config.schema import Optim


def optimizer(
    network: nn.Module, optim: "Optim", steps: int, device: torch.device, stacked: bool = False
) -> tuple[torch.optim.AdamW, Any]:
    """AdamW with the recipe's schedule over so many steps; no decay on biases and LayerNorms (all vectors).

    stacked: every parameter has an axis more, of networks.

    Args:
        network: whose parameters are trained.
        optim: the recipe.
        steps: of the whole training.
        device: that the network is on.
        stacked: whether the network is a stack of several.
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

    g ← g · min(1, max_norm / (‖g‖ + 1e-6)), as `torch.nn.utils.clip_grad_norm_` has it. On a CPU that sums a
    tensor's squares on one core and passes once more over all gradients. In fp32 the sums are made by rows
    here, which cores share, and the scaling is left to the fused step's own pass, which divides by
    `grad_scale`, as it does for torch's GradScaler.

    Args:
        network: with gradients.
        adam: its fused optimizer.
        max_norm: the norm at most.
    """
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    if any(g.device.type != "cpu" or g.dtype != torch.float32 for g in gradients):
        torch.nn.utils.clip_grad_norm_(network.parameters(), max_norm)
        return
    rows = [torch.linalg.vector_norm(g.flatten(1), dim=1) if g.ndim > 1 else g.flatten() for g in gradients]
    norm = torch.linalg.vector_norm(torch.cat(rows))
    adam.grad_scale = ((norm + 1e-6) / max_norm).clamp_(min=1.0)  # type: ignore[attr-defined]
