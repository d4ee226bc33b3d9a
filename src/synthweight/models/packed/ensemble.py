"""Several networks of one architecture as one: every parameter with a leading axis, one pass for all of them.

A small encoder at batch 32 leaves a modern accelerator almost idle; several seeds of one configuration in one
pass of batched products do not.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .forward import PackedForward
from .layout import Group, Layout, softmax_in_fp32

PER_TOKEN = ("ids", "types", "token_index", "slot_index", "positions")


class StackedNetworks(nn.Module):
    """S packed sequence classifiers.

    The gradient of a sum of S losses, the s-th of the s-th network's logits, is in slice s that of the s-th
    loss: no network knows of the others.

    Args:
        networks: of one architecture; `stacked` gives them back what was learned.
    """

    def __init__(self, networks: list[nn.Module]) -> None:
        super().__init__()
        parts = [dict(network.named_parameters()) for network in networks]
        self.names = list(parts[0])
        self.stacked = nn.ParameterList(
            nn.Parameter(torch.stack([p[name].detach() for p in parts])) for name in self.names
        )
        self.skeleton = [networks[0]]  # in a list: its own parameters are not among these
        self.packed = PackedForward(networks[0], stacked=True)

    def state(self, s: int) -> dict[str, Tensor]:
        """The s-th network's state."""
        own = {name: p[s] for name, p in zip(self.names, self.stacked, strict=True)}
        return self.skeleton[0].state_dict() | own

    def forward(self, batches: list[dict[str, Tensor]]) -> list[Tensor]:
        """The logits of one batch per network, each [texts, classes].

        The batches may differ in texts and width.
        """
        # Lightning sets the flag of each module that it knows of, and not by train()
        self.skeleton[0].train(self.training)
        shape = max(len(b["input_ids"]) for b in batches), max(b["input_ids"].shape[1] for b in batches)
        laid_out = [self._lay_out(batch, shape) for batch in batches]
        most = max(len(fields["token_index"]) for fields in laid_out)
        device = self.stacked[0].device
        fields = {}
        for key in laid_out[0]:
            values = [_extended(one[key], most) if key in PER_TOKEN else one[key] for one in laid_out]
            fields[key] = torch.stack(values).to(device, non_blocking=True)
        width = fields["mask"].shape[-1]
        fp32_softmax = softmax_in_fp32(width, device)

        def logits(params: tuple[Tensor, ...], batch: dict[str, Tensor]) -> Any:
            group = Group(
                batch["slot_tokens"], batch["mask"], batch["cls_index"], (shape[0], width), fp32_softmax
            )
            layout = Layout(batch["token_index"], batch["slot_index"], batch["positions"], [group], None)
            named = dict(zip(self.names, params, strict=True))
            return functional_call(self.skeleton[0], named, (batch["ids"], batch.get("types"), layout))

        out = torch.vmap(logits, randomness="different")(tuple(self.stacked), fields)
        return [out[s, : len(batch["input_ids"])] for s, batch in enumerate(batches)]

    def _lay_out(self, batch: dict[str, Tensor], shape: tuple[int, int]) -> dict[str, Tensor]:
        """A batch's tokens and layout, in the shape of all batches; added texts have one token each."""
        mask = _padded(batch["attention_mask"], shape)
        mask[len(batch["input_ids"]) :, 0] = 1
        layout = Layout.from_mask(mask, self.packed.policy)
        (group,) = layout.groups
        fields = {"ids": _padded(batch["input_ids"], shape).flatten()[layout.token_index]}
        if "token_type_ids" in batch:
            fields["types"] = _padded(batch["token_type_ids"], shape).flatten()[layout.token_index]
        return fields | {
            "token_index": layout.token_index,
            "slot_index": layout.slot_index,
            "positions": layout.positions,
            "slot_tokens": group.token_index,
            "mask": group.mask,
            "cls_index": group.cls_index,
        }


@contextmanager
def stacked(networks: list[nn.Module]) -> Iterator[StackedNetworks]:
    """Within it the networks' parameters are stacked; afterwards they have what was learned."""
    stack = StackedNetworks(networks)
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


def clip_each(stack: StackedNetworks, max_norm: float) -> None:
    """Clips the norm of each network's gradient, as `torch.nn.utils.clip_grad_norm_` does for one.

    Args:
        stack: with gradients.
        max_norm: the norm at most.
    """
    gradients = [p.grad for p in stack.parameters() if p.grad is not None]
    norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)
    scale = (max_norm / (norms + 1e-6)).clamp(max=1.0)
    for g in gradients:
        g.mul_(scale.view(-1, *[1] * (g.ndim - 1)))


def _padded(values: Tensor, shape: tuple[int, int]) -> Tensor:
    """[texts, width] with zeros below and behind."""
    out = values.new_zeros(shape)
    out[: values.shape[0], : values.shape[1]] = values
    return out


def _extended(values: Tensor, count: int) -> Tensor:
    """[tokens] with copies of the first value behind, up to this many: tokens that nothing reads."""
    return torch.cat([values, values[:1].expand(count - len(values))])
