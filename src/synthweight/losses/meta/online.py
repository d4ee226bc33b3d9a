"""Weights learned beside the training: what Hu et al. and Ren et al. share."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...errors import first_line, memory_full
from ..base import Task
from . import ghost, gradients
from .functional_model import INPUTS, DevSet, Network
from .gradients import Frozen, Lookahead, Params
from .settings import Meta

SMALLEST = 1e-12  # of a batch's weight: an example's ghost product is divided by its share
Aligned = Callable[[Params], Tensor]  # ⟨v, ∇ℓ_i(θ)⟩ of a batch by v, [n]


class Online:
    """Asks, before each step, how a step on each example would move the loss on D_P'.

    r_i = ∂L_dev(θ + Σ_j w_j δ_j)/∂w_i = ⟨∇L_dev(θ'), δ_i⟩ with δ_i the optimizer's step on example i alone.
    """

    def __init__(self, settings: Meta, task: Task) -> None:
        assert task.dev is not None
        self.settings, self.task = settings, task
        self.network = Network(task)
        s = settings
        self.dev = DevSet(task.dev, task.labels, s.dev_per_class, s.dev_draw, s.dev_batch, task.seed)
        self.targets = torch.from_numpy(task.train.targets).to(task.device)
        dtype = next(task.network.parameters()).dtype
        self.raw = torch.ones(len(task.train.targets), dtype=dtype, device=task.device)
        self.step = torch.zeros((), dtype=torch.int64)
        self.floored = 0
        self.told: set[str] = set()
        self.ghost = settings.alignment == "ghost"
        self.aligned = self.difference if settings.alignment == "difference" else self.forward

    def before_training(self) -> None:
        """Nothing: the weights are learned on the way."""

    def weights(self, batch: dict[str, Tensor]) -> Tensor:
        """n·w_i/Σw of a batch, its raw weights renewed first."""
        index = batch["index"]
        with self.network.quiet(), self.network.narrowed(batch, self.dev.words(int(self.step))) as rows:
            adam = self.settings.lookahead == "adam"
            lookahead = Lookahead.of(self.task.optimizer(), self.network.named, adam, rows)
            if lookahead is not None:  # until Adam has a state every weight is one
                response = self.response(lookahead, batch)
                self.raw[index] = self.renew(self.raw[index], response.to(self.raw.dtype))
        self.step += 1
        shares, floored = self.normalise(self.raw[index])
        self.floored += floored
        return shares

    def renew(self, old: Tensor, response: Tensor) -> Tensor:
        """The raw weights after a look-ahead."""
        raise NotImplementedError

    def normalise(self, raw: Tensor) -> tuple[Tensor, bool]:
        """Weights for the mean (their sum is n), and whether nothing told them apart from the floor."""
        raise NotImplementedError

    def start(self, old: Tensor) -> Tensor:
        """The raw weights that the look-ahead steps with."""
        return old

    # the responses --------------------------------------------------------------------------------------------------

    def response(self, lookahead: Lookahead, batch: dict[str, Tensor]) -> Tensor:
        """r_i of a batch, [n]."""
        if self.settings.exact:
            n = len(batch["index"])
            cuts = range(0, n, self.settings.sub_batch)
            return torch.cat([self.exact(lookahead, batch, list(range(i, min(i + self.settings.sub_batch, n)))) for i in cuts])
        return self.cheap(lookahead, batch)

    def exact(self, lookahead: Lookahead, batch: dict[str, Tensor], rows: list[int]) -> Tensor:
        """As the official code: each δ_i by a backward pass of its own, one look-ahead for these rows."""
        params, index = self.network.now(), batch["index"]
        old = self.start(self.raw[index[rows]])
        deltas, leaves = [], gradients.leaf(params)
        for row in rows:
            alone = self.row(batch, row)
            value = self.network.losses(leaves, alone, self.targets[index[row : row + 1]]).sum()
            deltas.append(lookahead.delta(gradients.gradient(value, leaves)))
        step = {name: sum(w * d[name] for w, d in zip(old, deltas, strict=True)) for name in params}
        d = self.dev.gradient(self.network, lookahead.ahead(params, step), int(self.step))
        return torch.stack([gradients.dot(d, delta) for delta in deltas])

    @staticmethod
    def row(batch: dict[str, Tensor], row: int) -> dict[str, Tensor]:
        """One text of a batch without its padding."""
        width = int(batch["attention_mask"][row].sum())
        return {key: batch[key][row : row + 1, :width] for key in INPUTS if key in batch}

    def cheap(self, lookahead: Lookahead, batch: dict[str, Tensor]) -> Tensor:
        """One look-ahead for the batch, Σw scaled to that of a sub-batch; δ_i's denominator held, so that it is affine."""
        frozen, aligned = self.one_step(lookahead, batch)
        d = self.dev.gradient(self.network, frozen.ahead, int(self.step))
        u, offset = frozen.pull(d)
        found = aligned(u)
        return found + offset.to(found.dtype)

    def one_step(self, lookahead: Lookahead, batch: dict[str, Tensor]) -> tuple[Frozen, Aligned]:
        """The held denominators and θ' of a batch, and its alignments with a direction that comes of them.

        No pass where nothing is read from it: the look-ahead steps with weights of zero, and the alignments do not need it.
        """
        params, index = self.network.now(), batch["index"]
        old = self.start(self.raw[index])
        n = len(index)
        scaled = old * min(self.settings.sub_batch / n, 1.0)
        total = float(scaled.sum())
        aligned = partial(self.aligned, batch)
        if total == 0 and self.settings.lookahead == "sgd" and not self.ghost:
            zero = {name: torch.zeros_like(p) for name, p in params.items()}
            return lookahead.frozen(params, zero, 0.0), aligned
        leaves = gradients.leaf(params)
        share = scaled / total if total else torch.full_like(scaled, 1 / n)

        def weighted() -> Tensor:
            values = self.network.losses(leaves, batch, self.targets[index])
            return (share.to(values.dtype) * values).sum()

        if self.ghost:
            try:
                share = share.clamp_min(SMALLEST)
                with ghost.Trace(leaves, self.network.texts(batch)) as trace:
                    value = weighted()
                return lookahead.frozen(params, trace.gradient(value), total), lambda u: trace.alignment(u, n) / share
            except NotImplementedError as error:
                self.ghost = False
                self.tell(f"loss.alignment=ghost: {error}; forward mode is taken instead")
        return lookahead.frozen(params, gradients.gradient(weighted(), leaves), total), aligned

    def difference(self, batch: dict[str, Tensor], direction: Params) -> Tensor:
        """Central difference, in fp32 whatever the training's precision: narrower sums would drown it."""
        device = self.task.device.type
        if torch.is_autocast_enabled(device):
            self.tell("precision: the alignments by central difference are computed in fp32")
        with torch.autocast(device, enabled=False):
            return gradients.alignment_difference(self.at(batch), self.network.now(), direction)

    def forward(self, batch: dict[str, Tensor], direction: Params) -> Tensor:
        """Forward mode; where the network has none, the central difference from then on."""
        try:
            return gradients.alignment_forward(self.at(batch), self.network.now(), direction)
        except (NotImplementedError, RuntimeError) as error:
            if memory_full(error):
                raise
            self.tell(f"loss.alignment=jvp: no forward mode here ({first_line(error)}); central differences are taken instead")
            self.aligned = self.difference
            return self.difference(batch, direction)

    def at(self, batch: dict[str, Tensor]) -> gradients.Losses:
        targets = self.targets[batch["index"]]
        return lambda params: self.network.losses(params, batch, targets)

    # what is said and kept ------------------------------------------------------------------------------------------

    def tell(self, message: str) -> None:
        if message not in self.told:
            self.told.add(message)
            warnings.warn(message, stacklevel=2)

    def notes(self) -> list[str]:
        floored, self.floored = self.floored, 0
        if not floored:
            return []
        return [f"all weights fell to the floor in {floored} batches: those were trained with uniform weights"]

    def taken(self) -> dict[str, Any]:
        taken = "ghost" if self.ghost else "difference" if self.aligned == self.difference else "jvp"
        return {} if taken == self.settings.alignment else {"alignment": taken}

    def state_dict(self) -> dict[str, Tensor]:
        return {"raw": self.raw.cpu(), "step": self.step}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.raw = state["raw"].to(self.task.device)
        self.step = state["step"].clone()
