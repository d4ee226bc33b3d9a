"""Alignments out of a backward pass that was made anyway: ghost dot products.

A linear layer's gradient for one example is Σ_t δ_t x_tᵀ over its tokens, δ the gradient in what the layer gave. So
⟨U, ∇ℓ_i⟩ = Σ_t ⟨δ_t, U x_t⟩: what the layer would have given with U for its weights, times δ. Every operator that is
linear in its parameters (LayerNorm, embeddings) has the same form, and a network's alignment is the sum over them: a third
of a forward pass in products, where forward mode takes a whole one and more.

Source: Goodfellow 2015, "Efficient Per-Example Gradient Computations", for norms; Wang et al. 2025, "Data Shapley in One
Training Run", for products with a direction.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .bilevel import Params

LINEAR = (F.linear, F.layer_norm, F.embedding)  # linear in their parameters; rows in, rows out


class Trace(TorchFunctionMode):
    """Within it a forward pass leaves here each operator that has parameters, with what went in and came out.

    For networks whose rows, [rows, size], each belong to one example: those without padding, of `packing`.
    """

    def __init__(self, leaves: Params) -> None:
        """leaves: the parameters that the pass is made at, as fresh leaves."""
        super().__init__()
        self.leaves = leaves
        self.names = {id(p): name for name, p in leaves.items()}
        self.joined: dict[int, tuple[Tensor, list[str]]] = {}  # several weights in one; the tensor too, or its id is free
        self.calls: list[tuple[Callable[..., Tensor], tuple[Any, ...], dict[str, Any]]] = []
        self.outputs: list[Tensor] = []
        self.deltas: tuple[Tensor | None, ...] = ()

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        """Raises NotImplementedError where a parameter goes into anything else."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        given = [*args, *kwargs.values()]
        if func is torch.cat and all(id(part) in self.names for part in args[0]):
            self.joined[id(out)] = out, [self.names[id(part)] for part in args[0]]
        elif any(self.ours(value) for value in given) and isinstance(out, Tensor) and out.requires_grad:
            if func not in LINEAR or out.ndim != 2:
                raise NotImplementedError(f"{getattr(func, '__name__', func)} of a parameter, {list(out.shape)}")
            self.calls.append((func, args, kwargs))
            self.outputs.append(out)
        return out

    def ours(self, value: Any) -> bool:
        return id(value) in self.names or id(value) in self.joined

    def gradient(self, value: Tensor) -> Params:
        """∇ of a scalar in the leaves, zero where it does not depend on one; keeps what `alignment` needs."""
        named = list(self.leaves.items())
        found = torch.autograd.grad(value, [*self.leaves.values(), *self.outputs], allow_unused=True)
        self.deltas = found[len(named) :]
        return {name: torch.zeros_like(p) if g is None else g for (name, p), g in zip(named, found, strict=False)}

    def alignment(self, direction: Params, rows: Mapping[int, Tensor], n: int) -> Tensor:
        """⟨v, ∇(value of example i)⟩ of the scalar that `gradient` was asked for, a sum over examples, [n].

        rows: the example of each row, [rows], by how many rows there are.
        """
        dtype = next(iter(direction.values())).dtype
        total = torch.zeros(n, dtype=dtype, device=next(iter(direction.values())).device)
        with torch.no_grad():
            for (func, args, kwargs), delta in zip(self.calls, self.deltas, strict=True):
                if delta is None:
                    continue
                named = {key: self.along(value, direction) for key, value in kwargs.items()}
                moved = func(*(self.along(value, direction) for value in args), **named)
                total.index_add_(0, rows[len(delta)], (moved.to(dtype) * delta).sum(1))
        return total

    def along(self, value: Any, direction: Params) -> Any:
        """The direction in a parameter's place; anything else as it is."""
        if id(value) in self.names:
            return direction[self.names[id(value)]]
        if id(value) in self.joined:
            return torch.cat([direction[name] for name in self.joined[id(value)][1]])
        return value
