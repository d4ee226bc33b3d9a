"""Alignments out of a backward pass that was made anyway: ghost dot products.

A linear layer's gradient for one example is Σ_t δ_t x_tᵀ over its tokens, δ the gradient in what the layer
gave. So ⟨U, ∇ℓ_i⟩ = Σ_t ⟨δ_t, U x_t⟩: what the layer would have given with U for its weights, times δ. Every
operator that is linear in its parameters (LayerNorm, embeddings) has the same form, and a network's alignment
is the sum over them: a third of a forward pass in products, where forward mode takes a whole one and more.

Source: Goodfellow 2015, "Efficient Per-Example Gradient Computations", for norms; Wang et al. 2025, "Data
Shapley in One Training Run", for products with a direction.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .gradients import Params

# besides those whose names end in one underscore
IN_PLACE = ("__iadd__", "__isub__", "__imul__", "__itruediv__")
LINEAR = (F.linear, F.layer_norm, F.embedding)  # linear in their parameters; rows in, rows out
# by a direction: what stands in a parameter's place, what an operator gives with it
Along = Callable[[Params], Tensor]


class Trace(TorchFunctionMode):
    """Records each operator with parameters, and its inputs, during a forward pass.

    For networks whose rows, [rows, size], each belong to one example: the packed ones. Inputs and output
    gradients are kept until the alignments are computed: more memory than a backward pass takes.

    Args:
        leaves: the parameters that the pass is made at, as fresh leaves.
        rows: the example of each row, [rows], by the number of rows.
    """

    def __init__(self, leaves: Params, rows: Mapping[int, Tensor]) -> None:
        super().__init__()
        self.leaves, self.rows = leaves, rows
        self.places: dict[int, Along] = {id(p): lambda v, name=name: v[name] for name, p in leaves.items()}  # type: ignore[misc]
        self.made: list[Tensor] = []  # of parameters alone; kept, or their ids would be free
        self.moves: list[Along] = []
        self.outputs: list[Tensor] = []
        self.deltas: tuple[Tensor | None, ...] = ()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Raises NotImplementedError where a parameter goes into anything else."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        given = list(tensors([*args, *kwargs.values()]))
        name = getattr(func, "__name__", str(func))
        in_place = name in IN_PLACE or (name.endswith("_") and not name.endswith("__"))
        if in_place and any(one is given[0] for one in self.outputs):
            raise NotImplementedError(f"{name} in place of a layer's output")
        of_parameters = any(map(self.ours, given)) and any(value.requires_grad for value in tensors([out]))
        if of_parameters and not self.keep(func, args, kwargs, out):
            raise NotImplementedError(f"{name} of a parameter")
        return out

    def ours(self, value: Any) -> bool:
        return id(value) in self.places

    def keep(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> bool:
        """Notes what an operator makes of parameters; whether it is one that is known here."""
        if func is torch.cat and len(args) == 1 and not kwargs and all(map(self.ours, args[0])):
            self.place(out, lambda v: torch.cat([self.along(part, v) for part in args[0]]))
        elif func is torch.Tensor.__getitem__ and isinstance(args[1], int):
            self.place(out, lambda v: self.along(args[0], v)[args[1]])
        elif self.ours(args[0]) or out.ndim != 2 or len(out) not in self.rows:
            return False
        elif func in LINEAR:
            named = kwargs.items()
            self.move(
                out,
                lambda v: func(
                    *(self.along(a, v) for a in args), **{key: self.along(a, v) for key, a in named}
                ),
            )
        elif func is torch.Tensor.add and not kwargs and args[1].ndim == 1:  # to all rows alike
            shape = out.shape
            self.move(out, lambda v: self.along(args[1], v).expand(shape))
        else:
            return False
        return True

    def place(self, out: Tensor, along: Along) -> None:
        self.made.append(out)
        self.places[id(out)] = along

    def move(self, out: Tensor, along: Along) -> None:
        self.outputs.append(out)
        self.moves.append(along)

    def along(self, value: Any, direction: Params) -> Any:
        """What stands in a parameter's place; anything else as it is."""
        return self.places[id(value)](direction) if self.ours(value) else value

    def gradient(self, value: Tensor) -> Params:
        """∇ of a scalar in the leaves, zero where it does not depend on one; keeps what `alignment` needs."""
        named = list(self.leaves.items())
        found = torch.autograd.grad(value, [*self.leaves.values(), *self.outputs], allow_unused=True)
        self.deltas = found[len(named) :]
        self.outputs.clear()
        return {
            name: torch.zeros_like(p) if g is None else g for (name, p), g in zip(named, found, strict=False)
        }

    def alignment(self, direction: Params, n: int) -> Tensor:
        """⟨v, ∇(value of example i)⟩ of the scalar that `gradient` was asked for, a sum over n examples, [n].

        Args:
            direction: v, of all parameters.
            n: how many examples.
        """
        like = next(iter(direction.values()))
        total = torch.zeros(n, dtype=like.dtype, device=like.device)
        with torch.no_grad():
            for move, delta in zip(self.moves, self.deltas, strict=True):
                if delta is not None:
                    total.index_add_(
                        0, self.rows[len(delta)], (move(direction).to(total.dtype) * delta).sum(1)
                    )
        return total


def tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Those among an operator's arguments or results, in lists and tuples too."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors(value)
