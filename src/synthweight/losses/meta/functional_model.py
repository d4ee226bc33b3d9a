"""The classifier's losses at any parameters, and the batches of D_P' that it is measured by."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from ...errors import UserError
from ..base import Task, Texts
from ..functional import nll
from . import gradients
from .gradients import Params

logger = logging.getLogger(__name__)
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
CHUNK = 64  # texts of the dev set a pass: bounds the memory where the whole of D_P' is asked for


class Network:
    """Per-example losses of the classifier at any parameters, without dropout: every pass that is compared is the same.

    Within `narrowed` the word embedding is the rows of a few texts' tokens alone, and their ids are those rows' places:
    half of a small encoder's parameters are words that no text of a batch has.
    """

    def __init__(self, task: Task) -> None:
        self.network, self.device = task.network, task.device
        self.named = {name: p for name, p in task.network.named_parameters() if p.requires_grad}
        words = task.network.get_input_embeddings()  # type: ignore[operator]
        packed = hasattr(task.network.forward, "texts")  # other networks may look for an id, of a last token say
        self.words = next((name for name, p in self.named.items() if p is words.weight and packed), None)
        self.first = (words.padding_idx if words.padding_idx is not None else -1) + 1  # rows that keep their places
        self.rows: Tensor | None = None

    def now(self) -> Params:
        """θ, detached."""
        params = {name: p.detach() for name, p in self.named.items()}
        if self.rows is not None and self.words is not None:
            params[self.words] = params[self.words][self.rows]
        return params

    @contextlib.contextmanager
    def narrowed(self, *batches: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """To the words of these batches; gives the rows by the embedding's name. Other words would change nothing."""
        if self.words is None:
            yield {}
            return
        kept = torch.arange(self.first, device=self.device)
        found = torch.cat([kept, *(batch["input_ids"].to(self.device).flatten() for batch in batches)])
        self.rows = found.unique()  # sorted: the first rows, the padding's among them, keep their places
        self.places = torch.zeros(len(self.named[self.words]), dtype=torch.long, device=self.device)
        self.places[self.rows] = torch.arange(len(self.rows), device=self.device)
        try:
            yield {self.words: self.rows}
        finally:
            self.rows = None

    def losses(self, params: Params, batch: dict[str, Tensor], targets: Tensor) -> Tensor:
        """ℓ_i = −log p̂(y_i|x_i; θ) in nats, at least fp32, [n]."""
        inputs = {key: batch[key].to(self.device) for key in INPUTS if key in batch}
        if self.rows is not None:
            inputs["input_ids"] = self.places[inputs["input_ids"]]
        logits = functional_call(self.network, params, (), inputs).logits
        return nll(logits, targets.to(self.device))

    def texts(self, batch: dict[str, Tensor]) -> dict[int, Tensor]:
        """The text of each row of a pass, by how many rows there are. Raises NotImplementedError for a padded network."""
        texts: Callable[[Tensor], dict[int, Tensor]] | None = getattr(self.network.forward, "texts", None)
        if texts is None:
            raise NotImplementedError("it needs trainer.padding=false and an encoder that can be packed")
        return texts(batch["attention_mask"].to(self.device))

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Evaluation mode, and no narrow copies of weights left for the training's own pass (autocast keeps them)."""
        training = self.network.training
        self.network.eval()
        try:
            yield
        finally:
            self.network.train(training)
            torch.clear_autocast_cache()


@cache
def log_small_dev_set(size: int, n: int) -> None:
    logger.info("loss.dev_batch=%d: D_P' has %d examples, all of them are taken at every step", size, n)


class DevSet:
    """Batches of D_P', drawn by seed and step alone."""

    def __init__(
        self, texts: Texts, labels: tuple[str, ...], per_class: int | None, drawn: str, size: int | None, seed: int
    ) -> None:
        self.texts, self.per_class, self.drawn, self.size, self.seed = texts, per_class, drawn, size, seed
        targets, n = texts.targets, per_class
        self.by_class = [np.flatnonzero(targets == c) for c in range(len(labels))]
        smallest = min(range(len(labels)), key=lambda c: len(self.by_class[c]))
        if n is not None and n > len(self.by_class[smallest]):
            raise UserError(
                f"loss.dev_per_class={n}: class {labels[smallest]!r} has {len(self.by_class[smallest])} examples in D_P'"
            )
        if size is not None and size > len(targets):
            log_small_dev_set(size, len(targets))
            self.size = None

    def draw(self, step: int) -> np.ndarray:
        """The positions of a step's dev batch."""
        rng = np.random.default_rng([self.seed, 5, 0 if self.drawn == "fixed" else step])
        if self.per_class is not None:
            return np.concatenate([rng.choice(members, self.per_class, replace=False) for members in self.by_class])
        if self.size is not None:
            return rng.choice(len(self.texts.targets), self.size, replace=False)
        return np.arange(len(self.texts.targets))

    def words(self, step: int) -> dict[str, Tensor]:
        """The texts of a step's dev batch."""
        return self.texts.batch(self.draw(step).tolist())

    def gradient(self, network: Network, params: Params, step: int) -> Params:
        """∇L_dev(θ), L_dev the mean cross-entropy of the step's dev batch."""
        chosen = self.draw(step)
        chosen = chosen[np.argsort(-self.texts.lengths[chosen], kind="stable")]
        leaves = gradients.leaf(params)
        total: Params = {}
        for start in range(0, len(chosen), CHUNK):
            part = chosen[start : start + CHUNK].tolist()
            targets = torch.from_numpy(self.texts.targets[part])
            value = network.losses(leaves, self.texts.batch(part), targets).sum() / len(chosen)
            found = gradients.gradient(value, leaves)
            total = gradients.added(total, found)
        return total
