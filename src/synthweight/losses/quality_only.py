from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from .base import Scored, Strategy, bounded_exp


@dataclass
class QualityOnly(Strategy):
    """Without the diversity checker: `w = p̂'(y|x)`, fixed before training; 0 ≤ w ≤ 1.

    Kuo et al. 2025, the ablation "w/o diversity checker".

    Raises:
        MissingScores: the batch carries no `log_quality`.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"quality"})

    def weights(self, scored: Scored) -> Float[Tensor, " batch"]:
        return bounded_exp(scored.quality())
