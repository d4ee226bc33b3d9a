"""CUDA graphs of a training's steps.

A step of BERT base is some 800 kernels, most of them shorter than their launch: launched one by one they take
several times as long as the GPU computes. A graph launches them all at once.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call
from torch.optim.adamw import adamw

from ...errors import first_line, memory_full
from .layout import Sequences, SequenceShape

if TYPE_CHECKING:
    from .forward import PackedForward

logger = logging.getLogger(__name__)
MOST = 64  # shapes of batches that have graphs; those of further shapes are computed kernel by kernel


class Recorder:
    """Records work as CUDA graphs that share one pool of memory, on a stream of its own."""

    def __init__(self) -> None:
        self.stream, self.pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()

    def first(self, work: Callable[[], None]) -> None:
        """Does the work once, so that libraries set themselves up before the first graph.

        The state of random generators is restored.
        """
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream), torch.random.fork_rng([self.stream.device]):
            work()
        torch.cuda.current_stream().wait_stream(self.stream)

    def record(self, work: Callable[[], None]) -> torch.cuda.CUDAGraph:
        """A graph whose `replay` does the work again, on the same memory.

        `torch.cuda.graph` would empty all caches.
        """
        graph = torch.cuda.CUDAGraph()
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            graph.capture_begin(pool=self.pool, capture_error_mode="thread_local")
            try:
                work()
            finally:
                graph.capture_end()
        torch.cuda.current_stream().wait_stream(self.stream)
        return graph

    def send(self, values: Tensor, to: Tensor) -> None:
        """Copies from the CPU without waiting."""
        to.copy_(values.pin_memory(), non_blocking=True)


@dataclass
class Pass:
    """The graphs of one shape, with the tensors that they read and write."""

    indices: Tensor
    grad: Tensor  # of the logits
    logits: Tensor = field(init=False)
    forward: Any = field(init=False)
    backward: Any = field(init=False)


class Graphs:
    """The training steps of a packed network as CUDA graphs.

    A forward and a backward graph per shape of a batch, and one graph of the update.

    A backward pass belongs to the last forward pass, and sets the gradients instead of adding to them.
    Weights of linear layers are converted to autocast's dtype together, once per pass, and their gradients
    back: the same numbers as autocast's, by fewer kernels.
    """

    def __init__(self, packed: "PackedForward") -> None:
        network: Any = packed.network
        self.module, self.recorder = Logits(packed), Recorder()
        self.params = {f"network.{name}": p for name, p in network.named_parameters() if p.requires_grad}
        self.leaves = {name: p.detach().requires_grad_() for name, p in self.params.items()}
        self.dtype = next(iter(self.params.values())).dtype
        self.cast: list[str] = []
        if torch.is_autocast_enabled("cuda"):
            self.dtype = torch.get_autocast_dtype("cuda")
            linear = {
                id(p)
                for module in network.modules()
                if isinstance(module, nn.Linear)
                for p in module.parameters()
            }
            self.cast = [name for name, p in self.params.items() if id(p) in linear]
            self.leaves |= {
                name: self.params[name].detach().to(self.dtype).requires_grad_() for name in self.cast
            }
        self.labels = network.config.num_labels
        self.grads: dict[str, Tensor] = {}  # of those parameters that a pass reads
        self.passes: dict[SequenceShape, Pass] = {}
        self.update: Any = None
        self.rates: list[Tensor] = []  # learning rates that the update reads, by group of parameters
        self.replayed = False  # whether the last forward pass was a graph
        self.failed = False

    def __call__(self, indices: Tensor, shape: SequenceShape) -> Tensor | None:
        """The logits of a batch's packed indices, [sequences, classes]; None: no graph has this shape."""
        self.replayed = False
        if shape not in self.passes and not self.failed and len(self.passes) < MOST:
            self.attempt(lambda: self.record_pass(indices, shape))
        found = self.passes.get(shape)
        if found is None:
            return None
        self.recorder.send(indices, found.indices)
        self.replayed = True
        return Replay.apply(self, found, next(iter(self.params.values())))

    def attempt(self, record: Callable[[], None]) -> None:
        """Records; a failure is logged, and nothing else is recorded.

        Raises RuntimeError where the memory is full.
        """
        try:
            record()
        except RuntimeError as error:
            if memory_full(error):
                raise
            self.failed = True
            logger.warning("no CUDA graph of this encoder (%s): it runs kernel by kernel", first_line(error))

    # passes

    def record_pass(self, indices: Tensor, shape: SequenceShape) -> None:
        """Records both passes of a shape; nothing of them is computed yet."""
        place = next(iter(self.params.values())).device
        found = Pass(
            indices.to(place), torch.zeros(shape.sequences, self.labels, dtype=self.dtype, device=place)
        )

        def forward() -> None:
            found.logits = self.logits(found.indices, shape)

        if not self.grads:
            self.recorder.first(lambda: self.find_used(found.indices, shape))
        found.forward = self.recorder.record(forward)
        found.backward = self.recorder.record(lambda: self.write_grads(found))
        self.passes[shape] = found

    def find_used(self, indices: Tensor, shape: SequenceShape) -> None:
        """Makes room for the gradients of those parameters that a pass reads."""
        leaves = list(self.leaves.values())
        found = torch.autograd.grad(self.logits(indices, shape).sum(), leaves, allow_unused=True)
        used = [name for name, grad in zip(self.leaves, found, strict=True) if grad is not None]
        self.grads = {name: torch.empty_like(self.params[name]) for name in used}

    def logits(self, indices: Tensor, shape: SequenceShape) -> Tensor:
        """A forward pass by `leaves`."""
        copy([(self.leaves[name], self.params[name]) for name in self.cast])
        with torch.autocast("cuda", self.dtype, enabled=bool(self.cast), cache_enabled=False):
            return functional_call(self.module, self.leaves, (Sequences.unpack(indices, shape),))

    def write_grads(self, found: Pass) -> None:
        """A backward pass."""
        new = torch.autograd.grad(found.logits, [self.leaves[name] for name in self.grads], found.grad)
        pairs = list(zip(self.grads.values(), new, strict=True))
        for same in (True, False):  # a kernel for many tensors takes one dtype
            copy([(own, grad) for own, grad in pairs if (own.dtype == grad.dtype) is same])

    # the optimizer

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
        """A step of AdamW by gradients clipped to the norm `most`; False: not done, there is no graph of it."""
        if (
            self.update is None
            and not self.failed
            and all(self.params[name] in adam.state for name in self.grads)
        ):
            self.attempt(lambda: self.record_update(adam, most))
        if self.update is None:
            return False
        for rate, group in zip(self.rates, adam.param_groups, strict=True):
            rate.fill_(group["lr"])
        self.update.replay()
        return True

    def record_update(self, adam: torch.optim.AdamW, most: float) -> None:
        """Records norm, clipping and the fused step on the optimizer's own state.

        Adam divides, as in `clip`.
        """
        grads = {id(self.params[name]): grad for name, grad in self.grads.items()}
        self.rates = [
            torch.zeros((), device=next(iter(self.grads.values())).device) for _ in adam.param_groups
        ]

        @torch.no_grad()
        def update() -> None:
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(grads.values()))))
            scale = ((norm + 1e-6) / most).clamp(min=1.0).float()  # as the kernel reads it
            for rate, group in zip(self.rates, adam.param_groups, strict=True):
                params = [p for p in group["params"] if id(p) in grads]
                states = [adam.state[p] for p in params]
                firsts, seconds, steps = (
                    [state[key] for state in states] for key in ("exp_avg", "exp_avg_sq", "step")
                )
                adamw(
                    params, [grads[id(p)] for p in params], firsts, seconds, [], steps, fused=True, capturable=True,
                    grad_scale=scale, amsgrad=False, beta1=group["betas"][0], beta2=group["betas"][1], lr=rate,
                    weight_decay=group["weight_decay"], eps=group["eps"], maximize=False,
                )  # fmt: skip

        self.update = self.recorder.record(update)


@torch.no_grad()
def copy(pairs: list[tuple[Tensor, Tensor]]) -> None:
    """Copies the second of each pair to the first, in as few kernels as there can be."""
    if pairs:
        torch._foreach_copy_([to for to, _ in pairs], [values for _, values in pairs])


class Logits(nn.Module):
    """The pass as a module, so that `functional_call` can put other tensors in its parameters' places."""

    def __init__(self, packed: "PackedForward") -> None:
        super().__init__()
        self.network, self.packed = packed.network, packed

    def forward(self, batch: Sequences) -> Tensor:
        return self.packed.logits(batch.ids, batch.types, batch)


class Replay(torch.autograd.Function):
    """The graphs of one shape as one differentiable function.

    Its backward pass sets the parameters' gradients itself.
    """

    @staticmethod
    def forward(ctx: Any, graphs: Graphs, found: Pass, _: Tensor) -> Tensor:
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
