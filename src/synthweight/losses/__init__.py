"""A loss is a weight for each example. In: the scores of a batch; out: weights for its mean.

`functional` has the mathematics as functions on tensors. A loss is one file with its settings, `LOSSES` lists
them all, and `meta` learns weights. Importing this package does not import torch.
"""

from .base import BatchScores, LabelledTexts, LearnerContext, WeightedLoss, WeightLearner
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

LOSSES: dict[str, type[WeightedLoss]] = {
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
    "LOSSES", "PLAIN", "BatchScores", "LabelledTexts", "LearnerContext", "WeightLearner", "WeightedLoss", "Weighting",
]  # fmt: skip
