"""Several networks of one architecture as one: every parameter with a leading axis, one pass for all of them.

A small encoder at batch 32 leaves a modern accelerator almost idle; several seeds of one configuration in one pass of batched
products do not.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .forward import Packed
from .layout import Group, Layout, softmax_in_fp32


class Stack(nn.Module):
    """S packed sequence classifiers; `of` builds it and gives the networks their parameters back.

    The gradient of a sum of S losses, the s-th of the s-th network's logits, is in slice s that of the s-th loss: no network
    knows of the others.
    """

    def __init__(self, networks: list[nn.Module]) -> None:
        super().__init__()
        parts = [dict(network.named_parameters()) for network in networks]
        self.names = list(parts[0])
        self.stacked = nn.ParameterList(nn.Parameter(torch.stack([p[name].detach() for p in parts])) for name in self.names)
        self.skeleton = [networks[0]]  # in a list: its own parameters are none of ours
        self.packed = Packed(networks[0], stacked=True)

    @classmethod
    @contextmanager
    def of(cls, networks: list[nn.Module]) -> "Iterator[Stack]":
        """Within it the networks' parameters are here; afterwards they have what was learned."""
        stack = cls(networks)
        (skeleton,) = stack.skeleton
        before = vars(skeleton).get("forward")
        skeleton.forward = stack.packed.logits
        try:
            yield stack
        finally:
            del skeleton.forward
            if before is not None:
                skeleton.forward = before
            with torch.no_grad():
                for s, network in enumerate(networks):
                    for p, learned in zip(network.parameters(), stack.stacked, strict=True):
                        p.copy_(learned[s])

    def state(self, s: int) -> dict[str, Tensor]:
        """The s-th network's state."""
        own = {name: p[s] for name, p in zip(self.names, self.stacked, strict=True)}
        return self.skeleton[0].state_dict() | own

    def forward(self, batches: list[dict[str, Tensor]]) -> list[Tensor]:
        """The logits of a batch for each network, each [texts, classes]; the batches may differ in texts and width."""
        self.skeleton[0].train(self.training)  # Lightning sets the flag of each module that it knows of, and not by train()
        shape = max(len(b["input_ids"]) for b in batches), max(b["input_ids"].shape[1] for b in batches)
        laid = [self.laid(batch, shape) for batch in batches]
        most = max(len(one["places"]) for one in laid)
        fields = {key: torch.stack([filled(one[key], most) if key in PER_TOKEN else one[key] for one in laid]) for key in laid[0]}
        device = self.stacked[0].device
        fields = {key: values.to(device, non_blocking=True) for key, values in fields.items()}
        width = fields["mask"].shape[-1]
        wide = softmax_in_fp32(width, device)

        def logits(params: tuple[Tensor, ...], of: dict[str, Tensor]) -> Any:
            group = Group(of["tokens"], of["mask"], of["first"], (shape[0], width), wide)
            layout = Layout(of["places"], of["slots"], of["positions"], [group], None)
            given = dict(zip(self.names, params, strict=True))
            return functional_call(self.skeleton[0], given, (of["ids"], of.get("types"), layout))

        found = torch.vmap(logits, randomness="different")(tuple(self.stacked), fields)
        return [found[s, : len(batch["input_ids"])] for s, batch in enumerate(batches)]

    def laid(self, batch: dict[str, Tensor], shape: tuple[int, int]) -> dict[str, Tensor]:
        """A batch's tokens and layout, in the shape that all batches share; texts that it lacks have one token each."""
        mask = padded(batch["attention_mask"], shape)
        mask[len(batch["input_ids"]) :, 0] = 1
        layout = Layout.of(mask, self.packed.policy)
        (group,) = layout.groups
        out = {"ids": padded(batch["input_ids"], shape).flatten()[layout.places], "places": layout.places}
        if "token_type_ids" in batch:
            out["types"] = padded(batch["token_type_ids"], shape).flatten()[layout.places]
        out |= {"slots": layout.slots, "positions": layout.positions}
        return out | {"tokens": group.tokens, "mask": group.mask, "first": group.first}


PER_TOKEN = ("ids", "types", "places", "slots", "positions")


def padded(values: Tensor, shape: tuple[int, int]) -> Tensor:
    """[texts, width] with zeros below and behind."""
    out = values.new_zeros(shape)
    out[: values.shape[0], : values.shape[1]] = values
    return out


def filled(values: Tensor, count: int) -> Tensor:
    """[tokens] with the first one's value behind, to so many: a token that nothing reads."""
    return torch.cat([values, values[:1].expand(count - len(values))])


def clip(stack: Stack, most: float) -> None:
    """Each network's gradient scaled down to the norm `most`, as `torch.nn.utils.clip_grad_norm_` does it for one."""
    gradients = [p.grad for p in stack.parameters() if p.grad is not None]
    norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)
    scale = (most / (norms + 1e-6)).clamp(max=1.0)
    for g in gradients:
        g.mul_(scale.view(-1, *[1] * (g.ndim - 1)))
