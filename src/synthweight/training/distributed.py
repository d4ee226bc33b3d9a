"""One training on several devices: each process has a part of every batch, all see the whole batch's logits."""

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
from ..losses.functional import at_least_fp32

ENVIRONMENT = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")


class Peers:
    """The processes of one training, seen from one of them. Alone, everything is the identity."""

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count

    def logits(self, network: Callable[..., Any], inputs: dict[str, Tensor]) -> Tensor:
        """The network's logits of a batch, [n, classes], each process computing its rows.

        The rows of this process carry gradients, the others' are numbers. A loss of all rows then has, on each process, the
        gradient that flows through its own, and the sum over processes is that of the whole batch.
        """
        if self.count == 1:
            return network(**inputs).logits
        n = len(inputs["input_ids"])
        rows = list(range(self.rank, n, self.count))
        own = at_least_fp32(network(**{key: value[rows or [0]] for key, value in inputs.items()}).logits)
        most = -(-n // self.count)
        sent = own.detach().new_zeros((most, own.shape[1]))
        sent[: len(rows)] = own.detach()[: len(rows)]
        received = [torch.empty_like(sent) for _ in range(self.count)]
        dist.all_gather(received, sent)
        whole = torch.stack(received, dim=1).flatten(0, 1)[:n]  # row i of process r is row i·count + r of the batch
        if not rows:  # more processes than rows: every parameter still needs a gradient, of zero
            return whole + 0.0 * own.sum()
        return whole.index_copy(0, torch.tensor(rows, device=whole.device), own)

    def first(self, value: Tensor) -> Tensor:
        """The first process's value, everywhere."""
        if self.count > 1:
            value = value.contiguous()
            dist.broadcast(value, src=0)
        return value

    def each(self, value: Any) -> list[Any]:
        """What every process gives, by rank."""
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, value)
        return found


@contextlib.contextmanager
def started(count: int, work: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """Starts `work(*arguments)` in count − 1 processes; within, this process is the first of the group.

    Args:
        work: importable, its arguments picklable: the processes are spawned.

    Raises:
        UserError: what a process said before it ended, where it ended early.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    before = {key: os.environ.get(key) for key in ENVIRONMENT}
    context = multiprocessing.get_context("spawn")
    said = context.SimpleQueue()
    processes = [
        context.Process(target=begin, args=(rank, count, port, said, work, arguments), daemon=True) for rank in range(1, count)
    ]
    running = []
    try:
        for process in processes:
            process.start()
            running.append(process)
        join(0, count, port)
        yield
        for process in running:
            process.join()
    except Exception as error:
        for process in running:
            process.join(5)  # one that failed has something to say; the others lose the connection
        if not said.empty() and not isinstance(error, UserError):
            rank, line, expected = said.get()
            raise (UserError if expected else RuntimeError)(f"process {rank} of {count}: {line}") from error
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


def join(rank: int, count: int, port: int) -> None:
    """Says by the environment which process of the group this is."""
    values = ("127.0.0.1", str(port), "0", str(rank), str(count))
    os.environ.update(dict(zip(ENVIRONMENT, values, strict=True)))


def begin(rank: int, count: int, port: int, said: Any, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """What a spawned process does."""
    join(rank, count, port)
    try:
        work(rank, *arguments)
    except BaseException as error:
        if "Connection closed by peer" not in str(error):  # that is the echo of another's failure
            said.put((rank, f"{type(error).__name__}: {first_line(error)}", isinstance(error, UserError)))
        raise SystemExit(1) from None
