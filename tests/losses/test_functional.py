"""Identities of the mathematics: what must be true of the weights and of the loss, whatever the numbers are."""

import math
import subprocess
import sys

import pytest
import torch
from torch.nn.functional import cross_entropy

from synthweight.losses import functional


def logits_and_labels(n=12, classes=3, seed=0):
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, classes, generator=rng, dtype=torch.float64).requires_grad_()
    return logits, torch.randint(classes, (n,), generator=rng)


def log_probabilities(n=12, seed=1):
    return -3 * torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_nll_is_minus_the_log_probability_whatever_is_added_to_all_logits():
    logits, labels = logits_and_labels()
    nll = functional.nll(logits, labels)
    torch.testing.assert_close(nll, -logits.log_softmax(-1)[torch.arange(12), labels])
    torch.testing.assert_close(functional.nll(logits + 7.0, labels), nll)
    assert nll.mean().item() == pytest.approx(cross_entropy(logits, labels).item())


@pytest.mark.parametrize(
    ("given", "computed"), [("float64", "float64"), ("float32", "float32"), ("bfloat16", "float32")]
)
def test_nll_is_computed_in_fp32_at_least(given, computed):
    logits, labels = logits_and_labels()
    assert functional.nll(logits.to(getattr(torch, given)), labels).dtype == getattr(torch, computed)


def test_imp_is_the_ratio_of_probabilities_and_one_where_the_checkers_agree():
    quality, diversity = log_probabilities(seed=1), log_probabilities(seed=2)
    torch.testing.assert_close(functional.imp_weights(quality, diversity), quality.exp() / diversity.exp())
    assert torch.equal(functional.imp_weights(quality, quality), torch.ones(12, dtype=torch.float64))


def test_imp_under_q_is_the_cross_entropy_under_p():
    """The paper's theorem with exact conditionals, by enumeration: E_Q[w · nll] = E_P[nll] where Q(x) = P(x)."""
    rng = torch.Generator().manual_seed(1)
    p, q, model = (torch.randn(4, 3, generator=rng, dtype=torch.float64).log_softmax(-1) for _ in range(3))
    under_p = -(p.exp() * model).sum(-1).mean()
    under_q = torch.zeros((), dtype=torch.float64)
    for y in range(3):
        nll = functional.nll(model, torch.full((4,), y))
        under_q += functional.weighted_nll(q[:, y].exp() * functional.imp_weights(p[:, y], q[:, y]), nll)
    assert under_q.item() == pytest.approx(under_p.item(), rel=1e-12)


def test_dimp_times_the_models_probability_is_the_checkers():
    logits, labels = logits_and_labels()
    quality, nll = log_probabilities(), functional.nll(logits, labels)
    weights = functional.dimp_weights(quality, nll)
    assert not weights.requires_grad  # the model's own share is held constant
    torch.testing.assert_close(weights * nll.detach().neg().exp(), quality.exp())
    torch.testing.assert_close(
        functional.dimp_weights(-nll.detach(), nll), torch.ones(12, dtype=torch.float64)
    )


def test_dimp_is_imp_with_the_model_in_place_of_the_diversity_checker():
    logits, labels = logits_and_labels()
    quality, nll = log_probabilities(), functional.nll(logits, labels).detach()
    torch.testing.assert_close(functional.dimp_weights(quality, nll), functional.imp_weights(quality, -nll))


def test_dimp_is_at_least_the_quality_weighted_loss():
    for seed in range(20):
        nll = functional.nll(*logits_and_labels(seed=seed))
        quality = log_probabilities(seed=seed)
        dimp, plain = functional.dimp_weights(quality, nll), functional.quality_weights(quality)
        assert functional.weighted_nll(dimp, nll) >= functional.weighted_nll(plain, nll)


def test_quality_weights_are_imp_with_a_diversity_checker_that_is_always_sure():
    quality = log_probabilities()
    torch.testing.assert_close(functional.quality_weights(quality), quality.exp())
    torch.testing.assert_close(
        functional.quality_weights(quality), functional.imp_weights(quality, torch.zeros_like(quality))
    )


@pytest.mark.parametrize("detach", [True, False])
def test_focal_is_its_formula_and_one_at_gamma_zero(detach):
    nll = functional.nll(*logits_and_labels())
    rest = 1 - nll.neg().exp()
    torch.testing.assert_close(functional.focal_weights(nll, 2.5, detach), rest**2.5)
    assert torch.equal(functional.focal_weights(nll, 0.0, detach), torch.ones(12, dtype=torch.float64))


def test_focal_is_differentiated_through_only_where_asked():
    logits, labels = logits_and_labels()
    nll = functional.nll(logits, labels)
    assert not functional.focal_weights(nll, 1.0).requires_grad
    loss = functional.weighted_nll(functional.focal_weights(nll, 1.0, detach=False), nll)
    (got,) = torch.autograd.grad(loss, logits)
    share = logits.softmax(-1)[torch.arange(12), labels]
    (want,) = torch.autograd.grad(((1 - share) * -share.log()).mean(), logits)
    torch.testing.assert_close(got, want)


def test_focal_has_a_finite_gradient_where_the_model_is_sure():
    logits = torch.tensor([[80.0, -80.0]], requires_grad=True)
    nll = functional.nll(logits, torch.tensor([0]))
    functional.weighted_nll(functional.focal_weights(nll, 0.5, detach=False), nll).backward()
    assert logits.grad.isfinite().all()


def test_clipping_bounds_the_large_weights_and_leaves_the_others():
    weights = torch.tensor([0.5, 1.0, 4.0, 9.0])
    assert functional.clip_weights(weights, 2.0).tolist() == [0.5, 1, 2, 2]
    assert torch.equal(functional.clip_weights(weights, 9.0), weights)


def test_self_normalised_weights_have_a_mean_of_one_whatever_their_scale():
    weights = log_probabilities().exp()
    normalised = functional.self_normalise(weights)
    assert normalised.mean().item() == pytest.approx(1)
    torch.testing.assert_close(functional.self_normalise(1e-9 * weights), normalised)
    torch.testing.assert_close(functional.self_normalise(normalised), normalised)
    torch.testing.assert_close(normalised / normalised[0], weights / weights[0])
    assert torch.equal(functional.self_normalise(torch.zeros(3)), torch.zeros(3))
    smallest = functional.bounded_exp(torch.full((4,), -500.0))
    torch.testing.assert_close(functional.self_normalise(smallest), torch.ones(4))


def test_the_sum_of_weights_is_held_constant():
    """A weight that is differentiated through gets no gradient from its normalisation."""
    logits, labels = logits_and_labels()
    nll = functional.nll(logits, labels)
    weights = functional.focal_weights(nll, 1.0, detach=False)
    normalised = functional.weighted_nll(functional.self_normalise(weights), nll)
    (got,) = torch.autograd.grad(normalised, logits, retain_graph=True)
    (want,) = torch.autograd.grad(functional.weighted_nll(weights, nll), logits)
    torch.testing.assert_close(got, want / weights.detach().mean())


def test_self_normalisation_removes_the_scale_of_a_checker():
    nll = functional.nll(*logits_and_labels()).detach()
    quality, diversity = log_probabilities(seed=1), log_probabilities(seed=2)
    values = [
        functional.weighted_nll(
            functional.self_normalise(functional.imp_weights(quality + shift, diversity)), nll
        )
        for shift in (0.0, -3.0)
    ]
    torch.testing.assert_close(*values)


def test_weighted_nll_is_a_mean_linear_in_the_weights():
    logits, labels = logits_and_labels()
    nll, one, other = (
        functional.nll(logits, labels),
        log_probabilities(seed=1).exp(),
        log_probabilities(seed=2).exp(),
    )
    assert functional.weighted_nll(torch.ones_like(nll), nll).item() == pytest.approx(
        cross_entropy(logits, labels).item()
    )
    both = functional.weighted_nll(2 * one + other, nll)
    torch.testing.assert_close(
        both, 2 * functional.weighted_nll(one, nll) + functional.weighted_nll(other, nll)
    )


def test_the_guard_bounds_and_is_counted():
    weights = functional.bounded_exp(torch.tensor([-500.0, -1.0, 0.0, 3.0, 500.0]))
    torch.testing.assert_close(weights[1:4].log(), torch.tensor([-1.0, 0.0, 3.0]))
    assert weights[-1].item() == pytest.approx(math.exp(functional.BOUND), rel=1e-5)
    assert functional.guard_hits(weights) == 2
    assert functional.guard_hits(torch.tensor([0.0, 1.0])) == 0  # a weight of zero is a choice


def test_the_functions_need_neither_configuration_nor_encoders():
    code = """
import sys
from synthweight.losses import functional
heavy = {"hydra", "omegaconf", "transformers", "pytorch_lightning", "pyarrow"} & set(sys.modules)
sys.exit(", ".join(heavy) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
