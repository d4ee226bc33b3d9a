"""The mathematics of the losses as pure functions on tensors, for any training loop.

Weights are for the mean over the batch. `n` is the number of examples. Nothing here holds state.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

# |log w| in nats: e^±60 and their sums over a batch are finite in fp32, and far from any real weight
BOUND = 60.0


def at_least_fp32(logits: Tensor) -> Tensor:
    """Logits narrower than fp32 as fp32; fp64 stays fp64."""
    return logits if logits.dtype == torch.float64 else logits.float()


def nll(logits: Float[Tensor, "n classes"], labels: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Negative log-likelihood of the given labels: `−log softmax(logits_i)[y_i]`.

    Args:
        logits: of the model; narrower than fp32 they are cast to fp32 first.
        labels: class indices.

    Returns:
        One value an example, in nats, with gradient.
    """
    return torch.nn.functional.cross_entropy(at_least_fp32(logits), labels, reduction="none")


def bounded_exp(log_weight: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """`exp(log w)` with |log w| ≤ BOUND, a numerical guard.

    It is no clip of the method; `guard_hits` counts where it acts.
    """
    return log_weight.clamp(-BOUND, BOUND).exp()


def guard_hits(weights: Float[Tensor, " n"]) -> Int[Tensor, ""]:
    """How many weights lie at the guard's edge. A weight of exactly zero is a choice, not a hit."""
    # a number: a tensor made here would be copied to a GPU, and waited for, at every step
    edge = math.exp(BOUND - 1e-3)
    return ((weights > 0) & ((weights >= edge) | (weights <= 1 / edge))).sum()


def imp_weights(log_quality: Float[Tensor, " n"], log_diversity: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """IMP: `w = p̂'(y|x) / q̂(y|x)`, fixed before training. Kuo et al. 2025.

    Args:
        log_quality: log p̂'(y_i|x_i), of a model trained on real data.
        log_diversity: log q̂(y_i|x_i), of a model trained on the data that is weighted.
    """
    return bounded_exp(log_quality - log_diversity)


def dimp_weights(log_quality: Float[Tensor, " n"], nll: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """DIMP: `w = p̂'(y|x) / p̂(y|x; θ)`, new at every step, the model's own share held constant.

    Kuo et al. 2025.

    Args:
        log_quality: log p̂'(y_i|x_i), of a model trained on real data.
        nll: −log p̂(y_i|x_i; θ) of the forward pass that the loss is made from.
    """
    return bounded_exp(log_quality + nll.detach())


def quality_weights(log_quality: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Without the diversity checker: `w = p̂'(y|x)`. Kuo et al. 2025, the ablation."""
    return bounded_exp(log_quality)


def focal_weights(nll: Float[Tensor, " n"], gamma: float, detach: bool = True) -> Float[Tensor, " n"]:
    """Focal: `w = (1 − p̂(y|x; θ))^γ`. Lin et al. 2017.

    Args:
        nll: −log p̂(y_i|x_i; θ).
        gamma: γ ≥ 0; 0 is cross-entropy.
        detach: hold w constant; False differentiates through it, as Lin et al. do.
    """
    nll = nll.detach() if detach else nll
    # 1 − p = −expm1(log p): no cancellation near p = 1; the floor keeps the logarithm's gradient finite at p
    # = 1
    rest = nll.neg().expm1().neg().clamp_min(torch.finfo(nll.dtype).tiny)
    return bounded_exp(gamma * rest.log())


def filter_weights(
    log_quality: Float[Tensor, " n"], threshold: float, renormalise: bool = True
) -> Float[Tensor, " n"]:
    """Filtering: `w = 1` where `p̂'(y|x) > threshold`, else 0.

    Args:
        log_quality: log p̂'(y_i|x_i), of a model trained on real data.
        threshold: a probability; 0 keeps everything.
        renormalise: multiply by n / kept, so that the loss is the mean over what is kept.
    """
    bar = math.log(threshold) if threshold > 0 else -math.inf
    kept = (log_quality > bar).to(log_quality.dtype)
    return kept * len(kept) / kept.sum().clamp_min(1) if renormalise else kept


def clip_weights(weights: Float[Tensor, " n"], largest: float) -> Float[Tensor, " n"]:
    """Truncation: `w ← min(w, largest)`. Ionides 2008, "Truncated Importance Sampling"."""
    return weights.clamp_max(largest)


def self_normalise(weights: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Mean weight 1: `w ← n·w / Σ_j w_j`, the sum held constant.

    A batch whose weights are all 0 keeps them. Owen 2013.
    """
    return len(weights) * weights / weights.detach().sum().clamp_min(torch.finfo(weights.dtype).tiny)


def weighted_nll(weights: Float[Tensor, " n"], nll: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """`L = (1/n) Σ_i w_i · nll_i`, the only reduction in the project."""
    return (weights * nll).mean()
