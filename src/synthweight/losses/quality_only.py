from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .base import Scored, Strategy

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass
class QualityOnly(Strategy):
    """Without the diversity checker: `w = p̂'(y|x)`, fixed before training; 0 ≤ w ≤ 1.

    Kuo et al. 2025, the ablation "w/o diversity checker".

    Raises:
        MissingScores: the batch carries no `log_quality`.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"quality"})

    def weights(self, scored: Scored) -> Float[Tensor, " batch"]:
        from . import functional

        return functional.quality_weights(scored.quality())
