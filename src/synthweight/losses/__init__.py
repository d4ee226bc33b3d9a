"""A loss is a weight: one strategy a file, a registry, and the only reduction of the project."""

from .base import BOUND, Scored, Strategy, bounded_exp, guard_hits, loss, reduce, score
from .ce import Ce
from .dimp import Dimp
from .focal import Focal
from .imp import Imp
from .quality_only import QualityOnly

LOSSES: dict[str, type[Strategy]] = {
    "ce": Ce,
    "focal": Focal,
    "imp": Imp,
    "dimp": Dimp,
    "quality_only": QualityOnly,
}

__all__ = ["BOUND", "LOSSES", "Scored", "Strategy", "bounded_exp", "guard_hits", "loss", "reduce", "score"]
