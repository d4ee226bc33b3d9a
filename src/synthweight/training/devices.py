"""What this machine has, and in what numbers it computes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from ..errors import UserError

if TYPE_CHECKING:
    from ..config.schema import Trainer


def require_device(accelerator: str, devices: int = 1) -> None:
    """Raises UserError where the machine lacks what is asked for."""
    cuda = torch.cuda.is_available()
    there = {"gpu": cuda, "cuda": cuda, "mps": torch.backends.mps.is_available()}
    if not there.get(accelerator, True):
        raise UserError(f"trainer.accelerator={accelerator}: this machine has none; use auto or cpu")
    if device(accelerator).type == "cuda" and devices > torch.cuda.device_count():
        raise UserError(f"trainer.devices={devices}: this machine has {torch.cuda.device_count()} GPUs")


def device(accelerator: str) -> torch.device:
    """The device that a setting means. Apple's, which lacks fp64 and was never tried, is taken where it is asked for by name."""
    if accelerator == "mps":
        return torch.device("mps")
    return torch.device("cuda" if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available() else "cpu")


def precision(trainer: "Trainer", scoring: bool = False) -> str:
    """What this machine trains or scores in: fp32 where bf16 is asked for and the device has no products of it."""
    asked = trainer.score_precision if scoring else trainer.precision
    if asked != "bf16-mixed":
        return asked
    kind = device(trainer.accelerator).type
    has = {"cuda": lambda: torch.cuda.is_bf16_supported(False), "cpu": bf16_products}.get(kind, lambda: False)
    return asked if has() else "32"


def bf16_products() -> bool:
    """Whether this CPU's library (oneDNN) multiplies bf16 itself; without its own units, by AVX-512, it is slower than fp32."""
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def machine(trainer: "Trainer", stacked: Sequence[int] = (), instead: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a row says of the machine: device and threads; what was taken where a setting could not be; the stack's seeds.

    instead: what the training itself found.
    """
    kind = device(trainer.accelerator).type
    name = torch.cuda.get_device_name() if kind == "cuda" else kind
    taken = precision(trainer)
    other: dict[str, Any] = {} if taken == trainer.precision else {"precision": taken}
    scored = precision(trainer, scoring=True)
    other |= {} if scored == trainer.score_precision else {"score_precision": scored}
    other |= instead or {}
    other |= {"stacked": list(stacked)} if stacked else {}
    return {"device": {"kind": kind, "name": name} | other, "threads": torch.get_num_threads()}
