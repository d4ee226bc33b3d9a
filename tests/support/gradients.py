"""A network's losses as a function of its parameters, and directions to move them in."""

from collections.abc import Iterable

import torch
from torch import Tensor

from synthweight.losses.meta.gradients import Losses, Params, detached_leaves, dot, gradient


def losses_of(network, inputs, targets):
    def losses(params):
        logits = torch.func.functional_call(network, params, (), inputs).logits
        return torch.nn.functional.cross_entropy(logits, targets, reduction="none")

    return losses


def named(network):
    return {name: p.detach() for name, p in network.named_parameters()}


def random_direction(params, seed=5):
    g = torch.Generator().manual_seed(seed)
    return {name: torch.randn(p.shape, generator=g, dtype=p.dtype) for name, p in params.items()}


def alignment_explicit(losses: Losses, params: Params, direction: Params) -> Tensor:
    """a_i by one backward pass for each example, [n]: the reference that the other ways are tested against."""
    return torch.stack([dot(direction, gradients) for gradients in per_example(losses, params)])


def per_example(losses: Losses, params: Params) -> Iterable[Params]:
    """∇ℓ_i(θ) for each i of one forward pass, one backward pass each."""
    leaves = detached_leaves(params)
    values = losses(leaves)
    for value in values:
        yield gradient(value, leaves, keep=True)
