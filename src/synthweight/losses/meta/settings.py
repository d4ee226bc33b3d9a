"""The settings that learned weights share. Nothing here computes."""

from dataclasses import dataclass

from ...errors import UserError, require
from ..base import LearnedLoss


@dataclass
class MetaLearned(LearnedLoss):
    """The settings that Hu et al. and Ren et al. share.

    Args:
        lookahead: step ahead as "adam" or "sgd" does.
        exact: one backward pass an example and one look-ahead for `sub_batch` examples, else one look-ahead a
            batch.
        sub_batch: how many examples the look-ahead's step is made of.
        alignment: for `exact=false`: "ghost" (from the look-ahead's own backward pass, for packed networks)
            or "difference" (central difference, for any network).
        dev_per_class: examples of each class of D_P' that are drawn, or null.
        dev_draw: "step" draws anew at every step, "fixed" once.
        dev_batch: examples of D_P' that are drawn; null takes all.
    """

    lookahead: str
    exact: bool
    sub_batch: int
    alignment: str
    dev_per_class: int | None
    dev_draw: str
    dev_batch: int | None

    def __post_init__(self) -> None:
        require(self.lookahead in ("adam", "sgd"), "loss.lookahead", "adam or sgd", self.lookahead)
        require(self.sub_batch >= 1, "loss.sub_batch", "at least 1", self.sub_batch)
        require(
            self.alignment in ("ghost", "difference"), "loss.alignment", "ghost or difference", self.alignment
        )
        require(self.dev_draw in ("fixed", "step"), "loss.dev_draw", "fixed or step", self.dev_draw)
        for key in ("dev_per_class", "dev_batch"):
            value = getattr(self, key)
            require(value is None or value >= 1, f"loss.{key}", "at least 1, or null for all", value)
        if self.dev_per_class is not None and self.dev_batch is not None:
            raise UserError(
                "loss.dev_per_class and loss.dev_batch are both set: the first draws by class, set one to null"
            )

    @property
    def dev(self) -> bool:
        """It learns from D_P'."""
        return True
