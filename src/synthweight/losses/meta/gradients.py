"""The meta-gradient of Hu et al., Ren et al. and SunGen: how a step on one example moves another loss.

All three need the alignment a_i = ⟨v, ∇ℓ_i(θ)⟩ of every example's gradient with one direction v in parameter
space. It is the directional derivative of the vector (ℓ_1 … ℓ_n) along v, so it needs no loop over the
examples.

Parameters are dicts by name, as `torch.func.functional_call` takes them. A function of type `Losses` maps
them to [n] losses without dropout, or with the same mask in every call.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Params = dict[str, Tensor]
Losses = Callable[[Params], Tensor]


def alignment_difference(losses: Losses, params: Params, direction: Params) -> Tensor:
    """a_i = (ℓ_i(θ + εv) − ℓ_i(θ − εv)) / 2ε: two passes without gradients, with any network.

    ε = ∛η / ‖v‖ with η the machine epsilon of the parameters: error O(η^⅔) where the third derivative is of
    the order of the first. Meant for fp32 and fp64: rounding of narrower types exceeds the difference.

    Args:
        losses: ℓ of n examples at given parameters, in nats.
        params: θ.
        direction: v; where it is zero, so are the alignments.

    Returns:
        [n], in nats per unit of ‖v‖.
    """
    length = norm(direction)
    if length == 0 or not math.isfinite(length):
        with torch.no_grad():
            return torch.zeros_like(losses(params)) * length
    eta = torch.finfo(next(iter(params.values())).dtype).eps
    step = eta ** (1 / 3) / length
    with torch.no_grad():
        up, down = (losses(axpy(params, direction, sign * step)) for sign in (1, -1))
    return (up - down) / (2 * step)


def gradient(value: Tensor, leaves: Params, keep: bool = False) -> Params:
    """The gradient of a scalar in the leaves, zero for a leaf that it does not depend on.

    Args:
        value: the scalar.
        leaves: parameters that require gradients.
        keep: whether another backward pass follows.
    """
    found = torch.autograd.grad(value, list(leaves.values()), retain_graph=keep, allow_unused=True)
    return {
        name: torch.zeros_like(p) if g is None else g
        for (name, p), g in zip(leaves.items(), found, strict=True)
    }


def detached_leaves(params: Params) -> Params:
    """The same storage as new leaves; no gradient reaches the network's own parameters."""
    return {name: p.detach().requires_grad_() for name, p in params.items()}


def axpy(params: Params, direction: Params, step: float) -> Params:
    """θ + step·v.

    Args:
        params: θ.
        direction: v.
        step: the factor.
    """
    return {name: torch.add(p.detach(), direction[name], alpha=step) for name, p in params.items()}


def add(total: Params, more: Params) -> Params:
    """total + more, where an empty total is zero.

    Args:
        total: empty or of all parameters.
        more: of all parameters.
    """
    return {name: v + more[name] for name, v in total.items()} if total else more


def dot(one: Params, other: Params) -> Tensor:
    """⟨a, b⟩ over all parameters; the parameters' parts are added in fp64.

    Args:
        one: a.
        other: b.
    """
    parts = [torch.dot(one[name].flatten(), other[name].flatten()).double() for name in one]
    return torch.stack(parts).sum().to(next(iter(one.values())).dtype)


def norm(direction: Params) -> float:
    """‖v‖ over all parameters."""
    return float(torch.stack([v.detach().norm().double() for v in direction.values()]).norm())


@dataclass(frozen=True)
class ParamState:
    """An optimizer's settings and state for one parameter.

    Args:
        lr: learning rate of the next step.
        decay: decoupled weight decay.
        mean: Adam's first moment m; None under SGD.
        square: Adam's second moment v; None under SGD.
        betas: Adam's β₁ and β₂.
        eps: Adam's ε.
        step: the number t of the next step, from 1.
    """

    lr: float
    decay: float
    mean: Tensor | None
    square: Tensor | None
    betas: tuple[float, float]
    eps: float
    step: int


class Lookahead:
    """The step δ(g) that an optimizer would make from its current state if the gradient were g.

    AdamW: δ = −(lr / (1 − β₁ᵗ)) · (β₁m + (1 − β₁)g) / (√((β₂v + (1 − β₂)g²) / (1 − β₂ᵗ)) + ε), the step of
    `torch.optim.AdamW` without its decoupled decay, which no example causes. SGD: δ = −lr·g. Gradients are
    not clipped. Source: Hu et al. 2019, section 4 and their code; Ren et al. 2018 for SGD.

    Args:
        states: by parameter name.
    """

    def __init__(self, states: dict[str, ParamState]) -> None:
        self.states = states

    @classmethod
    def from_optimizer(
        cls,
        optimizer: torch.optim.Optimizer,
        named: Mapping[str, Tensor],
        adam: bool,
        rows: Mapping[str, Tensor] | None = None,
    ) -> "Lookahead | None":
        """The look-ahead from an optimizer's settings and state.

        Args:
            optimizer: the run's own.
            named: its parameters.
            adam: whether to step as Adam does, else as SGD.
            rows: the rows of a parameter that are computed with, for those of which not all are.

        Returns:
            None while Adam has no state yet.
        """
        names = {id(p): name for name, p in named.items()}
        owned = [
            (group, p, optimizer.state.get(p, {}))
            for group in optimizer.param_groups
            for p in group["params"]
        ]
        if adam and any("exp_avg" not in state for _, _, state in owned):
            return None
        # all in one transfer: a fused Adam counts on its device, and each transfer waits for it
        counts = torch.stack([state["step"] for _, _, state in owned]).tolist() if adam else [0] * len(owned)
        states: dict[str, ParamState] = {}
        for (group, p, state), count in zip(owned, counts, strict=True):
            mean: Tensor | None = state["exp_avg"] if adam else None
            square: Tensor | None = state["exp_avg_sq"] if adam else None
            betas, eps = group.get("betas", (0.0, 0.0)), group.get("eps", 0.0)
            name = names[id(p)]
            if mean is not None and square is not None and rows and name in rows:
                mean, square = mean[rows[name]], square[rows[name]]
            states[name] = ParamState(
                group["lr"], group["weight_decay"], mean, square, betas, eps, int(count) + 1
            )
        return cls(states)

    def delta(self, gradients: Params) -> Params:
        """δ(g) of one example's gradient."""
        return {name: self.affine(name, g, self.denominator(name, g)) for name, g in gradients.items()}

    def denominator(self, name: str, g: Tensor) -> Tensor | float:
        """√((β₂v + (1 − β₂)g²) / (1 − β₂ᵗ)) + ε; 1 under SGD."""
        s = self.states[name]
        if s.square is None:
            return 1.0
        beta, grown = s.betas[1], 1 - s.betas[1] ** s.step
        return (s.square * (beta / grown)).addcmul_(g, g, value=(1 - beta) / grown).sqrt_().add_(s.eps)

    def affine(self, name: str, g: Tensor, denominator: Tensor | float, share: float = 1.0) -> Tensor:
        """−rate·share·(β₁m + (1 − β₁)g) / denominator.

        With g = Σ w_i g_i / Σ w_i and share = Σ w_i it is Σ w_i δ_i.
        """
        s = self.states[name]
        if s.mean is None:
            return g * (-s.lr * share)
        beta, scale = s.betas[0], -self.rate(name) * share
        return torch.mul(g, (1 - beta) * scale).add_(s.mean, alpha=beta * scale).div_(denominator)

    def rate(self, name: str) -> float:
        """lr, bias-corrected under Adam."""
        s = self.states[name]
        return s.lr if s.mean is None else s.lr / (1 - s.betas[0] ** s.step)

    def ahead(self, params: Params, step: Params) -> Params:
        """θ' = (1 − lr·decay)·θ + step, as fresh leaves.

        Args:
            params: θ.
            step: Σ w_i δ_i.
        """
        return {name: self.ahead_of(name, p, step[name]) for name, p in params.items()}

    def ahead_of(self, name: str, p: Tensor, step: Tensor) -> Tensor:
        """The same for one parameter."""
        s = self.states[name]
        return torch.add(step, p.detach(), alpha=1 - s.lr * s.decay).requires_grad_()

    def linearize(self, params: Params, mean_gradient: Params, total: float) -> "LinearizedStep":
        """The step with its denominator fixed at the batch's mean gradient, so that δ(g) is affine in g.

        Where the denominator is ε alone (v and ḡ are zero), every g_i is zero too, as for a token that no
        text of the batch has: it is set to infinity, and no gradient moves anything there.

        Args:
            params: θ.
            mean_gradient: ḡ = Σ w_i g_i / Σ w_i.
            total: Σ w_i.
        """
        denominators: dict[str, Tensor | float] = {}
        ahead: Params = {}
        for name, g in mean_gradient.items():  # one parameter at a time: it stays in the processor's cache
            fixed = self.denominator(name, g)
            if isinstance(fixed, Tensor):
                fixed.masked_fill_(fixed <= self.states[name].eps, math.inf)
            denominators[name] = fixed
            ahead[name] = self.ahead_of(name, params[name], self.affine(name, g, fixed, total))
        return LinearizedStep(self, denominators, ahead)


@dataclass(frozen=True)
class LinearizedStep:
    """A look-ahead with fixed denominators: ⟨d, δ(g)⟩ = offset + ⟨u, g⟩.

    Args:
        lookahead: what was linearized.
        denominators: by parameter name.
        ahead: θ' after the step Σ_i w_i δ(g_i).
    """

    lookahead: Lookahead
    denominators: "dict[str, Tensor | float]"
    ahead: Params

    def pullback(self, d: Params) -> tuple[Params, Tensor]:
        """(u, offset) for a gradient d.

        u = −rate·(1 − β₁)·d / denominator, offset = −rate·β₁·⟨m, d / denominator⟩.
        """
        u: Params = {}
        offset = torch.zeros((), dtype=torch.float64, device=next(iter(d.values())).device)
        for name, value in d.items():
            s, rate = self.lookahead.states[name], self.lookahead.rate(name)
            if s.mean is None:
                u[name] = value * -rate
                continue
            denominator = self.denominators[name]
            assert isinstance(denominator, Tensor)
            scaled = value / denominator
            beta = s.betas[0]
            offset -= rate * beta * torch.dot(s.mean.flatten(), scaled.flatten()).double()
            u[name] = scaled.mul_(-rate * (1 - beta))
        return u, offset
