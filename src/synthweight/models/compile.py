"""A training's forward pass compiled; eager where that fails."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..errors import first_line
from .packed.forward import is_packed

logger = logging.getLogger(__name__)


class CompiledForward:
    """A forward pass, compiled for training and for batches of any shape; in evaluation it is eager.

    The backward pass is compiled with it, so that what fails does so here. A failure is logged once, and from
    then on the pass is eager. In one process dynamo compiles a pass only so often, and would then run it
    eager in silence; every training whose texts have token ids of their own takes one. So it is reset, once
    per training, when that limit is reached.

    Args:
        network: whose mode decides.
        eager: the pass.
    """

    def __init__(self, network: nn.Module, eager: Callable[..., Any]) -> None:
        self.network, self.eager = network, eager
        self.fast: Callable[..., Any] | None = torch.compile(eager, dynamic=True)
        self.was_reset = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.fast is None or not self.network.training:
            return self.eager(*args, **kwargs)
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
            if limit and not self.was_reset:
                self.was_reset = True
                torch._dynamo.reset()
            else:
                reason = "it would have to be compiled again too often" if limit else first_line(error)
                self.fast = None
                logger.warning(
                    "trainer.compile: compiling this encoder fails here (%s); it runs eager", reason
                )
        return self(*args, **kwargs)


def compiled_attribute(network: nn.Module) -> tuple[Any, str]:
    """The object and its attribute that is compiled.

    Of a packed network it is all but the layout, whose shapes depend on the data.
    """
    return (network.forward, "logits") if is_packed(network) else (network, "forward")


def fell_back(network: nn.Module) -> bool:
    """Whether the network's passes were to be compiled, and are not."""
    forward = getattr(*compiled_attribute(network))
    return isinstance(forward, CompiledForward) and forward.fast is None


@contextmanager
def compiled(network: nn.Module) -> Iterator[None]:
    """Within it the network's passes in training are compiled."""
    owner, name = compiled_attribute(network)
    setattr(owner, name, CompiledForward(network, getattr(owner, name)))
    try:
        yield
    finally:
        delattr(owner, name)
