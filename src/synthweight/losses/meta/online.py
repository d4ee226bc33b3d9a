"""Weights that are learned before every step of the training: what Hu et al. and Ren et al. share."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..base import LearnerContext
from . import ghost, gradients
from .functional_model import INPUTS, DevSet, FunctionalClassifier
from .gradients import LinearizedStep, Lookahead, Params
from .settings import MetaLearned

logger = logging.getLogger(__name__)

SMALLEST = 1e-12  # of a batch's total weight: an example's ghost product is divided by its share
Alignment = Callable[[Params], Tensor]  # ⟨v, ∇ℓ_i(θ)⟩ of a batch, [n], by v


class MetaLearner:
    """Learns weights from how a step on each example would change the loss on D_P'.

    The response of example i is r_i = ∂L_dev(θ + Σ_j w_j δ_j)/∂w_i = ⟨∇L_dev(θ'), δ_i⟩, with δ_i the
    optimizer's step on example i alone. Subclasses turn responses into weights.

    Args:
        settings: of the loss.
        context: of the training.
    """

    def __init__(self, settings: MetaLearned, context: LearnerContext) -> None:
        assert context.dev is not None
        self.settings, self.context = settings, context
        self.network = FunctionalClassifier(context)
        s = settings
        self.dev = DevSet(context.dev, context.labels, s.dev_per_class, s.dev_draw, s.dev_batch, context.seed)
        self.targets = torch.from_numpy(context.train.targets).to(context.device)
        dtype = next(context.network.parameters()).dtype
        self.raw = torch.ones(len(context.train.targets), dtype=dtype, device=context.device)
        self.step = torch.zeros((), dtype=torch.int64)
        self.floored = 0
        self.warned: set[str] = set()
        self.ghost = settings.alignment == "ghost"

    def before_training(self) -> None:
        """Does nothing: the weights are learned during the training."""

    def weights(self, batch: dict[str, Tensor]) -> Tensor:
        """n·w_i / Σw of a batch, [n], after an update of its raw weights."""
        index = batch["index"]
        with self.network.evaluation(), self.network.pruned(batch, self.dev.batch(int(self.step))) as rows:
            adam = self.settings.lookahead == "adam"
            lookahead = Lookahead.from_optimizer(self.context.optimizer(), self.network.named, adam, rows)
            if lookahead is not None:  # until Adam has a state every weight is one
                response = self.response(lookahead, batch)
                self.raw[index] = self.update(self.raw[index], response.to(self.raw.dtype))
        self.step += 1
        weights, floored = self.normalise(self.raw[index])
        self.floored += floored
        return weights

    def update(self, old: Tensor, response: Tensor) -> Tensor:
        """The raw weights after a look-ahead, [n], from those before it and the responses.

        Args:
            old: raw weights before it, [n].
            response: r_i, [n].
        """
        raise NotImplementedError

    def normalise(self, raw: Tensor) -> tuple[Tensor, bool]:
        """Weights for the mean, whose sum is n, and whether all raw weights are at their lower bound."""
        raise NotImplementedError

    def step_weights(self, old: Tensor) -> Tensor:
        """The weights w_j of the look-ahead's step, from the raw weights."""
        return old

    # responses

    def response(self, lookahead: Lookahead, batch: dict[str, Tensor]) -> Tensor:
        """r_i of a batch, [n].

        Args:
            lookahead: of the optimizer.
            batch: its inputs.
        """
        if not self.settings.exact:
            return self.approximate(lookahead, batch)
        n, size = len(batch["index"]), self.settings.sub_batch
        parts = [list(range(start, min(start + size, n))) for start in range(0, n, size)]
        return torch.cat([self.exact(lookahead, batch, rows) for rows in parts])

    def exact(self, lookahead: Lookahead, batch: dict[str, Tensor], rows: list[int]) -> Tensor:
        """r_i as the official code computes it: one backward pass per δ_i, one look-ahead for these rows.

        Args:
            lookahead: at the current state.
            batch: with padding.
            rows: the examples of the batch that are looked ahead with.
        """
        params, index = self.network.params(), batch["index"]
        old = self.step_weights(self.raw[index[rows]])
        deltas, leaves = [], gradients.detached_leaves(params)
        for row in rows:
            alone = self.single(batch, row)
            value = self.network.losses(leaves, alone, self.targets[index[row : row + 1]]).sum()
            deltas.append(lookahead.delta(gradients.gradient(value, leaves)))
        step = {name: sum(w * d[name] for w, d in zip(old, deltas, strict=True)) for name in params}
        d = self.dev.gradient(self.network, lookahead.ahead(params, step), int(self.step))
        return torch.stack([gradients.dot(d, delta) for delta in deltas])

    @staticmethod
    def single(batch: dict[str, Tensor], row: int) -> dict[str, Tensor]:
        """One example of a batch without its padding."""
        width = int(batch["attention_mask"][row].sum())
        return {key: batch[key][row : row + 1, :width] for key in INPUTS if key in batch}

    def approximate(self, lookahead: Lookahead, batch: dict[str, Tensor]) -> Tensor:
        """r_i with one look-ahead for the batch.

        Σw is scaled to that of a sub-batch, and δ_i's denominator is fixed.

        Args:
            lookahead: of the optimizer.
            batch: its inputs.
        """
        step, alignment = self.linearized(lookahead, batch)
        d = self.dev.gradient(self.network, step.ahead, int(self.step))
        u, offset = step.pullback(d)
        found = alignment(u)
        return found + offset.to(found.dtype)

    def linearized(self, lookahead: Lookahead, batch: dict[str, Tensor]) -> tuple[LinearizedStep, Alignment]:
        """The linearized step on a batch, and its alignments as a function of a direction.

        No pass is made where nothing is read from it: a look-ahead with weights of zero needs no gradient
        under SGD.
        """
        params, index = self.network.params(), batch["index"]
        old = self.step_weights(self.raw[index])
        n = len(index)
        scaled = old * min(self.settings.sub_batch / n, 1.0)
        total = float(scaled.sum())
        difference = partial(self.difference, batch)
        if total == 0 and self.settings.lookahead == "sgd" and not self.ghost:
            zero = {name: torch.zeros_like(p) for name, p in params.items()}
            return lookahead.linearize(params, zero, 0.0), difference
        leaves = gradients.detached_leaves(params)
        share = scaled / total if total else torch.full_like(scaled, 1 / n)

        def weighted() -> Tensor:
            values = self.network.losses(leaves, batch, self.targets[index])
            return (share.to(values.dtype) * values).sum()

        if self.ghost:
            try:
                share = share.clamp_min(SMALLEST)
                with ghost.Trace(leaves, self.network.text_of_rows(batch)) as trace:
                    value = weighted()
                step = lookahead.linearize(params, trace.gradient(value), total)
                return step, lambda u: trace.alignment(u, n) / share
            except NotImplementedError as error:
                self.ghost = False
                self.warn_once(f"loss.alignment=ghost: {error}; central differences are used instead")
        return lookahead.linearize(params, gradients.gradient(weighted(), leaves), total), difference

    def difference(self, batch: dict[str, Tensor], direction: Params) -> Tensor:
        """Alignments by central difference.

        In fp32 whatever the training's precision: errors of narrower sums would exceed the difference.

        Args:
            batch: its inputs.
            direction: v.
        """
        device = self.context.device.type
        if torch.is_autocast_enabled(device):
            self.warn_once("precision: the alignments by central difference are computed in fp32")
        with torch.autocast(device, enabled=False):
            return gradients.alignment_difference(self.losses_at(batch), self.network.params(), direction)

    def losses_at(self, batch: dict[str, Tensor]) -> gradients.Losses:
        """The losses of a batch as a function of the parameters."""
        targets = self.targets[batch["index"]]
        return lambda params: self.network.losses(params, batch, targets)

    # messages and state

    def warn_once(self, message: str) -> None:
        """Warns, the first time of each message."""
        if message not in self.warned:
            self.warned.add(message)
            logger.warning("%s", message)

    def epoch_warnings(self) -> list[str]:
        """A line where batches had uniform weights, because all raw weights were at their lower bound."""
        floored, self.floored = self.floored, 0
        if not floored:
            return []
        return [
            f"all weights fell to the floor in {floored} batches: those were trained with uniform weights"
        ]

    def fallbacks(self) -> dict[str, Any]:
        """What was used instead of a setting: `alignment`, where the network has no ghost products."""
        used = "ghost" if self.ghost else "difference"
        return {} if used == self.settings.alignment else {"alignment": used}

    def state_dict(self) -> dict[str, Tensor]:
        """Raw weights and the number of steps."""
        return {"raw": self.raw.cpu(), "step": self.step}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continues from a state."""
        self.raw = state["raw"].to(self.context.device)
        self.step = state["step"].clone()
