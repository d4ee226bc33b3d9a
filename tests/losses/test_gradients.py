"""The alignment by central difference, the look-ahead against the optimizer itself, the hypergradient against
autograd.
"""

import pytest
import torch

from support.gradients import alignment_explicit, losses_of, named, per_example, random_direction
from support.toy import make_encoder
from synthweight.losses.meta import gradients as meta_gradients
from synthweight.losses.meta import sungen
from synthweight.losses.meta.gradients import Lookahead
from synthweight.models import classifier

LABELS = ("a", "b", "c")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return make_encoder(tmp_path_factory.mktemp("fp64"), dropout=0.0, seed=3)


@pytest.fixture
def network(encoder):
    torch.manual_seed(1)
    return classifier.build(encoder, LABELS).double().eval()


def batch(n=6, width=9, seed=0):
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 40, (n, width), generator=g)
    mask = (torch.arange(width) < torch.randint(3, width + 1, (n, 1), generator=g)).long()
    return {"input_ids": ids, "attention_mask": mask}, torch.randint(3, (n,), generator=g)


def test_the_central_difference_is_the_alignment(network):
    losses, params = losses_of(network, *batch()), named(network)
    v = random_direction(params)
    explicit = alignment_explicit(losses, params, v)
    assert explicit.abs().min() > 1e-3
    torch.testing.assert_close(
        meta_gradients.alignment_difference(losses, params, v), explicit, rtol=1e-5, atol=1e-5
    )
    scaled = {name: 1e6 * value for name, value in v.items()}  # ε comes from ‖v‖
    torch.testing.assert_close(
        meta_gradients.alignment_difference(losses, params, scaled), 1e6 * explicit, rtol=1e-5, atol=1e1
    )


def test_no_direction_no_alignment(network):
    losses, params = losses_of(network, *batch()), named(network)
    zero = {name: torch.zeros_like(p) for name, p in params.items()}
    assert (meta_gradients.alignment_difference(losses, params, zero) == 0).all()


def stepped(network, decay=0.01, lr=0.003):
    """An AdamW with a state, as the loop has it: decay on matrices alone."""
    groups = [
        {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=lr)
    for seed in range(3):
        optimizer.zero_grad()
        losses_of(network, *batch(seed=seed))(dict(network.named_parameters())).mean().backward()
        optimizer.step()
    return optimizer


def test_the_lookahead_is_the_optimizers_own_step(network):
    optimizer = stepped(network)
    look = Lookahead.from_optimizer(optimizer, dict(network.named_parameters()), adam=True)
    leaves = meta_gradients.detached_leaves(named(network))
    g = meta_gradients.gradient(losses_of(network, *batch(seed=9))(leaves)[2], leaves)
    ahead = look.ahead(named(network), look.delta(g))
    for name, p in network.named_parameters():
        p.grad = g[name].clone()
    optimizer.step()
    for name, p in network.named_parameters():
        torch.testing.assert_close(ahead[name].detach(), p.detach(), rtol=1e-10, atol=1e-12)


def test_without_a_state_adam_does_not_look_ahead(network):
    named_parameters = dict(network.named_parameters())
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    assert Lookahead.from_optimizer(optimizer, named_parameters, adam=True) is None
    look = Lookahead.from_optimizer(optimizer, named_parameters, adam=False)
    g = random_direction(named(network))
    for name, d in look.delta(g).items():
        torch.testing.assert_close(d, -0.1 * g[name])


@pytest.mark.parametrize("adam", [True, False])
def test_a_fixed_denominator_makes_the_step_affine(network, adam):
    """⟨d, δ(g)⟩ = offset + ⟨u, g⟩ for each example, and the step is Σ w_i δ(g_i)."""
    optimizer = stepped(network)
    look = Lookahead.from_optimizer(optimizer, dict(network.named_parameters()), adam=adam)
    params, w = named(network), torch.tensor([0.5, 1.0, 0.0, 2.0], dtype=torch.float64)
    gradients = list(per_example(losses_of(network, *batch(4, seed=7)), params))
    weighted = {name: sum(wi * g[name] for wi, g in zip(w, gradients, strict=True)) for name in params}
    mean = {name: value / w.sum() for name, value in weighted.items()}
    linear = look.linearize(params, mean, float(w.sum()))
    deltas = [
        {name: look.affine(name, g[name], linear.denominators[name]) for name in params} for g in gradients
    ]
    step = {name: sum(wi * d[name] for wi, d in zip(w, deltas, strict=True)) for name in params}
    torch.testing.assert_close(linear.ahead, look.ahead(params, step))
    d = random_direction(params)
    u, offset = linear.pullback(d)
    for g, delta in zip(gradients, deltas, strict=True):
        torch.testing.assert_close(
            meta_gradients.dot(u, g) + offset, meta_gradients.dot(d, delta), rtol=1e-9, atol=1e-9
        )


def test_sungens_rule_is_the_derivative_it_says(network):
    losses, params = losses_of(network, *batch(5, seed=4)), named(network)
    g, lr = random_direction(params), 0.01
    u = torch.randn(5, generator=torch.Generator().manual_seed(2), dtype=torch.float64).requires_grad_()
    gradients = list(per_example(losses, params))
    held = torch.sigmoid(u).sum().detach()
    inner = sum(
        (g[name] * (p - lr * sum(torch.sigmoid(u[j]) * gradients[j][name] for j in range(5)) / held)).sum()
        for name, p in params.items()
    )
    (want,) = torch.autograd.grad(inner, u)
    got = sungen.hypergradient(alignment_explicit(losses, params, g), u.detach(), lr)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


def test_reverse_cross_entropy_ignores_symmetric_noise():
    """Over all labels its sum is one constant, whatever is predicted: what makes it robust."""
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    over = sum(sungen.reverse_cross_entropy(logits, torch.full((4,), k), 10.0) for k in range(3))
    torch.testing.assert_close(over, over[0].expand(4))
    by_hand = -(logits.softmax(-1) @ torch.tensor([10.0, 0, 0], dtype=torch.float64).log_softmax(0))
    torch.testing.assert_close(
        sungen.reverse_cross_entropy(logits, torch.zeros(4, dtype=torch.long), 10.0), by_hand
    )
