"""A loss is a weight: one strategy a file, a registry, and the only reduction of the project."""

from .base import BOUND, Scored, Strategy, bounded_exp, guard_hits, loss, reduce, score
from .ce import Ce
from .dimp import Dimp
from .filter import Filter
from .focal import Focal
from .imp import Imp
from .quality_only import QualityOnly
from .rho import Rho
from .weighting import PLAIN, Weighting

LOSSES: dict[str, type[Strategy]] = {
    "ce": Ce,
    "focal": Focal,
    "imp": Imp,
    "dimp": Dimp,
    "quality_only": QualityOnly,
    "filter": Filter,
    "rho": Rho,
}

__all__ = [
    "BOUND", "LOSSES", "PLAIN", "Scored", "Strategy", "Weighting", "bounded_exp", "guard_hits", "loss", "reduce", "score",
]  # fmt: skip
