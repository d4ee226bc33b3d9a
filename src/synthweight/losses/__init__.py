"""A loss is a weight: one strategy a file, a registry, and the only reduction of the project."""

from .base import (
    Learner,
    Scored,
    Strategy,
    Task,
    Texts,
    loss,
    reduce,
    score,
)
from .ce import Ce
from .dimp import Dimp
from .filter import Filter
from .focal import Focal
from .hu import Hu
from .imp import Imp
from .quality_only import QualityOnly
from .ren import Ren
from .rho import Rho
from .sungen import Sungen
from .weighting import PLAIN, Weighting

LOSSES: dict[str, type[Strategy]] = {
    "ce": Ce,
    "focal": Focal,
    "imp": Imp,
    "dimp": Dimp,
    "quality_only": QualityOnly,
    "hu": Hu,
    "ren": Ren,
    "sungen": Sungen,
    "filter": Filter,
    "rho": Rho,
}

__all__ = [
    "LOSSES", "PLAIN", "Learner", "Scored", "Strategy", "Task", "Texts", "Weighting",     "loss", "reduce", "score",
]  # fmt: skip
