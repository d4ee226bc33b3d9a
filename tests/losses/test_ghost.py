"""Alignments from the backward pass of the look-ahead, against one backward pass for each example."""

import operator

import pytest
import torch
from torch.nn import functional as F

from support.gradients import alignment_explicit, losses_of, named, random_direction
from support.networks import batch, classifier
from synthweight.losses.meta import gradients
from synthweight.losses.meta.ghost import Trace
from synthweight.models.packed import forward
from synthweight.models.packed.forward import PackedForward

KNOWN = [family for family in forward.FAMILIES if family != "mpnet"]  # whose bias by distance all texts share


def traced(network, inputs, losses, weights):
    leaves = gradients.detached_leaves(named(network))
    with Trace(leaves, network.forward.text_index(inputs["attention_mask"])) as trace:
        value = (weights * losses(leaves)).sum()
    return trace, trace.gradient(value), leaves


@pytest.mark.parametrize(
    "lengths", [(7, 1, 12, 3), (7, 6, 7, 7, 7), (4,)], ids=["two groups", "one group", "one text"]
)
@pytest.mark.parametrize("types", [True, False], ids=["segments", "no segments"])
@pytest.mark.parametrize("family", KNOWN)
def test_ghost_products_are_the_alignments(family, types, lengths):
    """Weighted too: each example's share is its weight's multiple, and the gradient of the sum is autograd's
    own.
    """
    network, inputs = classifier(family).eval(), batch(lengths, types)
    network.forward = PackedForward(network)
    rng = torch.Generator().manual_seed(4)
    n = len(lengths)
    losses = losses_of(network, inputs, torch.randint(3, (n,), generator=rng))
    weights = torch.rand(n, generator=rng, dtype=torch.float64) + 0.1
    trace, gradient, leaves = traced(network, inputs, losses, weights)
    v = random_direction(leaves)
    got = trace.alignment(v, n)
    explicit = alignment_explicit(losses, leaves, v)
    assert explicit.abs().min() > 1e-3
    torch.testing.assert_close(got, weights * explicit, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        gradient, gradients.gradient((weights * losses(leaves)).sum(), leaves), rtol=1e-9, atol=1e-9
    )


def test_mpnet_has_a_bias_by_distance_that_belongs_to_no_one_text():
    network, inputs = classifier("mpnet").eval(), batch(types=False)
    network.forward = PackedForward(network)
    with pytest.raises(NotImplementedError, match="embedding of a parameter"):
        traced(network, inputs, losses_of(network, inputs, torch.zeros(4, dtype=torch.long)), torch.ones(4))


X = torch.ones(4, 3, dtype=torch.float64)
REFUSED = {
    "squared": lambda p, q: F.linear(X, p.square()),
    "a part of it": lambda p, q: F.linear(X, p.chunk(3)[0]),
    "stacked": lambda p, q: torch.stack([p, q]).sum(),
    "beside an input": lambda p, q: torch.cat([X, p]),
    "side by side": lambda p, q: torch.cat([p, q], 1),
    "in a list": lambda p, q: torch.einsum("ij,kj->ik", [X, p]),
    "as an input": lambda p, q: F.linear(p, q),
    "changed in place": lambda p, q: F.linear(X, p).mul_(2),
    "changed in place by an operator": lambda p, q: operator.imul(F.linear(X, p), 2),
    "shared by all rows": lambda p, q: F.embedding(torch.tensor([0, 1]), p),
    "added whole": lambda p, q: X[:3] + p,
}


@pytest.mark.parametrize("use", REFUSED)
def test_a_parameter_used_in_ways_not_known_is_refused(use):
    """Rather than left out of the products in silence."""
    leaves = {name: torch.ones(3, 3, dtype=torch.float64, requires_grad=True) for name in "pq"}
    with pytest.raises(NotImplementedError), Trace(leaves, {4: torch.arange(4), 3: torch.arange(3)}):
        REFUSED[use](leaves["p"], leaves["q"])
