"""CUDA graphs of the passes of a training.

A step of a small encoder is some two thousand kernels, many of them shorter than their launch.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call
from torch.optim.adamw import adamw

from ...errors import first_line, memory_full
from .layout import Sequences, SequenceShape

if TYPE_CHECKING:
    from .forward import Packed

T = TypeVar("T")
MOST = 64  # graphs; a batch of one more shape is computed kernel by kernel


@dataclass(frozen=True)
class Captured:
    """The graphs of one shape, with the tensors that they read and write."""

    indices: Tensor
    forward: torch.cuda.CUDAGraph
    logits: Tensor
    backward: torch.cuda.CUDAGraph
    grad: Tensor  # of the logits


@dataclass(frozen=True)
class Update:
    """The graph of an optimizer's step, and the learning rate that it reads for each group of parameters."""

    graph: torch.cuda.CUDAGraph
    rates: list[Tensor]


class Graphs:
    """A packed network's steps of training: a forward and a backward graph per shape of a batch, one graph of the update.

    A backward pass belongs to the last forward pass: all graphs share one pool of memory. It sets the gradients
    instead of adding to them. Weights of linear layers are converted to autocast's dtype together, once per pass, and
    their gradients back: the same numbers as autocast's, by fewer kernels.
    """

    def __init__(self, packed: "Packed") -> None:
        network = packed.network
        self.module = Logits(packed)
        self.params = {f"network.{name}": p for name, p in network.named_parameters() if p.requires_grad}
        linear = {id(p) for module in network.modules() if isinstance(module, nn.Linear) for p in module.parameters()}
        dtype = torch.get_autocast_dtype("cuda")
        self.cast = [name for name, p in self.params.items() if id(p) in linear]
        self.leaves = {name: p.detach().requires_grad_() for name, p in self.params.items()}
        self.leaves |= {name: self.params[name].detach().to(dtype).requires_grad_() for name in self.cast}
        self.grads: dict[str, Tensor] = {}  # of those that a pass reads
        self.pool, self.stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream()
        self.captured: dict[SequenceShape, Captured] = {}
        self.update: Update | None = None
        self.replayed = False  # whether the last forward pass was a graph
        self.failed = False

    def __call__(self, indices: Tensor, shape: SequenceShape) -> Tensor | None:
        """[sequences, classes] of a batch's packed indices, on the CPU; None: there is no graph of this shape."""
        self.replayed = False
        if shape not in self.captured:
            if self.failed or len(self.captured) >= MOST:
                return None
            found = self.tried(lambda: self.capture(indices, shape))
            if found is None:
                return None
            self.captured[shape] = found
        found = self.captured[shape]
        found.indices.copy_(indices.pin_memory(), non_blocking=True)
        self.replayed = True
        return Replay.apply(self, found, next(iter(self.params.values())))

    def tried(self, capture: Callable[[], T]) -> T | None:
        """What is captured; None where that fails, which is said once."""
        try:
            return capture()
        except RuntimeError as error:
            if memory_full(error):
                raise
            self.failed = True
            reason = first_line(error)
            warnings.warn(f"no CUDA graph of this encoder ({reason}): it runs kernel by kernel", stacklevel=4)
            return None

    def zero_grad(self) -> None:
        """Before a backward pass. That of a graph overwrites the gradients; any other adds to them."""
        if not self.replayed:
            torch._foreach_zero_(list(self.grads.values()))

    def set_grads(self) -> None:
        """Makes what the graphs write the parameters' gradients."""
        for name, grad in self.grads.items():
            if self.params[name].grad is grad:
                return
            self.params[name].grad = grad

    def step(self, adam: torch.optim.AdamW, most: float) -> bool:
        """A step of AdamW by gradients clipped to the norm `most`; False: not done, since Adam has no state yet or fails."""
        if self.update is None and not self.failed and all(self.params[name] in adam.state for name in self.grads):
            self.update = self.tried(lambda: self.capture_update(adam, most))
        if self.update is None:
            return False
        for rate, group in zip(self.update.rates, adam.param_groups, strict=True):
            rate.fill_(group["lr"])
        self.update.graph.replay()
        return True

    def capture_update(self, adam: torch.optim.AdamW, most: float) -> "Update":
        """Records norm, clipping and the fused step on the optimizer's own state. The division is Adam's, as `clip` has it."""
        update = Update(torch.cuda.CUDAGraph(), [torch.zeros((), device=self.stream.device) for _ in adam.param_groups])
        of_param = {id(self.params[name]): grad for name, grad in self.grads.items()}
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream), torch.no_grad(), recorded(update.graph, self.pool):
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(self.grads.values()))))
            scale = ((norm + 1e-6) / most).clamp(min=1.0)
            for rate, group in zip(update.rates, adam.param_groups, strict=True):
                params = [p for p in group["params"] if id(p) in of_param]
                states = [adam.state[p] for p in params]
                firsts, seconds, steps = ([state[key] for state in states] for key in ("exp_avg", "exp_avg_sq", "step"))
                adamw(
                    params, [of_param[id(p)] for p in params], firsts, seconds, [], steps, fused=True, capturable=True,
                    grad_scale=scale, amsgrad=False, beta1=group["betas"][0], beta2=group["betas"][1], lr=rate,
                    weight_decay=group["weight_decay"], eps=group["eps"], maximize=False,
                )  # fmt: skip
        torch.cuda.current_stream().wait_stream(self.stream)
        return update

    def capture(self, indices: Tensor, shape: SequenceShape) -> Captured:
        """Records both passes; nothing is computed, but for what libraries set up at a first pass."""
        static = indices.to(self.stream.device)
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream), torch.autocast("cuda", torch.get_autocast_dtype("cuda"), cache_enabled=False):
            if not self.captured:
                with torch.random.fork_rng([self.stream.device]):  # draws nothing that a training would miss
                    first = torch.autograd.grad(self.forward(static, shape).sum(), list(self.leaves.values()), allow_unused=True)
                used = [name for name, grad in zip(self.leaves, first, strict=True) if grad is not None]
                self.grads = {name: torch.empty_like(self.params[name]) for name in used}
            forward, backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
            with recorded(forward, self.pool):
                logits = self.forward(static, shape)
            grad = torch.zeros_like(logits)
            with recorded(backward, self.pool):
                self.backward(logits, grad)
        torch.cuda.current_stream().wait_stream(self.stream)
        return Captured(static, forward, logits, backward, grad)

    def forward(self, indices: Tensor, shape: SequenceShape) -> Tensor:
        with torch.no_grad():
            torch._foreach_copy_([self.leaves[name] for name in self.cast], [self.params[name] for name in self.cast])
        return functional_call(self.module, self.leaves, (Sequences.unpack(indices, shape),))

    def backward(self, logits: Tensor, grad: Tensor) -> None:
        """Writes `grads`."""
        found = torch.autograd.grad(logits, [self.leaves[name] for name in self.grads], grad)
        pairs = list(zip(self.grads.values(), found, strict=True))
        for same in (True, False):  # a kernel for many tensors takes one dtype
            chosen = [(own, new) for own, new in pairs if (own.dtype == new.dtype) is same]
            torch._foreach_copy_([own for own, _ in chosen], [new for _, new in chosen])


class Logits(nn.Module):
    """The pass as a module, so that `functional_call` can put other tensors in its parameters' places."""

    def __init__(self, packed: "Packed") -> None:
        super().__init__()
        self.network, self.packed = packed.network, packed

    def forward(self, batch: Sequences) -> Tensor:
        return self.packed.logits(batch.ids, batch.types, batch)


class Replay(torch.autograd.Function):
    """The graphs of one shape as one differentiable function, whose backward pass sets the parameters' gradients itself."""

    @staticmethod
    def forward(ctx: Any, graphs: Graphs, found: Captured, _: Tensor) -> Tensor:
        """The last argument is any parameter: without one there would be no backward pass."""
        ctx.graphs, ctx.found = graphs, found
        found.forward.replay()
        return found.logits.detach().clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, None]:
        ctx.found.grad.copy_(grad)
        ctx.found.backward.replay()
        ctx.graphs.set_grads()
        return None, None, None


@contextmanager
def recorded(graph: torch.cuda.CUDAGraph, pool: Any) -> Iterator[None]:
    """Within it the current stream's work is recorded instead of done. `torch.cuda.graph` would empty the caches first."""
    graph.capture_begin(pool=pool, capture_error_mode="thread_local")
    try:
        yield
    finally:
        graph.capture_end()
