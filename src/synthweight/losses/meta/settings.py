"""The settings that learned weights share. Nothing here computes."""

from dataclasses import dataclass

from ...errors import UserError, require
from ..base import Learned


@dataclass
class Meta(Learned):
    """The settings that Hu et al. and Ren et al. share."""

    lookahead: str  # adam | sgd
    exact: bool
    sub_batch: int
    alignment: str  # difference | jvp | ghost
    dev_per_class: int | None
    dev_draw: str  # fixed | step
    dev_batch: int | None

    def __post_init__(self) -> None:
        require(self.lookahead in ("adam", "sgd"), "loss.lookahead", "adam or sgd", self.lookahead)
        require(self.sub_batch >= 1, "loss.sub_batch", "at least 1", self.sub_batch)
        known = ("difference", "jvp", "ghost")
        require(self.alignment in known, "loss.alignment", "difference, jvp or ghost", self.alignment)
        require(self.dev_draw in ("fixed", "step"), "loss.dev_draw", "fixed or step", self.dev_draw)
        for key in ("dev_per_class", "dev_batch"):
            value = getattr(self, key)
            require(value is None or value >= 1, f"loss.{key}", "at least 1, or null for all", value)
        if self.dev_per_class is not None and self.dev_batch is not None:
            raise UserError("loss.dev_per_class and loss.dev_batch are both set: the first draws by class, set one to null")

    @property
    def dev(self) -> bool:
        return True
