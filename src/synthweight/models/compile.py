"""A training's passes compiled; eager where that fails."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..errors import first_line
from .packed.forward import is_packed


class Compiled:
    """A forward pass, compiled for training, for batches of any shape. In evaluation, which learned weights see too, as it is.

    The backward pass is compiled with it, so that what fails does so here. A failure is said once; from then on it is eager.
    In one process dynamo compiles a pass so often and no oftener, and would then run it eager in silence; every training whose
    texts have words of their own takes one. There it is made to forget what it has compiled, once a training.
    """

    def __init__(self, network: nn.Module, plain: Callable[..., Any]) -> None:
        self.network, self.plain = network, plain
        self.fast: Callable[..., Any] | None = torch.compile(plain, dynamic=True)
        self.forgot = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.fast is None or not self.network.training:
            return self.plain(*args, **kwargs)
        try:
            with (
                torch._functorch.config.patch(force_non_lazy_backward_lowering=True),
                torch._dynamo.config.patch(fail_on_recompile_limit_hit=True),
            ):
                return self.fast(*args, **kwargs)
        except Exception as error:
            known = torch._dynamo.exc  # here: importing it takes seconds
            if not isinstance(error, (known.TorchDynamoException, known.FailOnRecompileLimitHit)):
                raise
            limit = isinstance(error, known.FailOnRecompileLimitHit)
            if limit and not self.forgot:
                self.forgot = True
                torch._dynamo.reset()
            else:
                reason = "it would have to be compiled again too often" if limit else first_line(error)
                self.fast = None
                warnings.warn(f"trainer.compile: compiling this encoder fails here ({reason}); it runs eager", stacklevel=2)
        return self(*args, **kwargs)


def place(network: nn.Module) -> tuple[Any, str]:
    """Where the pass lies: of a packed network all but the layout, whose shapes are data."""
    return (network.forward, "logits") if is_packed(network) else (network, "forward")


def failed(network: nn.Module) -> bool:
    """Whether its passes were to be compiled, and are not."""
    holder, name = place(network)
    held = getattr(holder, name)
    return isinstance(held, Compiled) and held.fast is None


@contextmanager
def compiled(network: nn.Module) -> Iterator[None]:
    """Within it the network's passes in training are compiled."""
    holder, name = place(network)
    setattr(holder, name, Compiled(network, getattr(holder, name)))
    try:
        yield
    finally:
        delattr(holder, name)
