"""Alignments out of the backward pass of the look-ahead, against forward mode and one backward pass for each example."""

import pytest
import torch
from torch.func import functional_call
from torch.nn import functional as F

from synthweight import bilevel, packing
from synthweight.ghost import Trace
from synthweight.packing import Packed
from test_packing import batch, classifier

KNOWN = [family for family in packing.FAMILIES if family != "mpnet"]  # whose bias by distance all texts share


def losses_of(network, inputs, targets):
    return lambda params: F.cross_entropy(functional_call(network, params, (), inputs).logits, targets, reduction="none")


def traced(network, losses, weights):
    leaves = bilevel.leaf({name: p.detach() for name, p in network.named_parameters()})
    trace = Trace(leaves)
    with trace:
        value = (weights * losses(leaves)).sum()
    return trace, trace.gradient(value), leaves


@pytest.mark.parametrize("lengths", [(7, 1, 12, 3), (7, 6, 7, 7, 7), (4,)], ids=["two groups", "one group", "one text"])
@pytest.mark.parametrize("types", [True, False], ids=["segments", "no segments"])
@pytest.mark.parametrize("family", KNOWN)
def test_a_third_way_to_the_alignment(family, types, lengths):
    """Weighted too: each example's share is its weight's multiple, and the gradient of the sum is autograd's own."""
    network, inputs = classifier(family).eval(), batch(lengths, types)
    network.forward = Packed(network)
    rng = torch.Generator().manual_seed(4)
    n = len(lengths)
    losses = losses_of(network, inputs, torch.randint(3, (n,), generator=rng))
    weights = torch.rand(n, generator=rng, dtype=torch.float64) + 0.1
    trace, gradient, leaves = traced(network, losses, weights)
    v = {name: torch.randn(p.shape, generator=rng, dtype=p.dtype) for name, p in leaves.items()}
    got = trace.alignment(v, network.forward.texts(inputs["attention_mask"]), n)
    explicit = bilevel.alignment_explicit(losses, leaves, v)
    assert explicit.abs().min() > 1e-3
    torch.testing.assert_close(got, weights * explicit, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(got, weights * bilevel.alignment_forward(losses, leaves, v), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gradient, bilevel.gradient((weights * losses(leaves)).sum(), leaves), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("used", ["shared", "squared"])
def test_a_parameter_in_an_operator_not_known_is_refused(used):
    """MPNet's bias by distance belongs to no one text; a weight whose square is used is not linear."""
    if used == "shared":
        network, inputs = classifier("mpnet").eval(), batch(types=False)
        network.forward = Packed(network)
        with pytest.raises(NotImplementedError, match=r"embedding of a parameter, \[12, 12, 4\]"):
            traced(network, losses_of(network, inputs, torch.zeros(4, dtype=torch.long)), torch.ones(4))
    else:
        p = torch.ones(3, 3, requires_grad=True)
        with pytest.raises(NotImplementedError, match="square of a parameter"), Trace({"p": p}):
            F.linear(torch.ones(2, 3), p.square())
