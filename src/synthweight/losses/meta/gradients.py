"""The meta-gradient that Hu et al., Ren et al. and SunGen share: how a step on one example moves another loss.

All three ask for the alignment a_i = ⟨v, ∇ℓ_i(θ)⟩ of every example's gradient with one direction v in parameter space.
It is the directional derivative of the vector (ℓ_1 … ℓ_n) along v, so it needs no loop over the examples.

Parameters are dicts by name, as `torch.func.functional_call` takes them. `losses` maps parameters to [n] losses; whoever
gives it sees to it that dropout is off, or its mask the same in every call.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

Params = dict[str, Tensor]
Losses = Callable[[Params], Tensor]


def alignment_forward(losses: Losses, params: Params, direction: Params) -> Tensor:
    """a_i = ⟨v, ∇ℓ_i(θ)⟩ by forward-mode differentiation: exact, one pass, [n].

    Fused attention has no forward mode: the math kernel is chosen for it. In nats per unit of ‖v‖.

    Raises:
        NotImplementedError: an operator of the network has no forward mode.
    """
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        return jvp(losses, (params,), (direction,))[1]


def alignment_difference(losses: Losses, params: Params, direction: Params) -> Tensor:
    """a_i = (ℓ_i(θ + εv) − ℓ_i(θ − εv)) / 2ε, [n]: two passes without gradients, with any network.

    ε = ∛η / ‖v‖ with η the machine epsilon of the parameters: error O(η^⅔) where the third derivative is of the order of
    the first. Meant for fp32 and fp64; narrower arithmetic inside `losses` drowns the difference. Zero where v is.
    """
    length = norm(direction)
    if length == 0 or not math.isfinite(length):
        with torch.no_grad():
            return torch.zeros_like(losses(params)) * length
    eta = torch.finfo(next(iter(params.values())).dtype).eps
    step = eta ** (1 / 3) / length
    with torch.no_grad():
        up, down = (losses(moved(params, direction, sign * step)) for sign in (1, -1))
    return (up - down) / (2 * step)


def alignment_explicit(losses: Losses, params: Params, direction: Params) -> Tensor:
    """a_i by one backward pass for each example, [n]: what the two others are tested against."""
    return torch.stack([dot(direction, gradients) for gradients in per_example(losses, params)])


def per_example(losses: Losses, params: Params) -> Iterable[Params]:
    """∇ℓ_i(θ) for each i of one forward pass, one backward pass each."""
    leaves = leaf(params)
    values = losses(leaves)
    for value in values:
        yield gradient(value, leaves, keep=True)


def gradient(value: Tensor, leaves: Params, keep: bool = False) -> Params:
    """∇ of a scalar in the leaves, zero where it does not depend on one."""
    found = torch.autograd.grad(value, list(leaves.values()), retain_graph=keep, allow_unused=True)
    return {name: torch.zeros_like(p) if g is None else g for (name, p), g in zip(leaves.items(), found, strict=True)}


def leaf(params: Params) -> Params:
    """The same storage as fresh leaves: no gradient reaches the network's own parameters."""
    return {name: p.detach().requires_grad_() for name, p in params.items()}


def moved(params: Params, direction: Params, step: float) -> Params:
    """θ + step·v."""
    return {name: torch.add(p.detach(), direction[name], alpha=step) for name, p in params.items()}


def added(total: Params, more: Params) -> Params:
    """total + more, where an empty total is zero."""
    return {name: v + more[name] for name, v in total.items()} if total else more


def dot(one: Params, other: Params) -> Tensor:
    """⟨a, b⟩ over all parameters; the parameters' parts are added in fp64."""
    parts = [torch.dot(one[name].flatten(), other[name].flatten()).double() for name in one]
    return torch.stack(parts).sum().to(next(iter(one.values())).dtype)


def norm(direction: Params) -> float:
    """‖v‖ over all parameters."""
    return float(torch.stack([v.detach().norm().double() for v in direction.values()]).norm())


@dataclass(frozen=True)
class Slot:
    """What an optimizer's next step does to one parameter. `mean` and `square` are None under SGD."""

    lr: float
    decay: float
    mean: Tensor | None
    square: Tensor | None
    betas: tuple[float, float]
    eps: float
    step: int  # the number of the step that is looked ahead to, from 1


class Lookahead:
    """The step δ(g) that an optimizer would make from its current state if the gradient were g.

    AdamW: δ = −(lr / (1 − β₁ᵗ)) · (β₁m + (1 − β₁)g) / (√((β₂v + (1 − β₂)g²) / (1 − β₂ᵗ)) + ε): what `torch.optim.AdamW`
    does, its decoupled decay apart, which no example causes. SGD: δ = −lr·g. Clipping of gradients is left out.
    Source: Hu et al. 2019, section 4 and their code; Ren et al. 2018 for SGD.
    """

    def __init__(self, slots: dict[str, Slot]) -> None:
        self.slots = slots

    @classmethod
    def of(
        cls, optimizer: torch.optim.Optimizer, named: Mapping[str, Tensor], adam: bool, rows: Mapping[str, Tensor] | None = None
    ) -> "Lookahead | None":
        """From an optimizer's groups and state, of some parameters some rows alone; None while Adam has no state yet."""
        names = {id(p): name for name, p in named.items()}
        owned = [(group, p, optimizer.state.get(p, {})) for group in optimizer.param_groups for p in group["params"]]
        if adam and any("exp_avg" not in state for _, _, state in owned):
            return None
        # all in one reading: a fused Adam counts on its device, and each reading waits for that
        counts = torch.stack([state["step"] for _, _, state in owned]).tolist() if adam else [0] * len(owned)
        slots: dict[str, Slot] = {}
        for (group, p, state), count in zip(owned, counts, strict=True):
            mean: Tensor | None = state["exp_avg"] if adam else None
            square: Tensor | None = state["exp_avg_sq"] if adam else None
            betas, eps = group.get("betas", (0.0, 0.0)), group.get("eps", 0.0)
            name = names[id(p)]
            if mean is not None and square is not None and rows and name in rows:
                mean, square = mean[rows[name]], square[rows[name]]
            slots[name] = Slot(group["lr"], group["weight_decay"], mean, square, betas, eps, int(count) + 1)
        return cls(slots)

    def delta(self, gradients: Params) -> Params:
        """δ(g) of one example's gradient."""
        return {name: self.affine(name, g, self.denominator(name, g)) for name, g in gradients.items()}

    def denominator(self, name: str, g: Tensor) -> Tensor | float:
        """√((β₂v + (1 − β₂)g²) / (1 − β₂ᵗ)) + ε; 1 under SGD."""
        s = self.slots[name]
        if s.square is None:
            return 1.0
        beta, grown = s.betas[1], 1 - s.betas[1] ** s.step
        return (s.square * (beta / grown)).addcmul_(g, g, value=(1 - beta) / grown).sqrt_().add_(s.eps)

    def affine(self, name: str, g: Tensor, denominator: Tensor | float, share: float = 1.0) -> Tensor:
        """−rate·share·(β₁m + (1 − β₁)g) / denominator; with Σ w_i g_i / Σ w_i and share Σ w_i it is Σ w_i δ_i."""
        s = self.slots[name]
        if s.mean is None:
            return g * (-s.lr * share)
        beta, scale = s.betas[0], -self.rate(name) * share
        return torch.mul(g, (1 - beta) * scale).add_(s.mean, alpha=beta * scale).div_(denominator)

    def rate(self, name: str) -> float:
        """lr, bias-corrected under Adam."""
        s = self.slots[name]
        return s.lr if s.mean is None else s.lr / (1 - s.betas[0] ** s.step)

    def ahead(self, params: Params, step: Params) -> Params:
        """θ' = (1 − lr·decay)·θ + step, as fresh leaves."""
        return {name: self.ahead_of(name, p, step[name]) for name, p in params.items()}

    def ahead_of(self, name: str, p: Tensor, step: Tensor) -> Tensor:
        """The same for one parameter."""
        s = self.slots[name]
        return torch.add(step, p.detach(), alpha=1 - s.lr * s.decay).requires_grad_()

    def frozen(self, params: Params, mean_gradient: Params, total: float) -> "Frozen":
        """With the denominator held at ḡ = Σ w_i g_i / Σ w_i of a batch, so that δ(g) is affine in g; total is Σ w_i.

        Where it is ε alone, so that v and ḡ are zero, every g_i is zero too (an embedding that no text of the batch has):
        it is held at infinity, and no gradient moves anything there.
        """
        denominators: dict[str, Tensor | float] = {}
        ahead: Params = {}
        for name, g in mean_gradient.items():  # a parameter at a time: what one pass has read the next finds in the cache
            held = self.denominator(name, g)
            if isinstance(held, Tensor):
                held.masked_fill_(held <= self.slots[name].eps, math.inf)
            denominators[name] = held
            ahead[name] = self.ahead_of(name, params[name], self.affine(name, g, held, total))
        return Frozen(self, denominators, ahead)


@dataclass(frozen=True)
class Frozen:
    """A look-ahead with its denominator held: ⟨d, δ(g)⟩ = offset + ⟨u, g⟩. `ahead` is θ' after the step Σ_i w_i δ(g_i)."""

    of: Lookahead
    denominators: "dict[str, Tensor | float]"
    ahead: Params

    def pull(self, d: Params) -> tuple[Params, Tensor]:
        """(u, offset) for a gradient d: u = −rate·(1 − β₁)·d / denominator, offset = −rate·β₁·⟨m, d / denominator⟩."""
        u: Params = {}
        offset = torch.zeros((), dtype=torch.float64, device=next(iter(d.values())).device)
        for name, value in d.items():
            s, rate = self.of.slots[name], self.of.rate(name)
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
