"""What this machine has, and in what numbers it computes."""

import logging
import platform
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..errors import UserError

if TYPE_CHECKING:
    from ..config.schema import Trainer

logger = logging.getLogger(__name__)


def require_device(accelerator: str, devices: int = 1) -> None:
    """Raises UserError where the machine lacks what is asked for.

    Args:
        accelerator: `trainer.accelerator`.
        devices: `trainer.devices`.
    """
    cuda = torch.cuda.is_available()
    available = {"gpu": cuda, "cuda": cuda, "mps": torch.backends.mps.is_available()}
    if not available.get(accelerator, True):
        raise UserError(f"trainer.accelerator={accelerator}: this machine has none; use auto or cpu")
    if device(accelerator).type == "cuda" and devices > torch.cuda.device_count():
        raise UserError(f"trainer.devices={devices}: this machine has {torch.cuda.device_count()} GPUs")


def device(accelerator: str) -> torch.device:
    """The device that a setting means.

    Apple's, which lacks fp64 and was never tried, is taken where it is asked for by name.
    """
    if accelerator == "mps":
        return torch.device("mps")
    return torch.device(
        "cuda" if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available() else "cpu"
    )


def precision(trainer: "Trainer") -> str:
    """The precision of this machine's products, as Lightning names it.

    fp32 where bf16 is requested and the device has no units for it, which is logged once.
    """
    if trainer.precision != "bf16-mixed":
        return trainer.precision
    kind = device(trainer.accelerator).type
    has = {"cuda": lambda: torch.cuda.is_bf16_supported(False), "cpu": bf16_products}.get(kind, lambda: False)
    if has():
        return "bf16-mixed"
    log_fallback(kind)
    return "32"


@cache
def log_fallback(kind: str) -> None:
    logger.info("trainer.precision=bf16-mixed: this %s has no bf16 units; computing in fp32", kind)


def bf16_products() -> bool:
    """Whether this CPU has units of its own for bf16 products; by AVX-512 they are slower than fp32's."""
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@cache
def cpu_name() -> str:
    """The CPU's model and its units for bf16 products, which decide the digits of a run; `cpu` where unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor() or "cpu"
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = (facts.get("flags") or facts.get("Features", "")).split()  # of x86, of ARM
    units = [flag for flag in ("amx_bf16", "avx512_bf16", "bf16") if flag in flags]
    return facts.get("model name", "cpu") + (f" with {units[0]}" if units else "")


def machine(trainer: "Trainer", fallbacks: dict[str, Any], stacked: Sequence[int] = ()) -> dict[str, Any]:
    """What a row records of the machine.

    Args:
        trainer: the settings requested.
        fallbacks: what the training used instead of a setting, by the setting's name.
        stacked: the seeds that were trained at once.
    """
    kind = device(trainer.accelerator).type
    names: dict[str, Callable[[], str]] = {"cuda": torch.cuda.get_device_name, "cpu": cpu_name}
    name = names[kind]() if kind in names else kind
    used = precision(trainer)
    return {
        "device": {"kind": kind, "name": name},
        "threads": torch.get_num_threads(),
        "fallbacks": ({} if used == trainer.precision else {"precision": used}) | fallbacks,
        "stacked": list(stacked),
    }
