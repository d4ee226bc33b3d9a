"""A network's losses as a function of its parameters, and directions to move them in."""

import torch


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
