"""One training on several devices.

Each process computes a part of every batch, and all see the whole batch's logits.
"""

import contextlib
import multiprocessing
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import UserError, first_line
from ..losses import functional

ENVIRONMENT = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")


class DistributedContext:
    """The processes of one training, seen from one of them. With one process, everything is the identity.

    Args:
        rank: of this process, from 0.
        world_size: how many processes train.
    """

    def __init__(self, rank: int = 0, world_size: int = 1) -> None:
        self.rank, self.world_size = rank, world_size

    def gather_logits(self, network: Callable[..., Any], inputs: dict[str, Tensor]) -> Tensor:
        """The network's logits of a batch, [n, classes], of which each process computes its rows.

        The rows of this process carry gradients, the others' are numbers. A loss of all rows then has, on
        each process, the gradient that flows through its own, and the sum over processes is that of the whole
        batch.
        """
        if self.world_size == 1:
            return network(**inputs).logits
        n = len(inputs["input_ids"])
        rows = list(range(self.rank, n, self.world_size))
        own = functional.at_least_fp32(
            network(**{key: value[rows or [0]] for key, value in inputs.items()}).logits
        )
        most = -(-n // self.world_size)
        sent = own.detach().new_zeros((most, own.shape[1]))
        sent[: len(rows)] = own.detach()[: len(rows)]
        received = [torch.empty_like(sent) for _ in range(self.world_size)]
        dist.all_gather(received, sent)
        # row i of process r is row i·world_size + r of the batch
        whole = torch.stack(received, dim=1).flatten(0, 1)[:n]
        if not rows:  # more processes than rows: every parameter still needs a gradient, of zero
            return whole + 0.0 * own.sum()
        return whole.index_copy(0, torch.tensor(rows, device=whole.device), own)

    def broadcast(self, value: Tensor) -> Tensor:
        """The first process's value, on all of them."""
        if self.world_size > 1:
            value = value.contiguous()
            dist.broadcast(value, src=0)
        return value

    def all_gather_object(self, value: Any) -> list[Any]:
        """The values of all processes, by rank."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values


@contextlib.contextmanager
def process_group(
    world_size: int, work: Callable[..., None], *arguments: Any
) -> Iterator[DistributedContext]:
    """Starts `work(context, *arguments)` in world_size − 1 processes, and makes this one the first.

    Args:
        world_size: with 1, nothing is started.
        work: importable, since the processes are spawned.
        arguments: picklable.

    Raises:
        UserError: the one that ended another process.
        RuntimeError: any other error that ended one.
    """
    if world_size == 1:
        yield DistributedContext()
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    before = {key: os.environ.get(key) for key in ENVIRONMENT}
    spawn = multiprocessing.get_context("spawn")
    errors = spawn.SimpleQueue()
    processes = [
        spawn.Process(
            target=_worker_main, args=(rank, world_size, port, errors, work, arguments), daemon=True
        )
        for rank in range(1, world_size)
    ]
    running = []
    try:
        for process in processes:
            process.start()
            running.append(process)
        _set_environment(0, world_size, port)
        yield DistributedContext(0, world_size)
        for process in running:
            process.join()
    except Exception as error:
        for process in running:
            process.join(5)  # the one that failed reports why; the others lose the connection
        if not errors.empty() and not isinstance(error, UserError):
            rank, line, expected = errors.get()
            raise (UserError if expected else RuntimeError)(
                f"process {rank} of {world_size}: {line}"
            ) from error
        raise
    finally:
        for process in running:
            if process.is_alive():
                process.kill()
            process.join()
        if dist.is_initialized():
            dist.destroy_process_group()
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def _set_environment(rank: int, world_size: int, port: int) -> None:
    """Says by the environment which process of the group this is."""
    values = ("127.0.0.1", str(port), "0", str(rank), str(world_size))
    os.environ.update(dict(zip(ENVIRONMENT, values, strict=True)))


def _worker_main(
    rank: int, world_size: int, port: int, errors: Any, work: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    """What a spawned process does."""
    _set_environment(rank, world_size, port)
    try:
        work(DistributedContext(rank, world_size), *arguments)
    except BaseException as error:
        if "Connection closed by peer" not in str(error):  # the echo of another process's failure
            errors.put((rank, f"{type(error).__name__}: {first_line(error)}", isinstance(error, UserError)))
        raise SystemExit(1) from None
