"""The weights of SunGen: a truncated hypergradient through a proxy's training."""

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..base import LearnerContext
from ..functional import at_least_fp32, nll
from ..sungen import Sungen
from . import gradients, proxies
from .gradients import Params


def reverse_cross_entropy(
    logits: Float[Tensor, "n classes"], targets: Tensor, label_logit: float
) -> Float[Tensor, " n"]:
    """−Σ_k p_k log ỹ_k with ỹ = softmax(label_logit · onehot(y)), in nats.

    Wang et al. 2019; Gao et al. 2023.

    Args:
        logits: [n, classes].
        targets: label positions, [n].
        label_logit: of the label in ỹ.
    """
    onehot = torch.nn.functional.one_hot(targets, logits.shape[1]).to(logits.dtype)
    return -(logits.softmax(-1) * (label_logit * onehot).log_softmax(-1)).sum(-1)


def hypergradient(aligned: Tensor, u: Tensor, inner_lr: float) -> Tensor:
    """∂/∂u_i ⟨g, θ* − lr·Σ_j σ(u_j)∇ℓ_j(θ*)/S⟩ with g and S = Σσ(u) held: −(lr / S)·⟨g, ∇ℓ_i⟩·σ'(u_i), [n].

    Args:
        aligned: ⟨g, ∇ℓ_i(θ*)⟩, [n].
        u: [n].
        inner_lr: lr.
    """
    w = torch.sigmoid(u)
    return -(inner_lr / w.sum()) * aligned * w * (1 - w)


class SungenLearner:
    """Learns one weight σ(u_i) per synthetic example before the training.

    u, its Adam state and the number of outer steps are all that a checkpoint keeps.

    Args:
        settings: of the loss.
        context: the training.
    """

    def __init__(self, settings: Sungen, context: LearnerContext) -> None:
        self.settings, self.context = settings, context
        n = len(context.train.targets)
        self.targets = torch.from_numpy(context.train.targets).to(context.device)
        dtype = next(context.network.parameters()).dtype
        self.u = torch.zeros(n, dtype=dtype, device=context.device, requires_grad=True)
        self.adam = torch.optim.Adam([self.u], lr=settings.outer_lr, eps=settings.outer_eps)
        self.made = 0
        # of like length together: less padding
        self.order = np.argsort(-context.train.lengths, kind="stable")

    def before_training(self) -> None:
        if self.made >= self.settings.outer_steps:
            return
        self.proxy = proxies.build(self.settings.proxy, self.context, self.settings.hidden)
        every = max(1, self.settings.outer_steps // 10)
        while self.made < self.settings.outer_steps:
            self.outer_step()
            if self.made % every == 0 or self.made == self.settings.outer_steps:
                means = " ".join(f"{name} {value:.2f}" for name, value in self.class_means().items())
                self.context.log(
                    f"learning weights {self.made}/{self.settings.outer_steps} · mean weight {means}"
                )

    def outer_step(self) -> None:
        """Trains the proxy from its start, and moves u once."""
        rng = np.random.default_rng([self.context.seed, 7, self.made])
        trained = self.inner(rng)
        g = self.outer_gradient(trained, rng)
        self.u.grad = hypergradient(self.alignments(trained, g), self.u.detach(), self.settings.inner_lr)
        torch.nn.utils.clip_grad_norm_([self.u], self.settings.outer_clip)
        self.adam.step()
        self.made += 1

    def losses(self, params: Params, index: np.ndarray) -> Tensor:
        """ℓ_i of the proxy, [n], at least fp32."""
        return nll(self.proxy.logits(params, index), self.targets[torch.from_numpy(index)])

    def inner(self, rng: np.random.Generator) -> Params:
        """θ*: one epoch of mean(w_i ℓ_i) from the proxy's start."""
        params = {name: p.detach().clone().requires_grad_() for name, p in self.proxy.initial.items()}
        optimizer = torch.optim.Adam(params.values(), lr=self.settings.inner_lr)
        w = torch.sigmoid(self.u.detach())
        order, size = rng.permutation(len(w)), self.settings.inner_batch
        for start in range(0, len(order), size):
            index = order[start : start + size]
            # anew each step: autocast keeps narrow copies of what the optimizer changes
            with self.proxy.precision():
                value = (w[torch.from_numpy(index)] * self.losses(params, index)).mean()
            for p, g in zip(params.values(), gradients.gradient(value, params).values(), strict=True):
                p.grad = g
            optimizer.step()
        return {name: p.detach() for name, p in params.items()}

    def outer_gradient(self, params: Params, rng: np.random.Generator) -> Params:
        """g: the outer loss's gradient, a mean within each batch, summed over the batches."""
        leaves = gradients.detached_leaves(params)
        on_dev = self.settings.outer == "dev"
        if on_dev:
            assert self.context.dev is not None
            targets = torch.from_numpy(self.context.dev.targets).to(self.context.device)
            index = np.arange(len(targets))
        else:
            targets, index = self.targets, self.trusted(rng)
        total: Params = {}
        for start in range(0, len(index), self.settings.batch):
            part = index[start : start + self.settings.batch]
            with self.proxy.precision():
                logits = self.proxy.logits(leaves, part, dev=on_dev)
            of = targets[torch.from_numpy(part)]
            values = (
                nll(logits, of)
                if on_dev
                else reverse_cross_entropy(at_least_fp32(logits), of, self.settings.label_logit)
            )
            found = gradients.gradient(values.mean(), leaves)
            total = gradients.add(total, found)
        return total

    def trusted(self, rng: np.random.Generator) -> np.ndarray:
        """A random subset of the examples whose weight is among the highest `keep` of all, or of their class."""
        w = torch.sigmoid(self.u.detach()).cpu().numpy()
        targets = self.context.train.targets
        groups = (
            [targets == c for c in range(len(self.context.labels))]
            if self.settings.keep_per_class
            else [targets >= 0]
        )
        inside = np.zeros(len(w), dtype=bool)
        for group in groups:
            if group.any():
                at = np.sort(w[group])[::-1][math.ceil(self.settings.keep * group.sum()) - 1]
                inside |= group & (w >= at)
        chosen = rng.permutation(np.flatnonzero(inside))[: self.settings.subset]
        return chosen[np.argsort(-self.context.train.lengths[chosen], kind="stable")]

    def alignments(self, params: Params, g: Params) -> Tensor:
        """⟨g, ∇ℓ_i(θ*)⟩ of every example, [n], in at least fp32 by central difference."""
        out = torch.empty(len(self.order), dtype=self.u.dtype, device=self.context.device)
        device = self.context.device.type
        for start in range(0, len(self.order), self.settings.batch):
            index = self.order[start : start + self.settings.batch]
            with torch.autocast(device, enabled=False):
                found = gradients.alignment_difference(lambda p, i=index: self.losses(p, i), params, g)  # type: ignore[misc]
            out[torch.from_numpy(index)] = found.to(out.dtype)
        return out

    def class_means(self) -> dict[str, float]:
        """The mean weight of each class that has an example."""
        w, targets = torch.sigmoid(self.u.detach()).cpu().numpy(), self.context.train.targets
        return {
            name: float(w[targets == c].mean())
            for c, name in enumerate(self.context.labels)
            if (targets == c).any()
        }

    def weights(self, batch: dict[str, Tensor]) -> Tensor:
        """σ(u_i)."""
        return torch.sigmoid(self.u.detach())[batch["index"]]

    def epoch_warnings(self) -> list[str]:
        """Nothing: the weights do not change during the training."""
        return []

    def fallbacks(self) -> dict[str, Any]:
        """Nothing: every setting is used."""
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        state = self.adam.state.get(self.u, {})
        empty = torch.zeros_like(self.u)
        return {
            "u": self.u.detach().cpu(),
            "exp_avg": state.get("exp_avg", empty).cpu(),
            "exp_avg_sq": state.get("exp_avg_sq", empty).cpu(),
            "made": torch.tensor(self.made),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        device = self.context.device
        self.made = int(state["made"])
        with torch.no_grad():
            self.u.copy_(state["u"])
        if self.made:
            moments = {key: state[key].clone().to(device) for key in ("exp_avg", "exp_avg_sq")}
            self.adam.state[self.u] = {"step": torch.tensor(float(self.made)), **moments}
