"""Data weighting for text classifiers trained on LLM-written data: losses, checkers, sweeps, tables.

`import synthweight` imports nothing heavy: what is offered here is imported from its module when it is first
used.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_MODULES = {  # what is offered → the module that holds it
    "clip_weights": "losses.functional",
    "dimp_weights": "losses.functional",
    "fit": "workbench.api",
    "focal_weights": "losses.functional",
    "imp_weights": "losses.functional",
    "load": "workbench.api",
    "nll": "losses.functional",
    "quality_weights": "losses.functional",
    "self_normalise": "losses.functional",
    "weighted_nll": "losses.functional",
}

__all__ = ["__version__", *_MODULES]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
